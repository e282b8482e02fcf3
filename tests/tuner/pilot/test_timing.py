"""Updates are timed where they can be made, and the reason is kept where they cannot."""

from __future__ import annotations

import os

from bcrit.search_spaces.options import Probes
from bcrit.tuner.pilot.timing import time_steps, workers
from bcrit.tuner.training.settings import Settings
from tests.tuner.landscape.small import Blobs, experiment


class Picky(Blobs):
    """Cannot make batches of 16."""

    def rows(self, batch_size: int) -> int:
        if batch_size == 16:
            raise ValueError("16 is no good")
        return batch_size


def test_every_batch_size_is_timed_or_has_a_reason() -> None:
    settings = Settings(4, 0, "sgd", {"lr": 0.1}, probes=Probes(measure=("noise_scale",)))
    found = time_steps(Picky(), settings, (4, 16, 32))
    assert [timing.batch_size for timing in found.timings] == [4, 16, 32]
    assert [timing.problem for timing in found.timings] == ["", "ValueError: 16 is no good", ""]
    assert [timing.step_seconds is not None and 0 < timing.step_seconds < 1 for timing in found.timings] == [1, 0, 1]
    assert 6 <= found.steps <= 2 * 66 and found.examples >= 3 * (4 + 32)


def test_workers_are_the_cores_over_what_a_trial_takes_and_no_more_than_may_run_at_once() -> None:
    cores = os.cpu_count() or 1
    assert workers(experiment(), 10**6, 0.0) == cores
    assert workers(experiment(resources={"cpus": cores}), 10, 0.0) == 1
    assert workers(experiment(resources={"cpus": 10 * cores}), 10, 0.0) == 1
    assert workers(experiment(search={"parallel_per_study": 1}, resources={"cpus": 0.5}), 1, 0.0) == 1
