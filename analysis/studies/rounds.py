"""The rounds of a study, replayed from its search trials: draws until enough are feasible, a verdict, a wider box.

Both the search, which asks what comes next, and the analysis, which asks what was found, read them here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from bcrit.analysis.studies.boundary import SearchedPoint, SearchedTrials, Verdict, after_round
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.space import Point, SearchSpace

# A study whose first draws all fail in the training code (not by divergence) is given up after this many, or after as
# many as may run at once. Chosen.
_HOPELESS = 10


class SearchTrial(Protocol):
    """What the rounds need of a finished search trial; the columns of `bcrit.search_spaces.tables.TRIALS`."""

    @property
    def number(self) -> int: ...  # noqa: D102

    @property
    def round(self) -> int: ...  # noqa: D102

    @property
    def outcome(self) -> Outcome: ...  # noqa: D102

    @property
    def point(self) -> Point: ...  # noqa: D102

    @property
    def steps_to_target(self) -> int | None: ...  # noqa: D102

    @property
    def best_value(self) -> float | None: ...  # noqa: D102


@dataclass(frozen=True)
class Draws:
    """The draws of a round from its first one on: until enough are feasible, at most `max_draws` times as many."""

    wanted: int  # feasible trials wanted
    bound: int  # draws that are allowed
    patience: int  # draws after which a round is given up if none of them ran
    drawn: int = 0  # how many were counted
    feasible: int = 0  # among these
    ran: bool = False  # whether any of these did not fail in the training code

    @classmethod
    def of(cls, experiment: Experiment, wanted: int) -> Draws:
        """None drawn yet."""
        search = experiment.search
        return cls(wanted, int(wanted * search.max_draws), max(_HOPELESS, search.at_once))

    @property
    def complete(self) -> bool:
        """Whether the round needs no other draw."""
        hopeless = self.drawn == self.patience and not self.ran
        return self.feasible >= self.wanted or self.drawn >= self.bound or hopeless

    def then(self, outcome: Outcome | None) -> Draws:
        """With one more draw, by its outcome; None where it has not finished.

        It is counted as feasible then, so that `complete` is false only where another draw is needed for certain; but
        whether the first draws all fail is known only when they have ended, so the next one waits for them, and what is
        drawn does not depend on which trial ends first.
        """
        feasible, ran = (True, False) if outcome is None else (outcome.feasible, not outcome.broken)
        return replace(self, drawn=self.drawn + 1, feasible=self.feasible + feasible, ran=self.ran or ran)


@dataclass(frozen=True)
class StudyState:
    """What the finished trials of a study say about what comes next."""

    space: SearchSpace  # of the current round
    round: int  # how often the box was widened before
    first: int  # number of the current round's first trial
    draws: Draws  # of the current round, as far as they have finished without a gap
    searching: bool  # whether the current round is unfinished
    edges: tuple[Verdict, ...]  # of all complete rounds


class Rounds:
    """A study's rounds, kept up with its search trials as they finish, in whatever order.

    `state` is that after the last complete round. The experiment is no imported one: of others' runs there is nothing
    to replay.
    """

    def __init__(self, experiment: Experiment, batch_size: int) -> None:
        self._experiment = experiment
        self._trials: dict[int, SearchTrial] = {}
        draws = Draws.of(experiment, experiment.search.trials)
        self.state = StudyState(experiment.space_at(batch_size), 0, 0, draws, searching=True, edges=())

    def add(self, trial: SearchTrial) -> None:
        """One more finished trial; those of a later round imply that all earlier rounds are complete."""
        self._trials[trial.number] = trial
        while self.state.searching:
            state = self.state
            following = self._trials.get(state.first + state.draws.drawn)
            if following is None or following.round != state.round:
                return
            self.state = replace(state, draws=state.draws.then(following.outcome))
            if self.state.draws.complete:
                self.state = self._after_round(self.state)

    def _after_round(self, state: StudyState) -> StudyState:
        first, experiment = state.first + state.draws.drawn, self._experiment
        before = (self._trials[number] for number in sorted(self._trials) if number < first)
        seen = [_searched(trial, experiment) for trial in before if not trial.outcome.broken]
        space, verdicts = after_round(state.space, SearchedTrials.of(seen), experiment.boundary, state.round)
        edges = (*state.edges, *verdicts)
        if all(verdict.widened_to is None for verdict in verdicts):
            return replace(state, space=space, first=first, searching=False, edges=edges)
        draws = Draws.of(experiment, experiment.later_trials)
        return StudyState(space, state.round + 1, first, draws, searching=True, edges=edges)


def study_state(experiment: Experiment, batch_size: int, search: Iterable[SearchTrial]) -> StudyState:
    """The state of a study after the last complete round, replayed from its finished search trials."""
    rounds = Rounds(experiment, batch_size)
    for trial in search:
        rounds.add(trial)
    return rounds.state


def _searched(trial: SearchTrial, experiment: Experiment) -> SearchedPoint:
    """What the boundary rule needs of a trial."""
    shortfall = None if trial.best_value is None else abs(trial.best_value - experiment.target.threshold)
    return SearchedPoint(trial.point, trial.steps_to_target, trial.outcome.feasible, shortfall)
