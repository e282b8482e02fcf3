"""What a question came to, with three faces: the terminal, `--json` and a section of the report; and its figures.

A figure is the plain object that plotly.js draws, `{"data": [...], "layout": {...}}`: building it needs no plotly.
Plotly reads a subset of HTML in every label, so whatever comes from users passes through `label` (`hover` does it).
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, TypeAlias

from bcrit.analysis.numbers import value_text
from bcrit.analysis.records.json_values import plain

Figure = dict[str, Any]
Trace = dict[str, Any]
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


def figure(
    data: Sequence[Trace], x: Axis, y: Axis, *, shapes: Sequence[Any] = (), notes: Sequence[Any] = (), height: int = 460
) -> Figure:
    """A figure in the report's look, with finite numbers or null only; `height` is in pixels.

    Traces with a name and without `showlegend: False` stand in the legend; shapes and notes have plotly's form.
    """
    layout = {
        "height": height,
        # Enough for usual labels: plotly draws a figure twice whose margins have to grow.
        "margin": {"l": 80, "r": 16, "t": 30 if notes else 10, "b": 58},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        "showlegend": any(trace.get("name") and trace.get("showlegend", True) for trace in data),
        "xaxis": x,
        "yaxis": y,
        "shapes": list(shapes),
        "annotations": list(notes),
    }
    traces = [{"type": "scatter", "hoverinfo": "text", **trace} for trace in data]
    found: Figure = plain({"data": traces, "layout": layout})
    return found


def horizontal(y: float, **line: Any) -> dict[str, Any]:
    """A horizontal line across the figure."""
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "layer": "below", "line": line}


def vertical(x: float, **line: Any) -> dict[str, Any]:
    """A vertical line across the figure."""
    return {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x, "layer": "below", "line": line}


def area(low: float | None, high: float | None, color: str, along: Literal["x", "y"] = "x") -> dict[str, Any]:
    """The area between two places of one axis, over all of the other."""
    other = "y" if along == "x" else "x"
    ends = {f"{along}0": low, f"{along}1": high, f"{other}ref": "paper", f"{other}0": 0, f"{other}1": 1}
    return {"type": "rect", **ends, "layer": "below", "fillcolor": color, "line": {"width": 0}}


def points(
    x: Sequence[float],
    y: Sequence[float],
    hovers: Sequence[Mapping[str, Any]] = (),
    *,
    color: str | Sequence[str] = INK,
    symbol: str | Sequence[str] = "circle",
    size: float = 9,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    **more: Any,
) -> Trace:
    """Marks, one a point: what stands in the box over each, and error bars from `low` to `high`."""
    trace: Trace = {
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "marker": {"size": size, "color": color, "symbol": symbol},
    }
    if hovers:
        trace["hovertext"] = [hover(lines) for lines in hovers]
    if low is not None and high is not None:
        bars = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 4}
        bars["array"] = [end - at for end, at in zip(high, y, strict=True)]
        bars["arrayminus"] = [at - end for end, at in zip(low, y, strict=True)]
        trace["error_y"] = {**bars, "color": color if isinstance(color, str) else INK}
    return trace | more


def line(
    x: Sequence[float],
    y: Sequence[float],
    hovers: Sequence[Mapping[str, Any]] = (),
    *,
    color: str = INK,
    width: float = 1.5,
    dash: str | None = None,
    **more: Any,
) -> Trace:
    """A line; without boxes it does not react to the pointer."""
    style: dict[str, Any] = {"color": color, "width": width} | ({} if dash is None else {"dash": dash})
    told = {"hovertext": [hover(lines) for lines in hovers]} if hovers else {"hoverinfo": "skip"}
    return {"mode": "lines", "x": list(x), "y": list(y), "line": style, **told, **more}


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], color: str = BAND, **more: Any) -> Trace:
    """The area between two lines over the same x."""
    around = {"x": [*x, *reversed(x)], "y": [*high, *reversed(low)], "fill": "toself", "fillcolor": color}
    return {"mode": "lines", **around, "line": {"width": 0}, "hoverinfo": "skip", **more}


def in_turn(keys: Iterable[Any]) -> dict[Any, str]:
    """A colour of viridis for each key, in their order: batch sizes, targets, budgets."""
    wanted = list(keys)
    return {key: viridis(place / max(1, len(wanted) - 1)) for place, key in enumerate(wanted)}


def hover(lines: Mapping[str, Any]) -> str:
    """The lines of a hover box, `name: value`."""
    return "<br>".join(f"{label(name)}: {label(value)}" for name, value in lines.items())


_LONGEST: Final = 120  # characters of one value in a label; chosen, not studied


def label(value: Any) -> str:
    """A value as text for plotly, which reads a subset of HTML in every label: nothing of it is markup any more."""
    text = value_text(value)
    return html.escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…", quote=False)


Axis = dict[str, Any]

# Mantissas of ticks on a log axis, from sparse to dense; the first that gives enough ticks is taken.
_MANTISSAS: Final = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
)
_ENOUGH: Final = 4
_LOG_FROM: Final = 3  # span of a metric from which its axis is logarithmic; chosen, not studied


def linear_axis(title: str, **more: Any) -> Axis:
    """An axis in equal distances."""
    return {
        "title": {"text": title, "standoff": 10},
        "gridcolor": PALE,
        "zerolinecolor": PALE,
        "linecolor": GREY,
        "showline": True,
        "ticks": "outside",
        "tickcolor": GREY,
        "automargin": True,
        **more,
    }


def log_axis(
    title: str, values: Iterable[float], ticks: Sequence[float] = (), pad: float = 1.25, most: int = 11
) -> Axis:
    """A logarithmic axis around the values that must be seen; others than positive finite ones are passed over.

    The ticks stand where it is said (batch sizes), else at round numbers, `most` of them so that they can be read;
    `pad` is the room on either side, as a factor.
    """
    seen = [value for value in values if value is not None and 0 < value < math.inf] or [1.0]
    low, high = min(seen) / pad, max(seen) * pad
    places = thinned(ticks or round_numbers(low, high), most)
    return linear_axis(
        title,
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=list(places),
        ticktext=[tick_text(place) for place in places],
    )


def batch_axis(unit: str, sizes: Sequence[float]) -> Axis:
    """The axis of the batch size, with a tick at each of those that were measured."""
    return log_axis(f"batch size ({label(unit)})", sizes, ticks=sizes, pad=1.5)


def value_axis(title: str, values: Iterable[float], pad: float = 1.1) -> Axis:
    """An axis of a metric: logarithmic where it spans more than a factor 3 of positive numbers, as losses do."""
    seen = [value for value in values if math.isfinite(value)]
    if seen and min(seen) > 0 and max(seen) > _LOG_FROM * min(seen):
        return log_axis(title, seen, pad=pad)
    return linear_axis(title)


def thinned(ticks: Sequence[float], most: int) -> list[float]:
    """Every tick, or every second, third ... where there are too many to read; the largest stays."""
    every = -(-len(ticks) // most)
    return sorted(ticks)[::-1][::every][::-1]


def round_numbers(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones, at least four where the range is not tiny."""
    places: list[float] = []
    for mantissas in _MANTISSAS:
        decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        places = [float(f"{m}e{decade}") for decade in decades for m in mantissas]
        places = [place for place in places if low <= place <= high]
        if len(places) >= _ENOUGH:
            break
    return places


