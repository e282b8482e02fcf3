"""What marks a run as imported: made elsewhere, analysed here, never continued."""

from __future__ import annotations

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.space import SearchSpace


class Imported(Frozen):
    """Where a run that was not made here came from.

    Its optimizer and hyperparameters are whatever the source used, and each study was searched in one round.

    Attributes:
        format: what was read, such as `batch_science`.
        source: its place, as the user named it.
        spaces: the search space of each study by batch size, where the source tells it.
        names: hyperparameters that were renamed: name here -> name in the source.
    """

    format: str
    source: str
    spaces: dict[int, SearchSpace] = {}
    names: dict[str, str] = {}
