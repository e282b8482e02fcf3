"""Figures and table of warm starts: the large batch from iterates of the small one (Keskar et al. 2016, Figure 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from bcrit.analysis.landscape.warm_sentences import KINDS, WarmQuantity, seen
from bcrit.analysis.landscape.warm_start import Kind, WarmStarts, WarmState
from bcrit.analysis.report.answer import Plot, Rows, table_of
from bcrit.analysis.report.figure import (
    ACCENT,
    GREEN,
    VERMILLION,
    Axis,
    Figure,
    Trace,
    figure,
    hover,
    label,
    linear_axis,
    tick_text,
    value_axis,
)
from bcrit.analysis.wording import value_text

_ALL: tuple[Kind, ...] = ("small", *KINDS)
_LOOKS: dict[Kind, tuple[str, str]] = {
    "small": (GREEN, "square"),
    "tuned": (ACCENT, "circle"),
    "un-tuned": (VERMILLION, "diamond-open"),
}


def warm_parts(warm: WarmStarts) -> list[Plot | Rows]:
    """What the section shows of them: the metric and the sharpness against the small batch's epochs, and a table.

    The initialisation itself, which is no trained network, stands in the table alone.
    """
    trained = [state for state in warm.states if state.small_steps or state.large_steps]
    told = (
        f"Horizontal: how long batch size {warm.small:,} trained before batch size {warm.large:,} went on. "
        "A mark a seed, lines through the medians."
    )
    quantities: tuple[tuple[str, str, WarmQuantity, str], ...] = (
        ("landscape-warm", label(warm.metric), lambda s: s.last.get(warm.metric), "At the end of training. "),
        (
            "landscape-warm-sharpness",
            f"sharpness (%), eps = {value_text(warm.eps)}",
            lambda state: state.sharpness,
            "Sharpness of the same networks, which are not at the same training loss. ",
        ),
    )
    plots = [
        Plot(name, _figure(warm, trained, quantity, title), text + told)
        for name, title, quantity, text in quantities
        if seen(trained, quantity)
    ]
    return [*plots, Rows("Warm starts: medians over seeds", table_of(_rows(warm)), folded=True)]


def _names(warm: WarmStarts) -> dict[Kind, str]:
    return {
        "small": f"batch size {warm.small:,} itself",
        "tuned": f"then {warm.large:,}, tuned",
        "un-tuned": f"then {warm.large:,}, un-tuned",
    }


def _figure(warm: WarmStarts, trained: Sequence[WarmState], quantity: WarmQuantity, title: str) -> Figure:
    places = _places(warm)
    traces: list[Trace] = []
    for kind in _ALL:
        mine = [state for state in trained if state.kind == kind and quantity(state) is not None]
        if not mine:
            continue
        color, symbol = _LOOKS[kind]
        steps = sorted({state.small_steps for state in mine})
        middle = [median(seen(warm.of(kind, step), quantity)) for step in steps]
        line = {"mode": "lines", "x": [places[step] for step in steps], "y": middle}
        traces.append({**line, "line": {"color": color, "width": 2}, "showlegend": False, "hoverinfo": "skip"})
        texts = [
            hover(
                {
                    "epochs before": warm.epochs(state),
                    "seed": state.number + 1,
                    title: quantity(state),
                    "training loss f": state.train_loss,
                }
            )
            for state in mine
        ]
        traces.append(
            {
                "name": _names(warm)[kind],
                "mode": "markers",
                "x": [places[state.small_steps] for state in mine],
                "y": [quantity(state) for state in mine],
                "hovertext": texts,
                "marker": {"color": color, "symbol": symbol, "size": 8, "line": {"width": 2, "color": color}},
            }
        )
    return figure(traces, _epochs_axis(warm, places), value_axis(title, seen(trained, quantity)))


def _places(warm: WarmStarts) -> dict[int, float]:
    """Where an iterate stands on a logarithmic axis of epochs, by its updates.

    0, whose logarithm has no place, stands as far before the first as that does before the second.
    """
    epochs = {state.small_steps: warm.epochs(state) for state in warm.states}
    rising = [epochs[step] for step in warm.starts if step > 0]
    before = rising[0] ** 2 / rising[1] if len(rising) > 1 else rising[0] / 10
    return {step: value or before for step, value in epochs.items()}


def _epochs_axis(warm: WarmStarts, places: dict[int, float]) -> Axis:
    low, high = min(places.values()), max(places.values())
    pad = 0.06 * math.log10(high / low)
    text = {places[state.small_steps]: _short(warm.epochs(state)) for state in warm.states}
    return linear_axis(
        f"epochs of batch size {warm.small:,} before",
        type="log",
        range=[math.log10(low) - pad, math.log10(high) + pad],
        tickvals=sorted(text),
        ticktext=[text[place] for place in sorted(text)],
    )


def _short(epochs: float) -> str:
    return tick_text(float(f"{epochs:.2g}"))


def _rows(warm: WarmStarts) -> list[dict[str, Any]]:
    rows = []
    for steps in warm.starts:
        for kind in _ALL:
            mine = warm.of(kind, steps)
            if not mine:
                continue

            def middle(quantity: WarmQuantity, mine: Any = mine) -> float | None:
                found = seen(mine, quantity)
                return median(found) if found else None

            rows.append(
                {
                    f"epochs of {warm.small:,}": warm.epochs(mine[0]),
                    "network": _names(warm)[kind],
                    "seeds": len(mine),
                    f"{warm.metric}, last": middle(lambda state: state.last.get(warm.metric)),
                    f"{warm.metric}, best": middle(lambda state: state.best.get(warm.metric)),
                    "f": middle(lambda state: state.train_loss),
                    f"sharpness (%), eps {value_text(warm.eps)}": middle(lambda state: state.sharpness),
                    "|w − w₀|": middle(lambda state: state.weight_distance),
                }
            )
    return rows


__all__ = ["warm_parts"]
