"""Which differences between runs are real? Optimizers, models, targets side by side, in ratios with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd

from bcrit.analysis import report as draw
from bcrit.analysis.numbers import Estimate, duration, interval_text, readable, value_text
from bcrit.analysis.questions.compare.ratios import Ratio, ratio_sentence, ratios, ratios_section, table_rows
from bcrit.analysis.questions.compare.sides import ASSUMED, NUMBERS, Side, StepsTable, cautions, named, side_of
from bcrit.analysis.questions.compare.steps import (
    Advantage,
    Fastest,
    advantages,
    at_batch_sizes,
    choice,
    fastest,
    steps_section,
    where_sentence,
)
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.report import Answer, Plot, Rows, table_of
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError

_MOST_OTHERS: Final = 3  # pairs without the first run in words; more would hide the answer. Chosen, not studied.
MOST_BANDS: Final = 6  # bands of more runs than this would hide each other and are left out; chosen, not studied

# Okabe and Ito's colours that show on white (their yellow does not), then grey. The numbers of colours, symbols and
# dashes share no factor, so that there are 280 looks, and no run has to be told by colour alone.
_COLORS: Final = (draw.ACCENT, draw.VERMILLION, draw.GREEN, draw.ORANGE, draw.PURPLE, draw.INK, "#56b4e9", draw.GREY)
_SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
_DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash")
_GRID: Final = 120  # points of a drawn curve
_OPEN: Final = 3.0  # an open end is drawn as an arrow this factor beyond what is known; its length means nothing
_ROW, _FRAME = 30, 70  # pixels of a run, and of an axis with its title


def ask(
    sources: Annotated[
        Sequence[Run | Path | StepsTable], "Two or more run folders, or tables as `bcrit fit` takes them.", "RUN..."
    ],
    across_targets: Annotated[bool, "Divide numbers of runs to different targets too."] = False,
    unit: Annotated[str, "What a batch counts in tables; a run says it itself."] = "examples",
) -> Answer | str:
    """Compare runs: optimizers, models, targets side by side, and which differences are real.

    The first run is the one that the others are compared with. Exit code 1 when no two of them can be compared.
    """
    sides = named(_read(sources, unit))
    divided, between = ratios(sides, across_targets), advantages(sides, across_targets)
    at_sizes, quickest = at_batch_sizes(sides, across_targets), fastest(sides)
    said = (*choice(sides, across_targets), *_sentences(divided, between, quickest))
    told = cautions(sides, across_targets)
    facts = {
        "runs": [side.to_json() for side in sides],
        "ratios": [ratio.to_json() for ratio in divided],
        "at_batch_sizes": [row.to_json() for row in at_sizes],
        "advantages": [advantage.to_json() for advantage in between],
        "fastest": quickest,
        "sentences": said,
        "cautions": told,
        "assumed": ASSUMED,
    }
    numbers = (
        Rows("Numbers, with their intervals", table_of([_numbers(side) for side in sides]), brief=True),
        Rows("What they were measured from", table_of([_measured(side) for side in sides]), brief=True),
    )
    sections = (
        Answer("runs", "The runs", (), numbers),
        Answer("curves", "Steps against batch size", (), tuple(_plots(sides))),
        ratios_section(divided),
        *steps_section(between, at_sizes, quickest),
        *_points_section(sides),
    )
    title = " and ".join(side.label for side in sides) if len(sides) == 2 else f"{len(sides)} runs"
    comparable = any(ratio.verdict != "not comparable" for ratio in divided) or bool(between)
    return Answer(
        *("compare", f"{title}, side by side", said, numbers, plain(facts), told), yes=comparable, sections=sections
    )


def _read(sources: Sequence[Run | Path | StepsTable], unit: str) -> list[Side]:
    """Every run and table; the problems of all come in one message."""
    found, problems = [], []
    places = [str(source) if isinstance(source, Path) else source.location for source in sources]
    for source, place in zip(sources, places, strict=True):
        try:
            found.append(side_of(source, unit))
        except InputError as error:
            problems += [f"{place}: {problem}" for problem in error.problems]
    if not problems:
        problems += [f"'{place}' is given twice; name each run once" for place in places if places.count(place) > 1]
        if len(sources) < 2:
            problems.append(f"two or more runs are needed, but there is {len(sources)}; name another run or table")
    if problems:
        raise InputError("compare", problems)
    return found


def _sentences(divided: Sequence[Ratio], between: Sequence[Advantage], quickest: Sequence[Fastest]) -> tuple[str, ...]:
    """The answer: every run against the first one, then what else differs, then the fastest trainings."""
    pairs: dict[tuple[str, str], list[Ratio]] = {}
    for ratio in divided:
        pairs.setdefault((ratio.run, ratio.baseline), []).append(ratio)
    curves = {(advantage.run, advantage.baseline): where_sentence(advantage) for advantage in between}
    first, found = divided[0].baseline, list[str]()
    for names, rows in pairs.items():
        if names[1] == first:
            found += [ratio_sentence(rows), *filter(None, [curves.get(names)])]
    differing = [rows for rows in pairs.values() if any(row.verdict == "differs" for row in rows)]
    others = [rows for rows in differing if rows[0].baseline != first]
    if len(others) <= _MOST_OTHERS:
        found += [ratio_sentence(rows) for rows in others]
    else:
        found.append(f"Of the other pairs, {len(others)} differ in at least one number; the table of ratios has them.")
    if len(quickest) > 1:
        times = [f.hours for f in quickest]
        each = "; ".join(
            f"{f.run} at batch size {readable(f.batch_size)}, {duration(f.hours, beside=times)} "
            f"({readable(f.steps)} steps)"
            for f in sorted(quickest, key=lambda f: f.hours)
        )
        found.append(f"Shortest training within what was measured, on each run's own machine: {each}.")
    return tuple(found)


# --- tables ---


def _numbers(side: Side) -> dict[str, str]:
    """The numbers with their intervals, or why there are none."""
    cells = dict.fromkeys(NUMBERS, "–")
    for name, number in side.estimates.items():
        between = number.interval()
        why = number.why if between == "no interval" else f"{number.why} ({between})"
        cells[name] = why if number.why else str(number)
    return {"run": side.label, "unit": side.unit, **cells}


def _measured(side: Side) -> dict[str, str]:
    effort, ends, fit = side.effort, side.range, side.fit
    return {
        "run": side.label,
        "target": side.target or "not stated",
        "batch sizes": f"{value_text(ends[0])} to {value_text(ends[1])}" if ends else "none reached",
        "reached": f"{len(side.reached)} of {len(side.studies)}",
        "scatter": f"{100 * fit.rms_log_residual:.1f} %" if fit else "–",
        "lack of fit": ("yes" if fit.lack_of_fit else "no") if fit else "no fit",
        "trials": f"{effort['trials']:,}" if effort else "–",
        "steps in all": f"{effort['steps']:,}" if effort else "–",
    }


def _points_section(sides: Sequence[Side]) -> list[Answer]:
    best = [(side.label, *each) for side in sides if side.run for each in side.run.hyperparameters.items()]
    names = list(dict.fromkeys(name for _, _, point in best for name in point))
    cells = [{"run": run, "batch size": size, **{name: point.get(name) for name in names}} for run, size, point in best]
    return (
        [Answer("points", "Best hyperparameters", (), (table_rows("By run and batch size", cells),))] if cells else []
    )


# --- figures ---


def _look(place: int) -> tuple[str, str, str]:
    """Colour, symbol and dash of the run at this place."""
    return _COLORS[place % len(_COLORS)], _SYMBOLS[place % len(_SYMBOLS)], _DASHES[place % len(_DASHES)]


def _plots(all_sides: Sequence[Side]) -> list[Plot]:
    """Figures of all runs; runs whose batch sizes count different things cannot share an axis."""
    parts: list[Plot] = []
    units = list(dict.fromkeys(side.unit for side in all_sides))
    for place, unit in enumerate(units):
        sides = [side for side in all_sides if side.unit == unit]
        bands = "" if len(sides) <= MOST_BANDS else f" With more than {MOST_BANDS} runs the bands are left out."
        of = f" Batch sizes in {unit}." if len(units) > 1 else ""
        curves = (
            "Measured steps to the target with the interval over their seeds, the fitted curves, and the bands that "
            f"hold each curve with 95 %. Click a run in the legend to hide it.{bands}{of}"
        )
        numbers = (
            "The three numbers with their intervals. Hollow and dotted: not identified; a triangle: no end on that "
            f"side.{of}"
        )
        drawn = (("curves", curves_plot(sides, unit), curves), ("numbers", numbers_plot(sides, unit), numbers))
        parts += [Plot(f"{name}-{place}", each, caption) for name, each, caption in drawn if each is not None]
    collapse = collapse_plot(all_sides)
    if collapse is not None:
        words = (
            "Every run in units of its own s_min and b_crit (runs whose b_crit is not identified, or whose examples "
            "rise again at small batch sizes, are left out). Where the hyperbola holds, all points lie on the line, "
            "whatever the run."
        )
        parts.insert(1, Plot("collapse", collapse, words))
    return parts


def curves_plot(sides: Sequence[Side], unit: str) -> draw.Figure | None:
    """Every run's studies and curve with its band, log-log; curves go as far as the run measured."""
    sizes = sorted({float(size) for side in sides for size in side.studies["batch_size"]})
    if not sizes:
        return None
    data, seen = list[draw.Trace](), list[float]()
    for place, side in enumerate(sides):
        color, symbol, dash = _look(place)
        quiet = {"legendgroup": side.location, "showlegend": False}
        if side.fit is not None and side.range is not None:
            fitted = side.fit.predict(np.geomspace(*side.range, _GRID))
            x, y, low, high = (fitted[name].tolist() for name in ("batch_size", "steps", "steps_low", "steps_high"))
            if len(sides) <= MOST_BANDS and not fitted["steps_low"].isna().any():
                red, green, blue = bytes.fromhex(color[1:])
                data.append(draw.band(x, low, high, f"rgba({red}, {green}, {blue}, 0.12)", **quiet))
            told = [{"run": side.label, "batch size": b, "steps on the curve": s} for b, s in zip(x, y, strict=True)]
            data.append(draw.line(x, y, told, color=color, width=2.2, dash=dash, **quiet))
        reached, missed = side.reached, side.studies[side.studies["steps"].isna()]
        if len(reached):
            ends = reached[["steps", "steps_low", "steps_high"]]
            steps = [interval_text(*row) for row in ends.itertuples(index=False)]
            top = reached["steps_high"].fillna(reached["max_steps"].where(reached["steps_low"].notna()))
            bars: dict[str, Any] = {"symbol": symbol, "low": reached["steps_low"], "high": top}
            data.append(_marks(side, reached, "steps", steps, color=color, **bars) | {"name": draw.label(side.label)})
        if len(missed):  # open triangles at how far they were trained
            steps = [f"more than {value_text(bound)}" for bound in missed["max_steps"]]
            data.append(_marks(side, missed, "max_steps", steps, color=color, symbol="triangle-up-open", size=13))
            data[-1]["marker"]["line"] = {"width": 2}
            data[-1]["name"] = f"{draw.label(side.label)}: not reached, more than this"
        seen += [*side.studies["steps"], *side.studies["steps_low"], *side.studies["steps_high"], *missed["max_steps"]]
    x_axis = draw.batch_axis(unit, sizes)
    return draw.figure(data, x_axis, draw.log_axis("steps to target", seen), height=540)


