"""The report's section on the optimum: where the best learning rate and momentum lie, and by which law they move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from bcrit.analysis.optimum.coordinates import EFFECTIVE
from bcrit.analysis.optimum.near_optimal import NearOptimal
from bcrit.analysis.optimum.optimum import OptimumLaws, Quantity
from bcrit.analysis.optimum.sentences import parameters, set_sentence, words
from bcrit.analysis.optimum.verdict import LawVerdict
from bcrit.analysis.report.answer import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.report.figure import (
    ACCENT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    VERMILLION,
    Figure,
    Trace,
    figure,
    hover,
    label,
    log_axis,
)
from bcrit.analysis.run import Run
from bcrit.analysis.wording import value_text

_GRID = 80  # points of a drawn law
_COLORS: Final = (ACCENT, ORANGE, GREEN, PURPLE, VERMILLION)
_MOST = 3  # figures: effective learning rate, learning rate, momentum; others stand in the tables


def optimum_section(analysis: Run) -> Answer | None:
    """What the studies say of the optimum.

    Args:
        analysis: of the run.

    Returns:
        The section; None where no study reached the target or nothing numeric was searched.
    """
    laws = analysis.laws
    if not laws.reached or not any(found.ranges for found in laws.reached):
        return None
    unit = label(analysis.experiment.unit)
    drawn = [q for q in laws.quantities if len(laws.verdicts[q.name].batch_sizes) > 1][:_MOST]
    plots = [Plot(f"optimum-{number}", _plot(q, laws, unit), _caption(q, laws)) for number, q in enumerate(drawn)]
    tables = (
        [Rows("Laws of the optimum, and what speaks against them", _law_table(laws), folded=True)]
        if laws.quantities
        else []
    )
    ranges = Rows("Near-optimal values of each hyperparameter", range_table(laws.reached), folded=True)
    shown = {0, len(laws.reached) // 2, len(laws.reached) - 1}
    sets = [set_sentence(found, laws.margin) for place, found in enumerate(laws.reached) if place in shown]
    sentences = (*laws.law_sentences, *sets, _meaning(laws))
    return Answer("optimum", "How the best hyperparameters move", sentences, (*plots, *tables, ranges))


def _meaning(laws: OptimumLaws) -> str:
    text = f"Near-optimal means at most {100 * laws.margin:.0f} % more steps than the study's best point"
    if laws.noise.log_sd is None:
        return f"{text}; how far seeds differ is not known, because no point was re-run."
    noise = f"seeds of one point differ by {100 * laws.noise.log_sd:.0f} % (standard deviation)"
    return f"{text}; {noise}{', which sets this width' if laws.noise.log_sd > math.log1p(laws.within) else ''}."


def _caption(quantity: Quantity, laws: OptimumLaws) -> str:
    verdict = laws.verdicts[quantity.name]
    shown = "the law that passes" if verdict.kind == "one" else "the laws that cannot be told apart"
    drawn = f"Lines: {shown}, others dotted." if verdict.supported else "Dotted lines: laws, none of which passes."
    return (
        f"{words(quantity.name)}: best point of every study, bars over its near-optimal set (to the next trial beyond "
        f"it). {drawn}"
    )


def _plot(quantity: Quantity, laws: OptimumLaws, unit: str) -> Figure:
    verdict = laws.verdicts[quantity.name]
    studies = [s for s in laws.reached if quantity.coordinate in s.ranges]
    sizes = [float(s.batch_size) for s in studies]
    points, seen = _points(quantity, studies)
    x = log_axis(f"batch size ({unit})", sizes, ticks=sizes, pad=1.5)
    grid = np.logspace(x["range"][0], x["range"][1], _GRID)
    title = label("lr / (1 − momentum)" if quantity.name == EFFECTIVE else words(quantity.name).replace(" - ", " − "))
    return figure([*_laws(verdict, grid), points], x, log_axis(title, seen, pad=2.0))


def _points(quantity: Quantity, studies: Sequence[NearOptimal]) -> tuple[Trace, list[float]]:
    ranges = [s.ranges[quantity.coordinate] for s in studies]
    best = [quantity.of(r.best) for r in ranges]
    ends = [quantity.ends(r) for r in ranges]
    bars = {
        "type": "data",
        "array": [high - y for y, (_, high) in zip(best, ends, strict=True)],
        "arrayminus": [y - low for y, (low, _) in zip(best, ends, strict=True)],
        "thickness": 1.5,
        "width": 4,
        "color": INK,
    }
    texts = [
        hover(
            {
                "batch size": s.batch_size,
                "best": y,
                "near-optimal": f"{value_text(low)} to {value_text(high)}",
                "near-optimal points": r.n,
            }
        )
        for s, r, y, (low, high) in zip(studies, ranges, best, ends, strict=True)
    ]
    trace = {
        "name": "best point and near-optimal set",
        "mode": "markers",
        "x": [s.batch_size for s in studies],
        "y": best,
        "hovertext": texts,
        "marker": {"size": 9, "color": INK},
        "error_y": bars,
    }
    return trace, [*best, *(end for pair in ends for end in pair)]


def _laws(verdict: LawVerdict, grid: Any) -> list[Trace]:
    """Supported laws in colour; the others dotted and, but for the plain ones, only in the legend until asked for."""
    found = []
    for fitted in verdict.laws:
        name = fitted.law.name
        if fitted.fit.freedom < 1:
            continue
        line: dict[str, Any] = {"color": GREY, "width": 1.2, "dash": "dot"}
        more: dict[str, Any] = {} if name in ("none", "sqrt", "linear") else {"visible": "legendonly"}
        if name in verdict.supported:
            place = verdict.supported.index(name)
            line, more = {"color": _COLORS[place % len(_COLORS)], "width": 2.5 if place == 0 else 1.8}, {}
        mark = " (rejected)" if fitted.rejected else ""
        values = list(np.exp(fitted.fit.log_value(grid)))
        trace = {"name": f"{name}{mark}", "mode": "lines", "x": list(grid), "y": values, "line": line}
        found.append({**trace, **more, "hoverinfo": "skip"})
    return found


def _law_table(laws: OptimumLaws) -> Table:
    rows = []
    for quantity in laws.quantities:
        verdict = laws.verdicts[quantity.name]
        for fitted in verdict.laws:
            state = "rejected" if fitted.rejected else "passes"
            if fitted.law.name in verdict.supported:
                state = "supported" if verdict.kind == "one" else "supported, not alone"
            rows.append(
                {
                    "of": quantity.name,
                    "law": fitted.law.name,
                    "verdict": "too few studies" if verdict.kind == "too few" else state,
                    "parameters (95 % interval)": parameters(fitted),
                    "p": fitted.p_value,
                    "AICc above best": fitted.delta,
                    "misses at batch size": ", ".join(value_text(b) for b in fitted.misses) or None,
                    "studies": len(verdict.batch_sizes),
                    "formula": fitted.law.formula,
                }
            )
    return table_of(rows)


def range_table(sets: Sequence[NearOptimal]) -> Table:
    """One row a study and hyperparameter: best value, near-optimal values, how far they may reach."""
    rows: list[dict[str, Any]] = []
    for found in sets:
        for name, near in found.ranges.items():
            rows.append(
                {
                    "batch size": found.batch_size,
                    "hyperparameter": name,
                    "best": near.best,
                    "near-optimal trials": f"{value_text(near.seen_low)} to {value_text(near.seen_high)}",
                    "to the next trial": f"{value_text(near.low)} to {value_text(near.high)}",
                    "known to be worse": _worse(near.open_low, near.open_high),
                    "n": near.n,
                }
            )
        for name, options in found.options.items():
            inside = [f"{option} ({counts[0]} of {counts[2]})" for option, counts in options.items() if counts[0]]
            rows.append(
                {
                    "batch size": found.batch_size,
                    "hyperparameter": name,
                    "best": found.best.get(name),
                    "near-optimal trials": ", ".join(inside),
                    "to the next trial": None,
                    "known to be worse": None,
                    "n": found.n_inside,
                }
            )
    return table_of(rows)


def _worse(open_low: bool, open_high: bool) -> str:
    if open_low and open_high:
        return "on neither side"
    return "below" if open_high else "above" if open_low else "on both sides"


__all__ = ["optimum_section", "range_table"]
