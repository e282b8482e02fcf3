"""The framework of Lin et al. 2020, on quadratics where every number can be followed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.optimizers import build_optimizer
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.stepper import Extrapolated, Gradient, Plain, Stepper, build_stepper

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
    optimizer: str,
    batch_size: int,
    steps: int = 9,
    make: Callable[[Quadratic, Settings], Stepper] = build_stepper,
    **more: Any,
) -> tuple[list[list[float]], Quadratic]:
    """The weights after each update."""
    model = Quadratic()
    settings = Settings(batch_size, 0, optimizer, {"lr": 0.1, **more})
    stepper, path, wanted = make(model, settings), [], batches(batch_size)
    for _ in range(steps):
        stepper.step(0.1, torch.tensor(next(wanted)), model.gradient)
        path.append(model.x.detach().tolist())
    return path, model


def always(model: Quadratic, settings: Settings) -> Stepper:
    """The extrapolating stepper also where nothing is extrapolated."""
    return Extrapolated(build_optimizer(model, settings), settings)


def test_past_extrapolation_by_hand() -> None:
    # f = x^2 / 2: g(x) = x. lr 0.1, extrapolation 0.5, from x = 1.
    # t=0: z=0, g(1)=1, x=0.9. t=1: at 0.9-0.5*1=0.4, x=0.9-0.04=0.86. t=2: at 0.86-0.5*0.4=0.66, x=0.86-0.066=0.794.
    model = nn.ParameterList([torch.ones(1, dtype=torch.float64)])

    def gradient(examples: Tensor) -> None:
        model[0].grad = model[0].detach().clone()

    settings = Settings(1, 0, "extrap_sgd", {"lr": 0.1, "extrapolation_lr": 0.5})
    stepper, path = build_stepper(model, settings), []
    for _ in range(3):
        stepper.step(0.1, torch.tensor([0]), gradient)
        path.append(model[0].item())
    assert path == pytest.approx([0.9, 0.86, 0.794], rel=1e-14)


@pytest.mark.parametrize("local", [2, 3, 6])
@pytest.mark.parametrize("kind", ["past", "fresh"])
def test_workers_follow_the_loop_written_out(kind: str, local: int) -> None:
    more: dict[str, Any] = {
        "extrapolation": kind,
        "extrapolation_lr": 0.7,
        "local_batch_size": local,
        "momentum": 0.6,
    }
    path, model = run("extrap_momentum", 6, **more)
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
    assert len(model.seen) == 9 * 6 * (2 if kind == "fresh" else 1)


@pytest.mark.parametrize("base", ["sgd", "momentum", "adam", "adamw"])
@pytest.mark.parametrize("kind", ["past", "fresh", "gaussian"])
def test_without_extrapolation_it_is_the_base_optimizer_bit_for_bit(base: str, kind: str) -> None:
    momentum: dict[str, Any] = {"momentum": 0.9, "weight_decay": 0.1} if base == "momentum" else {"weight_decay": 0.1}
    plain, _ = run(base, 4, **momentum)
    for make in (build_stepper, always):
        ours, model = run(f"extrap_{base}", 4, make=make, extrapolation=kind, extrapolation_lr=0.0, **momentum)
        assert ours == plain
    # What `build_stepper` makes does not even compute a second gradient, nor split the batch.
    ours, model = run(f"extrap_{base}", 4, extrapolation=kind, extrapolation_lr=0.0, local_batch_size=2, **momentum)
    assert ours == plain and len(model.seen) == 9 * 4


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
    optimizer = build_optimizer(model, settings)
    stepper, ours, order = Extrapolated(optimizer, settings), [], batches(4)
    for _ in range(9):
        stepper.step(lr, torch.tensor(next(order)), model.gradient)
        velocity = optimizer.state[model.x]["momentum_buffer"]
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

    settings = Settings(4, 7, "extrap_sgd", {"lr": 0.1, "extrapolation": "gaussian", "extrapolation_lr": 0.3})
    settings = Settings(4, 7, "extrap_sgd", {**settings.hyperparameters, "local_batch_size": 2})
    stepper = build_stepper(model, settings)
    for _ in range(2):
        stepper.step(0.1, torch.arange(4), gradient)
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

    stepper = build_stepper(model, Settings(1, 0, "extrap_sgd", {"lr": 0.4, "extrapolation_lr": 0.8}))
    stepper.step(0.4, torch.tensor([0]), gradient)
    at = model.x.detach().clone()
    stepper.step(0.1, torch.tensor([0]), gradient)
    assert (at - points[1]).tolist() == pytest.approx([0.2, 0.2], rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "gradients"), [("past", 1), ("fresh", 2), ("gaussian", 1), ("velocity", 1)], ids=lambda value: str(value)
)
def test_gradients_are_counted(kind: str, gradients: int) -> None:
    more: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "extrapolation": kind, "extrapolation_lr": 0.1}
    model = Quadratic()
    stepper = build_stepper(model, Settings(4, 0, "extrap_momentum", more))
    stepper.step(0.1, torch.arange(4), model.gradient)
    assert stepper.gradients == gradients == len(model.seen) / 4


def test_below_the_local_batch_there_is_one_worker() -> None:
    small, model = run("extrap_sgd", 2, extrapolation_lr=0.5, local_batch_size=4)
    assert small == run("extrap_sgd", 2, extrapolation_lr=0.5)[0]


def test_weights_that_the_loss_does_not_depend_on_stay() -> None:
    model = nn.ParameterDict({"used": torch.ones(2), "unused": torch.ones(2)})

    def gradient(examples: Tensor) -> None:
        model["used"].grad = torch.ones(2)

    stepper = build_stepper(model, Settings(1, 0, "extrap_sgd", {"lr": 0.1, "extrapolation_lr": 0.5}))
    for _ in range(3):
        stepper.step(0.1, torch.tensor([0]), gradient)
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
        build_stepper(Quadratic(), Settings(4, 0, optimizer, {"lr": 0.1, "extrapolation_lr": 0.5, **more}))


def test_plain_steppers_take_one_gradient_at_the_weights() -> None:
    seen: list[list[float]] = []
    model = Quadratic()

    def gradient(examples: Tensor) -> None:
        seen.append(model.x.detach().tolist())
        model.gradient(examples)

    stepper = build_stepper(model, Settings(4, 0, "sgd", {"lr": 0.1}))
    assert isinstance(stepper, Plain)
    given: Gradient = gradient
    stepper.step(0.1, torch.arange(4), given)
    assert seen == [START.tolist()] and stepper.gradients == 1
