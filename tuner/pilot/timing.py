"""How long an optimizer update takes at a batch size, and how many trials this machine holds."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch

from bcrit.analysis.questions.pilot.study import Timing
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Probes
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import blame
from bcrit.tuner.workloads.protocol import OpenWorkload

_SECONDS: Final = 0.2  # a batch size is timed for so long, or one update if that takes longer; chosen, not studied
_STEPS: Final = 64  # at most
_WARM_UP: Final = 2  # updates that allocate and tune


@dataclass(frozen=True)
class Timed:
    """Timings, and what they took.

    Attributes:
        timings: by batch size.
        steps: optimizer updates made.
        examples: in the unit of a batch.
    """

    timings: tuple[Timing, ...]
    steps: int
    examples: int


def time_steps(workload: OpenWorkload, settings: Settings, batch_sizes: Sequence[int]) -> Timed:
    """Time a few updates at every batch size.

    Args:
        workload: what is trained.
        settings: of a run; its batch size is replaced.
        batch_sizes: where.

    Returns:
        Timings; a batch size at which training fails has the reason.
    """
    found, steps, examples = [], 0, 0
    for batch_size in batch_sizes:
        timing, made = _time(workload, replace(settings, batch_size=batch_size, probes=Probes()))
        found.append(timing)
        steps, examples = steps + made, examples + made * batch_size
    return Timed(tuple(found), steps, examples)


def workers(experiment: Experiment, n_studies: int, gpus: float) -> int:
    """Trials that `bcrit tune` would run at once on this machine."""
    slots = int((os.cpu_count() or 1) / experiment.resources.cpus)
    if gpus:
        slots = min(slots, int(torch.cuda.device_count() / gpus))
    return max(1, min(slots, experiment.search.at_once * n_studies))


def _time(workload: OpenWorkload, settings: Settings) -> tuple[Timing, int]:
    made = 0
    try:
        run = workload.begin(settings)
        run.train(_WARM_UP)
        begun, made, spent = time.perf_counter(), 0, 0.0
        while spent < _SECONDS and made < _STEPS:
            run.train(1)
            made += 1
            spent = time.perf_counter() - begun
    except Exception as error:  # a user's code may raise anything; the proposal then says so
        return Timing(settings.batch_size, None, blame(error)[1]), made
    return Timing(settings.batch_size, spent / made, ""), made + _WARM_UP


__all__ = ["Timed", "time_steps", "workers"]
