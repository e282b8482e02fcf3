"""What is known of one study: its finished trials in an index that grows with them, so that no proposal reads all.

The index holds nothing of its own. It follows a list of records that is only appended to, and is built anew from the
records wherever they are not the ones that it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from bcrit.analysis.studies.boundary import Rounds
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.space import Point, SearchSpace
from bcrit.search_spaces.target import Target
from bcrit.tuner.protocol.own import OwnSearch
from bcrit.tuner.protocol.proposal import Records, TrialRecord, merit
from bcrit.tuner.protocol.stopping import Stops, cap
from bcrit.tuner.protocol.tpe import TpeStudy

if TYPE_CHECKING:
    from bcrit.tuner.protocol.samplers import Question


class Known:
    """The search trials that the choice of a point may depend on, added in order of their numbers."""

    def __init__(self, target: Target) -> None:
        self.best: TrialRecord | None = None  # the best of them in order of merit; None while there is none
        self.target, self._merit = target, (float("inf"), 0.0, 0)
        self.records: list[TrialRecord] = []  # these trials
        self._tpe: TpeStudy | None = None
        self._own: OwnSearch | None = None

    def add(self, record: TrialRecord) -> None:
        """One more trial is known."""
        self.records.append(record)
        if (found := merit(record, self.target)) < self._merit:
            self.best, self._merit = record, found

    def tpe(self, space: SearchSpace, optimizer: str) -> TpeStudy:
        """The same trials for TPE, in the study's space as it is now."""
        if self._tpe is None or self._tpe.space != space:
            self._tpe = TpeStudy(space, optimizer, self.target)
        for record in self.records[self._tpe.n_known :]:
            self._tpe.add(record)
        return self._tpe

    def own(self, asked: Question) -> OwnSearch:
        """The search that the user names, as far as it has come in the round of what is asked."""
        if self._own is None or self._own.first != asked.first:
            self._own = OwnSearch(asked)
        return self._own


class _Adding(Protocol):
    def add(self, record: TrialRecord) -> None: ...


_T = TypeVar("_T", bound=_Adding)


@dataclass
class _UpTo(Generic[_T]):
    """Something that search trials are added to in order of their numbers, up to a number that hardly ever falls."""

    make: Callable[[], _T]
    made: _T | None = None
    n: int = 0

    def at(self, n: int, search: Mapping[int, TrialRecord]) -> _T:
        """It with the trials 0 ... n - 1; a trial that is lost and proposed again may know less than those after it."""
        if self.made is None or n < self.n:
            self.made, self.n = self.make(), 0
        for number in range(self.n, n):
            self.made.add(search[number])
        self.n = n
        return self.made


class Study:
    """The finished trials of one study: it follows their list, to which more may be appended."""

    def __init__(self, experiment: Experiment, batch_size: int, records: Sequence[TrialRecord]) -> None:
        budget_steps, search, target = experiment.budget.max_steps(batch_size), experiment.search, experiment.target
        resolution = experiment.resolution
        self.batch_size = batch_size
        self.rounds = Rounds(experiment, batch_size)  # of its search
        self.search: dict[int, TrialRecord] = {}  # finished search trials by number
        self.confirmed: dict[str, TrialRecord] = {}  # finished re-runs by name
        self._experiment, self._records = experiment, records
        self._n_seen = 0
        self._last: TrialRecord | None = None
        self._known = _UpTo(lambda: Known(target))
        self._stops = _UpTo(lambda: Stops(budget_steps, search.stopping, target, resolution))
        self._winners: list[TrialRecord] | None = None
        self._fewest: list[int | None] = [None]  # at n: the fewest steps-to-target of the search trials 0 ... n - 1
        self._cap = lru_cache(maxsize=None)(lambda steps: cap(steps, budget_steps, search.stopping, resolution))

    def follows(self, records: Sequence[TrialRecord]) -> bool:
        """Whether these are the records that it has seen, with or without new ones at the end."""
        n = self._n_seen
        return records is self._records and len(records) >= n and (not n or records[n - 1] is self._last)

    def catch_up(self) -> None:
        """Take in the records that were appended."""
        for record in self._records[self._n_seen :]:
            self._last = record
            if record.stage is Stage.CONFIRM:
                self.confirmed[record.trial_id] = record
            else:
                self.search[record.number], self._winners = record, None
                self.rounds.add(record)
        self._n_seen = len(self._records)

    def known(self, n: int) -> Known:
        """What the choice of a point may depend on, if it may know of the search trials 0 ... n - 1."""
        return self._known.at(n, self.search)

    def stops(self, n: int) -> Stops:
        """What decides where a trial is stopped, if it may know of the search trials 0 ... n - 1."""
        return self._stops.at(n, self.search)

    def cap(self, n: int, crossings: Iterable[int] = ()) -> int:
        """The horizon of a trial that may know of the search trials 0 ... n - 1, and of these steps-to-target."""
        for number in range(len(self._fewest) - 1, n):
            found = (self._fewest[-1], self.search[number].steps_to_target)
            self._fewest.append(min((steps for steps in found if steps is not None), default=None))
        fewest = self._fewest[n]
        known: int = self._cap(min([*crossings, *([] if fewest is None else [fewest])], default=None))
        return known

    def winners(self) -> list[TrialRecord]:
        """The search trials whose points are confirmed."""
        if self._winners is None:
            self._winners = best_trials(self.search.values(), self._experiment)
        return self._winners


def study_of(made: dict[int, Study], experiment: Experiment, batch_size: int, records: Records) -> Study:
    """A study with all that has finished: one of those that were made before, where it follows the same list."""
    mine, study = records.get(batch_size, ()), made.get(batch_size)
    if study is None or not study.follows(mine):
        study = made[batch_size] = Study(experiment, batch_size, mine)
    study.catch_up()
    return study


def best_trials(search: Iterable[TrialRecord], experiment: Experiment) -> list[TrialRecord]:
    """The search trials whose points are confirmed: the best that reached, one for each different point."""
    chosen: list[TrialRecord] = []
    points: list[Point] = []
    for record in sorted(search, key=lambda record: merit(record, experiment.target)):
        if record.steps_to_target is None or len(chosen) == experiment.confirm.points:
            break
        if record.point not in points:
            chosen.append(record)
            points.append(record.point)
    return chosen
