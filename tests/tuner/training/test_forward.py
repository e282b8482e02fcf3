"""Precision and compilation of training: what they change, and what they leave alone."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Execution
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.workloads.models.ghost_batch_norm import GhostBatchNorm

INPUTS = torch.randn(90, 5, generator=torch.Generator().manual_seed(0))
DATA = (INPUTS, (INPUTS.sum(dim=1) > 0).long())


def model(settings: Settings) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), GhostBatchNorm(8, 2), nn.ReLU(), nn.Linear(8, 2))


def score(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
    assert outputs.dtype == torch.float32
    return {"val_loss": nn.functional.cross_entropy(outputs, targets).item()}


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    assert outputs.dtype == torch.float32
    return nn.functional.cross_entropy(outputs, targets)


def begin(batch_size: int = 10, build: Callable[[Settings], nn.Module] = model, **execution: Any) -> SupervisedRun:
    settings = Settings(
        batch_size, 0, "momentum", {"lr": 0.1, "momentum": 0.9, "ema_decay": 0.5}, Execution(**execution)
    )
    return SupervisedRun(settings, build, loss, score, DATA, DATA)


def curve(run: SupervisedRun) -> list[float]:
    found: list[float] = []
    for _ in range(3):
        run.train(2)
        found += run.evaluate().values()
    return found


def test_bfloat16_changes_training_a_little_and_evaluation_not_at_all() -> None:
    half, full = begin(precision="bfloat16"), begin()
    assert half.evaluate() == full.evaluate(), "the same weights are judged in float32"
    found, expected = curve(half), curve(full)
    assert found != expected
    assert found == pytest.approx(expected, rel=0.02)


def test_in_bfloat16_the_layers_compute_in_it_and_weights_and_gradients_stay_float32() -> None:
    seen: list[torch.dtype] = []

    class Layer(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            out = super().forward(inputs)
            seen.append(out.dtype)
            return out

    built: list[nn.Module] = []

    def build(settings: Settings) -> nn.Module:
        built.append(nn.Sequential(Layer(5, 2)))
        return built[0]

    run = begin(build=build, precision="bfloat16", micro_batch=4)
    run.train(1)
    run.evaluate()
    assert seen == [torch.bfloat16] * 3 + [torch.float32] * 2  # three pieces; the last iterate and the average
    for parameter in built[0].parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32


class Counting:
    """A backend of `torch.compile` that only counts the graphs that it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    backend = Counting()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    return backend


@pytest.mark.parametrize(("micro_batch", "graphs"), [(None, 1), (4, 2)], ids=["a whole batch", "pieces of 4, 4 and 2"])
def test_each_shape_is_compiled_once_before_the_first_update(
    counting: Counting, micro_batch: int | None, graphs: int
) -> None:
    run, plain = begin(compile=True, micro_batch=micro_batch), begin(micro_batch=micro_batch)
    assert counting.graphs == graphs
    assert curve(run) == curve(plain), "evaluation and the average between the updates compile nothing either"
    assert counting.graphs == graphs


def test_a_process_that_has_compiled_for_many_trials_still_compiles_for_the_next(counting: Counting) -> None:
    """PyTorch gives up after eight variants of a function; a reused worker must not come there."""
    for trial in range(12):
        begin(batch_size=2 + 2 * trial, compile=True).train(1)
    assert counting.graphs == 12


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, from importing its compiler
def test_compiled_training_is_the_same_up_to_rounding_and_repeats_itself() -> None:
    first, again = curve(begin(compile=True)), curve(begin(compile=True))
    assert first == again
    assert first == pytest.approx(curve(begin()), rel=1e-4)
