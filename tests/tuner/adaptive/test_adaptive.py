"""`adaptive` on small runs: what it trains, on which seeds, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bcrit.analysis.questions.adaptive.result import Adaptive, Trained
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.adaptive.adaptive import Options, adaptive
from bcrit.tuner.adaptive.training import train
from bcrit.tuner.training.batch_schedule import Ramp
from bcrit.tuner.workloads.digits import DigitsMLP
from tests.tuner.landscape.small import experiment, filled

QUADRATIC = {
    "workload": {"name": "noisy_quadratic", "options": {"dimensions": 100}},
    "batch_sizes": [2, 8, 32, 128],
    "target": "risk < 0.2",
    "space": {"lr": "log from 0.05 to 1.9"},
    "budget": {"steps": 400, "examples": 2000},
    "search": {"protocol": "sobol", "trials": 12, "stopping": "none"},
    "confirm": {"points": 1, "seeds": 1},
    "resolution": 0.005,
}
DIGITS = {
    "workload": "digits_mlp",
    "batch_sizes": [16, 64, 256],
    "target": "val_loss < 0.4",
    "search": {"protocol": "sobol", "trials": 6, "stopping": "none"},
    "confirm": {"points": 1, "seeds": 1},
}

OPTIONS = Options((40.0,), (Ramp(((0, 16), (10, 64))),), seeds=2)


class InEights(DigitsMLP):
    """Its batches hold whole eights, as ghost batches or sequences of tokens ask for."""

    def rows(self, batch_size: int) -> int:
        if batch_size % 8:
            raise ValueError(f"batches hold whole eights, but {batch_size} is none; choose a multiple")
        return batch_size


@pytest.fixture(scope="module")
def quadratic(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return filled(tmp_path_factory.mktemp("quadratic") / "run", experiment(**QUADRATIC))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return filled(tmp_path_factory.mktemp("digits") / "run", experiment(**DIGITS))


@pytest.fixture(scope="module")
def found(digits: RunFolder) -> Adaptive:
    torch.set_num_threads(1)
    return adaptive(digits, OPTIONS)


def test_every_fixed_size_and_every_schedule_is_trained_on_the_same_fresh_seeds(
    found: Adaptive, digits: RunFolder
) -> None:
    names = ["B = 16", "B = 64", "B = 256", "r = 40", "ramp 0:16, 10:64"]
    assert [one.schedule for one in found.answers] == names
    seeds = {name: [run.seed for run in found.runs_of(name)] for name in names}
    assert len({tuple(s) for s in seeds.values()}) == 1 and len(seeds["r = 40"]) == 2
    assert not set(seeds["r = 40"]) & set(digits.read(TRIALS).column("seed").to_pylist())
    assert all(run.outcome == "reached" for run in found.runs)


def test_after_a_kill_only_what_is_missing_is_trained_and_the_numbers_are_the_same(
    found: Adaptive, digits: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(digits.root, tmp_path / "run", ignore=shutil.ignore_patterns("adaptive"))
    folder, names = RunFolder.at(tmp_path / "run"), list[str]()

    def watched(*given: Any) -> Trained:
        names.append(given[3])
        if len(names) == 8:
            raise KeyboardInterrupt
        return train(*given)

    monkeypatch.setattr("bcrit.tuner.adaptive.bench.train", watched)
    with pytest.raises(KeyboardInterrupt):
        adaptive(folder, OPTIONS)
    kept = tmp_path / "run" / "adaptive"
    assert len(list(kept.iterdir())) == 7
    (kept / "B_64-2.json").write_text("{")
    lines: list[str] = []
    assert adaptive(folder, OPTIONS, lines.append) == found
    assert names[8:] == ["B = 64", "r = 40", *["ramp 0:16, 10:64"] * 2]
    said = [line.partition(" steps")[2] for line in lines]
    assert said == [f", {n} read from adaptive/" for n in (2, 1, 2, 1)] + [""]


def test_what_runs_use_is_what_they_say(found: Adaptive) -> None:
    for run in found.runs_of("B = 64"):
        assert run.examples == 64 * (run.steps or 0) and set(run.batch_sizes) == {None, 64}
    for run in found.runs_of("ramp 0:16, 10:64"):
        steps = run.steps or 0
        assert run.examples == 16 * min(steps, 10) + 64 * max(steps - 10, 0)
    for run in found.runs_of("r = 40"):
        sizes = [b for b in run.batch_sizes if b is not None]
        assert all(16 <= b <= 256 and b % 8 == 0 for b in sizes)
        assert any(n is not None for n in run.noise_scales)


def test_the_micro_batch_is_half_of_the_smallest_batch(found: Adaptive) -> None:
    assert (found.micro_batch, found.noise, found.low, found.high) == (8, "b_simple", 16, 256)


def test_the_quadratic_is_exact_and_needs_one_seed(quadratic: RunFolder) -> None:
    made = adaptive(quadratic, Options(seeds=5))
    assert made.deterministic and made.n_seeds == 1 and made.noise == "b_noise" and made.micro_batch is None
    for one in made.of("noise"):
        assert one.gamma_predicted is not None and 0.8 < one.gamma_predicted <= 1.0
        assert one.ratio is not None and one.ratio == pytest.approx(one.ratio_predicted, rel=0.25)  # coarsely tuned


def test_the_default_rates_span_the_knee_within_the_tuned_sizes(quadratic: RunFolder) -> None:
    made = adaptive(quadratic, Options())
    b_crit = made.e_min / made.s_min
    shares = [(one.exchange_rate or 0) / b_crit for one in made.of("noise")]
    assert set(shares) <= {1 / 16, 1 / 4, 1.0, 4.0, 16.0} and 1.0 in shares


def test_a_workload_that_makes_whole_eights_only_follows_the_noise_and_refuses_other_ramps(tmp_path: Path) -> None:
    workload = "tests.tuner.adaptive.test_adaptive:InEights"
    folder = filled(tmp_path / "run", experiment(**{**DIGITS, "workload": workload}))
    made = adaptive(folder, Options((40.0, 60.0), seeds=1))
    assert [run.outcome for run in made.runs if run.schedule.startswith("r =")] == ["reached"] * 2
    refused = "(?s)whole eights, but 10 is none.*training set of 1437 examples, but one is 2000"
    with pytest.raises(InputError, match=refused):
        adaptive(folder, Options(ramps=(Ramp(((0, 8), (9, 10), (20, 2000))),)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": 0}, "'seeds' must be at least 1"),
        ({"exchange_rates": (-1.0,)}, "must be positive"),
        ({"exchange_rates": (30.01, 8.0, 30.02)}, "several 'r = 30'; keep one"),
        ({"ramps": (Ramp(((0, 8), (9, 16))),) * 2}, "several 'ramp 0:8, 9:16'; keep one"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**given)  # type: ignore[arg-type]
