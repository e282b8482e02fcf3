"""What an experiment would run, and what it costs at most: computed without running anything."""

import math
from dataclasses import dataclass

from bcrit.search_spaces.experiment import Experiment


@dataclass(frozen=True)
class StudyPlan:
    """What one study would run."""

    batch_size: int  # the study
    max_steps: int  # step budget of a search trial
    search_trials: int  # feasible trials wanted in the first round
    confirm_trials: int  # re-runs on fresh seeds
    # Bound on optimizer updates of the first round and the re-runs, if no trial diverges or is stopped early.
    steps: int
    most_steps: int  # bound on optimizer updates with all widening rounds and as many draws as are allowed

    @property
    def examples(self) -> int:
        """`steps` in training items."""
        return self.batch_size * self.steps

    @property
    def most_examples(self) -> int:
        """`most_steps` in training items."""
        return self.batch_size * self.most_steps


# Trials of a study that may be under way for each worker it has: some have ended and wait for one before them, or for
# their horizon. With 64 workers on 8 studies of 40 trials, 2 kept 86 % of the workers' time busy, 1.5 kept 82 %, and 3
# kept 90 % but found points that were 4 % slower (`benchmarks.idle_workers`, three seeds).
_UNDER_WAY = 2
# With more than half of a search under way, most of its points would be chosen before any trial is known. Chosen.
_SHARE = 2


def resolved(experiment: Experiment, workers: int) -> Experiment:
    """The experiment with `search.parallel_per_study` as a number, for a run that begins on so many workers.

    It is frozen so in the run folder; a number that was given stays.
    """
    search = experiment.search
    if search.parallel_per_study != "auto":
        return experiment
    under_way = 1 if search.protocol == "joint" else _UNDER_WAY  # its clock has as many trials under way as run at once
    wanted = math.ceil(under_way * workers / len(experiment.batch_sizes))
    number = max(search.at_once, min(wanted, search.trials // _SHARE))
    return experiment.model_copy(update={"search": search.model_copy(update={"parallel_per_study": number})})


def plan(experiment: Experiment) -> list[StudyPlan]:
    """Plan every study of a resolved experiment.

    A re-run trains at most `confirm.horizon` times its point's steps-to-target, which is at most the budget.
    """
    search, boundary, confirm = experiment.search, experiment.boundary, experiment.confirm
    plans = []
    for batch_size in experiment.batch_sizes:
        budget = experiment.budget.max_steps(batch_size)
        # A joint search runs one more point again where a study has no number yet.
        points = confirm.points + (search.protocol == "joint")
        reruns, trials = confirm.points * confirm.seeds, experiment.trials_at(batch_size)
        rerun_each = math.ceil(confirm.horizon * budget)
        rerun_steps = reruns * rerun_each
        later = boundary.max_rounds * experiment.later_trials
        plans.append(
            StudyPlan(
                batch_size=batch_size,
                max_steps=budget,
                search_trials=trials,
                confirm_trials=reruns,
                steps=trials * budget + rerun_steps,
                most_steps=int((trials + later) * search.draws) * budget + points * confirm.seeds * rerun_each,
            )
        )
    return plans
