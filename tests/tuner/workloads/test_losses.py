from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.workloads.losses import DEFINITIONS, cross_entropy

SCORES = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4]])
LABELS = torch.tensor([0, 3])


def by_definition(scores: Tensor, labels: Tensor, eps: float, over: str) -> Tensor:
    """The naive twin: the smoothed target written out."""
    n_classes = scores.shape[1]
    rest = eps / n_classes if over == "all" else eps / (n_classes - 1)
    right = 1 - eps + rest if over == "all" else 1 - eps
    targets = torch.full_like(scores, rest)
    targets[torch.arange(len(labels)), labels] = right
    torch.testing.assert_close(targets.sum(1), torch.ones(len(labels)))
    return -(targets * scores.log_softmax(1)).sum(1)


@pytest.mark.parametrize("over", DEFINITIONS)
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.1, 0.5])
def test_smoothing_is_as_defined(over: str, eps: float) -> None:
    torch.testing.assert_close(cross_entropy(SCORES, LABELS, eps, over), by_definition(SCORES, LABELS, eps, over))


def test_all_is_pytorchs_definition_and_the_two_differ_by_their_factor() -> None:
    pytorchs = nn.functional.cross_entropy(SCORES, LABELS, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(cross_entropy(SCORES, LABELS, 0.1, "all"), pytorchs)
    # eps_szegedy = eps_shallue K / (K - 1)
    torch.testing.assert_close(
        cross_entropy(SCORES, LABELS, 0.09, "others"), cross_entropy(SCORES, LABELS, 0.12, "all")
    )
