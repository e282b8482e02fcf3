"""The rounds of a study, replayed from its search trials: draws until enough are feasible, a verdict, a wider box.

Both the search, which asks what comes next, and the analysis, which asks what was found, read them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from analysis.studies.boundary import Verdict, after_round
from analysis.studies.searched import SearchedPoint, SearchedTrials
from search_spaces.experiment import Experiment
from search_spaces.outcome import Outcome
from search_spaces.space import Point, SearchSpace

# A study whose first draws all fail in the training code (not by divergence) is given up after this many, or after as
# many as may run at once. Chosen.
_HOPELESS = 10


class SearchTrial(Protocol):
    """What the rounds need of a finished search trial; the columns of `search_spaces.tables.TRIALS`."""

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
class StudyState:
    """What the finished trials of a study say about what comes next.

    Attributes:
        space: the search space of the current round.
        round: how often the box was widened before.
        first: number of the current round's first trial.
        wanted: feasible trials wanted in the current round.
        searching: whether the current round is unfinished.
        edges: the boundary verdicts of all complete rounds.
    """

    space: SearchSpace
    round: int
    first: int
    wanted: int
    searching: bool
    edges: tuple[Verdict, ...]


def study_state(experiment: Experiment, batch_size: int, search: Sequence[SearchTrial]) -> StudyState:
    """Replay a study's rounds.

    Args:
        experiment: search, boundary rule and starting box; not imported, as there is nothing to replay of others' runs.
        batch_size: the study.
        search: its finished search trials; those of a later round imply that all earlier rounds are complete.

    Returns:
        The state after the last complete round.
    """
    space = experiment.space_at(batch_size)
    edges: list[Verdict] = []
    first, wanted, round_number = 0, experiment.search.trials, 0
    while True:
        outcomes = {trial.number: trial.outcome for trial in search if trial.round == round_number}
        drawn = draws_needed([outcomes.get(first + i) for i in range(len(outcomes) + 1)], wanted, experiment)
        if drawn is None:
            return StudyState(space, round_number, first, wanted, searching=True, edges=tuple(edges))
        seen = [_searched(t, experiment) for t in search if t.number < first + drawn and not t.outcome.broken]
        space, verdicts = after_round(space, SearchedTrials.of(seen), experiment.boundary, round_number)
        edges += verdicts
        if all(verdict.widened_to is None for verdict in verdicts):
            return StudyState(space, round_number, first + drawn, wanted, searching=False, edges=tuple(edges))
        first, round_number = first + drawn, round_number + 1
        wanted = experiment.later_trials


def draws_needed(
    in_order: Sequence[Outcome | None], wanted: int, experiment: Experiment, *, optimistic: bool = False
) -> int | None:
    """How many draws a round takes: until enough feasible ones, at most `max_draws` times as many.

    Args:
        in_order: outcomes of the round's trials by number; None where one has not finished.
        wanted: feasible trials wanted.
        experiment: for the bound on draws.
        optimistic: count unfinished trials as feasible ones: is it certain that another draw is needed? Whether the
            first draws all fail is known only when they have ended, so the next one waits for them, and what is drawn
            does not depend on which trial ends first.

    Returns:
        The number of draws; None while the finished ones do not settle it.
    """
    feasible, bound = 0, int(wanted * experiment.search.max_draws)
    patience = max(_HOPELESS, experiment.search.parallel_per_study)
    for drawn, outcome in enumerate([*in_order, None]):
        hopeless = drawn == patience and all(before is None or before.broken for before in in_order[:drawn])
        if feasible >= wanted or drawn >= bound or hopeless:
            return drawn
        if drawn == len(in_order) or (outcome is None and not optimistic):
            return None
        feasible += outcome is None or outcome.feasible
    return None


def _searched(trial: SearchTrial, experiment: Experiment) -> SearchedPoint:
    """What the boundary rule needs of a trial."""
    shortfall = None if trial.best_value is None else abs(trial.best_value - experiment.target.threshold)
    return SearchedPoint(trial.point, trial.steps_to_target, trial.outcome.feasible, shortfall)
