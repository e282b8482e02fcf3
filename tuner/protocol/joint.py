"""One search over all batch sizes: each trial is proposed by one model of all trials, and confirmed at its horizon.

A start at a middle batch size, under ASHA, finds where training works at all. A first pass goes outwards from there,
each batch size with the bounds that its neighbours set (S(B) <= S(b) max(1, b / B)), a second one over all; the last
trials of a study repeat the point that would be confirmed, for a minimum of noisy numbers is a lucky one. All but the
start are tied to a horizon T, where their schedule ends (`bcrit.tuner.protocol.surrogate`).

Rungs stand in the start alone. Among trials tied to a horizon a rule that never stops one that reaches (a metric
beyond e^.7 times those of all near misses of its study, at .3 of their horizons) would save 0.4 to 1.9 % of a study's
updates on the noisy quadratic model (three studies): what the model tries is seldom hopeless.

What a trial may know is settled by a clock of its own, in optimizer updates: as if `parallel_per_study` x the number of
batch sizes trials ran at once, each for as many updates as its horizon, in one order. So the proposals are a pure
function of the finished trials, however many workers there are and whichever of them is fast. Real workers follow that
order, and wait only for a trial that should have ended before.

Where more trials may run at once than there are batch sizes, time goes by the longest chain of trials that wait for one
another, so there the chain is shorter: the start is not held back, smaller batch sizes wait for the middle one alone,
and the re-runs of what is confirmed serve as repeats. Of 16 workers, on that clock, 67 % of the time is used in place
of 55 %, and a study ends 18 % sooner; with 8 workers its points on digits were worse, for 9 % more updates. What more
workers cost in accuracy is in `docs/benchmarks.md`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import ClassVar

import numpy as np
from threadpoolctl import ThreadpoolController

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.space import Point
from bcrit.tuner.protocol.known import Study, study_of
from bcrit.tuner.protocol.proposal import Proposal, Records, TrialRecord, blank, trial_name
from bcrit.tuner.protocol.proposer import Proposer, by_horizon, tied
from bcrit.tuner.protocol.samplers import sobol_point
from bcrit.tuner.protocol.stopping import Stops
from bcrit.tuner.protocol.surrogate import Floats

# Chosen on the noisy quadratic model (`benchmarks.search_cost`), where most of them are flat.
_REPEATS = 3  # last trials of a study, which repeat what would be confirmed
_AHEAD = {"middle": 3, "elsewhere": 2}  # trials of the first pass that the inner neighbour is ahead
_SOON = 1.5  # times the recommended horizon; where at most half of the re-runs reach by then, another point is taken


@cache
def _libraries() -> ThreadpoolController:
    """Those of linear algebra. In two threads they round otherwise than in one, and a horizon then has other digits."""
    return ThreadpoolController()


@dataclass(frozen=True)
class _Flight:
    """A trial on the protocol's clock; in order of its end."""

    end: int
    begun: int
    batch_size: int
    number: int


@dataclass
class _Clock:
    """What has begun and ended by a time of the protocol's clock."""

    begun: Counter[int] = field(default_factory=Counter)  # search trials by batch size
    ended: list[TrialRecord] = field(default_factory=list)
    n_ended: Counter[int] = field(default_factory=Counter)
    flights: list[_Flight] = field(default_factory=list)
    complete: dict[int, int] = field(default_factory=dict)  # how many had ended when a study's search was complete
    next: tuple[int, int] | None = None  # batch size and number of the trial that begins now and has not begun


