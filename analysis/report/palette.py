"""The report's colours, which colour-blind readers can tell apart."""

from __future__ import annotations

from typing import Final

# Okabe and Ito's palette, which colour-blind readers can tell apart (jfly.uni-koeln.de/color).
ACCENT: Final = "#0072b2"
ORANGE: Final = "#e69f00"
GREEN: Final = "#009e73"
VERMILLION: Final = "#d55e00"
PURPLE: Final = "#cc79a7"
INK: Final = "#24292f"
GREY: Final = "#6e7781"
PALE: Final = "#e4e7eb"
BAND: Final = "rgba(0, 114, 178, 0.14)"

VIRIDIS: Final = ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39")
"""Seven eighths of viridis: its last yellow does not show on white."""


def viridis(share: float) -> str:
    """The colour at a share in [0, 1] of the palette."""
    place = share * (len(VIRIDIS) - 1)
    first = min(int(place), len(VIRIDIS) - 2)
    low, high = (bytes.fromhex(color[1:]) for color in VIRIDIS[first : first + 2])
    mixed = (round(a + (place - first) * (b - a)) for a, b in zip(low, high, strict=True))
    return "#" + bytes(mixed).hex()
