"""One training run as a tracker logged it: what Optuna, Ray Tune and Weights & Biases have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bcrit.search_spaces.outcome import Outcome

SECONDS = "train_seconds"
"""The column of a log that holds the seconds since the run began, where the tracker has them."""


@dataclass(frozen=True)
class LoggedRun:
    """What a tracker says of one run.

    Attributes:
        name: unique in the source.
        settings: its configuration, flat: hyperparameters and perhaps batch size and seed.
        log: one row a report, in the order of reporting: counters and metrics as floats, NaN where nothing finite was
            reported; perhaps `SECONDS`.
        broken: metrics whose last report was NaN or infinite.
        outcome: how it ended, where the tracker knows more than the log shows; None = it ended by itself.
        message: why, in a sentence.
        started_at: seconds since 1970; 0 where it is not known.
        ended_at: seconds since 1970; 0 where it is not known.
        attributes: what is no hyperparameter but may be the batch size or the seed.
    """

    name: str
    settings: Mapping[str, Any]
    log: pd.DataFrame
    broken: frozenset[str] = frozenset()
    outcome: Outcome | None = None
    message: str | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, Any]:
        """Settings and attributes together; a setting goes before an attribute of the same name."""
        return {**self.attributes, **self.settings}


def flat(nested: Mapping[Any, Any]) -> dict[str, Any]:
    """Flatten a configuration: `{"optimizer": {"lr": 0.1}}` becomes `{"optimizer/lr": 0.1}`; lists become text.

    >>> flat({"batch_size": 64, "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}})
    {'batch_size': 64, 'optimizer/lr': 0.1, 'optimizer/betas': '[0.9, 0.99]'}
    """
    return dict(_flatten(nested, ""))


def _flatten(nested: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}/")
        elif value is None or isinstance(value, str | bool | int | float):
            yield name, value
        else:
            yield name, str(value)


__all__ = ["SECONDS", "LoggedRun", "flat"]
