"""How steps fall with the batch size: the curve and its numbers, how well it fits, what else would, what comes next."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from bcrit.analysis import report as draw
from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.interval import WIDEST
from bcrit.analysis.curve.landmarks import Regime, definition_sentence, regimes_sentence
from bcrit.analysis.curve.new_study import StepSeconds, prediction_sentence
from bcrit.analysis.curve.notes import SCATTER
from bcrit.analysis.curve.other_curves import clearly_better
from bcrit.analysis.curve.table import read_table
from bcrit.analysis.numbers import Estimate, interval_text, readable, value_text
from bcrit.analysis.recommendation.hardware import read_step_times
from bcrit.analysis.records.number_table import named_columns
from bcrit.analysis.report import Answer, Part, Plot, Rows, Table, Text, table_of
from bcrit.analysis.run import Run

_EQUALLY = (
    "All batch sizes are tuned equally well and scatter alike. Where tuning stays behind at the largest ones, b_crit "
    "comes out low by about as much: simulated with tuning 5, 10 and 20 % behind at 8 b_crit, less down to b_crit, and "
    "3 % noise, 95 % intervals held the truth in 88, 70 and 36 % of studies with five batch sizes, and in 73, 25 and "
    "0 % with ten. The notes on b_crit say what it would be if the largest were 10 % better tuned."
)
_SHOWN = 5  # rows that were set aside; `--json` has them all
_MODELS = {
    "perfect_scaling": "perfect scaling",
    "flat": "flat",
    "hyperbola": "hyperbola",
    "two_asymptotes": "two straight lines",
    "p_norm": "free knee (p-norm)",
    "u_shape": "U of examples",
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
    Regime.TOO_SMALL: "rgba(86, 180, 233, 0.22)",
    Regime.PERFECT_SCALING: "rgba(0, 158, 115, 0.22)",
    Regime.DIMINISHING_RETURNS: "rgba(230, 159, 0, 0.22)",
    Regime.PLATEAU: "rgba(213, 94, 0, 0.22)",
}
_NO_AXIS: Final[draw.Axis] = {"visible": False, "range": [-1, 1], "fixedrange": True}


def no_curve(run: Run, name: str = "fit") -> Answer:
    """What a run without a curve comes to, "no": how far it is, why there is none, and what to change."""
    why, nearest = run.no_fit or "too little was measured", run.answer("unreached")
    first = run.how_far or ("No batch size can be recommended: there is no curve.",)
    remedies = () if isinstance(nearest, str) else nearest.sentences
    said = (*first, f"{why[0].upper()}{why[1:].rstrip('.')}.", *remedies)
    return Answer(name, "No curve", said, (), {"no_fit": run.no_fit}, yes=False, on_page=False)


def ask(
    source: Annotated[
        Run | Path, "CSV with columns batch_size, steps; optional seed, max_steps. Or a run folder.", "TABLE.csv"
    ],
    level: Annotated[float | None, "Confidence level of the intervals (default: 0.95)."] = None,
    unit: Annotated[str | None, "What a batch counts (default: examples)."] = None,
    columns: Annotated[str | None, "'batch_size=bs,steps=n': what columns of the table are called.", "NAMES"] = None,
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

    Empty, nan or inf in 'steps' is a run that did not reach the target within 'max_steps'. Exit code 1 when a run
    folder holds no curve; a table that is too short for one is bad input, 2.
    With --json the answer has more: other definitions, other curves, regimes, what to measure next.
    """
    target = "the target"
    if isinstance(source, Path):
        table = read_table(source, {} if columns is None else named_columns(columns))
        fit = fit_hyperbola(table, level=0.95 if level is None else level, unit="examples" if unit is None else unit)
    elif (level, unit, columns) != (None, None, None):
        return "--level, --unit and --columns are for tables; a run has its own; leave them out"
    elif source.fit is None:
        return no_curve(source)
    else:
        fit, target = source.fit, str(source.experiment.target)
    seconds = None if step_time is None else read_step_times(step_time).seconds
    named = {"20_percent_over_linear": ("linear_from", linear_from), "efficiency": ("efficiency", efficiency)}
    options: dict[str, Any] = {option: value for option, value in named.values() if value is not None}
    caption = (
        "How far the measured steps lie above the fitted curve. Points that scatter without order speak for the curve, "
        "an arch against it. Shaded: one standard deviation of the scatter."
    )
    parts: list[Part] = [Plot("residuals", residuals_plot(fit), caption)]
    small = "" if fit.trough is None else f" Batch sizes below b_opt are too small: they take more {fit.unit} again."
    if (bands := regimes_plot(fit)) is not None:
        caption = (
            "Perfect scaling (twice the batch size, nearly half the steps) ends where training takes 20 % more "
            f"{fit.unit} than at the smallest batch sizes. On the plateau, twice the batch size saves less than a "
            f"tenth of the steps.{small} White: the {readable(100 * fit.level)} % interval of a boundary. Dots: the "
            "batch sizes of this run, orange where such an interval crosses them."
        )
        parts.append(Plot("regimes", bands, caption))
    parts.append(Rows("Other curves through the same points", _models(fit)))
    parts.append(Text(_EQUALLY, "What the interval takes for granted"))
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
    twice, at = f"takes twice the fewest steps and twice the fewest {unit}", "very small batch sizes"
    if fit.trough is not None:
        twice, at = f"beyond b_opt takes twice the fewest {unit}", "b_opt"
        between = Estimate(None, fit.b_opt_low, fit.b_opt_high).interval()
        meaning = f"The batch size with the fewest {unit} to {target}; smaller ones need more again."
        value = "not identified" if fit.b_opt is None else f"{readable(fit.b_opt)} {unit}"
        interval = between if between == "no interval" else f"{level}: {between}"
        yield KeyNumber("b_opt", value, interval, meaning, fit.b_opt is not None)
    twice = f"the batch size that {twice} ({fit.definition} definition)"
    for symbol, counted, meaning in (
        ("b_crit", unit, f"Critical batch size: {twice}, to {target}."),
        ("s_min", "steps", f"Fewest steps to {target}, at very large batch sizes."),
        ("e_min", unit, f"Fewest {unit} to {target}, at {at}."),
    ):
        known, number = fit.identified[symbol], readable(getattr(fit, symbol))
        between = interval_text(None, *fit.interval(symbol))
        if between == f"{number} to {number}":
            between = "narrower than the digits shown"
        value, provided = (f"{number} {counted}", "") if known else ("not identified", _provided(fit, symbol))
        interval = between if between == "no interval" else f"{level}{provided}: {between}"
        yield KeyNumber(symbol, value, interval, meaning, known)


