"""Where one study stands: its rounds of search and widening, replayed from its finished trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.boundary import SearchedPoint, Verdict, after_round
from search_spaces.experiment import Experiment
from search_spaces.outcome import Stage
from search_spaces.space import SearchSpace
from tuner.protocol.proposal import TrialRecord


@dataclass(frozen=True)
class StudyState:
    """What the finished trials of a study say about what comes next.

    Attributes:
        space: the search space of the current round.
        round: how often the box was widened before.
        first: number of the current round's first trial.
        wanted: feasible trials wanted in the current round.
        searching: whether the current round is unfinished.
        edges: all boundary verdicts so far.
    """

    space: SearchSpace
    round: int
    first: int
    wanted: int
    searching: bool
    edges: tuple[Verdict, ...]


def study_state(experiment: Experiment, batch_size: int, search: Sequence[TrialRecord]) -> StudyState:
    """Replay a study's rounds.

    Args:
        experiment: search, boundary rule and starting box.
        batch_size: the study.
        search: its finished search trials; those of a later round imply that all earlier rounds are complete.

    Returns:
        The state after the last complete round.
    """
    space = experiment.space_at(batch_size)
    edges: list[Verdict] = []
    first, wanted, round_number = 0, experiment.search.trials, 0
    while True:
        numbers = {record.number: record for record in search if record.round == round_number}
        drawn = draws_needed([numbers.get(first + i) for i in range(len(numbers) + 1)], wanted, experiment)
        if drawn is None:
            return StudyState(space, round_number, first, wanted, searching=True, edges=tuple(edges))
        so_far = [record for record in search if record.number < first + drawn]
        seen = [searched_point(record, experiment.target.threshold) for record in so_far]
        space, verdicts = after_round(space, seen, experiment.boundary, round_number)
        edges += verdicts
        if all(verdict.widened_to is None for verdict in verdicts):
            return StudyState(space, round_number, first + drawn, wanted, searching=False, edges=tuple(edges))
        first, round_number = first + drawn, round_number + 1
        wanted = experiment.later_trials


def draws_needed(
    in_order: Sequence[TrialRecord | None], wanted: int, experiment: Experiment, *, optimistic: bool = False
) -> int | None:
    """How many draws a round takes: until enough feasible ones, at most `max_draws` times as many.

    Args:
        in_order: the round's trials by number; None where one has not finished.
        wanted: feasible trials wanted.
        experiment: for the bound on draws.
        optimistic: count unfinished trials as feasible ones.

    Returns:
        The number of draws; None while the finished ones do not settle it.
    """
    feasible, bound = 0, int(wanted * experiment.search.max_draws)
    for drawn, record in enumerate(in_order):
        if feasible >= wanted or drawn >= bound:
            return drawn
        if record is None and not optimistic:
            return None
        feasible += record is None or record.outcome.feasible
    return len(in_order) if feasible >= wanted or len(in_order) >= bound else None


def searched_point(record: TrialRecord, threshold: float) -> SearchedPoint:
    """What the boundary rule needs of a trial."""
    shortfall = None if record.best_value is None else abs(record.best_value - threshold)
    return SearchedPoint(record.point, record.steps_to_target, record.outcome.feasible, shortfall)


def of_stage(records: Sequence[TrialRecord], stage: Stage) -> list[TrialRecord]:
    """The trials of one stage in order of their numbers."""
    return sorted((record for record in records if record.stage is stage), key=lambda record: record.number)
