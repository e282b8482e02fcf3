import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.workloads.layers import GhostBatchNorm, HalvingMaxPool, InParts, Standardise

SHAPES = {"maps": (12, 3, 4, 5), "vectors": (12, 3)}


def one_by_one(norm: nn.Module, inputs: Tensor, ghost_size: int) -> Tensor:
    """The naive twin: PyTorch's own layer on one ghost batch after the other."""
    return torch.cat([norm(ghost) for ghost in torch.split(inputs, ghost_size)])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("ghost_size", "kind"), [(2, torch.float32), (4, torch.float32), (12, torch.float64)])
def test_it_is_batch_normalisation_of_one_ghost_batch_after_the_other(
    shape: tuple[int, ...], ghost_size: int, kind: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    ghost = GhostBatchNorm(3, ghost_size, momentum=0.3).to(kind)
    plain: nn.Module = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(3, momentum=0.3, dtype=kind)
    for norm in (ghost, plain):
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))  # type: ignore[operator]
            norm.bias.copy_(torch.tensor([0.1, 0.0, 3.0]))  # type: ignore[operator]
    for _ in range(3):  # the running statistics carry over
        inputs = 3 * torch.randn(shape, generator=generator, dtype=kind) + 1
        upstream = torch.randn(shape, generator=generator, dtype=kind)
        ours, theirs = (inputs.clone().requires_grad_() for _ in range(2))
        made, expected = ghost(ours), one_by_one(plain, theirs, ghost_size)
        torch.testing.assert_close(made, expected)
        torch.autograd.backward(made, upstream)
        torch.autograd.backward(expected, upstream)
        torch.testing.assert_close(ours.grad, theirs.grad)
    for name, value in ghost.named_parameters():
        torch.testing.assert_close(value.grad, dict(plain.named_parameters())[name].grad)
    torch.testing.assert_close(ghost.running_mean, plain.running_mean)
    torch.testing.assert_close(ghost.running_var, plain.running_var)
    torch.testing.assert_close(ghost.eval()(inputs), plain.eval()(inputs))


def test_a_batch_that_the_ghost_size_does_not_divide_is_refused_in_training_only() -> None:
    ghost = GhostBatchNorm(3, 4)
    with pytest.raises(ValueError, match="ghost_batch_size=4 and there are 6 examples; choose batch sizes that are"):
        ghost(torch.randn(6, 3))
    assert ghost.running_mean.tolist() == [0, 0, 0]
    assert ghost.eval()(torch.randn(6, 3)).shape == (6, 3)


class Watched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(len(inputs))
        return 2 * inputs


def test_evaluation_goes_in_parts_and_training_does_not() -> None:
    inner = Watched()
    model, inputs = InParts(inner, 4), torch.rand(10, 3)
    assert torch.equal(model.train()(inputs), 2 * inputs)
    assert torch.equal(model.eval()(inputs), 2 * inputs)
    assert inner.seen == [10, 4, 4, 2]


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (3, 2, 9, 7), (1, 1, 2, 3), (5, 4, 28, 28)], ids=str)
@pytest.mark.parametrize("gradients", [True, False])
def test_pooling_is_pytorchs_with_and_without_gradients(shape: tuple[int, ...], gradients: bool) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(gradients):
        assert torch.equal(HalvingMaxPool()(maps), nn.MaxPool2d(2)(maps))


def test_a_broken_number_is_not_hidden() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 2] = torch.nan
    with torch.no_grad():
        assert HalvingMaxPool()(maps).isnan().flatten().tolist() == [False, True, False, False]


def test_ties_send_the_gradient_where_pytorch_does() -> None:
    maps, twin = torch.zeros(2, 1, 4, 4, requires_grad=True), torch.zeros(2, 1, 4, 4, requires_grad=True)
    HalvingMaxPool()(maps).sum().backward()
    nn.MaxPool2d(2)(twin).sum().backward()
    assert maps.grad is not None and twin.grad is not None
    assert torch.equal(maps.grad, twin.grad)


def test_bytes_get_mean_0_and_variance_1_in_each_channel() -> None:
    images = torch.randint(256, (50, 2, 4, 4), dtype=torch.uint8)
    images[:, 1] //= 4
    numbers = images.double().transpose(0, 1).flatten(1)
    standard = Standardise(numbers.mean(1).tolist(), numbers.std(1, correction=0).tolist())(images)
    assert standard.dtype == torch.float32
    torch.testing.assert_close(standard.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.var((0, 2, 3), correction=0), torch.ones(2))
    assert not list(Standardise([0.0], [1.0]).parameters())