def _marks(side: Side, rows: pd.DataFrame, column: str, steps: Sequence[str], **style: Any) -> draw.Trace:
    sizes = [float(size) for size in rows["batch_size"]]
    told = [{"run": side.label, "batch size": b, "steps": s} for b, s in zip(sizes, steps, strict=True)]
    return draw.points(sizes, rows[column].tolist(), told, legendgroup=side.location, **style)


def collapse_plot(sides: Sequence[Side]) -> draw.Figure | None:
    """S / s_min against B / b_crit: all points lie on 1 + b_crit / B where the hyperbola holds."""
    data: list[draw.Trace] = []
    x_seen, y_seen = [0.1, 10.0], [1.0]
    for place, side in enumerate(sides):
        if side.fit is None or side.fit.trough is not None or not side.fit.identified["b_crit"]:
            continue
        color, symbol, _ = _look(place)
        sizes, steps = side.reached["batch_size"], side.reached["steps"]
        x, y = list(sizes / side.fit.b_crit), list(steps / side.fit.s_min)
        told = [
            {"run": side.label, "batch size": size, "steps": step, "B / b_crit": across, "S / s_min": up}
            for size, step, across, up in zip(sizes, steps, x, y, strict=True)
        ]
        data.append(draw.points(x, y, told, color=color, symbol=symbol) | {"name": draw.label(side.label)})
        x_seen += x
        y_seen += y
    if not data:
        return None
    grid = np.geomspace(min(x_seen) / 1.5, max(x_seen) * 1.5, _GRID)
    curve = draw.line(list(grid), list(1 + 1 / grid), color=draw.GREY, width=2, name="the hyperbola, 1 + b_crit / B")
    shapes = [draw.vertical(1.0, color=draw.GREY, width=1, dash="dot")]
    axes = draw.log_axis("batch size / b_crit", x_seen, pad=1.5), draw.log_axis("steps / s_min", y_seen)
    return draw.figure([curve, *data], *axes, shapes=shapes)


