"""Single examples of any model: their losses as functions, and the conditions under which they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from bcrit.tuner.training.noise_scale.ratio import MAX_BLOCKS, MIN_BLOCKS

Parameters = dict[str, Tensor]
"""Tensors by the names of `named_parameters`."""

ExampleLoss = Callable[..., Tensor]
"""The loss, a scalar, of (parameters, one example's input, its target, ...), none of which has a batch axis."""

CHUNK = 32  # examples; chosen, not studied: so many gradients are in memory at once


def example_loss(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> ExampleLoss:
    """The loss of one example of an ordinary model, as a function of its parameters.

    Args:
        model: of a batch of inputs, in the mode (`train` or `eval`) to be measured in.
        loss: of a batch's (outputs, targets), the mean over examples.

    Raises:
        ValueError: a layer mixes examples, so that one example has no gradient of its own.
    """
    if layer := mixing_layer(model):
        raise ValueError(
            f"{layer} normalises with the statistics of the batch, so one example has no gradient of its own and "
            "estimators for independent examples do not hold; call model.eval() to measure with running statistics, or "
            "replace it by ghost batch norm and measure from micro-batches (NoiseScale) of whole ghost batches"
        )
    buffers = {name: buffer.detach() for name, buffer in model.named_buffers()}

    def of(parameters: Parameters, inputs: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(model, {**parameters, **buffers}, (inputs[None],))
        return loss(outputs, target[None])

    return of


def mixing_layer(model: nn.Module) -> str | None:
    """The first layer that mixes examples in the model's present mode, in words; None where there is none."""
    for name, module in model.named_modules():
        if _mixes(module):
            return f"layer {name!r} ({type(module).__name__})"
    return None


def _mixes(module: nn.Module) -> bool:
    if isinstance(getattr(module, "ghost_size", None), int):  # as in `MicroBatches`: consecutive examples are mixed
        return module.training
    # Without running statistics a layer uses the batch's in evaluation too.
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)


def parameters_of(model: nn.Module) -> Parameters:
    """The parameters that are trained, by name, as tensors without history."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def blocks_of(examples: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Up to 20 blocks of nearly equal size, of two examples at least.

    Raises:
        ValueError: there are too few examples, or not equally many of everything.
    """
    sizes = {len(part) for part in examples}
    n = min(sizes, default=0)
    if len(sizes) != 1 or n < 2 * MIN_BLOCKS:
        raise ValueError(
            f"inputs and targets must be equally many, and {2 * MIN_BLOCKS} at least, but there are {sorted(sizes)}; "
            "draw more examples"
        )
    columns = [torch.tensor_split(part, min(MAX_BLOCKS, n // 2)) for part in examples]
    return list(zip(*columns, strict=True))


def chunks_of(examples: Sequence[Tensor], chunk: int) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of at most `chunk` examples."""
    return zip(*(torch.split(part, chunk) for part in examples), strict=True)


@contextmanager
def measuring(seed: int, parameters: Parameters) -> Iterator[None]:
    """A stream of random numbers of its own, and attention in a form that can be differentiated twice."""
    device = next(iter(parameters.values())).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), sdpa_kernel(SDPBackend.MATH):
        torch.manual_seed(seed)
        yield
