"""The index of the records decides nothing: every proposal is what its slow twin works out from all records."""

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.tuner.protocol.proposal import Proposal, Records, TrialRecord
from bcrit.tuner.protocol.protocol import PerStudyProtocol
from tests.scripted import ExactHyperbola
from tests.simulate import run_trial, scripted
from tests.tuner.protocol import naive

DECAY = {"end_factor": "linear from 0 to 1", "decay_fraction": "log from 0.05 to 1"}
SPACES: dict[str, dict[str, Any]] = {
    "coupled": {"lr": "log from 0.001 to 10", "momentum": "reverse_log from 0 to 0.99"},
    "narrow": {"lr": "log from 0.0001 to 0.02", "momentum": "reverse_log from 0 to 0.8"},  # is widened
    "schedules": {"lr": "log from 0.001 to 10", "momentum": 0.9, "schedule": {"constant": {}, "linear": DECAY}},
    "fixed": {"lr": 0.1, "momentum": 0.9},
}


def experiment(space: str, **search: Any) -> Experiment:
    return scripted(
        space=SPACES[space],
        budget={"steps": 300, "examples": 4_000},
        search={"trials": 20, "start": 6, **search},
        boundary={"max_rounds": 2, "margin": 0.2},
    )


@dataclass
class Both:
    """The protocol, checked against its twin at every call.

    Attributes:
        spec: the experiment.
        horizon_falls: as of the protocol.
        proposed: how many proposals were the same.
    """

    spec: Experiment
    horizon_falls: bool = False
    proposed: int = 0
    _fast: PerStudyProtocol = field(init=False)

    def __post_init__(self) -> None:
        self._fast = PerStudyProtocol(self.spec, self.horizon_falls)

    def next_trial(self, records: Records, running: Collection[str]) -> Proposal | None:
        found = self._fast.next_trial(records, running)
        assert found == naive.next_trial(self.spec, records, running, self.horizon_falls)
        self.proposed += found is not None
        return found


def run(
    protocol: Both, workload: ExactHyperbola, workers: int, disorder: int, lost: float = 0.0
) -> dict[int, list[TrialRecord]]:
    """Run to the end; trials end in any order, and a share of them is lost with its worker and proposed again."""
    order = random.Random(disorder)
    records: dict[int, list[TrialRecord]] = {b: [] for b in protocol.spec.batch_sizes}
    running: dict[str, Proposal] = {}
    while True:
        while len(running) < workers and (proposal := protocol.next_trial(records, set(running))) is not None:
            running[proposal.trial_id] = proposal
        if not running:
            return records
        proposal = running.pop(order.choice(sorted(running)))
        if order.random() >= lost:
            records[proposal.batch_size].append(run_trial(protocol.spec, workload, proposal))


@pytest.mark.parametrize("workers", [1, 9])
@pytest.mark.parametrize(("name", "space"), [*(("tpe", s) for s in SPACES), ("sobol", "narrow"), ("random", "coupled")])
def test_every_proposal_is_its_slow_twin_s(name: str, space: str, workers: int) -> None:
    protocol = Both(experiment(space, protocol=name, parallel_per_study=2 if workers == 1 else 4), space == "coupled")
    records = run(protocol, ExactHyperbola(s_min=50, b_crit=64, diverges_at=3.0), workers, disorder=1)
    assert protocol.proposed >= 3 * protocol.spec.search.trials
    outcomes = {r.outcome for found in records.values() for r in found}
    rounds = {r.round for found in records.values() for r in found}
    # The runs see all that the index keeps account of.
    assert outcomes >= {Outcome.REACHED, Outcome.PRUNED, Outcome.DIVERGED} or space != "coupled"
    assert len(rounds) > 1 or space != "narrow"


@pytest.mark.parametrize("disorder", range(2))
def test_trials_that_are_lost_and_proposed_again_know_what_they_knew(disorder: int) -> None:
    protocol = Both(experiment("coupled", parallel_per_study=5))
    run(protocol, ExactHyperbola(s_min=50, b_crit=64), workers=12, disorder=disorder, lost=0.3)
    assert protocol.proposed > 90


def test_other_records_than_those_seen_are_read_anew() -> None:
    spec = experiment("coupled")
    protocol, workload = PerStudyProtocol(spec), ExactHyperbola(s_min=50, b_crit=64)
    whole = run(Both(spec), workload, workers=1, disorder=0)
    other = run(Both(spec), ExactHyperbola(s_min=50, b_crit=64, lr=1.0), workers=1, disorder=0)
    for n in (15, 3, 22, 0, 11):
        for found in (whole, other):
            part = {b: found[b][:n] for b in found}  # fewer than before, or another run's
            assert protocol.next_trial(part, ()) == naive.next_trial(spec, part, ())
            for b in found:
                part[b] += found[b][n : n + 1]
            assert protocol.next_trial(part, ()) == naive.next_trial(spec, part, ())
