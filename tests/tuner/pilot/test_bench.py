"""Where a pilot runs, and which workloads it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bcrit.search_spaces.problems import InputError
from bcrit.tuner.pilot.bench import middle, prepare
from bcrit.tuner.training.settings import Settings
from tests.tuner.landscape.small import Blobs, experiment

HERE = "tests.tuner.pilot.test_bench"


class Normalised(Blobs):
    def model(self, settings: Settings) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


class Even(Blobs):
    def rows(self, batch_size: int) -> int:
        if batch_size % 2:
            raise ValueError("odd")
        return batch_size


class OwnLoop(Blobs):
    def begin(self, settings: Settings) -> Any:
        return super().begin(settings)


@pytest.mark.parametrize(
    ("sizes", "n", "wanted"),
    [
        ([4, 8, 16, 32, 64, 128, 256, 512, 1024], 1437, 64),
        ([8, 1024], None, 8),
        ([8, 16, 32, 64], 100, 8),
        ([64, 128], 100, 64),
        ([7], None, 7),
    ],
    ids=str,
)
def test_the_middle_is_geometric_and_far_from_the_whole_training_set(
    sizes: list[int], n: int | None, wanted: int
) -> None:
    assert middle(sizes, n) == wanted


@pytest.mark.parametrize(
    ("workload", "more", "message"),
    [
        (f"{HERE}:Normalised", {}, "BatchNorm1d\\) normalises with the statistics of the batch"),
        (f"{HERE}:OwnLoop", {}, "a workload whose updates our own loop makes, but '.*OwnLoop' computes them itself"),
        (
            "noisy_quadratic",
            {"target": "risk < 3", "space": {"lr": "log from 0.05 to 0.5"}},
            "but 'noisy_quadratic' computes them itself",
        ),
        ("policy_gradient", {"target": "val_return > 150"}, "but 'policy_gradient' computes them itself"),
        ("examples.my_function:train", {"optimizer": "own", "target": "val_loss < 1"}, "computes them itself"),
    ],
    ids=["batch norm", "own loop", "noisy quadratic", "policy gradient", "function"],
)
def test_a_workload_without_gradients_of_single_examples_is_refused_with_a_remedy(
    workload: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"(?s){message}.*choose the batch sizes by hand; `bcrit tune --plan`"):
        prepare(experiment(workload=workload, **more), "x.yaml", None)


def test_a_bench_makes_settings_and_knows_what_fits() -> None:
    threads = torch.get_num_threads()
    bench = prepare(experiment(workload=f"{HERE}:Even", space={"lr": "log from 0.1 to 2"}), "x.yaml", 16)
    torch.set_num_threads(threads)
    assert (bench.batch_size, bench.horizon, bench.momentum) == (16, 150, 0.0)
    settings = bench.settings(0.3, 7)
    assert (settings.batch_size, settings.seed, settings.hyperparameters) == (
        *(16, 7, {"lr": 0.3, "schedule": "constant"}),
    )
    assert not settings.probes.measure
    assert bench.fits(8) and not bench.fits(7)


def test_a_learning_rate_for_each_option_of_a_choice_is_refused() -> None:
    kinds = {kind: {"lr": "log from 0.01 to 1"} for kind in ("past", "gaussian")}
    space = {"extrapolation": kinds, "extrapolation_lr": 0.1, "local_batch_size": 4}
    with pytest.raises(InputError, match="must stand in 'space' itself, but 'lr' stands under the options"):
        prepare(experiment(optimizer="extrap_sgd", space=space), "x.yaml", None)


def test_local_batches_must_divide_the_batch() -> None:
    space = {"lr": 0.1, "extrapolation_lr": 0.1, "local_batch_size": 6}
    bench = prepare(experiment(optimizer="extrap_sgd", space=space, batch_sizes=[6, 12]), "x.yaml", None)
    assert [b for b in (3, 4, 6, 8, 12) if bench.fits(b)] == [3, 4, 6, 12]
