"""How each run of a comparison is drawn: colour, symbol and dashes, so that none has to be told by colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bcrit.analysis.report.figure import ACCENT, GREEN, GREY, INK, ORANGE, PURPLE, VERMILLION

# Okabe and Ito's colours that show on white (their yellow does not), then grey.
_COLORS: Final = (ACCENT, VERMILLION, GREEN, ORANGE, PURPLE, INK, "#56b4e9", GREY)
_SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
_DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Mark:
    """The look of one run.

    Attributes:
        color: as `#rrggbb`.
        symbol: of its measured points, in plotly's words.
        dash: of its curve.
    """

    color: str
    symbol: str
    dash: str

    @property
    def pale(self) -> str:
        """Its colour for areas."""
        red, green, blue = bytes.fromhex(self.color[1:])
        return f"rgba({red}, {green}, {blue}, 0.12)"


def mark(place: int) -> Mark:
    """The look of the run at this place; the numbers of colours, symbols and dashes share no factor: 280 looks."""
    return Mark(
        _COLORS[place % len(_COLORS)],
        _SYMBOLS[place % len(_SYMBOLS)],
        _DASHES[place % len(_DASHES)],
    )


__all__ = ["Mark", "mark"]