def tick_text(value: float) -> str:
    """The value of a tick: 0.01, 16, 1,024, 5M."""
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if value >= size and float(f"{value / size:.3g}") * size == value:
            return f"{value / size:g}{letter}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


@dataclass(frozen=True)
class Table:
    """Rows of text."""

    head: tuple[str, ...]  # names of the columns
    rows: tuple[tuple[str, ...], ...]  # cells, as many as the head has names

    def only(self, wanted: Callable[[str], bool]) -> Table:
        """Its columns with such names."""
        kept = [place for place, name in enumerate(self.head) if wanted(name)]
        return Table(tuple(self.head[k] for k in kept), tuple(tuple(row[k] for k in kept) for row in self.rows))


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table with the columns of its first row; numbers are shown with three digits, None and NaN as a dash."""
    return Table(
        tuple(rows[0]) if rows else (), tuple(tuple(value_text(cell) for cell in row.values()) for row in rows)
    )


@dataclass(frozen=True)
class Plot:
    """A figure with its caption."""

    kind: ClassVar[str] = "plot"
    name: str  # unique in the page; letters, digits and '-'
    figure: Figure  # texts from users went through `label`
    caption: str  # what to see in it, in plain words; also the text for those who do not see it


@dataclass(frozen=True)
class Rows:
    """A table with its heading."""

    kind: ClassVar[str] = "rows"
    heading: str  # may be empty
    table: Table
    folded: bool = False  # in the page the reader unfolds it: for long tables
    brief: bool = False  # the terminal shows it; the page shows all
    # Columns by place with their names: the terminal leaves out the last of them that do not fit.
    spare: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A sentence between figures and tables."""

    kind: ClassVar[str] = "text"
    text: str
    heading: str = ""
    warning: bool = False  # set off in the page
    verbatim: bool = False  # as it is, line by line; the reader unfolds it


@dataclass(frozen=True)
class Words:
    """Words, each with what it means."""

    kind: ClassVar[str] = "words"
    meanings: Mapping[str, str]
    heading: str = ""  # with a heading they are a glossary, in two columns


@dataclass(frozen=True)
class Key:
    """A mark of a legend."""

    mark: str  # plotly's symbol, `line` or `line-dash`
    color: str
    text: str
    ends: tuple[str, ...] = ()  # what the ends of the colour scale are, where marks are coloured by a number


@dataclass(frozen=True)
class Panels:
    """Figures of one kind side by side; where they are many, one place with a list to choose from."""

    kind: ClassVar[str] = "panels"
    name: str  # of what they show; with a key, of a figure
    of: str  # what the keys are
    figures: Mapping[int, Figure]
    legend: tuple[Key, ...]


Part: TypeAlias = Plot | Rows | Text | Words | Panels


@dataclass(frozen=True)
class Answer:
    """All text is unescaped; the page escapes it."""

    name: str  # of the command, and the anchor in the page
    title: str  # the section's heading
    sentences: tuple[str, ...]  # the verdict first, each a paragraph; none where figures and tables say it
    parts: tuple[Part, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)  # the object of `--json`: plain, finite numbers or null
    notes: tuple[str, ...] = ()  # what to know when reading it
    yes: bool = True  # False: the question was asked and the answer is "no" (exit code 1)
    on_page: bool = True  # False: too little for a section of the report
    sections: tuple[Answer, ...] = ()  # of a page of its own, below the answer
    # What the terminal shows, where that is not the brief tables, the sentences and the notes: words that the page says
    # elsewhere, at its top or its end. A Text stands out.
    terminal: tuple[str | Rows | Text, ...] = ()

    @property
    def brief(self) -> tuple[Rows, ...]:
        """The tables that the terminal shows."""
        return tuple(part for part in self.parts if isinstance(part, Rows) and part.brief)
