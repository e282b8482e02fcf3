"""LARS and LAMB: updates scaled by the norm of the tensor that they change.

Both are written here because the libraries that have them compute something else or take long to import:
pytorch_optimizer 4.1 clamps the weights' norm and leaves out the bias correction in LAMB, and takes a second to import;
timm 1.0 imports torchvision and clips the gradient.

Tensors with fewer than two dimensions (biases, gains of normalisation) take no part: their ratio is 1 and they do not
decay, as in the authors' own code. A ratio is 1 too where a norm is 0, or a layer that begins at 0 would never move.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def _ratios(numerators: list[Tensor], denominators: list[Tensor]) -> list[Tensor]:
    """Quotients of norms as tensors, so that the device is not waited for; 1 where either is 0."""
    above, below = torch.stack(numerators), torch.stack(denominators)
    return list(torch.where((above > 0) & (below > 0), above / below, 1.0).unbind())


class _Layerwise(torch.optim.Optimizer, ABC):
    """What the two share: tensors with a ratio and tensors without one are stepped apart."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            group["made"] = group.get("made", 0) + 1
            live = [p for p in group["params"] if p.grad is not None]
            for adapted in (True, False):
                if some := [p for p in live if (p.ndim > 1) == adapted]:
                    self._update(group, some, [p.grad for p in some], adapted)

    @abstractmethod
    def _update(self, group: dict[str, Any], x: list[Tensor], g: list[Tensor], adapted: bool) -> None:
        """Move the tensors x with gradients g; `made` in the group counts updates, this one included."""

    def _kept(self, name: str, x: list[Tensor]) -> list[Tensor]:
        for p in x:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in x]


class Lars(_Layerwise):
    """LARS, with the learning rate inside the velocity (You, Gitman and Ginsburg 2017, eq. 6 and algorithm 1).

    For every tensor x with gradient g:

        ratio = trust_coefficient |x| / (|g| + weight_decay |x|)
        v = momentum v + lr ratio (g + weight_decay x)
        x = x - v
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,
        weight_decay: float = 0.0,
    ) -> None:
        """Begin with a velocity of 0.

        Args:
            params: what is updated.
            lr: the global learning rate.
            momentum: of the velocity.
            trust_coefficient: the paper's eta, 0.001 there.
            weight_decay: coupled.
        """
        defaults = {"lr": lr, "momentum": momentum, "trust_coefficient": trust_coefficient}
        super().__init__(params, defaults | {"weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], x: list[Tensor], g: list[Tensor], adapted: bool) -> None:
        updates = g
        if adapted:
            decay, trust = group["weight_decay"], group["trust_coefficient"]
            sizes, slopes = torch._foreach_norm(x), torch._foreach_norm(g)
            updates = list(torch._foreach_add(g, x, alpha=decay))
            below = torch._foreach_add(slopes, sizes, alpha=decay)
            torch._foreach_mul_(updates, _ratios(list(torch._foreach_mul(sizes, trust)), list(below)))
        v = self._kept("momentum_buffer", x)
        torch._foreach_mul_(v, group["momentum"])
        torch._foreach_add_(v, updates, alpha=group["lr"])
        torch._foreach_sub_(x, v)


class Lamb(_Layerwise):
    """LAMB with the identity for phi (You et al. 2019, algorithm 2).

    For every tensor x with gradient g at update t = 1, 2, ...:

        m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
        r = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay x
        x = x - lr |x| / |r| r
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        """Begin with moments of 0.

        Args:
            params: what is updated.
            lr: the global learning rate.
            betas: of the two moments, the paper's values unless given.
            eps: the paper's 1e-6 unless given.
            weight_decay: lambda in the paper; the ratio scales it together with Adam's direction.
        """
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], x: list[Tensor], g: list[Tensor], adapted: bool) -> None:
        (beta1, beta2), made = group["betas"], group["made"]
        m, v = self._kept("exp_avg", x), self._kept("exp_avg_sq", x)
        torch._foreach_lerp_(m, g, 1.0 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, g, g, value=1.0 - beta2)
        roots = torch._foreach_sqrt(torch._foreach_div(v, 1.0 - beta2**made))
        torch._foreach_add_(roots, group["eps"])
        r = list(torch._foreach_div(torch._foreach_div(m, 1.0 - beta1**made), roots))
        if adapted:
            torch._foreach_add_(r, x, alpha=group["weight_decay"])
            torch._foreach_mul_(r, _ratios(list(torch._foreach_norm(x)), list(torch._foreach_norm(r))))
        torch._foreach_add_(x, r, alpha=-group["lr"])
