"""Cross-entropy with label smoothing, by either of its two definitions."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

DEFINITIONS: Final = {
    "all": "eps spread evenly over all K classes, the right one included (Szegedy et al. 2016; PyTorch)",
    "others": "eps taken from the right class and spread evenly over the K - 1 others (Shallue et al. 2018)",
}
"""What `label_smoothing` = eps means: the target of the right class is 1 - eps (K - 1) / K or 1 - eps."""


def cross_entropy(scores: Tensor, labels: Tensor, label_smoothing: float = 0.0, over: str = "all") -> Tensor:
    """Cross-entropy of each example from its smoothed label, in nats.

    The definitions are one family: eps over the others is eps K / (K - 1) over all.

    Args:
        scores: logits, shape (n, K).
        labels: shape (n,), whole numbers below K.
        label_smoothing: eps in [0, 1).
        over: one of `DEFINITIONS`.

    Returns:
        Shape (n,).
    """
    n_classes = scores.shape[1]
    over_all = label_smoothing if over == "all" else label_smoothing * n_classes / (n_classes - 1)
    return nn.functional.cross_entropy(scores, labels, label_smoothing=over_all, reduction="none")
