"""Muon for the hidden matrices of a model and AdamW for all else, under one learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bcrit.tuner.training.optimizers.step import bare_step


def groups(model: nn.Module | Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """The parameters that Muon takes and those that it leaves to AdamW.

    As its authors use it (Jordan et al. 2024): matrices of hidden layers are Muon's; biases, gains, embeddings and the
    output layer are AdamW's. The output layer is the `nn.Linear` that the model registers last. `torch.optim.Muon`
    takes two dimensions only, so kernels of convolutions are AdamW's too. Of bare parameters all matrices are Muon's.

    Args:
        model: a model, or its parameters.

    Returns:
        Two groups: what Muon takes, then the rest. Either may be empty.
    """
    parameters = [p for p in (model.parameters() if isinstance(model, nn.Module) else model) if p.requires_grad]
    outer: set[int] = set()
    if isinstance(model, nn.Module):
        outer |= {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
        outer |= {id(m.weight) for m in [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]}
    hidden = [p for p in parameters if p.ndim == 2 and id(p) not in outer]
    taken = {id(p) for p in hidden}
    return [{"params": hidden}, {"params": [p for p in parameters if id(p) not in taken]}]


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` and `torch.optim.AdamW` side by side.

    With `adjust_lr_fn="match_rms_adamw"` an update of Muon has the root mean square of AdamW's (Liu et al. 2025), so
    that both take the same learning rate and the same decoupled weight decay, and one `lr` is searched, not two.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """Begin both.

        Args:
            params: the two groups of `groups`.
            lr: of both.
            momentum: Muon's.
            nesterov: Muon's.
            ns_steps: Muon's steps of Newton-Schulz.
            adjust_lr_fn: Muon's; `original` is that of Jordan et al. 2024.
            betas: AdamW's.
            eps: AdamW's.
            weight_decay: of both, decoupled.
        """
        hidden, rest = (group["params"] for group in params)
        super().__init__([*hidden, *rest], {"lr": lr})
        shared: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        muon: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
        self._parts: list[torch.optim.Optimizer] = []
        if hidden:
            self._parts.append(torch.optim.Muon(hidden, **shared, **muon, adjust_lr_fn=adjust_lr_fn))
        if rest:
            self._parts.append(torch.optim.AdamW(rest, **shared, betas=betas, eps=eps, fused=True))
        self.param_groups = [group for part in self._parts for group in part.param_groups]
        self._updates = [bare_step(part) for part in self._parts]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for update in self._updates:
            update()
