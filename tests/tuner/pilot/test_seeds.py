"""The best point on fresh seeds: real training, with the noise scale in between and bits as without."""

from __future__ import annotations

import pandas as pd
from torch import nn

from bcrit.search_spaces.options import Probes
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.tuner.pilot.seeds import Runs, run_seeds
from bcrit.tuner.protocol.protocol import trial_seed
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Trial
from tests.tuner.landscape.small import Blobs, experiment

SPEC = experiment()
PROBES = Probes(measure=("noise_scale",), examples=64, per_decade=2)


def ran(n_seeds: int, horizon: int, lines: list[str] | None = None) -> Runs:
    settings = Settings(16, 0, "sgd", {"lr": 0.5}, probes=PROBES)
    watch = (lambda line: None) if lines is None else lines.append
    return run_seeds(Blobs(), settings, SPEC, n_seeds, horizon, watch)


def test_each_seed_is_one_run_to_the_target() -> None:
    lines: list[str] = []
    found = ran(3, 150, lines)
    assert [ending.outcome for ending in found.endings] == [Outcome.REACHED] * 3
    assert lines[0] == f"seed 1 of 3: reached after {found.crossings[0]} steps" and len(lines) == 3
    assert sorted(pd.DataFrame(found.rows)["trial_id"].unique()) == ["seed-0", "seed-1", "seed-2"]
    for number, (name, rows) in enumerate(pd.DataFrame(found.rows).groupby("trial_id")):
        assert name == f"seed-{number}" and list(rows["step"])[0] == 0
        assert rows["step"].max() == found.crossings[number] == rows["crossing"].iloc[0]
        assert rows["tr_sigma"].notna().all() and (rows["batch_size"] == 16).all()


def test_a_seed_is_that_of_a_confirming_run() -> None:
    settings = Settings(16, trial_seed(SPEC.seed, Stage.CONFIRM, 1), "sgd", {"lr": 0.5})
    trial = Trial(lambda: Blobs().begin(settings), SPEC.target, Limits(150, False, (), SPEC.resolution))
    trial.advance(60)
    assert trial.ending is not None and trial.ending.crossing is not None
    assert ran(2, 150).crossings[1] == trial.ending.crossing.steps


def test_why_a_run_failed_is_told() -> None:
    class Broken(Blobs):
        def model(self, settings: Settings) -> nn.Module:
            raise RuntimeError("no such layer")

    lines: list[str] = []
    run_seeds(Broken(), Settings(16, 0, "sgd", {"lr": 0.5}, probes=PROBES), SPEC, 1, 150, lines.append)
    assert lines == ["seed 1 of 1: failed after 0 steps (RuntimeError: no such layer)"]


def test_a_run_that_does_not_reach_is_measured_to_its_horizon() -> None:
    found = ran(1, 2)
    assert found.crossings == (None,) and found.endings[0].outcome is Outcome.EXHAUSTED
    assert [row["step"] for row in found.rows] == [0, 1, 2] and found.evaluations == 3
