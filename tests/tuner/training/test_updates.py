"""Updates: the framework of Lin et al. 2020 on quadratics where every number can be followed, and averaged weights."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.updates import Averaged, Extrapolated, Updates

H = torch.tensor([1.0, 0.3], dtype=torch.float64)
# Example e has the loss 1/2 sum_i h_i (x_i - c_ei)^2, so that its gradient is h (x - c_e).
CENTRES = torch.randn(12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
START = torch.tensor([2.0, -1.0], dtype=torch.float64)


class Quadratic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(START.clone())
        self.seen: list[int] = []

    def gradient(self, examples: Tensor) -> None:
        self.seen += examples.tolist()
        self.x.grad = (H * (self.x.detach() - CENTRES[examples])).mean(dim=0)


def g(x: Tensor, examples: list[int]) -> Tensor:
    """The gradient, an example at a time."""
    total = torch.zeros(2, dtype=torch.float64)
    for example in examples:
        total += H * (x - CENTRES[example])
    return total / len(examples)


def batches(batch_size: int) -> Iterator[list[int]]:
    order = list(range(12)) * batch_size
    return iter([order[i : i + batch_size] for i in range(0, len(order), batch_size)])


def run(
    optimizer: str, batch_size: int, extrapolated: bool = False, **more: Any
) -> tuple[list[list[float]], Quadratic]:
    """The weights after each of nine updates; with the extrapolating code also where nothing is extrapolated."""
    model = Quadratic()
    settings = Settings(batch_size, 0, optimizer, {"lr": 0.1, **more})
    updates, path, wanted = Updates(model, settings), [], batches(batch_size)
    if extrapolated:
        updates._extrapolated = Extrapolated(updates._optimizer, settings)
    for _ in range(9):
        updates.make(torch.tensor(next(wanted)), model.gradient)
        path.append(model.x.detach().tolist())
    assert len(model.seen) == 9 * batch_size * updates.gradients
    return path, model


@pytest.mark.parametrize("local", [2, 3, 6, 7])
@pytest.mark.parametrize("kind", ["past", "fresh"])
def test_workers_follow_the_loop_written_out(kind: str, local: int) -> None:
    more: dict[str, Any] = {"extrapolation": kind, "extrapolation_lr": 0.7, "local_batch_size": local, "momentum": 0.6}
    path, _ = run("extrap_momentum", 6, **more)
    local = min(local, 6)  # below it there is one worker
    x, v, order = START.clone(), torch.zeros(2, dtype=torch.float64), batches(6)
    past = [torch.zeros(2, dtype=torch.float64) for _ in range(6 // local)]
    for t in range(9):
        batch, total = next(order), torch.zeros(2, dtype=torch.float64)
        for k in range(6 // local):
            own = batch[k * local : (k + 1) * local]
            z = past[k] if kind == "past" else g(x, own)
            past[k] = g(x - 0.7 * z, own)
            total += past[k]
        v = 0.6 * v + total / (6 // local)
        x = x - 0.1 * v
        assert path[t] == pytest.approx(x.tolist(), rel=1e-12)


@pytest.mark.parametrize("base", ["sgd", "momentum", "adam", "adamw"])
@pytest.mark.parametrize("kind", ["past", "fresh", "gaussian"])
def test_without_extrapolation_it_is_the_base_optimizer_bit_for_bit(base: str, kind: str) -> None:
    momentum: dict[str, Any] = {"momentum": 0.9, "weight_decay": 0.1} if base == "momentum" else {"weight_decay": 0.1}
    plain, _ = run(base, 4, **momentum)
    none: dict[str, Any] = {"extrapolation": kind, "extrapolation_lr": 0.0, **momentum}
    # Where the length is 0 not even a second gradient is computed, nor the batch split.
    _, model = run(f"extrap_{base}", 4, local_batch_size=2, **none)
    assert len(model.seen) == 9 * 4
    assert [model.x.detach().tolist()] == plain[-1:]


def test_adam_takes_the_extrapolated_gradient() -> None:
    path, _ = run("extrap_adam", 4, extrapolation_lr=0.7, beta1=0.8, beta2=0.95)
    twin = nn.Parameter(START.clone())
    adam = torch.optim.Adam([twin], lr=0.1, betas=(0.8, 0.95))
    z, order = torch.zeros(2, dtype=torch.float64), batches(4)
    for t in range(9):
        z = g(twin.detach() - 0.7 * z, next(order))
        twin.grad = z.clone()
        adam.step()
        assert path[t] == pytest.approx(twin.detach().tolist(), rel=1e-12)


def test_along_the_velocity_it_is_nesterov_after_the_change_of_variables() -> None:
    lr, momentum = 0.1, 0.9
    model = Quadratic()
    more: dict[str, Any] = {"lr": lr, "momentum": momentum, "extrapolation": "velocity", "extrapolation_lr": lr}
    settings = Settings(4, 0, "extrap_momentum", more)
    updates, ours, order = Updates(model, settings), [], batches(4)
    for _ in range(9):
        updates.make(torch.tensor(next(order)), model.gradient)
        velocity = updates._optimizer.state[model.x]["momentum_buffer"]
        ours.append((model.x.detach() - lr * momentum * velocity).tolist())
    nesterov, _ = run("nesterov", 4, momentum=momentum)
    assert [value for point in ours for value in point] == pytest.approx([v for p in nesterov for v in p], rel=1e-12)


def test_gaussian_extrapolation_has_the_width_that_it_says_and_moves_the_gradient_only() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(100_000))

    model, points = Wide(), []

    def gradient(examples: Tensor) -> None:
        points.append(model.x.detach().clone())
        model.x.grad = torch.zeros_like(model.x)

    more: dict[str, Any] = {"extrapolation": "gaussian", "extrapolation_lr": 0.3, "local_batch_size": 2}
    updates = Updates(model, Settings(4, 7, "extrap_sgd", {"lr": 0.1, **more}))
    for _ in range(2):
        updates.make(torch.arange(4), gradient)
    assert torch.equal(model.x, torch.zeros(100_000))
    assert [p.std().item() for p in points] == pytest.approx([0.3] * 4, rel=0.02)
    assert [p.mean().item() for p in points] == pytest.approx([0.0] * 4, abs=0.005)
    worst = max((points[i] * points[j]).mean().abs().item() for i in range(4) for j in range(i))
    assert worst < 0.002, "every worker and update draws anew"


def test_gaussian_extrapolation_depends_on_the_seed_alone() -> None:
    more: dict[str, Any] = {"extrapolation": "gaussian", "extrapolation_lr": 0.3}
    first, _ = run("extrap_sgd", 4, **more)
    torch.rand(5)
    state = torch.get_rng_state()
    assert run("extrap_sgd", 4, **more)[0] == first
    assert torch.equal(torch.get_rng_state(), state)


def test_the_schedule_holds_for_the_extrapolation_too() -> None:
    model, points = Quadratic(), []

    def gradient(examples: Tensor) -> None:
        points.append(model.x.detach().clone())
        model.x.grad = torch.ones(2, dtype=torch.float64)

    updates = Updates(model, Settings(1, 0, "extrap_sgd", {"lr": 0.4, "extrapolation_lr": 0.8}))
    updates.make(torch.tensor([0]), gradient)
    at = model.x.detach().clone()
    updates.make(torch.tensor([0]), gradient, lr=0.1)
    assert (at - points[1]).tolist() == pytest.approx([0.2, 0.2], rel=1e-12)


def test_weights_that_the_loss_does_not_depend_on_stay() -> None:
    model = nn.ParameterDict({"used": torch.ones(2), "unused": torch.ones(2)})

    def gradient(examples: Tensor) -> None:
        model["used"].grad = torch.ones(2)

    updates = Updates(model, Settings(1, 0, "extrap_sgd", {"lr": 0.1, "extrapolation_lr": 0.5}))
    for _ in range(3):
        updates.make(torch.tensor([0]), gradient)
    assert model["unused"].tolist() == [1.0, 1.0] and model["used"].tolist() == pytest.approx([0.7, 0.7])


@pytest.mark.parametrize(
    ("optimizer", "more", "message"),
    [
        ("extrap_sgd", {"extrapolation": "future"}, "no extrapolation 'future'; choose one of past, fresh"),
        ("extrap_sgd", {"extrapolation": "velocity"}, "use optimizer extrap_momentum"),
        ("extrap_sgd", {"local_batch_size": 3}, "local_batch_size=3 and batch_size=4"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(optimizer: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Updates(Quadratic(), Settings(4, 0, optimizer, {"lr": 0.1, "extrapolation_lr": 0.5, **more}))


@pytest.mark.parametrize("kind", ["past", "gaussian"])
def test_an_extrapolation_of_no_length_changes_no_bit(kind: str) -> None:
    none: dict[str, Any] = {"extrapolation": kind, "extrapolation_lr": 0.0}
    assert run("extrap_adam", 4, extrapolated=True, **none)[0] == run("adam", 4)[0]


def average_of(average: Averaged) -> Any:
    """The averaged model; untyped, because the layers of a module are not typed."""
    return average.model


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
def test_the_average_is_the_weighted_mean_of_all_iterates_so_far(decay: float) -> None:
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    average, iterates = Averaged(model, decay), []
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 30):
        with torch.no_grad():
            model.weight.copy_(torch.randn(1, 2, generator=generator))
        iterates.append(model.weight.detach().clone())
        average.update()
        shares = [decay ** (t - i) for i in range(1, t + 1)]
        expected = sum(s * x for s, x in zip(shares, iterates, strict=True)) / sum(shares)
        assert torch.allclose(average_of(average).weight, torch.as_tensor(expected), rtol=1e-9, atol=1e-12)


def test_statistics_of_batch_norm_are_averaged_and_counters_are_the_last() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average, means = Averaged(model, 0.5), []
    for _ in range(4):
        model(torch.randn(16, 3))
        average.update()
        means.append(model[1].running_mean.clone())
    expected = sum(0.5 ** (3 - i) * m for i, m in enumerate(means)) / sum(0.5**i for i in range(4))
    assert torch.allclose(average_of(average)[1].running_mean, torch.as_tensor(expected), rtol=1e-5)
    assert average_of(average)[1].num_batches_tracked == 4
    assert not torch.equal(average_of(average)[1].running_var, torch.ones(4))


def test_tied_weights_stay_tied_and_are_averaged_once() -> None:
    model: Any = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    model["head"].weight = model["embedding"].weight
    average = Averaged(model, 0.5)
    assert average_of(average)["head"].weight is average_of(average)["embedding"].weight
    before = model["head"].weight.detach().clone()
    average.update()
    with torch.no_grad():
        model["head"].weight.add_(3.0)
    average.update()
    assert torch.allclose(average_of(average)["head"].weight, before + 2.0)


def test_before_any_update_it_is_the_model_and_training_never_sees_it() -> None:
    model = nn.Linear(2, 1)
    average = average_of(Averaged(model, 0.9))
    assert torch.equal(average.weight, model.weight) and average.weight is not model.weight
    assert not average.training and model.training
    assert model.weight.requires_grad and not average.weight.requires_grad


@pytest.mark.parametrize(
    ("batch_size", "given", "decay"),
    [
        (1, {"ema_examples": 1000}, 0.5**0.001),
        (512, {"ema_examples": 1000}, 0.5**0.512),
        (512, {"ema_decay": 0.7}, 0.7),
    ],
)
def test_a_half_life_is_in_updates_or_the_same_data_at_every_batch_size(
    batch_size: int, given: dict[str, Any], decay: float
) -> None:
    average = Updates(nn.Linear(1, 1), Settings(batch_size, 0, "sgd", {"lr": 0.1, **given}))._average
    assert average is not None and average._decay == pytest.approx(decay, rel=1e-12)
    assert Updates(nn.Linear(1, 1), Settings(batch_size, 0, "sgd", {"lr": 0.1})).average is None
