"""The language models by name, with the sizes that an experiment may change."""

from __future__ import annotations

from typing import Any, Final

from torch import nn

from bcrit.search_spaces.options import Frozen
from bcrit.tuner.workloads.models.catalogue import read_model
from bcrit.tuner.workloads.models.lstm import LSTMLanguageModel, LSTMSize
from bcrit.tuner.workloads.models.transformer import TransformerLanguageModel, TransformerSize

LanguageModelSize = LSTMSize | TransformerSize

FAMILIES: Final[dict[str, type[Frozen]]] = {"lstm": LSTMSize, "transformer": TransformerSize}
"""By the name that an experiment gives."""

PRESETS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "transformer_base": ("transformer", {}),
    # Shallue et al. 2018 double the width, and take fewer layers; 2 layers and half the width are chosen here, not
    # checked against the paper.
    "transformer_wide": ("transformer", {"width": 1024, "hidden": 4096, "heads": 16}),
    "transformer_shallow": ("transformer", {"layers": 2}),
    "transformer_narrow_and_shallow": ("transformer", {"layers": 2, "width": 256, "hidden": 1024, "heads": 4}),
    # A size for one core; GPT-2's smallest is {name: gpt, layers: 12, width: 768, hidden: 3072, heads: 12}.
    "gpt": ("transformer", {"layers": 2, "width": 64, "hidden": 256, "heads": 4, "dropout": 0.0, "gpt": True}),
}
"""Names of Shallue et al.'s archive, and `gpt`, which are a family with sizes."""


def read_language_model(given: Any) -> LanguageModelSize:
    """A language model's sizes, by its name or as a mapping of name and sizes."""
    size = read_model(given, FAMILIES, PRESETS)
    assert isinstance(size, LSTMSize | TransformerSize)
    return size


def build_language_model(size: LanguageModelSize, n_kinds: int, length: int) -> nn.Module:
    """A freshly initialised model: tokens, shape (n, at most length), to scores, shape (n, ..., n_kinds)."""
    if isinstance(size, LSTMSize):
        return LSTMLanguageModel(n_kinds, size)
    return TransformerLanguageModel(n_kinds, length, size)
