"""The pilot's best point on several seeds, with its gradient noise measured along the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.tuner.protocol.protocol import trial_seed
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Ending, Limits, Measurement, Trial
from bcrit.tuner.workloads.protocol import OpenWorkload

_A_WHILE = 60.0  # seconds between looks at a run; nothing happens in between


@dataclass(frozen=True)
class Runs:
    """The runs on all seeds.

    Attributes:
        rows: one a noise scale, as `bcrit.analysis.questions.pilot.noise.run_noise` takes them.
        endings: one a seed.
        evaluations: that they made in all.
    """

    rows: tuple[Mapping[str, Any], ...]
    endings: tuple[Ending, ...]
    evaluations: int

    @property
    def crossings(self) -> tuple[int | None, ...]:
        """Steps to target of each seed."""
        return tuple(None if ending.crossing is None else ending.crossing.steps for ending in self.endings)


def run_seeds(
    workload: OpenWorkload,
    settings: Settings,
    experiment: Experiment,
    n_seeds: int,
    horizon: int,
    watch: Callable[[str], None],
) -> Runs:
    """Train the same settings on fresh seeds, to the target or the horizon.

    Args:
        workload: what is trained.
        settings: with its probes; the seed is replaced.
        experiment: target, evaluation grid and seed.
        n_seeds: how many.
        horizon: optimizer updates that each may make.
        watch: told of the progress.

    Returns:
        The runs.
    """
    rows: list[Mapping[str, Any]] = []
    endings, evaluations = [], 0
    for number in range(n_seeds):
        seeded = replace(settings, seed=trial_seed(experiment.seed, Stage.CONFIRM, number))
        limits = Limits(horizon, capped=False, rungs=(), resolution=experiment.resolution)
        trial = Trial(lambda seeded=seeded: workload.begin(seeded), experiment.target, limits)  # type: ignore[misc]
        made: list[Measurement] = []
        while trial.ending is None:
            made += trial.advance(_A_WHILE)
        crossing = None if trial.ending.crossing is None else trial.ending.crossing.steps
        why = "" if trial.ending.message is None else f" ({trial.ending.message})"
        watch(f"seed {number + 1} of {n_seeds}: {trial.ending.outcome} after {trial.ending.steps:,} steps{why}")
        rows += _rows(made, experiment, f"seed-{number}", settings.batch_size, crossing)
        endings.append(trial.ending)
        evaluations += len(made)
    return Runs(tuple(rows), tuple(endings), evaluations)


def _rows(
    made: Sequence[Measurement], experiment: Experiment, name: str, batch_size: int, crossing: int | None
) -> list[Mapping[str, Any]]:
    return [
        {
            **measured.probes,
            "trial_id": name,
            "batch_size": batch_size,
            "step": measured.step,
            "crossing": math.nan if crossing is None else crossing,
            "value": measured.metrics[experiment.target.metric],
        }
        for measured in made
        if measured.probes
    ]


__all__ = ["Runs", "run_seeds"]