def _provided(fit: HyperbolaFit, symbol: str) -> str:
    """On what the interval of a number hangs that is not identified, and yet has a closed and narrow one."""
    low, high = fit.interval(symbol)
    if not 0 < low <= high < WIDEST * low:
        return ""
    if fit.boxes is not None and fit.boxes.decide:
        return " by the batch sizes inside their boxes"
    return " if the curve holds beyond what was measured"


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
    return {"regimes": regimes_sentence(fit.regimes()), "next": fit.next_sentence(step_seconds)}


def _verdict(fit: HyperbolaFit) -> str:
    missed = f"The curve misses the measured steps by {readable(100 * fit.rms_log_residual)} % (root mean square)"
    if fit.degrees_of_freedom < 1:
        return "Two batch sizes always lie on a curve, so nothing is known of how well it fits."
    if fit.trough is not None:
        other = next(model.rms_log_residual for model in fit.models if model.name == "hyperbola")
        miss = f"the hyperbola would miss them by {readable(100 * other)} %"
        return f"{missed}. It is a U, {fit.unit} rise again below b_opt; {miss}."
    if fit.lack_of_fit_p_value is None:
        return f"{missed}; there are too few batch sizes to tell whether another curve would do better."
    if fit.lack_of_fit:
        return f"{missed}, and the points bend away from it by more than they scatter: read the notes on b_crit."
    better = clearly_better(fit.models)
    if better is not None:
        name = _MODELS[better[0].name].split(" (")[0]
        return f"{missed}. By the information criterion another curve does clearly better: {name}."
    scatter = "" if (fit.sigma or 0.0) < SCATTER else f" But they scatter by {readable(100 * (fit.sigma or 0.0))} %."
    return f"{missed}, and nothing in the points speaks for a knee of another shape.{scatter}"


