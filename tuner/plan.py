"""What an experiment would run, and what it costs at most: computed without running anything."""

from __future__ import annotations

import math
from dataclasses import dataclass

from search_spaces.experiment import Experiment


@dataclass(frozen=True)
class StudyPlan:
    """What one study would run.

    Attributes:
        batch_size: the study.
        max_steps: step budget of a search trial.
        search_trials: feasible trials wanted in the first round.
        confirm_trials: re-runs on fresh seeds.
        steps: bound on optimizer updates of the first round and the re-runs, if no trial diverges or is stopped early.
        most_steps: bound on optimizer updates with all widening rounds and as many draws as are allowed.
    """

    batch_size: int
    max_steps: int
    search_trials: int
    confirm_trials: int
    steps: int
    most_steps: int

    @property
    def examples(self) -> int:
        """`steps` in training items."""
        return self.batch_size * self.steps

    @property
    def most_examples(self) -> int:
        """`most_steps` in training items."""
        return self.batch_size * self.most_steps


def plan(experiment: Experiment) -> list[StudyPlan]:
    """Plan every study.

    Args:
        experiment: resolved.

    Returns:
        One plan a batch size. A re-run trains at most `confirm.horizon` times its point's steps-to-target, which is at
        most the budget.
    """
    search, boundary, confirm = experiment.search, experiment.boundary, experiment.confirm
    plans = []
    for batch_size in experiment.batch_sizes:
        budget = experiment.budget.max_steps(batch_size)
        reruns = confirm.points * confirm.seeds
        rerun_steps = reruns * math.ceil(confirm.horizon * budget)
        later = boundary.max_rounds * experiment.later_trials
        plans.append(
            StudyPlan(
                batch_size=batch_size,
                max_steps=budget,
                search_trials=search.trials,
                confirm_trials=reruns,
                steps=search.trials * budget + rerun_steps,
                most_steps=int((search.trials + later) * search.max_draws) * budget + rerun_steps,
            )
        )
    return plans
