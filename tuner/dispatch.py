"""Which worker runs what, up to which horizon, and when what it made may be recorded: neither Ray nor files.

Where many trials of a study run at once, a trial begins before its horizon is settled
(`bcrit.tuner.protocol.protocol`). Its horizon falls while it runs; what it made is kept here until the horizon is
settled, and is then cut there, which leaves exactly what the trial would have made if its horizon had been settled from
the beginning. So what is recorded does not depend on how many workers there are. What is kept here is lost when the
driver dies, and those trials are run again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Probes
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.target import Target
from bcrit.tuner.protocol.proposal import Proposal, Proposals, Records
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Ending, Limits

Row = Mapping[str, Any]
"""A measurement as a row of its table: `step`, `train_seconds` and the metrics are read here."""

Record = Callable[[Proposal, Sequence[Row], Ending | None], None]
"""Records measurements of a trial and, unless it goes on, its end; its record then stands in the records."""


@dataclass
class _Begun:
    """A trial that was given to a worker."""

    proposal: Proposal  # with its horizon as its worker was last told
    rows: list[Row] = field(default_factory=list)  # its measurements
    n_recorded: int = 0  # how many of these are recorded
    # As its worker ended it, perhaps beyond the horizon that is settled later; None while it runs.
    ending: Ending | None = None


class Dispatcher:
    """Gives proposals to workers and takes what they report.

    `record` appends to the finished trials of every study that the protocol reads, `records`; it is called with what
    may be recorded, in an order that the number of workers may change. After every call that takes something, `falls`
    says which workers should be told a lower horizon. A worker that is not told in time only trains for nothing.
    """

    def __init__(self, protocol: Proposals, records: Records, target: Target, record: Record) -> None:
        self._protocol, self._records, self._target, self._record = protocol, records, target, record
        self._begun: dict[str, _Begun] = {}
        self._ahead = not protocol.keeps  # whether the protocol has chosen for the next worker that is idle
        self._stirred: set[int] = set()  # studies in which a trial has ended since `falls` was last asked

    @property
    def running(self) -> list[Proposal]:
        """The trials that workers are at."""
        return [begun.proposal for begun in self._begun.values() if begun.ending is None]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run; asked when nothing runs."""
        return not self._begun and self._protocol.next_trial(self._records, ()) is None

    def take(self, barred: Collection[str] = ()) -> Proposal | None:
        """The trial for a worker that is idle and may not have those that are barred.

        None when there is none before a running trial ends. With nothing running and nothing barred, the experiment is
        complete.
        """
        proposal = self._protocol.next_trial(self._records, self._begun.keys() | barred)
        if proposal is None:
            return None
        proposal = self._protocol.revised(proposal, self._records, self._crossings(proposal.batch_size))
        self._begun[proposal.trial_id] = _Begun(proposal)
        self._ahead = not self._protocol.keeps
        return proposal

    def ahead(self) -> None:
        """While workers train, have the protocol choose what would begin next, so that none of them waits for that."""
        if not self._ahead:
            self._ahead = True
            self._protocol.next_trial(self._records, self._begun.keys())

    def reported(self, trial_id: str, rows: Iterable[Row]) -> None:
        """A worker's trial goes on, and has been measured."""
        begun = self._begun[trial_id]
        begun.rows += rows
        if self._protocol.settled(begun.proposal, self._records):
            proposal = self._protocol.revised(begun.proposal, self._records)
            self._record(proposal, _unrecorded(begun, proposal), None)
            begun.n_recorded = len(begun.rows)

    def ended(self, trial_id: str, rows: Iterable[Row], ending: Ending) -> None:
        """A worker's trial has ended, with its last measurements; all is recorded whose horizon this settles."""
        begun = self._begun[trial_id]
        begun.rows += rows
        begun.ending = ending
        self._stirred.add(begun.proposal.batch_size)
        while (settled := self._one_settled(begun.proposal.batch_size)) is not None:
            proposal = self._protocol.revised(settled.proposal, self._records)
            assert settled.ending is not None
            ending = truncated(settled.ending, settled.rows, proposal, self._target)
            self._record(proposal, _unrecorded(settled, proposal), ending)
            del self._begun[proposal.trial_id]

    def lost(self, trial_id: str) -> None:
        """A worker died, or its trial did not begin to train; the protocol will propose the trial again."""
        del self._begun[trial_id]

    def falls(self) -> dict[str, int]:
        """The trials whose horizon has fallen since their worker was told, with the horizon that it is now."""
        fallen = {}
        crossings = {batch_size: self._crossings(batch_size) for batch_size in self._stirred}
        self._stirred.clear()
        for begun in self._begun.values():
            if begun.ending is None and begun.proposal.batch_size in crossings:
                heard = crossings[begun.proposal.batch_size]
                revised = self._protocol.revised(begun.proposal, self._records, heard)
                if revised.max_steps < begun.proposal.max_steps:
                    begun.proposal = revised
                    fallen[revised.trial_id] = revised.max_steps
        return fallen

    def _crossings(self, batch_size: int) -> list[tuple[int, int]]:
        ended = (b for b in self._begun.values() if b.ending is not None and b.proposal.batch_size == batch_size)
        return [(b.proposal.number, b.ending.crossing.steps) for b in ended if b.ending and b.ending.crossing]

    def _one_settled(self, batch_size: int) -> _Begun | None:
        """The next trial of a study to record: the one with the lowest number, which may settle others."""
        ended = (b for b in self._begun.values() if b.ending is not None and b.proposal.batch_size == batch_size)
        settled = (b for b in ended if self._protocol.settled(b.proposal, self._records))
        return min(settled, key=lambda begun: begun.proposal.trial_id, default=None)


