"""The hyperparameters of runs from a tracker: those that say something, of one type a column, under our names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bcrit.analysis.exchange.imported_run import Notes
from bcrit.analysis.exchange.names import KNOWN, hyperparameter_names
from bcrit.analysis.exchange.trackers.names import last_word

# A configuration may hold hundreds of settings that no run ever changed; a table of so many columns shows nothing.
# Chosen, not studied.
_MOST_UNCHANGED = 20


def setting_columns(settings: Sequence[Mapping[str, Any]], notes: Notes) -> dict[str, list[Any]]:
    """One column for each setting that tells runs apart, and for the unchanged ones where they are few.

    Args:
        settings: of each run, without batch size and seed.
        notes: for what is left out.

    Returns:
        Values by name in the source, one for each run and of one type a column, None where a run has none.
    """
    columns = {
        name: one_type([of.get(name) for of in settings]) for name in dict.fromkeys(n for s in settings for n in s)
    }
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    unchanged = [name for name, values in columns.items() if len(set(values)) == 1]
    if len(settings) > 1 and len(unchanged) > _MOST_UNCHANGED:
        spoken = [name for name in unchanged if last_word(name) not in {s for known in KNOWN.values() for s in known}]
        notes.add("Settings that are the same in every run were left out", len(spoken), spoken[0] if spoken else None)
        columns = {name: values for name, values in columns.items() if name not in set(spoken)}
    return columns


def one_type(values: Sequence[Any]) -> list[Any]:
    """Bring the values of a column to one type, as a table needs: whole numbers, numbers or texts.

    >>> one_type([1, 2.5, None]), one_type(["none", 1.0]), one_type([True, False])
    ([1.0, 2.5, None], ['none', '1.0'], ['true', 'false'])
    """
    given = [_scalar(value) for value in values]
    kinds = {type(value) for value in given if value is not None}
    if kinds <= {int}:
        return given
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in given]
    return [None if value is None else str(value) for value in given]


def _scalar(value: Any) -> Any:
    """A value as int, float, text or None; a NaN is none, and what tables cannot hold as a number is a text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    return None if value is None else str(value)


def our_names(source: Iterable[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our names of settings: `hyperparameter_names`, and another name for `schedule`.

    An experiment file takes that word for one of our own schedules, and would give it parameters that no run had.

    Args:
        source: the names there, in order.
        given: name here by name there, where it is known.

    Returns:
        Name here by name there, all different.
    """
    names = list(source)
    other = {"schedule": "lr_schedule"} if "lr_schedule" not in names else {}
    return hyperparameter_names(names, {**other, **(given or {})})


__all__ = ["one_type", "our_names", "setting_columns"]
