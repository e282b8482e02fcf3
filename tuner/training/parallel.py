"""Data-parallel training: every process of a run, its ranks, takes its share of each batch, and all make one update.

Every rank holds the whole model and computes the same update from the same gradient, the mean over the ranks'. So an
update is that of one process with the whole batch, up to rounding, and up to the random draws of a model that makes any
(dropout): each rank has a stream of its own. Gradients are added up after the last piece of a batch and not while it is
computed, as DistributedDataParallel does: memory may then give out, and pieces be halved, on one rank alone.

A model that does not fit onto one device is divided (`execution.sharded`): a rank holds its part of every weight, of
its gradient and of the optimizer's state, and PyTorch's FSDP2 has the ranks put a layer together while it computes. All
ranks must then compute the same number of pieces, so none is halved.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from bcrit.tuner.training.micro_batches import MicroBatches
from bcrit.tuner.training.reported import tensors


@dataclass(frozen=True)
class Parallel:
    """One process of a run and those beside it, which are PyTorch's default process group."""

    rank: int = 0
    size: int = 1  # ranks
    # has the other ranks do the same, by the name of a method and its argument, while rank 0 does it; what they
    # answered is there when that is done
    together: Callable[[str, Any], AbstractContextManager[list[Any]]] = lambda name, given: nullcontext([])

    def share(self, rows: Tensor) -> Tensor:
        """The rank's part of the rows of a batch."""
        return rows if self.size == 1 else rows.chunk(self.size)[self.rank]

    def whole(self, compute: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """What is computed for each row by itself, by all ranks for their parts; every rank has all of it."""
        if self.size == 1:
            return compute(rows)
        each = -(-len(rows) // self.size)
        own = rows[self.rank * each : (self.rank + 1) * each]
        # All parts are of one size, as NCCL wants them; what is too much is left out at the end.
        own = torch.cat([own, rows[:each][: each - len(own)]]) if len(own) < each else own
        found = compute(own).contiguous()
        parts = [torch.empty_like(found) for _ in range(self.size)]
        dist.all_gather(parts, found)
        return torch.cat(parts)[: len(rows)]


ALONE = Parallel()


class SharedGradient:
    """Takes gradients (`Gradient`) with all ranks, each over its share of the examples."""

    changes = ("_own",)

    def __init__(self, own: MicroBatches, model: nn.Module, parallel: Parallel, parts: nn.Module | None = None) -> None:
        """For a model, or one that is divided into `parts` (`divided`)."""
        self._own, self._parallel, self._parameters = own, parallel, list(model.parameters())
        self._parts = None if parts is None else list(parts.parameters())
        # Layers whose running statistics move with each of a batch's parts in turn.
        self._layers = [layer for layer in model.modules() if hasattr(layer, "in_turn")]

    @property
    def micro_batch(self) -> int | None:
        """Examples in a piece of a rank's share where that is divided; None where it is whole."""
        return self._own.micro_batch

    def rehearse(self, examples: Tensor) -> None:
        """Take a gradient over the rank's share, and forget it."""
        self._own.rehearse(self._parallel.share(examples))

    def __call__(self, examples: Tensor) -> None:
        """Leave the mean gradient over the examples at these indices in `.grad`, on every rank."""
        before = [[buffer.clone() for buffer in layer.buffers()] for layer in self._layers]
        own = self._parallel.share(examples)
        self._own(own)
        if self._parts is None:
            self._average([p.grad for p in self._parameters if p.grad is not None])
        else:  # it is the mean already
            for part, p in zip(self._parts, self._parameters, strict=True):
                part.grad = None if p.grad is None else p.grad.to_local()  # type: ignore[attr-defined]
        for layer, old in zip(self._layers, before, strict=True):
            flat = torch.cat([buffer.flatten() for buffer in layer.buffers()])
            ranks = [torch.empty_like(flat) for _ in range(self._parallel.size)]
            dist.all_gather(ranks, flat)
            sizes = [buffer.numel() for buffer in old]
            layer.in_turn(old, [torch.split(rank, sizes) for rank in ranks], len(own))  # type: ignore[operator]

    @torch.no_grad()
    def _average(self, gradients: list[Tensor]) -> None:
        for kind in {gradient.dtype: None for gradient in gradients}:
            some = [gradient for gradient in gradients if gradient.dtype == kind]
            flat = torch.cat([gradient.flatten() for gradient in some])
            dist.all_reduce(flat)
            flat /= self._parallel.size
            parts = torch.split(flat, [gradient.numel() for gradient in some])
            torch._foreach_copy_(some, [part.view_as(g) for part, g in zip(parts, some, strict=True)])


def divided(model: nn.Module, device: torch.device, size: int) -> nn.Module:
    """Divide a model among the ranks, in its place; gives this rank's parts of its weights.

    The parts are parameters of a module without any computation, in the model's order, and share their memory with the
    model, as its buffers do. What treats every number by itself, as most optimizers and an average of weights do, works
    on them without knowing that there are other parts. Each layer of a list of layers is put together by itself, and
    what is left, together.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (size,))
    for layer in [*_layers(model), model]:  # to the device one by one
        layer.register_forward_hook(_no_view)
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    parts = nn.Module()
    for n, p in enumerate(model.parameters()):
        own = p.to_local()  # type: ignore[attr-defined]
        parts.register_parameter(f"part{n}", nn.Parameter(own.detach(), requires_grad=p.requires_grad))
    for n, buffer in enumerate(model.buffers()):
        parts.register_buffer(f"buffer{n}", buffer)
    return parts


def _no_view(layer: nn.Module, given: Any, output: Any) -> Any:
    """A layer's output; were it a view that the next layer changes in place, FSDP2 would compute wrong gradients."""
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def _layers(model: nn.Module, within: nn.Module | None = None) -> Iterator[nn.Module]:
    """The layers of a model's lists of layers; not those that share a weight with what is elsewhere."""
    lists, module = (nn.Sequential, nn.ModuleList), within or model
    for layer in module.children():
        if isinstance(layer, lists) or not isinstance(module, lists):
            yield from _layers(model, layer)
        elif (own := _uses(layer)) and own.items() <= _uses(model).items():
            yield layer


def _uses(model: nn.Module) -> Counter[nn.Parameter]:
    return Counter(p for module in model.modules() for p in module.parameters(recurse=False))


@contextmanager
def holding(parts: nn.Module, others: nn.Module) -> Iterator[None]:
    """Have a model's parts hold what other parts of the same form do, for a while."""
    mine = [] if others is parts else [tensor.detach() for tensor in tensors(parts)]
    kept = [tensor.clone() for tensor in mine]
    for tensor, other in zip(mine, tensors(others), strict=False):
        tensor.copy_(other)
    try:
        yield
    finally:
        for tensor, old in zip(mine, kept, strict=True):
            tensor.copy_(old)
