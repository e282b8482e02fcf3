"""A language model of long short-term memory: an embedding, one or more LSTM layers, a linear layer to the tokens."""

from __future__ import annotations

from torch import Tensor, nn

from bcrit.search_spaces.options import Frozen
from bcrit.tuner.workloads.options import Dropout, Width


class LSTMSize(Frozen):
    """What an LSTM is made of; by default McCandlish et al. 2018's for the Billion Word benchmark.

    Attributes:
        embedding: width of a token's vector.
        hidden: units of a layer.
        layers: LSTM layers.
        dropout: share of the vectors' entries left out in training, before and after each LSTM layer.
    """

    embedding: Width = 512
    hidden: Width = 2048
    layers: Width = 1
    dropout: Dropout = 0.0


class LSTMLanguageModel(nn.Module):
    """Scores of the next token at every position, from the tokens up to it; each sequence starts from state 0."""

    def __init__(self, n_kinds: int, size: LSTMSize) -> None:
        """Make the layers.

        Args:
            n_kinds: size of the vocabulary.
            size: of the layers.
        """
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
