"""How steps fall with the batch size: the curve and its numbers, how well it fits, what else would, what comes next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from bcrit.analysis.curve.fit import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.landmarks import Regime, definition_sentence, regimes_sentence
from bcrit.analysis.curve.new_study import StepSeconds, next_sentence, prediction_sentence
from bcrit.analysis.curve.other_curves import clearly_better
from bcrit.analysis.curve.table import read_table
from bcrit.analysis.recommendation.hardware import read_step_times
from bcrit.analysis.report.answer import Answer, Part, Plot, Rows, Table, table_of
from bcrit.analysis.report.figure import (
    ACCENT,
    BAND,
    GREY,
    INK,
    ORANGE,
    Axis,
    Figure,
    figure,
    horizontal,
    label,
    linear_axis,
    log_axis,
    points,
    vertical,
)
from bcrit.analysis.run import Run
from bcrit.analysis.wording import interval_text, readable, value_text

_SHOWN = 5  # rows that were set aside; `--json` has them all
_MODELS = {
    "perfect_scaling": "perfect scaling",
    "flat": "flat",
    "hyperbola": "hyperbola (used here)",
    "two_asymptotes": "two straight lines",
    "p_norm": "free knee (p-norm)",
}
_DEFINITIONS = {
    "2x": "twice the minimum (used here)",
    "20_percent_over_linear": "20 % over linear scaling",
    "efficiency": "sample efficiency",
    "steps_double": "steps double",
    "examples_double": "examples double",
    "asymptotes_cross": "asymptotes cross",
}
_FILLS: Final = {
    Regime.PERFECT_SCALING: "rgba(0, 158, 115, 0.22)",
    Regime.DIMINISHING_RETURNS: "rgba(230, 159, 0, 0.22)",
    Regime.PLATEAU: "rgba(213, 94, 0, 0.22)",
}
_NO_AXIS: Final[Axis] = {"visible": False, "range": [-1, 1], "fixedrange": True}


def ask(
    source: Annotated[
        Run | Path, "CSV with columns batch_size, steps; optional seed, max_steps. Or a run folder.", "TABLE.csv"
    ],
    level: Annotated[float | None, "Confidence level of the intervals (default: 0.95)."] = None,
    unit: Annotated[str | None, "What a batch counts (default: examples)."] = None,
    predict: Annotated[Sequence[float], "Predict a new study at this batch size; repeatable.", "B"] = (),
    linear_from: Annotated[
        float | None, "Say where training takes 20 % more steps than linear scaling from here.", "B0"
    ] = None,
    efficiency: Annotated[float | None, "Say where this share of the examples is not wasted, 0.8 for example."] = None,
    step_time: Annotated[
        Path | None, "CSV with columns batch_size, step_seconds: what to measure next is then costed in seconds."
    ] = None,
) -> Answer | str:
    """Fit the curve S = s_min (1 + b_crit / B) to a table of steps-to-target from anywhere.

    Empty, nan or inf in 'steps' is a run that did not reach the target within 'max_steps'.
    With --json the answer has more: other definitions, other curves, regimes, what to measure next.
    """
    target = "the target"
    if isinstance(source, Path):
        table = read_table(source)
        fit = fit_hyperbola(table, level=0.95 if level is None else level, unit="examples" if unit is None else unit)
    elif level is not None or unit is not None:
        return "--level and --unit are for tables; a run has its own; leave them out"
    elif source.fit is None:
        return f"there is no curve: {source.no_fit}"
    else:
        fit, target = source.fit, str(source.experiment.target)
    seconds = None if step_time is None else read_step_times(step_time).seconds
    named = {"20_percent_over_linear": ("linear_from", linear_from), "efficiency": ("efficiency", efficiency)}
    options: dict[str, Any] = {option: value for option, value in named.values() if value is not None}
    parts: list[Part] = [
        Plot(
            "residuals",
            residuals_plot(fit),
            "How far the measured steps lie above the fitted curve. Points that scatter without order speak for the "
            "curve, an arch against it. Shaded: one standard deviation of the scatter.",
        )
    ]
    bands = regimes_plot(fit)
    if bands is not None:
        parts.append(
            Plot(
                "regimes",
                bands,
                "Perfect scaling (twice the batch size, nearly half the steps) ends where training takes 20 % more "
                f"{fit.unit} than at the smallest batch sizes. On the plateau, twice the batch size saves less than a "
                f"tenth of the steps. White: the {readable(100 * fit.level)} % interval of a boundary. Dots: the "
                "batch sizes of this run, orange where such an interval crosses them.",
            )
        )
    parts.append(Rows("Other curves through the same points", _models(fit)))
    parts.append(Rows("What else is called the critical batch size", _definitions(fit)))
    asked = [found for found in fit.definitions(**options) if named.get(found.name, ("", None))[1] is not None]
    also = [f"  also: {definition_sentence(found, fit.unit)}" for found in asked]
    also += [f"  also: {prediction_sentence(found, fit.level, fit.unit)}" for found in fit.predict_studies(predict)]
    follows = tuple(sentence for sentence in _follows(fit).values() if sentence is not None)
    facts = fit.to_json(**options, predict=predict, step_seconds=seconds)
    said = (*fit_lines(fit, target, seconds), *also)
    return Answer("fit", "How well the curve fits", (_verdict(fit), *follows), tuple(parts), facts, terminal=said)


@dataclass(frozen=True)
class KeyNumber:
    """One number of the answer."""

    symbol: str  # as in the glossary
    value: str  # with its unit, or that it is not identified
    interval: str  # its interval or bound, in words
    meaning: str  # what it is, in a sentence
    identified: bool  # whether the data determine it


def key_numbers(fit: HyperbolaFit, target: str) -> Iterator[KeyNumber]:
    """b_crit, s_min and e_min with their intervals."""
    level, unit = f"{100 * fit.level:g} % interval", fit.unit
    twice = (
        f"the batch size that takes twice the fewest steps and twice the fewest {unit} ({fit.definition} definition)"
    )
    for symbol, counted, meaning in (
        ("b_crit", unit, f"Critical batch size: {twice}, to {target}."),
        ("s_min", "steps", f"Fewest steps to {target}, at very large batch sizes."),
        ("e_min", unit, f"Fewest {unit} to {target}, at very small batch sizes."),
    ):
        known = fit.identified[symbol]
        between = interval_text(None, *fit.interval(symbol))
        interval = between if between == "no interval" else f"{level}: {between}"
        value = f"{readable(getattr(fit, symbol))} {counted}" if known else "not identified"
        yield KeyNumber(symbol, value, interval, meaning, known)


def fit_lines(fit: HyperbolaFit, target: str, step_seconds: StepSeconds | None = None) -> list[str]:
    """The three numbers of a fit, each with its interval and what it means, and what follows from them.

    With the time of a step by batch size, what to measure next is costed in seconds.
    """
    lines = [
        f"{number.symbol:>7} = {number.value} ({number.interval}): {number.meaning[0].lower()}{number.meaning[1:]}"
        for number in key_numbers(fit, target)
    ]
    lines += [f"  note: {note}" for note in fit.notes]
    lines += [f"  set aside: row {aside.row}: {aside.reason}" for aside in fit.rows_set_aside[:_SHOWN]]
    return lines + [f"  {name}: {said}" for name, said in _follows(fit, step_seconds).items() if said is not None]


def _follows(fit: HyperbolaFit, step_seconds: StepSeconds | None = None) -> dict[str, str | None]:
    following = next_sentence(fit.next_batch_size(step_seconds), fit.unit)
    return {"regimes": regimes_sentence(fit.regimes()), "next": following}


def _verdict(fit: HyperbolaFit) -> str:
    missed = f"The curve misses the measured steps by {readable(100 * fit.rms_log_residual)} % (root mean square)"
    if fit.degrees_of_freedom < 1:
        return "Two batch sizes always lie on a curve, so nothing is known of how well it fits."
    if fit.lack_of_fit_p_value is None:
        return f"{missed}; there are too few batch sizes to tell whether another curve would do better."
    if fit.lack_of_fit:
        return f"{missed}, and the points bend away from it by more than they scatter: read the notes on b_crit."
    better = clearly_better(fit.models)
    if better is not None:
        name = _MODELS[better[0].name].split(" (")[0]
        return f"{missed}. By the information criterion another curve does clearly better: {name}."
    return f"{missed}, and nothing in the points speaks for a knee of another shape."


def _models(fit: HyperbolaFit) -> Table:
    """The candidates, the best first; without enough studies for the criterion, last."""
    least = min((model.aicc for model in fit.models if model.aicc is not None), default=0.0)
    return table_of(
        [
            {
                "curve": _MODELS[model.name],
                "S(B)": model.formula,
                "parameters": ", ".join(f"{name} = {readable(value)}" for name, value in model.parameters.items()),
                "misses by (rms)": f"{readable(100 * model.rms_log_residual)} %",
                "AICc above the best": "too few points" if model.aicc is None else readable(model.aicc - least),
                "weight": None if model.weight is None else f"{100 * model.weight:.0f} %",
            }
            for model in sorted(fit.models, key=lambda model: (model.aicc is None, model.aicc or 0.0))
        ]
    )


def _definitions(fit: HyperbolaFit) -> Table:
    return table_of(
        [
            {
                "definition": _DEFINITIONS[entry.name],
                f"batch size ({fit.unit})": (
                    "not identified" if entry.batch_size is None else value_text(entry.batch_size)
                ),
                "interval": interval_text(None, entry.low, entry.high),
                "what it is": entry.definition,
            }
            for entry in fit.definitions()
        ]
    )


def residuals_plot(fit: HyperbolaFit) -> Figure:
    """Steps / curve - 1 in per cent against the batch size, with one standard deviation of the scatter."""
    rows = [(study, study.log_residual) for study in fit.studies if study.log_residual is not None]
    x = [study.batch_size for study, _ in rows]
    y = [100 * math.expm1(residual) for _, residual in rows]
    told = [
        {"batch size": s.batch_size, "measured": s.steps, "curve": s.fitted_steps, "off by": f"{off:+.1f} %"}
        for (s, _), off in zip(rows, y, strict=True)
    ]
    shapes: list[Any] = [horizontal(0, color=ACCENT, width=2)]
    high = 0.0
    if fit.sigma is not None:
        low, high = (100 * math.expm1(sign * fit.sigma) for sign in (-1, 1))
        area = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "layer": "below", "line": {"width": 0}}
        shapes.append({**area, "y0": low, "y1": high, "fillcolor": BAND})
    # Error bars down to zero are the stems.
    stems = {"type": "data", "symmetric": False, "array": [-off for off in y], "color": INK, "thickness": 1, "width": 0}
    largest = max([5.0, *(1.3 * abs(off) for off in y), 1.3 * high])
    y_axis = linear_axis("steps above the curve", ticksuffix=" %", range=[-largest, largest])
    x_axis = log_axis(f"batch size ({label(fit.unit)})", x, ticks=x, pad=1.5)
    return figure([points(x, y, told, error_y=stems)], x_axis, y_axis, shapes=shapes, height=320)


def regimes_plot(fit: HyperbolaFit) -> Figure | None:
    """The regimes as bands over the batch size, white where the interval of a boundary lies, and the studies.

    None unless both boundaries are identified with closed intervals.
    """
    found = fit.regimes()
    first, second = found.perfect_scaling_ends, found.plateau_begins
    if not (first.known and second.known and first.low and first.high and second.low and second.high):
        return None
    sizes = [size for size, _ in found.studies]
    seen = [*sizes, first.low, first.high, second.low, second.high]
    left, right = min(seen) / 2, max(seen) * 2
    bands = {
        Regime.PERFECT_SCALING: (left, first.low),
        Regime.DIMINISHING_RETURNS: (first.high, second.low),
        Regime.PLATEAU: (second.high, right),
    }
    shapes, names = list[Any](), list[Any]()
    for regime, (low, high) in bands.items():
        if low < high:
            area = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0}, "layer": "below"}
            shapes.append({**area, "x0": low, "x1": high, "fillcolor": _FILLS[regime]})
            # An annotation on a log axis is placed by its logarithm.
            place = {"x": (math.log10(low) + math.log10(high)) / 2, "xref": "x", "y": 0.97, "yref": "paper"}
            style = {"yanchor": "top", "showarrow": False, "font": {"color": GREY, "size": 12}}
            names.append({**place, **style, "text": regime.value.replace(" ", "<br>")})
    shapes += [vertical(place.value or left, color=ACCENT, width=2) for place in (first, second)]
    told = [{"batch size": size, "regime": regime.value} for size, regime in found.studies]
    colors = [ORANGE if regime is Regime.UNCERTAIN else INK for _, regime in found.studies]
    dots = points(sizes, [0] * len(sizes), told, color=colors, size=11)
    dots["marker"]["line"] = {"color": "#ffffff", "width": 1}
    x_axis = log_axis(f"batch size ({label(fit.unit)})", [left, right], ticks=sizes, pad=1.0)
    return figure([dots], x_axis, _NO_AXIS, shapes=shapes, notes=names, height=190)
