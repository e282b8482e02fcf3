"""Exact quadratics as models, and small networks, for the tests of the landscape."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.landscape.surface import Floats, LossSurface


class Quadratic(nn.Module):
    """f(x) = 1/2 (x - m)' H (x - m), whatever the examples are."""

    def __init__(self, hessian: Floats, minimum: Floats, x: Floats, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor(x, dtype=dtype))
        self.hessian, self.minimum = (torch.tensor(part, dtype=dtype) for part in (hessian, minimum))

    def forward(self, inputs: Tensor) -> Tensor:
        away = self.x - self.minimum
        product = self.hessian * away if self.hessian.ndim == 1 else self.hessian @ away
        return (0.5 * away @ product).expand(len(inputs))


def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.mean()


def quadratic(
    hessian: Floats, minimum: Floats, x: Floats | None = None, dtype: torch.dtype = torch.float64
) -> LossSurface:
    """A surface whose Hessian is this matrix, or the diagonal one with this vector; x is the minimum unless given."""
    model = Quadratic(hessian, minimum, minimum if x is None else x, dtype)
    return LossSurface(model, mean_output, (torch.zeros(2, 1), torch.zeros(2)))


def examples(n: int = 40, dtype: torch.dtype = torch.float32) -> Examples:
    generator = torch.Generator().manual_seed(n)
    inputs = torch.randn(n, 5, generator=generator).to(dtype)  # the same numbers in every dtype
    return inputs, (inputs[:, :2].sum(dim=1) > 0).long()


def network(normalised: bool = False, seed: int = 0) -> nn.Module:
    """5-6-2 with a smooth activation; with batch norm and dropout if asked for."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        middle = [nn.BatchNorm1d(6), nn.Dropout(0.5)] if normalised else []
        return nn.Sequential(nn.Linear(5, 6), *middle, nn.Tanh(), nn.Linear(6, 2))


def state(model: nn.Module) -> dict[str, Tensor | bool | None]:
    """All that must stay as it was: weights, buffers, gradients, modes."""
    kept: dict[str, Tensor | bool | None] = {name: value.clone() for name, value in model.state_dict().items()}
    for name, weight in model.named_parameters():
        kept[f"{name}.grad"] = None if weight.grad is None else weight.grad.clone()
        kept[f"{name}.requires_grad"] = weight.requires_grad
    return kept | {f"{name}.training": module.training for name, module in model.named_modules()}


def assert_untouched(model: nn.Module, work: Callable[[], object]) -> None:
    """The work leaves the model and the global random numbers as they were, to the bit."""
    before, random = state(model), torch.get_rng_state()
    work()
    after = state(model)
    assert before.keys() == after.keys()
    for name, value in before.items():
        other = after[name]
        assert torch.equal(value, other) if isinstance(value, Tensor) and isinstance(other, Tensor) else value == other
    assert torch.equal(random, torch.get_rng_state())