def _models(fit: HyperbolaFit) -> Table:
    """The candidates, the best first; without enough studies for the criterion, last."""
    least = min((model.aicc for model in fit.models if model.aicc is not None), default=0.0)
    used = "hyperbola" if fit.trough is None else "u_shape"
    rows = [
        {
            "curve": f"{_MODELS[model.name]}{' (used here)' if model.name == used else ''}",
            "S(B)": model.formula,
            "parameters": ", ".join(f"{name} = {readable(value)}" for name, value in model.parameters.items()),
            "misses by (rms)": f"{readable(100 * model.rms_log_residual)} %",
            "AICc above the best": "too few points" if model.aicc is None else readable(model.aicc - least),
            "weight": None if model.weight is None else f"{100 * model.weight:.0f} %",
        }
        for model in sorted(fit.models, key=lambda model: (model.aicc is None, model.aicc or 0.0))
    ]
    return table_of(rows)


def _definitions(fit: HyperbolaFit) -> Table:
    rows = [
        {
            "definition": _DEFINITIONS[entry.name],
            f"batch size ({fit.unit})": "not identified" if entry.batch_size is None else value_text(entry.batch_size),
            "interval": interval_text(None, entry.low, entry.high),
            "what it is": entry.definition,
        }
        for entry in fit.definitions()
    ]
    return table_of(rows)


def residuals_plot(fit: HyperbolaFit) -> draw.Figure:
    """Steps / curve - 1 in per cent against the batch size, with one standard deviation of the scatter."""
    rows = [(study, study.log_residual) for study in fit.studies if study.log_residual is not None]
    x = [study.batch_size for study, _ in rows]
    y = [100 * math.expm1(residual) for _, residual in rows]
    told = [
        {"batch size": s.batch_size, "measured": s.steps, "curve": s.fitted_steps, "off by": f"{off:+.1f} %"}
        for (s, _), off in zip(rows, y, strict=True)
    ]
    shapes: list[Any] = [draw.horizontal(0, color=draw.ACCENT, width=2)]
    high = 0.0
    if fit.sigma is not None:
        low, high = (100 * math.expm1(sign * fit.sigma) for sign in (-1, 1))
        shapes.append(draw.area(low, high, draw.BAND, along="y"))
    # Error bars down to zero are the stems.
    thin: dict[str, Any] = {"type": "data", "symmetric": False, "color": draw.INK, "thickness": 1, "width": 0}
    stems = {**thin, "array": [-off for off in y]}
    largest = max([5.0, *(1.3 * abs(off) for off in y), 1.3 * high])
    y_axis = draw.linear_axis("steps above the curve", ticksuffix=" %", range=[-largest, largest])
    x_axis = draw.batch_axis(fit.unit, x)
    return draw.figure([draw.points(x, y, told, error_y=stems)], x_axis, y_axis, shapes=shapes, height=320)


def regimes_plot(fit: HyperbolaFit) -> draw.Figure | None:
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
    least = found.b_opt or Estimate(None)
    bands = {
        Regime.TOO_SMALL: (left, least.low or left),
        Regime.PERFECT_SCALING: (least.high or left, first.low),
        Regime.DIMINISHING_RETURNS: (first.high, second.low),
        Regime.PLATEAU: (second.high, right),
    }
    shapes, names = list[Any](), list[Any]()
    for regime, (low, high) in bands.items():
        if low < high:
            shapes.append(draw.area(low, high, _FILLS[regime]))
            # An annotation on a log axis is placed by its logarithm.
            place = {"x": (math.log10(low) + math.log10(high)) / 2, "xref": "x", "y": 0.97, "yref": "paper"}
            style = {"yanchor": "top", "showarrow": False, "font": {"color": draw.GREY, "size": 12}}
            names.append({**place, **style, "text": regime.value.replace(" ", "<br>")})
    ends = [place.value for place in (least, first, second) if place.value is not None]
    shapes += [draw.vertical(end, color=draw.ACCENT, width=2) for end in ends]
    told = [{"batch size": size, "regime": regime.value} for size, regime in found.studies]
    colors = [draw.ORANGE if regime is Regime.UNCERTAIN else draw.INK for _, regime in found.studies]
    dots = draw.points(sizes, [0] * len(sizes), told, color=colors, size=11)
    dots["marker"]["line"] = {"color": "#ffffff", "width": 1}
    x_axis = draw.log_axis(f"batch size ({draw.label(fit.unit)})", [left, right], ticks=sizes, pad=1.0)
    return draw.figure([dots], x_axis, _NO_AXIS, shapes=shapes, notes=names, height=190)
