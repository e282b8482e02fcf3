"""Language modelling: any text as tokens, cut into sequences, and the models of Shallue, McCandlish and GPT-2."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.data.source import TextChoice
from bcrit.tuner.workloads.data.tokens import TokenSet, load_tokens
from bcrit.tuner.workloads.models.language import build_language_model, read_language_model
from bcrit.tuner.workloads.models.layers import InParts
from bcrit.tuner.workloads.options import read_choice, whole, with_train_loss
from bcrit.tuner.workloads.supervised import SelfSupervisedWorkload, cross_entropy

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
        data: Any = "lm1b",
        model: Any = "transformer_base",
        sequence_length: int = 64,
        unit: str = "sequences",
        validation_sequences: int | None = None,
        train_loss_examples: int = 0,
    ) -> None:
        """Read the options; no data are loaded yet.

        Args:
            data: a source, or a mapping as `TextChoice`.
            model: a name, or a mapping of name and sizes (`bcrit.tuner.workloads.models.language`).
            sequence_length: tokens that a sequence predicts.
            unit: what a batch size counts: `sequences` (Shallue et al. 2018) or `tokens` (McCandlish et al. 2018; a
                batch size must then be a multiple of `sequence_length`).
            validation_sequences: validate on only the first so many sequences of the validation part; None = on all.
            train_loss_examples: how many training sequences `train_loss` is evaluated on; 0 = no such metric.

        Raises:
            ValueError: an option is wrong.
        """
        self._choice = read_choice(TextChoice, data, "data", "source")
        self._size = read_language_model(model)
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
        scores = build_language_model(size, self._tokens.n_kinds, self._length)
        smoothing = settings.number("label_smoothing")
        return InParts(NextToken(scores, smoothing), max(1, _PART // self._length))

    def train_examples(self) -> Tensor:
        """Sequences with the token that follows them, shape (n, sequence_length + 1): a view of the text."""
        text, tokens = self._tokens.train, len(self._tokens.train)
        return self._cut(text if self._tokens.validation is not None else text[: tokens - self._held_out])

    def validation_examples(self) -> Tensor:
        """The same for what validates."""
        text = self._tokens.validation
        sequences = self._cut(text if text is not None else self._tokens.train[-self._held_out :])
        return sequences[: self._validation_sequences]

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
    def _held_out(self) -> int:
        """Tokens at the end of the training text that validate."""
        wanted, tokens = self._choice.validation, len(self._tokens.train)
        if isinstance(wanted, int):
            return min(tokens, wanted * self._length + 1)
        return max(1, round(tokens * (wanted if isinstance(wanted, float) else _SHARE)))  # [-0:] would be all

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
    """A sequence's mean cross-entropy, in nats a token: shape (n, length + 1) to (n, 1)."""

    def __init__(self, scores: nn.Module, label_smoothing: float) -> None:
        """Wrap a model of tokens (n, length) to scores (n, length, n_kinds); evaluation is without smoothing."""
        super().__init__()
        self.scores, self.label_smoothing = scores, label_smoothing

    def forward(self, sequences: Tensor) -> Tensor:
        """The loss of each sequence."""
        tokens = sequences.long()
        scores, targets = self.scores(tokens[:, :-1]), tokens[:, 1:]
        smoothing = self.label_smoothing if self.training else 0.0
        losses = cross_entropy(scores.flatten(0, 1), targets.flatten(), smoothing)
        return losses.view_as(targets).mean(dim=1, keepdim=True)
