"""The section on sharpness and curvature: the winners of the studies beside what un-tuned training finds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import pandas as pd

from bcrit.analysis.landscape.result import Landscape, Network
from bcrit.analysis.landscape.sentences import Quantity, batch_sizes, sentences, values
from bcrit.analysis.report.answer import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.report.figure import (
    ACCENT,
    VERMILLION,
    Figure,
    Trace,
    figure,
    hover,
    label,
    linear_axis,
    log_axis,
    value_axis,
)
from bcrit.analysis.report.landscape_paths import path_plots
from bcrit.analysis.report.landscape_warm import warm_parts
from bcrit.analysis.run import Run
from bcrit.analysis.wording import value_text

_KINDS = ((True, "tuned at each batch size", ACCENT, "circle"), (False, "un-tuned", VERMILLION, "diamond-open"))


def landscape_section(analysis: Run) -> Answer | None:
    """What `bcrit landscape` measured.

    Args:
        analysis: of the run.

    Returns:
        The section; None where nothing was measured.
    """
    found = analysis.landscape
    if found is None:
        return None
    untuned = (
        "Un-tuned: the winning hyperparameters of the smallest batch size, kept at every other (the same numbers, "
        "schedules as long in updates), trained to the same target."
    )
    said = (*sentences(found), *_stale(analysis, found))
    tables = (
        Rows("Sharpness and curvature by batch size: medians over seeds", summary_table(found)),
        Rows("Every network that was measured", network_table(found), folded=True),
    )
    warm = () if found.warm_starts is None else warm_parts(found.warm_starts)
    parts = (*_plots(found), *warm, *tables)
    return Answer("landscape", "Sharpness and curvature", (said[0], untuned, *said[1:]), parts)


def _stale(analysis: Run, found: Landscape) -> list[str]:
    """Whether the run has gone on since."""
    best = {int(row["batch_size"]): row["best_trial"] for row in analysis.studies.to_dict("records")}
    old = sorted({n.batch_size for n in found.networks if n.tuned and best.get(n.batch_size) != n.point})
    if not old:
        return []
    names = ", ".join(f"{b:,}" for b in old)
    return [f"Since this was measured the winner has changed at batch size {names}: run `bcrit landscape` again."]


def _plots(found: Landscape) -> list[Plot]:
    unit = label(found.unit)
    plots = []
    if found.boxes:
        eps, directions = found.boxes[0]

        def rise(network: Network) -> float | None:
            return network.rise(eps, directions)

        name = f"sharpness (%), eps = {value_text(eps)}"
        plots += [
            Plot(
                "landscape-sharpness",
                _by_batch_size(found, rise, name, unit),
                "Sharpness by batch size: a mark a seed, lines through the medians.",
            ),
            Plot(
                "landscape-loss",
                _by_loss(found, rise, name),
                "The same sharpness against the training loss f at which it was measured. What lies on one curve "
                "here differs by how far it was trained, not by its batch size.",
            ),
        ]
    if (metric := found.metric) is not None:
        shown = _by_batch_size(found, lambda n: n.metrics.get(metric), label(metric), unit)
        plots.append(Plot("landscape-metric", shown, f"The {metric} of the same networks, likewise."))
    if values(found.networks, lambda n: n.top_eigenvalue):
        shown = _by_batch_size(found, lambda n: n.top_eigenvalue, "top eigenvalue of the Hessian", unit)
        plots.append(Plot("landscape-eigenvalue", shown, "The largest curvature by batch size, likewise."))
    return [*plots, *path_plots(found)]


def _by_batch_size(found: Landscape, quantity: Quantity, title: str, unit: str) -> Figure:
    sizes = batch_sizes(found)
    traces: list[Trace] = []
    for tuned, name, color, symbol in _KINDS:
        mine = [n for n in found.networks if n.tuned is tuned and quantity(n) is not None]
        if not mine:
            continue
        seen = sorted({n.batch_size for n in mine})
        middle = [median(values(found.of(b, tuned), quantity)) for b in seen]
        line = {"mode": "lines", "x": seen, "y": middle, "line": {"color": color, "width": 2}}
        traces += [{**line, "showlegend": False, "hoverinfo": "skip"}]
        traces.append(_marks(mine, quantity, [n.batch_size for n in mine], title, (name, color, symbol)))
    x = log_axis(f"batch size ({unit})", sizes, ticks=sizes, pad=1.5)
    return figure(traces, x, value_axis(title, values(found.networks, quantity)))


def _by_loss(found: Landscape, quantity: Quantity, title: str) -> Figure:
    traces = []
    for tuned, name, color, symbol in _KINDS:
        mine = [n for n in found.networks if n.tuned is tuned and None not in (quantity(n), n.train_loss)]
        if mine:
            traces.append(_marks(mine, quantity, [n.train_loss for n in mine], title, (name, color, symbol)))
    return figure(traces, linear_axis("training loss f"), value_axis(title, values(found.networks, quantity)))


def _marks(
    networks: Sequence[Network], quantity: Quantity, x: Sequence[Any], title: str, look: tuple[str, str, str]
) -> Trace:
    name, color, symbol = look
    texts = [
        hover(
            {
                "batch size": n.batch_size,
                "seed": n.number + 1,
                title: quantity(n),
                "training loss f": n.train_loss,
                "steps": n.steps,
                "ended": n.outcome,
            }
        )
        for n in networks
    ]
    return {
        "name": name,
        "mode": "markers",
        "x": list(x),
        "y": [quantity(n) for n in networks],
        "hovertext": texts,
        "marker": {"color": color, "symbol": symbol, "size": 9, "line": {"width": 2, "color": color}},
    }


def summary_table(found: Landscape) -> Table:
    """One row a batch size and kind, medians over seeds."""
    rows = []
    for batch_size in batch_sizes(found):
        for tuned in (True, False):
            mine = found.of(batch_size, tuned)
            if mine:
                rows.append(_summary_row(found, mine))
    return table_of(rows)


def _summary_row(found: Landscape, mine: Sequence[Network]) -> dict[str, Any]:
    def middle(quantity: Quantity) -> float | None:
        seen = values(mine, quantity)
        return median(seen) if seen else None

    reached = sum(network.outcome == "reached" for network in mine)
    row: dict[str, Any] = {
        "batch size": mine[0].batch_size,
        "hyperparameters": "tuned" if mine[0].tuned else "un-tuned",
        "steps": median(network.steps for network in mine),
        "reached": f"{reached} of {len(mine)}",
        "f": middle(lambda n: n.train_loss),
        "validation loss": middle(lambda n: n.validation_loss),
    }
    if (metric := found.metric) is not None:
        row[metric] = middle(lambda n: n.metrics.get(metric))
    for eps, directions in found.boxes:
        row[box_name(eps, directions)] = middle(lambda n, e=eps, d=directions: n.rise(e, d))  # type: ignore[misc]
    row |= {
        "top eigenvalue": middle(lambda n: n.top_eigenvalue),
        "trace": middle(lambda n: n.trace),
        "|w − w₀|": middle(lambda n: n.weight_distance),
        "|w|": middle(lambda n: n.weight_norm),
    }
    return row


def network_table(found: Landscape) -> Table:
    """One row a network, with the errors of its numbers and what decides them."""
    rows = []
    for n in found.networks:
        row: dict[str, Any] = {
            "batch size": n.batch_size,
            "hyperparameters": "tuned" if n.tuned else "un-tuned",
            "seed": n.number + 1,
            "ended": n.outcome,
            "steps": n.steps,
            "as recorded": "–" if n.same_curve is None else "yes" if n.same_curve else "no",
            "f": n.train_loss,
            "validation loss": n.validation_loss,
        }
        if found.metric is not None:
            row[found.metric] = n.metrics.get(found.metric)
        row |= {box_name(eps, directions): n.rise(eps, directions) for eps, directions in found.boxes}
        searched = sorted({f"{r.searches} x {r.iterations}" for r in n.rises})
        ended = sum(r.converged for r in n.rises)
        row |= {
            "searches x iterations": ", ".join(searched) or None,
            "searches ended by themselves": f"{ended} of {len(n.rises)}" if n.rises else None,
            "top eigenvalue ± residual": _with_error(n.top_eigenvalue, n.top_residual),
            "trace ± standard error": _with_error(n.trace, n.trace_error),
            "|w − w₀|": n.weight_distance,
            "weights": n.n_weights,
            "problem": n.problem,
        }
        rows.append(row)
    return table_of(rows)


def box_name(eps: float, directions: int | None) -> str:
    """A sharpness as a column is headed."""
    return f"sharpness (%), eps {value_text(eps)}, {'full space' if directions is None else f'{directions} directions'}"


def _with_error(value: float | None, error: float | None) -> str | None:
    return None if value is None or pd.isna(value) else f"{value_text(value)} ± {value_text(error)}"


__all__ = ["box_name", "landscape_section", "network_table", "summary_table"]
