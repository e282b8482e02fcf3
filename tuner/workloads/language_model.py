"""Language modelling: any text as tokens, cut into sequences, and the models of Shallue, McCandlish and GPT-2."""

import math
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.data import TextChoice
from bcrit.tuner.workloads.layers import InParts
from bcrit.tuner.workloads.protocol import Dropout, Width, read_choice, read_model, whole, with_train_loss
from bcrit.tuner.workloads.supervised import SelfSupervisedWorkload, cross_entropy
from bcrit.tuner.workloads.tokens import TokenSet, load_tokens

_SHARE = 0.1  # of the text that validates where nothing says which; nanoGPT's for the same kind of text
_PART = 1 << 13  # tokens evaluated at a time; chosen, not studied: bounds the memory of their scores


class LanguageModel(SelfSupervisedWorkload):
    """Predicts each token from those before it; `val_loss` is in nats a token.

    `dropout` and `label_smoothing` may be searched, the latter over all tokens (Szegedy et al. 2016).

    The text is one long sequence, cut into pieces of `sequence_length` tokens that are drawn without replacement. Every
    token but the first is predicted exactly once in an epoch; the last of a piece is the next one's first input. What
    does not fill a piece at the end is left out. Where no split validates, the end of the text does.
    """

    def __init__(
        self,
        data: Any = "lm1b",  # a source, or a mapping as `TextChoice`
        model: Any = "transformer_base",  # a name of `PRESETS` or `FAMILIES`, or a mapping of name and sizes
        sequence_length: int = 64,  # tokens that a sequence predicts
        # what a batch size counts: `sequences` (Shallue et al. 2018) or `tokens` (McCandlish et al. 2018; a batch size
        # must then be a multiple of `sequence_length`)
        unit: str = "sequences",
        validation_sequences: int | None = None,  # validate on only the first so many; None = on all
        train_loss_examples: int = 0,  # training sequences on which `train_loss` is evaluated; 0 = no such metric
    ) -> None:
        """Read the options; no data are loaded yet."""
        self._choice = read_choice(TextChoice, data, "data", "source")
        self._size = read_model(model, FAMILIES, PRESETS)
        if unit not in ("sequences", "tokens"):
            raise ValueError(f"'unit' must be sequences or tokens, but it is {unit!r}")
        self.unit = unit
        self._length = whole("sequence_length", sequence_length)
        n = validation_sequences
        self._validation_sequences = None if n is None else whole("validation_sequences", n)
        self.hyperparameters = ("label_smoothing", "dropout")
        self.train_loss_examples, self.metrics = with_train_loss(train_loss_examples, {"val_loss": Direction.MINIMIZE})

    def model(self, settings: Settings) -> nn.Module:
        """The language model for this vocabulary."""
        size = self._size.model_copy(update={"dropout": settings.number("dropout", self._size.dropout)})
        scores, smoothing = size.build(self._tokens.n_kinds, self._length), settings.number("label_smoothing")
        return InParts(NextToken(scores, smoothing), max(1, _PART // self._length))

    def train_examples(self) -> Tensor:
        """Sequences with the token that follows them, shape (n, sequence_length + 1): a view of the text."""
        return self._cut(self._texts[0])

    def validation_examples(self) -> Tensor:
        """The same for what validates."""
        return self._cut(self._texts[1])[: self._validation_sequences]

    def rows(self, batch_size: int) -> int:
        """Sequences in a batch; where its tokens do not fill whole ones, a ValueError says so."""
        if self.unit == "sequences":
            return batch_size
        if batch_size % self._length:
            raise ValueError(
                f"a batch of tokens must be whole sequences, but {batch_size} tokens are no multiple of "
                f"sequence_length={self._length}; choose batch sizes that are"
            )
        return batch_size // self._length

    @cached_property
    def n_examples(self) -> int | None:
        """Size of the training set in the workload's unit; the first use loads the data."""
        return len(self._train[0]) * (1 if self.unit == "sequences" else self._length)

    @cached_property
    def _tokens(self) -> TokenSet:
        return load_tokens(self._choice)

    @cached_property
    def _texts(self) -> tuple[Any, Any]:
        """What trains and what validates; where the source has no split for the latter, it is the end of the text."""
        text, wanted = self._tokens.train, self._choice.validation
        if self._tokens.validation is not None:
            return text, self._tokens.validation
        share = wanted if isinstance(wanted, float) else _SHARE
        held_out = wanted * self._length + 1 if isinstance(wanted, int) else round(len(text) * share)
        start = len(text) - min(len(text), max(1, held_out))
        return text[:start], text[start:]

    def _cut(self, text: Any) -> Tensor:
        length, tokens = self._length, torch.from_numpy(text)
        n = (len(tokens) - 1) // length
        if n < 1:
            raise ValueError(
                f"'{self._choice.source}' must have at least sequence_length + 1 = {length + 1} tokens to train and as "
                f"many to validate on, but one part has {len(tokens)}; shorten the sequences or change 'validation'"
            )
        # Neighbours share a token: a view with overlapping rows instead of a copy of the text.
        return tokens.as_strided((n, length + 1), (length, 1))


class NextToken(nn.Module):
    """A sequence's mean cross-entropy, in nats a token: shape (n, length + 1) to (n, 1); judged without smoothing."""

    def __init__(self, scores: nn.Module, label_smoothing: float) -> None:
        super().__init__()
        self.scores, self.label_smoothing = scores, label_smoothing

    def forward(self, sequences: Tensor) -> Tensor:
        """The loss of each sequence."""
        tokens = sequences.long()
        scores, targets = self.scores(tokens[:, :-1]), tokens[:, 1:]
        smoothing = self.label_smoothing if self.training else 0.0
        losses = cross_entropy(scores.flatten(0, 1), targets.flatten(), smoothing)
        return losses.view_as(targets).mean(dim=1, keepdim=True)


class LSTMSize(Frozen):
    """What an LSTM is made of; by default McCandlish et al. 2018's for the Billion Word benchmark."""

    embedding: Width = 512  # width of a token's vector
    hidden: Width = 2048  # units of a layer
    layers: Width = 1
    dropout: Dropout = 0.0  # share of the vectors' entries left out in training, before and after each LSTM layer

    def build(self, n_kinds: int, length: int) -> nn.Module:
        """A freshly initialised model: tokens, shape (n, at most length), to scores, shape (n, ..., n_kinds)."""
        return LSTMLanguageModel(n_kinds, self)


class LSTMLanguageModel(nn.Module):
    """Scores of the next token at every position, from the tokens up to it; each sequence starts from state 0."""

    def __init__(self, n_kinds: int, size: LSTMSize) -> None:
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

    def build(self, n_kinds: int, length: int) -> nn.Module:
        """As of `LSTMSize`."""
        return TransformerLanguageModel(n_kinds, length, self)


class TransformerLanguageModel(nn.Module):
    """Scores of the next token at every position, from the tokens up to it.

    The embedding is also the output layer (weight tying, as in both papers), there without a bias. In Vaswani et al.'s
    form it is multiplied by sqrt(width) at the input, and starts with variance 1 / width.
    """

    positions: Tensor

    def __init__(self, n_kinds: int, length: int, size: TransformerSize) -> None:
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


FAMILIES: Final[dict[str, type[LSTMSize | TransformerSize]]] = {"lstm": LSTMSize, "transformer": TransformerSize}
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
