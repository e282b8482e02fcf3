"""A supervised run is a function of its settings, however it is called; what precision and compilation change."""

import dataclasses
import functools
import gc
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.options import Execution
from bcrit.tuner.training import supervised
from bcrit.tuner.training.data import Batches
from bcrit.tuner.training.settings import Settings, learning_rate
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.workloads.layers import GhostBatchNorm


def data(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    inputs = torch.randn(n, 5, generator=generator)
    return inputs, (inputs.sum(dim=1) > 0).long()


TRAIN, VALIDATION = data(100), data(30)


def model(settings: Settings) -> nn.Module:
    width = int(settings.number("width", 16))
    return nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 2))


def ghosts(settings: Settings) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), GhostBatchNorm(16, 2), nn.ReLU(), nn.Linear(16, 2))


def score(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
    return {"val_loss": loss(outputs, targets).item()}


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    assert outputs.dtype == torch.float32, "also where layers compute in bfloat16"
    return nn.functional.cross_entropy(outputs, targets)


def made(settings: Settings, build: Callable[[Settings], nn.Module] = model) -> SupervisedRun:
    return SupervisedRun(settings, build, loss, score, TRAIN, VALIDATION)


def begin(seed: int = 3, optimizer: str = "momentum", batch_size: int = 16) -> SupervisedRun:
    hyperparameters: dict[str, Value] = {
        "lr": 0.1,
        "momentum": 0.9,
        "schedule": "cosine",
        "end_factor": 0.1,
        "decay_steps": 15,
    }
    return made(Settings(batch_size, seed, optimizer, hyperparameters))


def value(run: SupervisedRun) -> float:
    return run.evaluate()["val_loss"]


def curve(run: SupervisedRun, chunks: list[int]) -> float:
    for chunk in chunks:
        run.train(chunk)
    return value(run)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
@pytest.mark.parametrize("chunks", [[1] * 20, [7, 13], [0, 19, 0, 1]], ids=str)
def test_neither_how_it_is_called_nor_evaluated_nor_what_else_runs_makes_a_difference(
    optimizer: str, chunks: list[int]
) -> None:
    process = torch.get_rng_state()
    expected = curve(begin(optimizer=optimizer), [20])
    assert torch.equal(torch.get_rng_state(), process)
    run, other = begin(optimizer=optimizer), begin(seed=4)
    for chunk in chunks:
        run.train(chunk)
        assert value(run) == value(run)
        torch.rand(17)
        other.train(1)
    assert value(run) == expected
    assert value(other) == curve(begin(seed=4), [len(chunks)])


def test_initialisation_depends_on_the_seed_alone_and_the_order_too() -> None:
    assert value(begin(batch_size=16)) == value(begin(batch_size=100)) == value(begin(optimizer="sgd"))
    assert value(begin(seed=0)) != value(begin(seed=1))
    assert curve(begin(seed=0), [5]) != curve(begin(seed=1), [5])
    with pytest.raises(ValueError, match="batch_size=101 and n_examples=100"):
        begin(batch_size=101)


def test_the_same_settings_give_the_same_curve_in_a_fresh_process() -> None:
    here = curve(begin(), [20])
    code = "import torch; torch.set_num_threads(1); from tests.tuner.training.test_supervised import begin, curve; "
    code += "print(repr(curve(begin(), [20])))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == repr(here)


def test_a_run_equals_the_loop_written_out() -> None:
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": "linear", "end_factor": 0.0, "decay_steps": 12}
    run = made(Settings(10, 5, "sgd", hyperparameters), lambda _: nn.Linear(5, 2))
    run.train(20)

    with torch.random.fork_rng():
        torch.manual_seed(5)
        twin = nn.Linear(5, 2)
    order = Batches(100, 5, torch.device("cpu"))
    for step in range(20):
        index = order.take(10)
        gradients = torch.autograd.grad(loss(twin(TRAIN[0][index]), TRAIN[1][index]), list(twin.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
                parameter.sub_(learning_rate(hyperparameters, step) * gradient)
    assert value(run) == pytest.approx(score(twin(VALIDATION[0]), VALIDATION[1])["val_loss"], rel=1e-6)


def test_the_memory_of_a_run_is_free_when_it_is_let_go_of() -> None:
    run = begin()
    curve(run, [2])
    weights = [weakref.ref(parameter) for parameter in run.model.parameters()]
    gc.collect()
    gc.disable()  # only what no circle of references holds is free now
    try:
        del run
        assert not any(weight() is not None for weight in weights)
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: whether the host waits for it")
@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "lars", "lamb", "muon", "extrap_adam"])
def test_updates_do_not_wait_for_the_gpu(optimizer: str) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    train, validation = ((x.to(device), y.to(device)) for x, y in (TRAIN, VALIDATION))
    hyperparameters: dict[str, Value] = {"lr": 0.01, "momentum": 0.9, "extrapolation_lr": 0.01, "ema_decay": 0.9}
    settings = Settings(16, 3, optimizer, hyperparameters, gpus=1)
    run = SupervisedRun(settings, model, loss, score, train, validation)
    run.train(2)  # the first updates make the optimizer's state
    torch.cuda.set_sync_debug_mode("error")  # any wait inside an update is an error, the one after the last is not
    try:
        run.train(20)  # three epochs
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("optimizer", "more"),
    [
        ("momentum", {"ema_decay": 0.8}),
        ("adamw", {"lr": 0.005, "eps": 1e-3}),
        ("extrap_momentum", {"extrapolation_lr": 0.05}),
        ("extrap_sgd", {"extrapolation_lr": 0.05, "extrapolation": "fresh", "local_batch_size": 8}),
        ("extrap_sgd", {"extrapolation_lr": 0.05, "extrapolation": "gaussian", "local_batch_size": 4}),
    ],
    ids=str,
)
def test_a_run_in_pieces_is_the_run_up_to_rounding(optimizer: str, more: dict[str, Value]) -> None:
    def run(micro_batch: int | None) -> SupervisedRun:
        hyperparameters: dict[str, Value] = {"lr": 0.05, "momentum": 0.9, **more}
        settings = Settings(16, 0, optimizer, hyperparameters, Execution(micro_batch=micro_batch))
        return made(settings, ghosts)

    whole, pieces = run(None), run(6)
    assert (whole.micro_batch, pieces.micro_batch) == (None, 6 if more.get("local_batch_size") != 4 else None)
    assert whole.gradients_per_example == (2 if more.get("extrapolation") == "fresh" else 1)
    for _ in range(4):
        whole.train(3)
        pieces.train(3)
        expected, found = whole.evaluate(), pieces.evaluate()
        assert found == pytest.approx(dict(expected), rel=1e-4)
        assert found.keys() == expected.keys()