def numbers_plot(sides: Sequence[Side], unit: str) -> draw.Figure | None:
    """s_min, e_min and b_crit of every run, one below the other; hollow where not identified, an arrow where open."""
    fitted = [(place, side) for place, side in enumerate(sides) if side.fit is not None]
    if not fitted:
        return None
    data, axes = list[draw.Trace](), dict[str, Any]()
    units = {"s_min": "steps", "e_min": draw.label(unit), "b_crit": draw.label(unit)}
    height = len(NUMBERS) * (_FRAME + _ROW * len(fitted))
    for place, name in enumerate(NUMBERS):
        number = "" if place == 0 else str(place + 1)
        seen: list[float] = []
        for row, (of_run, side) in enumerate(fitted):
            estimate = side.estimates[name]
            seen += _ends(estimate)
            on = {"xaxis": f"x{number}", "yaxis": f"y{number}", "showlegend": False}
            data += [trace | on for trace in _dot(estimate, side.label, name, -row, of_run)]
        axis = draw.log_axis(f"{name} ({units[name]})", seen, pad=1.6, most=7)
        axes[f"xaxis{number}"] = {**axis, "anchor": f"y{number}", "automargin": False}
        top = 1 - place / len(NUMBERS)
        axes[f"yaxis{number}"] = {
            "domain": [top - _ROW * len(fitted) / height, top],
            "anchor": f"x{number}",
            "tickvals": [-row for row in range(len(fitted))],
            "ticktext": [draw.label(side.label) for _, side in fitted],
            "range": [-len(fitted) + 0.4, 0.6],
            "automargin": True,
            "gridcolor": draw.PALE,
            "zeroline": False,
            "linecolor": draw.GREY,
        }
    found = draw.figure(data, axes["xaxis"], axes["yaxis"], height=height)
    found["layout"] |= axes
    found["layout"]["margin"]["b"] = 0
    return found


