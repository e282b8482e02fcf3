"""Language models of self-attention: the decoder of Vaswani et al. 2017, and GPT-2's arrangement of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Frozen
from bcrit.tuner.workloads.options import Dropout, Width


class TransformerSize(Frozen):
    """What a Transformer is made of; by default Vaswani et al. 2017's base model.

    Attributes:
        layers: blocks of attention and a two-layer network.
        width: of the vectors that pass through.
        hidden: of the two-layer networks.
        heads: of attention, each of width / heads.
        dropout: share of the entries left out in training, after the embedding and after both parts of a block.
        gpt: normalise before each part instead of after it, with GELU for ReLU and learned positions for sinusoidal
            ones (GPT-2, Radford et al. 2019).
    """

    layers: Width = 6
    width: Width = 512
    hidden: Width = 2048
    heads: Width = 8
    dropout: Dropout = 0.1
    gpt: bool = False


class TransformerLanguageModel(nn.Module):
    """Scores of the next token at every position, from the tokens up to it.

    The embedding is also the output layer (weight tying, as in both papers), there without a bias. In Vaswani et al.'s
    form it is multiplied by sqrt(width) at the input, and starts with variance 1 / width.
    """

    positions: Tensor

    def __init__(self, n_kinds: int, length: int, size: TransformerSize) -> None:
        """Make the layers.

        Args:
            n_kinds: size of the vocabulary.
            length: of the longest sequence, in tokens.
            size: of the layers.

        Raises:
            ValueError: the heads do not divide the width.
        """
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
        """Make the layers.

        Args:
            size: of the layers.
        """
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
    """Positions as waves, shape (length, width): sin(t / 10000^(2i/width)) and the cosine (Vaswani et al. 2017, 3.5).

    Args:
        length: positions t = 0, 1, ...
        width: even; entry 2i is a sine and entry 2i + 1 the cosine of the same wave.

    Returns:
        The waves.
    """
    waves = torch.arange(length)[:, None] / 10000.0 ** (torch.arange(0, width, 2) / width)
    return torch.stack([waves.sin(), waves.cos()], dim=-1).flatten(1)
