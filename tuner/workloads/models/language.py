"""The language models by name, with the sizes that an experiment may change: LSTM, Transformer, GPT-2."""

import math
from typing import Any, Final

import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Frozen
from bcrit.tuner.workloads.options import Dropout, Width, read_model


class LSTMSize(Frozen):
    """What an LSTM is made of; by default McCandlish et al. 2018's for the Billion Word benchmark."""

    embedding: Width = 512  # width of a token's vector
    hidden: Width = 2048  # units of a layer
    layers: Width = 1
    dropout: Dropout = 0.0  # share of the vectors' entries left out in training, before and after each LSTM layer


class LSTMLanguageModel(nn.Module):
    """Scores of the next token at every position, from the tokens up to it; each sequence starts from state 0."""

    def __init__(self, n_kinds: int, size: LSTMSize) -> None:
        """An embedding of a vocabulary of this size, LSTM layers, and a linear layer to the tokens."""
        super().__init__()
        self.embedding = nn.Embedding(n_kinds, size.embedding)
        between = size.dropout if size.layers > 1 else 0.0  # PyTorch warns of dropout between the layers of one
        self.lstm = nn.LSTM(size.embedding, size.hidden, size.layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(size.dropout)
        self.output = nn.Linear(size.hidden, n_kinds)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens, shape (n, length), to scores, shape (n, length, n_kinds)."""
        states, _ = self.lstm(self.dropout(self.embedding(tokens)))
        scores: Tensor = self.output(self.dropout(states))
        return scores


class TransformerSize(Frozen):
    """What a Transformer is made of; by default Vaswani et al. 2017's base model."""

    layers: Width = 6  # blocks of attention and a two-layer network
    width: Width = 512  # of the vectors that pass through
    hidden: Width = 2048  # of the two-layer networks
    heads: Width = 8  # of attention, each of width / heads
    dropout: Dropout = 0.1  # share of the entries left out in training, after the embedding and both parts of a block
    # normalise before each part instead of after it, with GELU for ReLU and learned positions for sinusoidal ones
    # (GPT-2, Radford et al. 2019)
    gpt: bool = False


class TransformerLanguageModel(nn.Module):
    """Scores of the next token at every position, from the tokens up to it.

    The embedding is also the output layer (weight tying, as in both papers), there without a bias. In Vaswani et al.'s
    form it is multiplied by sqrt(width) at the input, and starts with variance 1 / width.
    """

    positions: Tensor

    def __init__(self, n_kinds: int, length: int, size: TransformerSize) -> None:
        """For a vocabulary of this size and sequences of at most `length` tokens."""
        super().__init__()
        if size.width % (2 * size.heads):
            raise ValueError(
                f"'width' must be an even multiple of 'heads', but width={size.width} and heads={size.heads}; choose "
                f"width={2 * size.heads * max(1, round(size.width / 2 / size.heads))}"
            )
        self.embedding = nn.Embedding(n_kinds, size.width)
        self.scale = 1.0 if size.gpt else math.sqrt(size.width)
        # Vaswani et al. do not say how they initialise; 0.02 is GPT-2's.
        nn.init.normal_(self.embedding.weight, std=0.02 if size.gpt else size.width**-0.5)
        if size.gpt:
            self.positions = nn.Parameter(0.02 * torch.randn(length, size.width))
        else:
            self.register_buffer("positions", sinusoids(length, size.width), persistent=False)
        self.dropout = nn.Dropout(size.dropout)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width) if size.gpt else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens, shape (n, length), to scores, shape (n, length, n_kinds)."""
        states = self.dropout(self.embedding(tokens) * self.scale + self.positions[: tokens.shape[1]])
        for block in self.blocks:
            states = block(states)
        return nn.functional.linear(self.norm(states), self.embedding.weight)


class Block(nn.Module):
    """Attention to the past and a two-layer network, each beside a shortcut."""

    def __init__(self, size: TransformerSize) -> None:
        """Make the layers."""
        super().__init__()
        self.heads, self.norm_first = size.heads, size.gpt
        self.attention_in = nn.Linear(size.width, 3 * size.width)
        self.attention_out = nn.Linear(size.width, size.width)
        self.widen, self.narrow = nn.Linear(size.width, size.hidden), nn.Linear(size.hidden, size.width)
        self.activation = nn.GELU() if size.gpt else nn.ReLU()
        self.norms = nn.ModuleList([nn.LayerNorm(size.width), nn.LayerNorm(size.width)])
        self.dropout = nn.Dropout(size.dropout)
        if size.gpt:  # GPT-2: normal weights of 0.02, divided by sqrt(2 layers) where a part joins its shortcut
            for layer in (self.attention_in, self.attention_out, self.widen, self.narrow):
                joins = layer is self.attention_out or layer is self.narrow
                nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * size.layers) if joins else 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Shape (n, length, width) to the same shape."""
        for part, norm in zip((self._attend, self._transform), self.norms, strict=True):
            if self.norm_first:
                states = states + self.dropout(part(norm(states)))
            else:
                states = norm(states + self.dropout(part(states)))
        return states

    def _transform(self, states: Tensor) -> Tensor:
        out: Tensor = self.narrow(self.activation(self.widen(states)))
        return out

    def _attend(self, states: Tensor) -> Tensor:
        n, length, width = states.shape
        projected = self.attention_in(states).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.attention_out(seen.transpose(1, 2).reshape(n, length, width))
        return out


def sinusoids(length: int, width: int) -> Tensor:
    """Positions t as waves, shape (length, width): sin(t / 10000^(2i/width)) and the cosine (Vaswani et al. 2017, 3.5).

    The width is even; entry 2i is the sine and entry 2i + 1 the cosine of the same wave.
    """
    waves = torch.arange(length)[:, None] / 10000.0 ** (torch.arange(0, width, 2) / width)
    return torch.stack([waves.sin(), waves.cos()], dim=-1).flatten(1)


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
