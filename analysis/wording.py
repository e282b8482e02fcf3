"""Numbers as the sentences of notes and recommendations write them."""

from __future__ import annotations


def readable(number: float) -> str:
    """Three digits, or all digits before the point with thousands marked: 0.0123, 46.2, 4,500."""
    return f"{number:,.0f}" if 100 <= abs(number) < 1e15 else f"{number:.3g}"