def settings_of(proposal: Proposal, experiment: Experiment, gpus: float) -> Settings:
    """All that decides a proposal's run but the weights that it begins with, on a worker that has so many GPUs.

    Confirming runs are probed. A batch size that changes would be compiled anew each time.
    """
    execution = experiment.execution
    return Settings(
        proposal.batch_size,
        proposal.seed,
        experiment.optimizer,
        proposal.hyperparameters,
        execution if proposal.batches is None else execution.model_copy(update={"compile": False}),
        gpus,
        experiment.probes if proposal.stage is Stage.CONFIRM else Probes(),
        batches=proposal.batches,
    )


def limits_of(proposal: Proposal, experiment: Experiment) -> Limits:
    """How far a proposal's trial may go, and where it is evaluated.

    Search trials are evaluated on the coarse grid until they are near the target. Those of the stopping rule `full` are
    there to be read at other targets, and re-runs make the number: both are evaluated at the whole resolution.
    """
    rungs = tuple((rung.step, rung.cutoff) for rung in proposal.rungs)
    coarse = proposal.stage is Stage.SEARCH and experiment.search.stopping.rule != "full"
    return Limits(proposal.max_steps, proposal.capped, rungs, experiment.resolution, proposal.stop_at_target, coarse)


def _unrecorded(begun: _Begun, proposal: Proposal) -> list[Row]:
    """The measurements up to the horizon that are not recorded yet."""
    return [row for row in begun.rows[begun.n_recorded :] if row["step"] <= proposal.max_steps]


def truncated(ending: Ending, rows: Sequence[Row], proposal: Proposal, target: Target) -> Ending:
    """The end of a trial as its proposal's settled horizon makes it, though it was trained under a higher one.

    A horizon is a point of the evaluation grid, so a trial that came beyond it was evaluated there. The same end comes
    back where the horizon changes nothing.
    """
    horizon = proposal.max_steps
    outcome = Outcome.CAPPED if proposal.capped else Outcome.EXHAUSTED
    if ending.steps < horizon:
        return ending
    at = next((row for row in rows if row["step"] == horizon), None)
    if ending.steps == horizon:
        # Either the evaluation there ended it, or it trained on and failed before the next one.
        failed_later = ending.outcome.broken and at is not None
        ran_out = ending.outcome in (Outcome.CAPPED, Outcome.EXHAUSTED)
        return replace(ending, outcome=outcome, message=None) if failed_later or ran_out else ending
    assert at is not None
    best = target.direction.worst  # where it went on, everything measured was finite
    for row in rows:
        if row["step"] <= horizon and target.direction.better(row[target.metric], best):
            best = row[target.metric]
    share = at["train_seconds"] / ending.train_seconds if ending.train_seconds else 1.0
    return replace(
        ending,
        outcome=outcome,
        message=None,
        steps=horizon,
        crossing=None,
        best_value=best,
        train_seconds=at["train_seconds"],
        evaluate_seconds=share * ending.evaluate_seconds,
    )
