"""Batch sizes that change along a run: the schedules, the learning rate that goes with them, the noise they follow.

`Settings(batches=BatchPlan(schedule, rates))` makes a run of them; without a plan nothing of this is used.
"""

from bcrit.tuner.training.batch_schedule.accumulation import Accumulation
from bcrit.tuner.training.batch_schedule.plan import BatchPlan, Decision
from bcrit.tuner.training.batch_schedule.planned import PlannedUpdates, Progress, planned_updates
from bcrit.tuner.training.batch_schedule.rates import GreedyRates, Rates, TunedRates
from bcrit.tuner.training.batch_schedule.running_noise import RunningNoise
from bcrit.tuner.training.batch_schedule.schedules import ByNoise, Fixed, Ramp, Schedule, State

__all__ = [
    # what a batch size may follow
    "Fixed",
    "Ramp",
    "ByNoise",
    "Schedule",
    "State",
    # which learning rate goes with it
    "TunedRates",
    "GreedyRates",
    "Rates",
    # both together, and what they are measured by
    "BatchPlan",
    "Decision",
    "RunningNoise",
    "Accumulation",
    "PlannedUpdates",
    "planned_updates",
    "Progress",
]