class Hungry(nn.Module):
    """Fits into memory up to `limit` rows, and is random in evaluation too."""

    limit = 10

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        noise = 0.01 * torch.randn(2)
        if len(inputs) > self.limit:
            raise MemoryError("too many rows")
        outputs: Tensor = self.layer(inputs) + noise
        return outputs


def hungry() -> SupervisedRun:
    return made(Settings(16, 0, "sgd", {"lr": 0.1}), lambda _: Hungry())


def test_an_evaluation_that_runs_out_of_memory_is_made_again_in_smaller_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    halved = hungry().evaluate()
    monkeypatch.setattr(supervised, "_EVALUATION_BATCH", 7)  # 30 rows do not fit, nor 15
    assert hungry().evaluate() == halved


def test_a_small_piece_is_kept_for_the_run_and_forgotten_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run = hungry()
    run.train(2)
    monkeypatch.setattr(Hungry, "limit", 100)
    run.train(2)
    assert run.micro_batch == 8
    again = hungry()
    again.train(1)
    assert again.micro_batch is None, "a worker that ran out of memory begins its next trial as a fresh one does"


def test_an_evaluation_of_which_not_one_row_fits_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hungry, "limit", 0)
    with pytest.raises(MemoryError, match="too many rows"):
        hungry().evaluate()


def test_a_run_begins_at_the_weights_it_is_given_and_is_otherwise_a_fresh_one() -> None:
    given = Settings(16, 3, "momentum", {"lr": 0.1, "momentum": 0.9, "ema_decay": 0.5})
    fresh, other = made(given), begin(seed=4)
    own = {name: weight.clone() for name, weight in fresh.model.state_dict().items()}
    assert curve(made(dataclasses.replace(given, start=own)), [20]) == curve(fresh, [20])
    assert other.average is None
    other.train(5)
    elsewhere = made(dataclasses.replace(given, start=other.model.state_dict()))
    assert value(elsewhere) == value(other) and elsewhere.average is not None
    assert torch.equal(next(elsewhere.average.parameters()), next(other.model.parameters()))
    before = {name: weight.clone() for name, weight in other.model.state_dict().items()}
    elsewhere.train(3)
    assert not torch.equal(next(elsewhere.average.parameters()), next(elsewhere.model.parameters()))
    assert all(torch.equal(weight, before[name]) for name, weight in other.model.state_dict().items())
    with pytest.raises(RuntimeError, match="size mismatch"):
        made(Settings(16, 3, "sgd", {"lr": 0.1, "width": 8}, start=before))


def executed(batch_size: int = 10, build: Callable[[Settings], nn.Module] = ghosts, **execution: Any) -> SupervisedRun:
    hyperparameters: dict[str, Value] = {"lr": 0.1, "momentum": 0.9, "ema_decay": 0.5}
    return made(Settings(batch_size, 0, "momentum", hyperparameters, Execution(**execution)), build)


def losses(run: SupervisedRun) -> list[float]:
    found: list[float] = []
    for _ in range(3):
        run.train(2)
        found += run.evaluate().values()
    return found


def test_bfloat16_changes_training_a_little_and_evaluation_not_at_all() -> None:
    half, full = executed(precision="bfloat16"), executed()
    assert half.evaluate() == full.evaluate(), "the same weights are judged in float32"
    found, expected = losses(half), losses(full)
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

    run = executed(build=build, precision="bfloat16", micro_batch=4)
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
    run, plain = executed(compile=True, micro_batch=micro_batch), executed(micro_batch=micro_batch)
    assert counting.graphs == graphs
    assert losses(run) == losses(plain), "evaluation and the average between the updates compile nothing either"
    assert counting.graphs == graphs


def test_a_process_that_has_compiled_for_many_trials_still_compiles_for_the_next(counting: Counting) -> None:
    """PyTorch gives up after eight variants of a function; a reused worker must not come there."""
    for trial in range(12):
        executed(batch_size=2 + 2 * trial, compile=True).train(1)
    assert counting.graphs == 12


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, from importing its compiler
def test_compiled_training_is_the_same_up_to_rounding_and_repeats_itself() -> None:
    """The C++ compiler is asked for two kernels without SIMD alone: each kind of SIMD that it tries takes seconds."""
    from torch._inductor import config

    def small(settings: Settings) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))

    with config.patch({"cpp.vec_isa_ok": False, "cpp_cache_precompile_headers": False}):
        first, again = (losses(executed(build=small, compile=True)) for _ in range(2))
    assert first == again
    assert first == pytest.approx(losses(executed(build=small)), rel=1e-4)
