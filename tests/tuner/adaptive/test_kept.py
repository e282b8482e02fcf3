"""Finished runs: read as they were written, and only as what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.tuner.adaptive import kept
from bcrit.tuner.training.batch_schedule import BatchPlan, ByNoise, Fixed, Ramp, TunedRates
from bcrit.tuner.training.settings import Settings
from tests.analysis.questions.adaptive.made_up import SCHEDULES, run
from tests.tuner.landscape.small import experiment

PATH = kept.path_of("r = 16", 0)
RUN = run(SCHEDULES[7], 0)
SETTINGS = Settings(8, 3, "sgd", {"lr": 0.1}, batches=BatchPlan(ByNoise(16.0, 4, 64, 8), TunedRates((4,), (0.1,)), 2))


@pytest.fixture(params=["path", "URI"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run" if request.param == "path" else f"file://{tmp_path}/run")


def key(settings: Settings = SETTINGS, max_steps: int = 9, device: str = "cpu", **more: Any) -> str:
    return kept.key_of_run(settings, experiment(**more), max_steps, device)


def test_what_is_written_is_read_to_the_bit(folder: RunFolder) -> None:
    assert kept.read(folder, PATH, "key") is None
    assert kept.write(folder, PATH, "key", RUN) == RUN == kept.read(folder, PATH, "key")
    assert kept.read(folder, PATH, "other") is None


def test_a_run_whose_code_failed_is_not_kept(folder: RunFolder) -> None:
    kept.write(folder, PATH, "key", replace(RUN, outcome="failed", steps=None))
    assert not folder.has(PATH)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:99],
        lambda text: text.replace(f'"steps": {RUN.steps}', f'"steps": {(RUN.steps or 0) + 1}'),
        lambda text: text.replace('"sha256"', '"sha"'),
        lambda text: "[]",
        lambda text: "\udcff",
    ],
    ids=["cut off", "another number", "no sum", "no object", "no text"],
)
def test_a_damaged_file_is_no_run(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    folder = RunFolder.at(tmp_path / "run")
    kept.write(folder, PATH, "key", RUN)
    folder.write_bytes(PATH, spoil(folder.read_text(PATH)).encode(errors="surrogateescape"))
    assert kept.read(folder, PATH, "key") is None


@pytest.mark.parametrize(
    "change",
    [
        {"max_steps": 10},
        {"device": "H200"},
        {"target": "val_loss < 0.31"},
        {"resolution": 0.01},
        {"workload": {"name": "noisy_quadratic", "options": {}}},
        {"settings": replace(SETTINGS, seed=4)},
        {"settings": replace(SETTINGS, hyperparameters={"lr": 0.2})},
        *({"settings": replace(SETTINGS, batches=BatchPlan(one))} for one in (Fixed(8), Ramp(((0, 8),)))),
    ],
    ids=str,
)
def test_all_that_decides_a_run_is_in_its_key(change: dict[str, Any]) -> None:
    assert key() == key() != key(**change)


def test_every_schedule_and_seed_has_a_file_of_its_own_that_any_file_system_takes() -> None:
    assert kept.path_of("ramp 0:16, 50:64", 0) == "adaptive/ramp_0_16_50_64-1.json"
    names = ["B = 16", "B = 1,024", "r = 1e-05", "r = 1e+05", "r = 0.5", "ramp 0:1, 6:10", "ramp " + "0:1, " * 99]
    paths = {kept.path_of(name, number) for name in names for number in range(2)}
    assert len(paths) == 14 and all(len(path) < 220 and not set(path) & set(" :,") for path in paths)
