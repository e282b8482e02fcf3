"""The layers that models share: normalisation by the batch or a part of it, pooling, evaluation in parts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Normalisation = Callable[[int], nn.Module]
"""Makes the layer that follows a convolution of this many channels, or a linear layer of this many units."""


class GhostBatchNorm(nn.Module):
    """Batch normalisation of every `ghost_size` consecutive examples by themselves (Hoffer et al. 2017, algorithm 1).

    In training, a batch of G ghost_size examples is G ghost batches, and each is normalised with the mean and the
    biased variance of its own examples. The running statistics move once for each ghost batch, in order,

        r <- (1 - momentum) r + momentum m_g,   g = 1 ... G,

    with m_g its mean or its unbiased variance, which is what normalising the ghost batches one after the other gives.
    In evaluation every example is normalised with the running statistics. A batch that is no multiple of `ghost_size`
    is refused: another group size would be another objective. What is normalised has `n_features` channels along its
    second axis; `momentum` and `eps`, added to variances, are PyTorch's defaults.

    Example:
        >>> norm = GhostBatchNorm(3, ghost_size=4)
        >>> norm(torch.randn(8, 3, 5, 5)).shape
        torch.Size([8, 3, 5, 5])
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n_features: int, ghost_size: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.ghost_size, self.momentum, self.eps = ghost_size, momentum, eps
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("running_mean", torch.zeros(n_features))
        self.register_buffer("running_var", torch.ones(n_features))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise inputs of the shape (n, n_features, ...)."""
        if not self.training:
            return nn.functional.batch_norm(
                inputs, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        n, n_features, *rest = inputs.shape
        if n % self.ghost_size:
            raise ValueError(
                f"the ghost batch size must divide the batch (or micro-batch), but ghost_batch_size={self.ghost_size} "
                f"and there are {n} examples; choose batch sizes that are multiples of it, or a smaller ghost batch"
            )
        n_ghosts = n // self.ghost_size
        # Ghost batches side by side as channels of one batch of ghost_size examples: PyTorch's own batch normalisation
        # then keeps them apart, forward and backward, in one call. With momentum 1 it leaves each one's statistics in
        # what it takes for running ones.
        apart = inputs.reshape(n_ghosts, self.ghost_size, n_features, -1).transpose(0, 1)
        kind = torch.promote_types(inputs.dtype, torch.float32)  # PyTorch keeps statistics of halves in float32
        means, variances = (inputs.new_zeros(n_ghosts * n_features, dtype=kind) for _ in range(2))
        normal = nn.functional.batch_norm(
            apart.reshape(self.ghost_size, n_ghosts * n_features, -1),
            means,
            variances,
            self.weight.repeat(n_ghosts),
            self.bias.repeat(n_ghosts),
            training=True,
            momentum=1.0,
            eps=self.eps,
        )
        self._remember(means.view(n_ghosts, n_features), variances.view(n_ghosts, n_features))
        return normal.view(self.ghost_size, n_ghosts, n_features, -1).transpose(0, 1).reshape(n, n_features, *rest)

    @torch.no_grad()
    def in_turn(self, before: Sequence[Tensor], after: Sequence[Sequence[Tensor]], n: int) -> None:
        """Move the running statistics as if each of some parts of a batch, of n examples, had been seen in turn.

        `after` is what each part alone made of those `before`, kept r + b with kept the same for all.
        """
        kept = (1.0 - self.momentum) ** (n // self.ghost_size)
        for place, running in enumerate((self.running_mean, self.running_var)):
            running.copy_(before[place])
            for part in after:
                running.mul_(kept).add_(part[place] - kept * before[place])

    @torch.no_grad()
    def _remember(self, means: Tensor, variances: Tensor) -> None:
        """G updates of the running statistics at once: the g-th newest counts momentum (1 - momentum)^g."""
        ages = torch.arange(len(means) - 1, -1, -1, device=means.device, dtype=means.dtype)
        weights = self.momentum * (1.0 - self.momentum) ** ages
        kept = (1.0 - self.momentum) ** len(means)
        self.running_mean.mul_(kept).add_(weights @ means)
        self.running_var.mul_(kept).add_(weights @ variances)


class BatchNorm(nn.BatchNorm2d):
    """PyTorch's batch normalisation of maps, (n, channels, height, width), that takes vectors, (n, units), too."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (PyTorch's name)
        if input.dim() != 2:
            super()._check_input_dim(input)


def batch_normalisation(ghost_batch_size: int | None) -> Normalisation:
    """Batch normalisation of so many examples together.

    None is the whole batch (or micro-batch), in which case the model's objective changes with the batch size.
    """
    if ghost_batch_size is None:
        return BatchNorm
    return lambda channels: GhostBatchNorm(channels, ghost_batch_size)


class HalvingMaxPool(nn.Module):
    """The largest of each 2 x 2 pixels; an odd last row or column is left out. As `nn.MaxPool2d(2)`, number for number.

    PyTorch's own also finds where each maximum was, which only gradients need, and on a CPU that takes most of its
    time: 1.1 ms against 0.13 for 64 x 4 maps of 28 x 28. Without gradients, in evaluation, the maxima alone are taken.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (..., height, width) to (..., height // 2, width // 2)."""
        if maps.is_cuda or torch.is_grad_enabled():
            return nn.functional.max_pool2d(maps, 2)
        height, width = maps.shape[-2] // 2 * 2, maps.shape[-1] // 2 * 2
        rows = torch.maximum(maps[..., 0:height:2, :], maps[..., 1:height:2, :])
        return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


class Standardise(nn.Module):
    """(x - mean) / deviation for each channel, so that images stay bytes in memory and on their way to the device."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("scale", 1.0 / torch.tensor(deviation)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Bytes, shape (n, channels, height, width), to numbers of the same shape."""
        return (images.to(self.mean.dtype) - self.mean) * self.scale


class InParts(nn.Module):
    """The model itself in training; in evaluation the same on parts of the batch, one after the other.

    So a large validation set needs no more memory than a small one. In evaluation the inner model must treat every
    example by itself.
    """

    def __init__(self, inner: nn.Module, part: int) -> None:
        super().__init__()
        self.inner, self.part = inner, part

    def forward(self, inputs: Tensor) -> Tensor:
        """What the model makes of the inputs, examples along the first axis of both."""
        if self.training:
            outputs: Tensor = self.inner(inputs)
            return outputs
        return torch.cat([self.inner(part) for part in torch.split(inputs, self.part)])
