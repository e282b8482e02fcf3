"""Hyperparameters of many trials as columns with one type each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.search_spaces.tables import TRIALS


def uniform(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of the trials table as an Arrow table; a hyperparameter that is a number here and a word there is a word.

    Args:
        rows: the columns of `TRIALS`, then hyperparameters.

    Returns:
        Columns of the schema first, then the hyperparameters in order of appearance.
    """
    known = set(TRIALS.names)
    kinds: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in known and value is not None:
                kinds.setdefault(name, set()).add(type(value))
    words = {name for name, types in kinds.items() if len(types) > 1 and not types <= {int, float}}
    if words:
        rows = [{n: _word(v) if n in words and v is not None else v for n, v in row.items()} for row in rows]
    return to_arrow(TRIALS, rows)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


__all__ = ["uniform"]
