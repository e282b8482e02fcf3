"""Values as text. Plotly reads a subset of HTML in every label, so whatever comes from users passes through `label`."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from bcrit.analysis.wording import readable

_LONGEST: Final = 120  # characters of one value in a label; chosen, not studied


def label(value: Any) -> str:
    """A value as text for plotly, which reads a subset of HTML in every label: nothing of it is markup any more."""
    text = value_text(value)
    return html.escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…", quote=False)


def value_text(value: Any) -> str:
    """A number in three digits, a missing value as a dash, anything else as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return "–"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return readable(value) if math.isfinite(value) else "∞" if value > 0 else "-∞"
    return str(value)


def hover(lines: Mapping[str, Any]) -> str:
    """The lines of a hover box, `name: value`."""
    return "<br>".join(f"{label(name)}: {label(value)}" for name, value in lines.items())


def interval_text(value: Any, low: Any, high: Any) -> str:
    """A number with its interval: `89.5 (70.2 to 114)`; open ends in words."""
    open_low, open_high = low is None or not low > 0, high is None or not 0 < high < math.inf
    if open_low and open_high:
        between = "no interval"
    elif open_low:
        between = f"below {readable(high)}"
    else:
        between = f"above {readable(low)}" if open_high else f"{readable(low)} to {readable(high)}"
    return between if value is None else f"{value_text(value)} ({between})"
