"""What is recorded is what an undisturbed trial under the settled horizon makes, however many run at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.dispatch import Dispatcher, Row, truncated
from bcrit.tuner.protocol.joint import JointProtocol
from bcrit.tuner.protocol.proposal import Proposal, TrialRecord, trial_name
from bcrit.tuner.protocol.protocol import PerStudyProtocol
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Ending
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from bcrit.tuner.workloads.protocol import Workload
from tests.scripted import ExactHyperbola, ScriptedRun
from tests.simulate import record, scripted, searched, simulate, train

HYPERBOLA = ExactHyperbola(s_min=50, b_crit=64, diverges_at=3.0)
QUADRATIC = NoisyQuadratic(dimensions=20, spectrum_exponent=1.0)


def experiment(at_once: int, **changes: Any) -> Experiment:
    return scripted(**{"search": {"trials": 16, "start": 6, "parallel_per_study": at_once}, **changes})


def everything(found: dict[int, list[TrialRecord]]) -> dict[str, Any]:
    """All records by name, their curves too, which records leave out when they are compared."""
    return {r.trial_id: (r, list(r.curve)) for records in found.values() for r in records}


@pytest.mark.parametrize(
    ("at_once", "workload", "target"),
    [(3, HYPERBOLA, "loss < 1"), (8, HYPERBOLA, "loss < 1"), (8, QUADRATIC, "risk < 0.02")],
    ids=["3, hyperbola", "8, hyperbola", "8, quadratic"],
)
def test_what_is_recorded_does_not_depend_on_workers_their_timing_and_what_they_are_told(
    at_once: int, workload: Workload, target: str
) -> None:
    spec = experiment(at_once, target=target)
    reference = everything(simulate(spec, workload))
    for workers, disorder in ((2, 1), (24, 2)):
        found = simulate(spec, workload, workers=workers, disorder=disorder, deaf=0.5, lost=0.1)
        assert everything(found) == reference


def test_a_run_that_was_cut_off_continues_to_the_same_ledger() -> None:
    spec = experiment(8)
    part = simulate(spec, HYPERBOLA, workers=24, disorder=3, at_most=20)
    assert everything(simulate(spec, HYPERBOLA, workers=5, records=part)) == everything(simulate(spec, HYPERBOLA))


def test_a_trial_is_chosen_while_others_train_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    proposed = JointProtocol._proposed

    def counted(self: JointProtocol, size: int, number: int, *rest: Any) -> Proposal:
        chosen.append(trial_name(size, Stage.SEARCH, number))
        return proposed(self, size, number, *rest)

    monkeypatch.setattr(JointProtocol, "_proposed", counted)
    spec = experiment(1, search={"protocol": "joint", "parallel_per_study": 1})
    dispatcher = Dispatcher(JointProtocol(spec), {}, spec.target, lambda *_: None)
    first = dispatcher.take()
    dispatcher.ahead()
    dispatcher.ahead()
    assert first is not None and chosen[0] == first.trial_id and len(chosen) == 2
    second = dispatcher.take()
    assert second is not None and second.trial_id == chosen[1] and len(chosen) == 2


@dataclass(frozen=True)
class Failing(ExactHyperbola):
    """A run that is trained or evaluated beyond a step fails.

    Attributes:
        beyond: the step.
        where: in what.
    """

    beyond: int = 100
    where: Literal["training", "evaluation"] = "training"

    def begin(self, settings: Settings) -> ScriptedRun:
        return FailingRun(self.steps(settings), beyond=self.beyond, where=self.where)


@dataclass
class FailingRun(ScriptedRun):
    beyond: int = 0
    where: str = ""

    def train(self, steps: int) -> None:
        super().train(steps)
        if self.where == "training" and self.step > self.beyond:
            raise ValueError("the data end here")

    def evaluate(self) -> Mapping[str, float]:
        if self.where == "evaluation" and self.step > self.beyond:
            raise ValueError("the data end here")
        return super().evaluate()


@pytest.mark.parametrize(
    "workload",
    [HYPERBOLA, *(Failing(s_min=50, b_crit=64, beyond=200, where=w) for w in ("training", "evaluation"))],
    ids=["hyperbola", "fails in training", "fails in evaluation"],
)
@pytest.mark.parametrize("deaf", [0.0, 1.0])
def test_a_trial_that_was_cut_is_what_an_undisturbed_one_makes(workload: Workload, deaf: float) -> None:
    spec = experiment(8)
    began_with: dict[str, Proposal] = {}
    found: dict[int, list[tuple[Proposal, list[Row], Ending]]] = {}
    records: dict[int, list[TrialRecord]] = {b: [] for b in spec.batch_sizes}

    def keep(proposal: Proposal, rows: Sequence[Row], ending: Ending | None) -> None:
        assert ending is not None
        found.setdefault(proposal.batch_size, []).append((proposal, list(rows), ending))
        records[proposal.batch_size].append(record(spec, proposal, rows, ending))

    dispatcher = Dispatcher(PerStudyProtocol(spec, horizon_falls=True), records, spec.target, keep)
    while True:
        while (proposal := dispatcher.take()) is not None:
            began_with[proposal.trial_id] = proposal
        if not dispatcher.running:
            break
        now = dispatcher.running[-1]  # the last one first: it has to wait for all before it
        dispatcher.ended(now.trial_id, *train(spec, workload, began_with[now.trial_id] if deaf else now))
        dispatcher.falls()
    kept = [trial for trials in found.values() for trial in trials]
    cut = [trial for trial in kept if trial[0].max_steps < began_with[trial[0].trial_id].max_steps]
    assert len(cut) >= 2
    for proposal, rows, ending in kept:
        whole_rows, whole = train(spec, workload, proposal)
        seconds: dict[str, Any] = {"train_seconds": 0.0, "evaluate_seconds": 0.0, "started_at": 0.0, "ended_at": 0.0}
        assert replace(ending, **seconds) == replace(whole, **seconds)
        assert [{**row, "train_seconds": 0} for row in rows] == [{**row, "train_seconds": 0} for row in whole_rows]


LOSS = Target(metric="loss", threshold=1.0, direction=Direction.MINIMIZE)
ROWS: list[Row] = [{"step": step, "loss": 9.0 - step / 10, "train_seconds": step / 10} for step in (0, 10, 20, 30)]


@pytest.mark.parametrize(
    ("ended", "at", "expected", "best"),
    [
        (Outcome.REACHED, 30, Outcome.CAPPED, 7.0),
        (Outcome.FAILED, 30, Outcome.CAPPED, 7.0),
        (Outcome.EXHAUSTED, 20, Outcome.CAPPED, 7.0),
        (Outcome.REACHED, 20, Outcome.REACHED, 7.0),
        (Outcome.PRUNED, 20, Outcome.PRUNED, 7.0),
        (Outcome.FAILED, 20, Outcome.CAPPED, 7.0),  # after the evaluation at 20, which an undisturbed one ends with
        (Outcome.DIVERGED, 10, Outcome.DIVERGED, 8.0),
    ],
)
def test_the_end_is_the_one_at_the_horizon(ended: Outcome, at: int, expected: Outcome, best: float) -> None:
    proposal = Proposal("t", 8, Stage.SEARCH, 9, 0, None, 0, {}, 100, 20, capped=True)
    rows = [row for row in ROWS if row["step"] <= at]
    whole = Ending(ended, "why", at, None, rows[-1]["loss"], at / 10, 1.0, 0.0, 9.0)
    end = truncated(whole, rows, proposal, LOSS)
    assert (end.outcome, end.steps, end.best_value) == (expected, min(at, 20), best)
    assert end.train_seconds == min(at, 20) / 10 and (end.message is None) == (expected is Outcome.CAPPED)


def test_a_failing_evaluation_at_the_horizon_is_what_an_undisturbed_trial_has_too() -> None:
    proposal = Proposal("t", 8, Stage.SEARCH, 9, 0, None, 0, {}, 100, 20, capped=True)
    whole = Ending(Outcome.FAILED, "why", 20, None, 8.0, 2.0, 1.0, 0.0, 9.0)
    assert truncated(whole, ROWS[:2], proposal, LOSS) == whole


def test_two_at_once_never_wait() -> None:
    """The horizon is settled when a trial begins, so its measurements are recorded as they come."""
    spec = experiment(2)
    protocol = PerStudyProtocol(spec, horizon_falls=True)
    found = simulate(spec, HYPERBOLA)
    records: dict[int, list[TrialRecord]] = {b: [] for b in spec.batch_sizes}
    while (proposal := protocol.next_trial(records, ())) is not None:
        assert protocol.settled(proposal, records)
        records[proposal.batch_size] += [r for r in found[proposal.batch_size] if r.trial_id == proposal.trial_id]


def test_with_many_at_once_a_horizon_that_falls_saves_steps() -> None:
    """Until the first trial reaches the target there is no incumbent: all that begin before would train on."""
    falling = simulate(experiment(8), HYPERBOLA)
    steps = sum(r.steps for b in falling for r in searched(falling, b))
    assert steps < 0.9 * _with_fixed_horizons(experiment(8))


def _with_fixed_horizons(spec: Experiment) -> float:
    protocol = PerStudyProtocol(spec)
    records: dict[int, list[TrialRecord]] = {b: [] for b in spec.batch_sizes}

    def keep(proposal: Proposal, rows: Sequence[Row], ending: Ending | None) -> None:
        assert ending is not None
        assert proposal == taken[proposal.trial_id]  # a training function was told its horizon when it began
        records[proposal.batch_size].append(record(spec, proposal, rows, ending))

    dispatcher, taken = Dispatcher(protocol, records, spec.target, keep), dict[str, Proposal]()
    while True:
        while (proposal := dispatcher.take()) is not None:
            taken[proposal.trial_id] = proposal
        if not dispatcher.running:
            return sum(r.steps for found in records.values() for r in found if r.stage is Stage.SEARCH)
        first = dispatcher.running[0]
        dispatcher.ended(first.trial_id, *train(spec, HYPERBOLA, first))
        assert not dispatcher.falls()
