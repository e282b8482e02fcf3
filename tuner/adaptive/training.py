"""One run with a plan of batch sizes, to the target, and what it was made with along the way."""

from __future__ import annotations

from bcrit.analysis.questions.adaptive.gain import thinned
from bcrit.analysis.questions.adaptive.result import Trained
from bcrit.search_spaces.experiment import Experiment
from bcrit.tuner.training.batch_schedule import Progress
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Trial
from bcrit.tuner.workloads.protocol import PlannedRun, PlannedWorkload

MOST_POINTS = 60
"""Evaluations that are kept of a run; chosen: enough for its curves and integrals."""


def train(
    workload: PlannedWorkload, experiment: Experiment, settings: Settings, schedule: str, number: int, max_steps: int
) -> Trained:
    """Train to the target.

    Args:
        workload: what is trained.
        experiment: its target and resolution.
        settings: all that decides the run, a plan of batch sizes among it.
        schedule: name of the plan.
        number: which of the seeds.
        max_steps: updates it may make.

    Returns:
        The run; errors of the training code are its outcome.
    """
    begun: list[PlannedRun] = []

    def begin() -> PlannedRun:
        begun.append(workload.begin(settings))
        return begun[0]

    trial = Trial(begin, experiment.target, Limits(max_steps, False, (), experiment.resolution))
    trace: list[tuple[int, Progress]] = []
    while trial.ending is None:
        for measurement in trial.advance(0.0):  # one evaluation at a time: the run knows its examples now only
            progress = begun[0].progress
            if progress is not None:
                trace.append((measurement.step, progress))
    ending = trial.ending
    used = {step: progress.examples for step, progress in trace}
    reached = None if ending.crossing is None else ending.crossing.steps
    kept = [trace[place] for place in thinned(len(trace), MOST_POINTS)] if trace else []
    return Trained(
        schedule=schedule,
        number=number,
        seed=settings.seed,
        outcome=ending.outcome.value,
        message=ending.message,
        steps=reached,
        examples=None if reached is None else used[reached],
        at_steps=tuple(step for step, _ in kept),
        at_examples=tuple(progress.examples for _, progress in kept),
        batch_sizes=tuple(progress.batch_size for _, progress in kept),
        noise_scales=tuple(progress.noise_scale for _, progress in kept),
    )


__all__ = ["MOST_POINTS", "train"]
