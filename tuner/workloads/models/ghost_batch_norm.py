"""Ghost batch normalisation: statistics of groups of fixed size, so that the batch size does not change the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GhostBatchNorm(nn.Module):
    """Batch normalisation of every `ghost_size` consecutive examples by themselves (Hoffer et al. 2017, algorithm 1).

    In training, a batch of G ghost_size examples is G ghost batches, and each is normalised with the mean and the
    biased variance of its own examples. The running statistics move once for each ghost batch, in order,

        r <- (1 - momentum) r + momentum m_g,   g = 1 ... G,

    with m_g its mean or its unbiased variance, which is what normalising the ghost batches one after the other gives.
    In evaluation every example is normalised with the running statistics. A batch that is no multiple of `ghost_size`
    is refused: another group size would be another objective.

    Example:
        >>> norm = GhostBatchNorm(3, ghost_size=4)
        >>> norm(torch.randn(8, 3, 5, 5)).shape
        torch.Size([8, 3, 5, 5])

    Attributes:
        ghost_size: examples in a ghost batch.
        momentum: weight of the newest ghost batch in the running statistics (PyTorch's default).
        eps: added to variances (PyTorch's default).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n_features: int, ghost_size: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        """Start as the identity up to `eps`: scale 1, shift 0, running mean 0 and variance 1.

        Args:
            n_features: channels, the second axis of what is normalised.
            ghost_size: examples in a ghost batch.
            momentum: weight of the newest ghost batch.
            eps: added to variances.
        """
        super().__init__()
        self.ghost_size, self.momentum, self.eps = ghost_size, momentum, eps
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("running_mean", torch.zeros(n_features))
        self.register_buffer("running_var", torch.ones(n_features))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise.

        Args:
            inputs: shape (n, n_features, ...).

        Returns:
            The same shape.

        Raises:
            ValueError: in training, `ghost_size` does not divide n.
        """
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
        means, variances = (inputs.new_zeros(n_ghosts * n_features, dtype=torch.float32) for _ in range(2))
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
    def _remember(self, means: Tensor, variances: Tensor) -> None:
        """G updates of the running statistics at once: the g-th newest counts momentum (1 - momentum)^g."""
        ages = torch.arange(len(means) - 1, -1, -1, device=means.device, dtype=means.dtype)
        weights = self.momentum * (1.0 - self.momentum) ** ages
        kept = (1.0 - self.momentum) ** len(means)
        self.running_mean.mul_(kept).add_(weights @ means)
        self.running_var.mul_(kept).add_(weights @ variances)

    def extra_repr(self) -> str:
        """What print shows."""
        return f"{len(self.weight)}, ghost_size={self.ghost_size}, momentum={self.momentum}, eps={self.eps}"