@dataclass(frozen=True)
class JointProtocol:
    """All studies in one search; `next_trial`, `revised` and `settled` as every protocol has them."""

    experiment: Experiment  # resolved
    keeps: ClassVar[bool] = True
    _studies: dict[int, Study] = field(default_factory=dict, init=False, repr=False, compare=False)
    # What was computed from the same trials before; it decides nothing.
    _made: dict[str, Proposal] = field(default_factory=dict, init=False, repr=False, compare=False)
    _thetas: dict[tuple[str, ...], Floats] = field(default_factory=dict, init=False, repr=False, compare=False)
    _chosen: dict[tuple[int, int], tuple[str, Point, float] | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _rows: dict[str, Floats] = field(default_factory=dict, init=False, repr=False, compare=False)

    def next_trial(self, records: Records, running: Collection[str]) -> Proposal | None:
        """The trial that begins next by the protocol's clock; re-runs fill the workers that it leaves idle."""
        with _libraries().limit(limits=1, user_api="blas"):
            return self._next_trial(records, running)

    def _next_trial(self, records: Records, running: Collection[str]) -> Proposal | None:
        studies = {b: study_of(self._studies, self.experiment, b, records) for b in self.experiment.batch_sizes}
        clock = self._clock(studies, running)
        if clock.next is not None:
            return self._search(*clock.next, clock, studies)
        for batch_size, n_known in sorted(clock.complete.items()):
            if proposal := self._confirm(studies[batch_size], batch_size, clock.ended[:n_known], running):
                return proposal
        return None

    def revised(self, proposal: Proposal, records: Records, crossings: Iterable[tuple[int, int]] = ()) -> Proposal:
        """As it is."""
        return proposal

    def settled(self, proposal: Proposal, records: Records) -> bool:
        """From the beginning."""
        return True

    # --- what begins next -------------------------------------------------------------------------------------------

    def _clock(self, studies: Mapping[int, Study], running: Collection[str]) -> _Clock:
        """Let the clock run until a trial begins that has not begun, or one ends that has not ended."""
        search, clock, now = self.experiment.search, _Clock(), 0
        at_once = search.at_once * len(studies)
        while True:
            while len(clock.flights) < at_once and (size := self._size(clock, studies)) is not None:
                number = clock.begun[size]
                record = studies[size].search.get(number)
                name = trial_name(size, Stage.SEARCH, number)
                if record is None and name not in running:
                    clock.next = size, number
                    return clock
                horizon = self._search(size, number, clock, studies).max_steps if record is None else record.max_steps
                clock.flights.append(_Flight(now + horizon, now, size, number))
                clock.begun[size] += 1
            if not clock.flights:
                return clock
            first = min(clock.flights, key=lambda flight: (flight.end, flight.begun, flight.batch_size, flight.number))
            record = studies[first.batch_size].search.get(first.number)
            if record is None:
                return clock
            clock.flights.remove(first)
            clock.ended.append(record)
            clock.n_ended[first.batch_size] += 1
            now, state = first.end, studies[first.batch_size].rounds.state
            if not state.searching and clock.n_ended[first.batch_size] == state.first:
                clock.complete[first.batch_size] = len(clock.ended)

    def _size(self, clock: _Clock, studies: Mapping[int, Study]) -> int | None:
        """The batch size whose next trial begins now: of those that may, the one with the most updates left to make."""

        def left(size: int) -> int:
            trials = self._trials[size] - clock.begun[size]
            return trials * self._budgets[size]

        able = [size for size in studies if self._may_begin(size, clock, studies)]
        return max(able, key=lambda size: (left(size), -size), default=None)

    def _may_begin(self, size: int, clock: _Clock, studies: Mapping[int, Study]) -> bool:
        sizes, number = self.experiment.batch_sizes, clock.begun[size]
        if not self._wanted(studies[size], number, clock):
            return False
        if number < self._start[size]:
            return True
        if number - clock.n_ended[size] >= self._at_once[size]:
            return False
        place, middle = sizes.index(size), sizes.index(self._middle)
        if number - self._start[size] < self._first_pass[size]:
            if place == middle:
                return clock.n_ended[size] >= self._start[size]
            inner = sizes[place - 1 if place > middle else middle if self._many else place + 1]
            ahead = _AHEAD["middle" if inner == sizes[middle] else "elsewhere"]
            done = self._passed(inner, clock.n_ended[inner], studies[inner])  # it may have fewer trials, or be given up
            return done or clock.n_ended[inner] - self._start[inner] >= ahead
        near = sizes[max(0, place - 1) : place + 2]
        return all(self._passed(b, clock.n_ended[b], studies[b]) for b in near)

    @cached_property
    def _middle(self) -> int:
        return self.experiment.middle

    @cached_property
    def _budgets(self) -> dict[int, int]:
        return {b: self.experiment.budget.max_steps(b) for b in self.experiment.batch_sizes}

    @cached_property
    def _trials(self) -> dict[int, int]:
        return {b: self.experiment.trials_at(b) for b in self.experiment.batch_sizes}

    @cached_property
    def _start(self) -> dict[int, int]:
        return {b: self.experiment.start_at(b) for b in self.experiment.batch_sizes}

    @cached_property
    def _first_pass(self) -> dict[int, int]:
        """Trials of the first pass at each batch size; few at the middle one, where the model is still poor."""
        half = {b: math.ceil((trials - self._start[b]) / 2) for b, trials in self._trials.items()}
        return {**half, self._middle: min(half[self._middle], _AHEAD["middle"] + 1)}

    @cached_property
    def _at_once(self) -> dict[int, int]:
        """Trials of each study that may run at once: its share of all by its budget, at least one."""
        budgets, middle = self._budgets, self._middle
        at_once = self.experiment.search.at_once * len(budgets)
        shares = {b: max(1, math.ceil(at_once * steps / sum(budgets.values()))) for b, steps in budgets.items()}
        return {**shares, middle: max(shares[middle], self._first_pass[middle])} if self._many else shares

    @property
    def _many(self) -> bool:
        """Whether more trials may run at once than there are batch sizes."""
        return self.experiment.search.at_once > 1

    def _passed(self, size: int, n_ended: int, study: Study) -> bool:
        """Whether a study is through the first pass, or has been given up."""
        state = study.rounds.state
        return n_ended - self._start[size] >= self._first_pass[size] or (not state.searching and n_ended >= state.first)

    def _wanted(self, study: Study, number: int, clock: _Clock) -> bool:
        """Whether trial `number` of a study is wanted, by those of its trials that have ended."""
        state, n_ended = study.rounds.state, clock.n_ended[study.batch_size]
        first = max(each for each in state.firsts if each <= number)  # of its round
        if number >= state.first + state.searching * state.draws.wanted or n_ended < first:
            return False
        if number - first != state.draws.patience or n_ended >= number:  # whether all fail is known by then
            return True
        if self._many and number < self._start[study.batch_size]:
            return True
        own = (record for record in clock.ended if record.batch_size == study.batch_size)
        return any(not record.outcome.broken for record in own if record.number >= first)

    # --- what a trial is --------------------------------------------------------------------------------------------

    def _search(self, size: int, number: int, clock: _Clock, studies: Mapping[int, Study]) -> Proposal:
        name = trial_name(size, Stage.SEARCH, number)
        if name not in self._made:
            self._made[name] = self._proposed(size, number, clock, studies)
        return self._made[name]

    def _proposed(self, size: int, number: int, clock: _Clock, studies: Mapping[int, Study]) -> Proposal:
        experiment, state = self.experiment, studies[size].rounds.state
        budget = self._budgets[size]
        proposal = replace(blank(experiment, size, Stage.SEARCH, number, state.round), stop_at_target=False)
        space = by_horizon(state.space)
        own = [record for record in clock.ended if record.batch_size == size]
        if number < self._start[size]:
            stops = Stops(experiment.start_steps, experiment.search.stopping, experiment.target, experiment.resolution)
            for record in own:
                stops.add(record)
            proposal = stops.limited(proposal)
            point = sobol_point(space, experiment.seed, number)
            return replace(proposal, point=tied(point, space, proposal.max_steps, budget))
        rng = np.random.default_rng([experiment.seed, size, number])
        first = state.first if state.round else experiment.start_at(size)
        wanted = experiment.later_trials if state.round else experiment.trials_at(size) - first
        proposer = Proposer(experiment, size, space, clock.ended, self._thetas, self._rows)
        repeats = 0 if self._many else min(_REPEATS, wanted // 3)
        chosen = proposer.recommended() if number - first >= wanted - repeats else None
        ahead = [self._in_flight(flight, studies) for flight in clock.flights]
        point, steps = chosen[1:] if chosen is not None else proposer.next(ahead, rng)
        steps = int(min(max(2, round(steps)), budget))
        return replace(proposal, point=tied(point, space, steps, budget), max_steps=steps)

    def _in_flight(self, flight: _Flight, studies: Mapping[int, Study]) -> TrialRecord | Proposal:
        """A trial that has not ended by the clock; it may have in truth."""
        record = studies[flight.batch_size].search.get(flight.number)
        return record or self._made[trial_name(flight.batch_size, Stage.SEARCH, flight.number)]

    def _confirm(
        self, study: Study, size: int, known: Sequence[TrialRecord], running: Collection[str]
    ) -> Proposal | None:
        """The next re-run of a study whose search is complete: of the point and horizon that its model recommends."""
        wanted = self.experiment.confirm
        before: list[TrialRecord] = []
        reached = False
        for again in range(wanted.points + 1):
            if again == wanted.points and reached:
                return None  # the last one is only for a study without a number
            found = self._recommended(study, again, [*known, *before])
            if found is None:
                return None
            numbers = range(again * wanted.seeds, (again + 1) * wanted.seeds)
            names = {number: trial_name(size, Stage.CONFIRM, number) for number in numbers}
            for number, name in names.items():
                if name not in study.confirmed and name not in running:
                    return self._rerun(study, number, *found)
            if any(name in running for name in names.values()):
                return None  # whether another point is needed is known when they have ended
            finished = [study.confirmed[name] for name in names.values()]
            soon = [r for r in finished if r.steps_to_target is not None and r.steps_to_target <= _SOON * found[2]]
            reached |= 2 * len(soon) > wanted.seeds
            before += finished
        return None

    def _recommended(self, study: Study, again: int, known: Sequence[TrialRecord]) -> tuple[str, Point, float] | None:
        place = study.batch_size, again
        if place not in self._chosen:
            space = by_horizon(study.rounds.state.space)
            proposer = Proposer(self.experiment, study.batch_size, space, known, self._thetas, self._rows)
            self._chosen[place] = proposer.recommended({r.repeats for r in known if r.repeats is not None})
        return self._chosen[place]

    def _rerun(self, study: Study, number: int, repeats: str, point: Point, steps: float) -> Proposal:
        experiment, wanted, state = self.experiment, self.experiment.confirm, study.rounds.state
        budget = self._budgets[study.batch_size]
        steps = min(steps, float(budget))
        horizon = math.ceil(wanted.horizon * steps)
        return replace(
            blank(experiment, study.batch_size, Stage.CONFIRM, number, state.round),
            repeats=repeats,
            point=tied(point, by_horizon(state.space), steps, budget),
            max_steps=max(budget, horizon) if wanted.beyond_target else horizon,
            stop_at_target=not wanted.beyond_target,
        )