def _ends(estimate: Estimate) -> list[float]:
    return [end for end in (estimate.value, estimate.low, estimate.high) if end is not None]


def _dot(estimate: Estimate, run: str, name: str, y: int, place: int) -> list[draw.Trace]:
    """The interval as a line, the estimate on it."""
    (color, symbol, _), known, hollow = _look(place), _ends(estimate), bool(estimate.why)
    text = draw.hover({"run": run, name: f"not identified: {estimate}" if hollow else str(estimate)})
    found: list[draw.Trace] = []
    if estimate.low is not None or estimate.high is not None:
        low = estimate.low if estimate.low is not None else min(known) / _OPEN
        high = estimate.high if estimate.high is not None else max(known) * _OPEN
        arrows = {"triangle-left": estimate.low, "triangle-right": estimate.high}
        symbols = [arrow if end is None else "line-ns" for arrow, end in arrows.items()]
        marker = {"symbol": symbols, "size": 9, "color": color, "line": {"color": color, "width": 2}}
        drawn = draw.line([low, high], [y, y], color=color, width=2, dash="dot" if hollow else "solid")
        found.append(
            drawn | {"mode": "lines+markers", "marker": marker, "hovertext": [text, text], "hoverinfo": "text"}
        )
    if estimate.value is not None:
        dot = draw.points([estimate.value], [y], color=color, symbol=f"{symbol}-open" if hollow else symbol, size=11)
        dot["marker"]["line"] = {"width": 2 if hollow else 0}
        found.append({**dot, "hovertext": [text]})
    return found
