"""The section on batch sizes that change along training: examples against steps, and the sizes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bcrit.analysis.adaptive.result import Adaptive, ScheduleResult, Trained
from bcrit.analysis.adaptive.sentences import sentences
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
from bcrit.analysis.wording import interval_text, value_text

_COLORS: Final = (VERMILLION, ORANGE, GREEN, ACCENT, PURPLE, INK)


def adaptive_section(analysis: Run) -> Answer | None:
    """What `bcrit adaptive` measured.

    Args:
        analysis: of the run.

    Returns:
        The section; None where nothing was measured.
    """
    found = analysis.adaptive
    if found is None:
        return None
    parts = (
        Plot(
            "adaptive-frontier",
            _frontier_plot(found),
            "Examples against steps to the target. Below the curve of the fixed batch sizes is a gain. "
            "A schedule is compared "
            "with its mean batch size held fixed. The dashed curve is the hyperbola with their s_min and e_min.",
        ),
        Plot(
            "adaptive-batch-sizes",
            _along_plot(found),
            "The batch size along training, one line a seed; dots end where the target was reached.",
        ),
        Rows("Every schedule: geometric means over seeds", answer_table(found)),
        Rows("The learning rates that go with the batch sizes", rate_table(found), folded=True),
    )
    return Answer("adaptive", "Batch sizes that change along training", (*sentences(found), *_stale(analysis)), parts)


def _stale(analysis: Run) -> list[str]:
    """Whether the run has gone on since."""
    found = analysis.adaptive
    confirmed = analysis.studies[(analysis.studies["source"] == "confirm") & analysis.studies["steps"].notna()]
    if found is None or sorted(int(b) for b in confirmed["batch_size"]) == sorted(found.tuned_at):
        return []
    return ["Since this was measured other batch sizes have been confirmed: run `bcrit adaptive` again."]


def _frontier_plot(found: Adaptive) -> Figure:
    unit = label(found.unit)
    fixed = [one for one in found.of("fixed") if one.steps is not None]
    changing = [one for one in found.of("noise", "ramp") if one.steps is not None]
    steps = [value for one in (*fixed, *changing) for value in _seeds(found, one, "steps")]
    examples = [value for one in (*fixed, *changing) for value in _seeds(found, one, "examples")]
    line = {"mode": "lines", "hoverinfo": "skip"}
    hyperbola = [
        (s, found.e_min * (1 + 1 / (s / found.s_min - 1))) for s in found.frontier_steps if s > 1.01 * found.s_min
    ]
    traces: list[Trace] = [
        {
            **line,
            "name": "curve through the fixed batch sizes",
            "x": list(found.frontier_steps),
            "y": list(found.frontier_examples),
            "line": {"color": GREY, "width": 2},
        },
        {
            **line,
            "name": "hyperbola",
            "x": [s for s, _ in hyperbola],
            "y": [e for _, e in hyperbola],
            "line": {"color": GREY, "width": 1.5, "dash": "dash"},
        },
        _marks(found, fixed, "fixed batch size", INK, "circle"),
    ]
    for kind, name, color, symbol in (
        ("noise", "follows the noise scale", VERMILLION, "diamond"),
        ("ramp", "ramp", GREEN, "square"),
    ):
        mine = [one for one in changing if one.kind == kind]
        if mine:
            traces += [_small(found, mine, color), _marks(found, mine, name, color, symbol)]
    return figure(
        [trace for trace in traces if trace["x"]],
        log_axis("steps to the target", steps, pad=1.1),
        log_axis(f"{unit} to the target", examples, pad=1.1),
    )


def _marks(found: Adaptive, answers: Sequence[ScheduleResult], name: str, color: str, symbol: str) -> Trace:
    texts = [
        hover(
            {
                "schedule": one.schedule,
                "steps": one.steps,
                found.unit: one.examples,
                **({} if one.kind == "fixed" else {"over fixed": _interval(one, "ratio")}),
            }
        )
        for one in answers
    ]
    return {
        "name": name,
        "mode": "markers",
        "x": [one.steps for one in answers],
        "y": [one.examples for one in answers],
        "hovertext": texts,
        "marker": {"color": color, "symbol": symbol, "size": 10},
    }


def _small(found: Adaptive, answers: Sequence[ScheduleResult], color: str) -> Trace:
    """Every seed as a small mark."""
    return {
        "mode": "markers",
        "showlegend": False,
        "hoverinfo": "skip",
        "x": [value for one in answers for value in _seeds(found, one, "steps")],
        "y": [value for one in answers for value in _seeds(found, one, "examples")],
        "marker": {"color": color, "size": 4, "opacity": 0.5},
    }


def _seeds(found: Adaptive, one: ScheduleResult, name: str) -> list[float]:
    return [float(getattr(run, name)) for run in found.runs_of(one.schedule) if run.steps is not None]


def _along_plot(found: Adaptive) -> Figure:
    traces: list[Trace] = []
    for place, one in enumerate(found.of("noise", "ramp")):
        color = _COLORS[place % len(_COLORS)]
        for number, run in enumerate(found.runs_of(one.schedule)):
            traces.append(_along(run, label(one.schedule), color, number == 0))
    shown = [run for one in found.of("noise", "ramp") for run in found.runs_of(one.schedule)]
    examples = [float(e) for run in shown for e in run.at_examples if e]
    sizes = [float(b) for run in shown for b in run.batch_sizes if b]
    return figure(
        traces,
        log_axis(f"{label(found.unit)} used", examples, pad=1.1),
        log_axis(f"batch size ({label(found.unit)})", sizes, ticks=found.tuned_at),
    )


def _along(run: Trained, name: str, color: str, first: bool) -> Trace:
    rows = [row for row in zip(run.at_examples, run.batch_sizes, run.at_steps, strict=True) if row[1] is not None]
    sizes = [0] * (len(rows) - 1) + [7]
    return {
        "name": name,
        "showlegend": first,
        "legendgroup": name,
        "mode": "lines+markers",
        "x": [e for e, _, _ in rows],
        "y": [b for _, b, _ in rows],
        "hovertext": [
            hover({"schedule": name, "seed": run.number + 1, "step": t, "batch size": b}) for _, b, t in rows
        ],
        "line": {"color": color, "width": 1.2},
        "marker": {"color": color, "size": sizes},
    }


def answer_table(found: Adaptive) -> Table:
    """One row a schedule."""
    rows = []
    for one in found.answers:
        row: dict[str, Any] = {
            "schedule": one.schedule,
            "reached": f"{one.n_reached} of {one.n_runs}",
            "steps": one.steps,
            found.unit: one.examples,
            "over fixed": _interval(one, "ratio"),
            "predicted": one.ratio_predicted,
            "gamma": _interval(one, "gamma"),
            "gamma of fixed": one.gamma_fixed,
            "gamma predicted": one.gamma_predicted,
            "at an end": None if one.clipped is None else f"{100 * one.clipped:.0f} %",
        }
        rows.append(row)
    return table_of(rows)


def rate_table(found: Adaptive) -> Table:
    """The tuned learning rates."""
    pairs = zip(found.tuned_at, found.rates, strict=True)
    return table_of([{"batch size": b, "learning rate": rate, "optimizer": found.optimizer} for b, rate in pairs])


def _interval(one: ScheduleResult, name: str) -> str | None:
    value, low, high = (getattr(one, f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return None
    return value_text(value) if low is None else interval_text(value, low, high)


__all__ = ["adaptive_section", "answer_table", "rate_table"]
