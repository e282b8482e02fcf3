"""Both ways to see a micro-batch, against gradients computed one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.noise_scale.monitor import Differences, Hooks, norms

ways = pytest.mark.parametrize("way", [Differences, Hooks])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()


def backward(model: nn.Module, k: int) -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    model(x).square().mean().backward()


def alone(k: int) -> list[Tensor]:
    model = network()
    backward(model, k)
    return norms([p.grad for p in model.parameters() if p.grad is not None])


@ways
@pytest.mark.parametrize("set_to_none", [True, False])
def test_each_micro_batch_has_the_norms_of_its_own_gradient(
    way: type[Differences] | type[Hooks], set_to_none: bool
) -> None:
    model = network()
    increments = way(list(model.parameters()))
    for step in range(2):
        model.zero_grad(set_to_none)
        increments.begin()
        for k in range(3):
            backward(model, 3 * step + k)
            torch.testing.assert_close(increments.take(), alone(3 * step + k))
        increments.end()


@ways
def test_a_parameter_without_a_gradient_has_norm_0_until_it_has_one(way: type[Differences] | type[Hooks]) -> None:
    used, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    increments = way([used, late])
    for _ in range(2):
        used.grad = late.grad = None
        increments.begin()
        (2 * used).sum().backward()  # type: ignore[no-untyped-call]
        assert [float(norm) for norm in increments.take()] == pytest.approx([2 * 3**0.5, 0.0])
        (used.sum() + 3 * late.sum()).backward()  # type: ignore[no-untyped-call]
        assert [float(norm) for norm in increments.take()] == pytest.approx([3**0.5, 3 * 2**0.5])


def test_hooks_keep_no_gradient_and_autograd_still_hands_over_its_own() -> None:
    model, handed = network(), []
    hooks = Hooks(list(model.parameters()))
    for p in model.parameters():
        p.register_hook(lambda g: handed.append(g.data_ptr()))  # type: ignore[no-untyped-call]
    backward(model, 0)
    taken = {p.grad.data_ptr() for p in model.parameters() if p.grad is not None}
    assert len(taken & set(handed)) >= 2  # both matrices; a bias's gradient may be copied, with and without hooks
    assert all(norm.ndim == 0 for norm in hooks.take())


def test_hooks_hear_nothing_while_they_do_not_listen_or_after_they_are_removed() -> None:
    model = network()
    hooks = Hooks(list(model.parameters()))
    hooks.listening = False
    backward(model, 0)
    hooks.end()
    hooks.listening = True
    backward(model, 1)
    torch.testing.assert_close(hooks.take(), alone(1))
    hooks.remove()
    backward(model, 2)
    hooks.end()


def test_a_micro_batch_without_any_gradient_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter has a gradient"):
        Differences(list(network().parameters())).take()


def test_hooks_refuse_passes_that_were_not_declared() -> None:
    model = network()
    hooks = Hooks(list(model.parameters()))
    with pytest.raises(ValueError, match="no gradient came since the last micro-batch"):
        hooks.take()
    backward(model, 0)
    with pytest.raises(ValueError, match="a backward pass after the last micro_batch"):
        hooks.end()
    backward(model, 1)
    with pytest.raises(ValueError, match="a second gradient came since the last micro-batch"):
        hooks.take()


def test_half_precision_has_norms_in_single_precision() -> None:
    assert norms([torch.full((4,), 3e4, dtype=torch.float16)]) == [torch.tensor(6e4).half().float()]
