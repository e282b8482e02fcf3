"""How many steps does the best setting of every batch size need, and how many examples is that?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis.curve.fit import HyperbolaFit
from bcrit.analysis.questions.fit import fit_lines
from bcrit.analysis.questions.recommend import choice_marks
from bcrit.analysis.recommendation.recommend import Recommendation
from bcrit.analysis.recommendation.words import listed
from bcrit.analysis.report.answer import Answer, Plot, Rows, Table, Text
from bcrit.analysis.report.figure import (
    ACCENT,
    BAND,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    Figure,
    Trace,
    figure,
    horizontal,
    label,
    line,
    log_axis,
    points,
    vertical,
)
from bcrit.analysis.run import Run
from bcrit.analysis.wording import interval_text, readable, value_text
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.space import hyperparameter

_GRID = 120  # points of a drawn curve


def ask(run: Run) -> Answer:
    """The steps of every study with the curve through them; on the terminal all that a newcomer needs of a run."""
    fit, found = run.fit, run.recommendation
    knee = ""
    if fit is not None and fit.lack_of_fit:
        knee = " The points bend away from the hyperbola; the dashed curve has a knee of its own sharpness."
    caption = (
        "While the points follow the dotted line, twice the batch means half the steps. Near b_crit they leave it, and "
        f"beyond it larger batches hardly save steps.{knee}"
    )
    plot = Plot("steps", steps_plot(run), caption if fit else "What was measured; there is no fit.")
    lines = [f"No curve: {run.no_fit}"] if fit is None else fit_lines(fit, str(run.experiment.target))
    advice: list[str | Text] = []
    if found is not None:
        advice = ["", *map(Text, (*found.sentences, *settings(found)))]
    said: tuple[str | Rows | Text, ...] = (_brief(run), *lines, *(f"  note: {note}" for note in run.notes), *advice)
    return Answer("steps", "Steps against batch size", (), (plot,), terminal=said)


def examples(run: Run) -> Answer | str:
    """The exchange of steps for examples."""
    drawn, unit = examples_plot(run), run.experiment.unit
    if drawn is None:
        return "no study reached the target"
    caption = (
        f"Each point is a batch size: few steps (fast) to the left, few {unit} (cheap) at the bottom. The curve nears "
        "both asymptotes and never meets them."
    )
    plot = Plot("examples", drawn, caption if run.fit else "Each point is a batch size; there is no fit.")
    return Answer("steps.examples", f"Steps against {unit}", (), (plot,))


def settings(found: Recommendation) -> tuple[str, ...]:
    """The hyperparameters of the choice that the first sentence names; nothing where it names none."""
    at = found.hyperparameters.get(found.advised or "")
    return () if at is None else (f"Hyperparameters there ({at.source}): {listed(at.values)}.",)


def _brief(run: Run) -> Rows:
    """One row a study: steps with their interval, examples, the best point, the edges it lies on.

    Hyperparameters that are the same everywhere come last.
    """
    at, unit = run.hyperparameters, run.experiment.unit
    names = list(dict.fromkeys(name for point in at.values() for name in point if name not in STEPS_OF))
    names.sort(key=lambda name: len({str(point.get(name)) for point in at.values()}) == 1)
    rows = []
    for row in run.studies.to_dict("records"):
        batch_size = int(row["batch_size"])
        point = at.get(float(batch_size), {})
        steps, taken = f"> {row['max_steps']:,} (not reached)" if row["max_steps"] else "no trial trained", "-"
        if math.isfinite(row["steps"]):
            steps, taken = readable(row["steps"]), readable(row["examples"])
            if not math.isnan(row["steps_low"]):
                high = readable(row["steps_high"]) if math.isfinite(row["steps_high"]) else "not reached"
                steps += f" ({readable(row['steps_low'])} to {high})"
        edges = run.last_edges(batch_size).to_dict("records")
        binding = [f"{hyperparameter(edge['dimension'])} {edge['side']}" for edge in edges if edge["kind"] == "box"]
        seeds = f"{row['n_reached']}/{row['n_seeds']}" if row["n_seeds"] else "search only"
        values = ("-" if point.get(name) is None else value_text(point[name]) for name in names)
        rows.append((f"{batch_size:,}", steps, seeds, taken, *values, "\n".join(binding) or "-"))
    head = ("batch size", "steps (interval)", "seeds", unit, *names, "edge")
    shown = Table(tuple(name.replace("_", " ") for name in head), tuple(rows))
    return Rows(f"{run.experiment.name}: steps to {run.experiment.target}", shown, spare=dict(enumerate(names, 4)))


def steps_plot(run: Run) -> Figure:
    """Studies, their intervals, the fitted curve with its band, both asymptotes and b_crit, log-log.

    Without a fit only the studies are drawn.
    """
    studies, fit = run.studies, run.fit
    sizes = [float(b) for b in studies["batch_size"]]
    data, shapes, notes = _studies(studies), list[Any](), list[Any]()
    seen = [*studies["steps"], *studies["steps_low"], *studies["steps_high"]]
    seen += list(studies.loc[studies["steps"].isna(), "max_steps"])
    x = log_axis(f"batch size ({label(run.experiment.unit)})", sizes, ticks=sizes, pad=1.5)
    if fit is not None:
        low, high = (10**end for end in x["range"])
        grid = np.geomspace(low, high, _GRID)
        data = [*_curves(fit, grid), *data]
        seen += [float(s) for s in fit.curve.steps(grid)] + [fit.s_min]
        shapes, notes = _critical(fit, low, high)
    return figure(data, x, log_axis("steps to target", seen), shapes=shapes, notes=notes, height=520)


def _studies(studies: pd.DataFrame) -> list[Trace]:
    """One trace for each kind of study: confirmed on fresh seeds, found by the search only, not reached."""
    reached, confirmed = studies["steps"].notna(), studies["source"] == "confirm"
    found = []
    for name, rows, hollow in (
        ("confirmed: median and interval over seeds", studies[reached & confirmed], {}),
        ("search only (its best trial: too good by luck)", studies[reached & ~confirmed], {"width": 2, "color": INK}),
    ):
        if len(rows):
            # An open upper end (a seed that did not reach) is drawn as far as it was trained; one run has no interval.
            open_end = rows["steps_high"].isna() & rows["steps_low"].notna()
            high = rows["steps_high"].mask(open_end, rows["max_steps"])
            trace = _marks(name, rows, rows["steps"], low=list(rows["steps_low"]), high=list(high))
            if hollow:
                trace["marker"] |= {"color": "#ffffff", "line": hollow}
            found.append(trace)
    if not reached.all():
        # The triangle points to where the true number lies.
        look = {"size": 13, "symbol": "triangle-up-open", "color": VERMILLION}
        name, rows = "not reached: more than this many steps", studies[~reached]
        found.append(_marks(name, rows, rows["max_steps"], **look))
        found[-1]["marker"]["line"] = {"width": 2}
    return found


def _marks(name: str, rows: pd.DataFrame, steps: pd.Series[Any], **look: Any) -> Trace:
    told = [
        {
            "batch size": row["batch_size"],
            "steps": interval_text(row["steps"], row["steps_low"], row["steps_high"]),
            "examples": row["examples"],
            "seeds that reached": f"{row['n_reached']} of {row['n_seeds']}",
            "trained up to": f"{value_text(row['max_steps'])} steps",
        }
        for row in rows.to_dict("records")
    ]
    return points(list(rows["batch_size"]), list(steps), told, **look) | {"name": name}


def _curves(fit: HyperbolaFit, grid: npt.NDArray[np.float64]) -> list[Trace]:
    along, x = fit.predict(grid), list(grid)
    found: list[Trace] = []
    if along["steps_low"].notna().all():
        name = f"{100 * fit.level:g} % band of the curve"
        filled: dict[str, Any] = {"fill": "tonexty", "fillcolor": BAND, "name": name}
        found = [line(x, list(along["steps_low"]), width=0, showlegend=False)]
        found.append(line(x, list(along["steps_high"]), width=0, **filled))
    if fit.e_min > 0:
        name = "perfect scaling: e_min / B"
        found.append(line(x, list(fit.e_min / grid), color=GREY, dash="dot", name=name))
    if fit.s_min > 0:
        name = f"least steps: s_min = {value_text(fit.s_min)}"
        found.append(line(x, [fit.s_min] * len(x), color=GREY, dash="dashdot", name=name))
    if fit.lack_of_fit and fit.p_norm is not None:
        name = f"curve with a free knee (p = {fit.p_norm.p:.2g})"
        found.append(line(x, list(fit.p_norm.steps(grid)), color=ORANGE, width=2.5, dash="dash", name=name))
    told = [{"batch size": b, "steps on the curve": s} for b, s in zip(grid, along["steps"], strict=True)]
    name = "fitted hyperbola: s_min + e_min / B"
    return [*found, line(x, list(along["steps"]), told, color=ACCENT, width=2.5, name=name)]


def _critical(fit: HyperbolaFit, low: float, high: float) -> tuple[list[Any], list[Any]]:
    """The vertical line at b_crit, the area of its interval (open ends reach the frame), and their words above."""
    left, right = max(fit.b_crit_low, low), min(fit.b_crit_high, high)
    known, shapes = fit.identified["b_crit"], []
    if low < left < right or left < right < high:  # an area over everything would say nothing
        area = {"type": "rect", "xref": "x", "yref": "paper", "x0": left, "x1": right, "y0": 0, "y1": 1}
        shapes.append({**area, "layer": "below", "fillcolor": "rgba(213, 94, 0, 0.10)", "line": {"width": 0}})
    if low < fit.b_crit < high:
        shapes.append(vertical(fit.b_crit, color=VERMILLION, width=2 if known else 1, dash="dash" if known else "dot"))
    words = f"b_crit = {interval_text(fit.b_crit, fit.b_crit_low, fit.b_crit_high)}"
    if not known:
        words = f"b_crit not identified: {interval_text(None, fit.b_crit_low, fit.b_crit_high)}"
    middle = min(max(fit.b_crit, low), high)
    share = math.log(middle / low) / math.log(high / low)
    note = {"x": math.log10(middle), "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False, "text": words}
    anchor = "left" if share < 0.3 else "right" if share > 0.7 else "center"
    return shapes, [{**note, "xanchor": anchor, "font": {"color": VERMILLION, "size": 13}}]


def examples_plot(run: Run) -> Figure | None:
    """The studies that reached, the hyperbola (S / s_min - 1) (E / e_min - 1) = 1, its asymptotes and the choices.

    None where no study reached the target.
    """
    studies, fit, unit = run.studies[run.studies["steps"].notna()], run.fit, label(run.experiment.unit)
    if studies.empty:
        return None
    sizes, steps, taken = (list(studies[name]) for name in ("batch_size", "steps", "examples"))
    seen_steps, seen_examples = [*steps], [*taken]
    data, shapes = list[Trace](), list[Any]()
    if fit is not None:
        grid = np.geomspace(min(sizes) / 1.5, max(sizes) * 1.5, _GRID)
        on = list(grid), list(fit.curve.steps(grid)), list(fit.curve.examples(grid))
        told = [{"batch size": b, "steps": s, unit: e} for b, s, e in zip(*on, strict=True)]
        data.append(line(on[1], on[2], told, color=ACCENT, width=2.5, name="fitted hyperbola"))
        # A trace of no points is how a shape gets into the legend.
        asymptote = {"color": GREY, "width": 1.5, "dash": "dashdot"}
        shapes += [vertical(fit.s_min, **asymptote)] if fit.s_min > 0 else []
        shapes += [horizontal(fit.e_min, **asymptote)] if fit.e_min > 0 else []
        words = f"asymptotes: s_min = {value_text(fit.s_min)}, e_min = {value_text(fit.e_min)}"
        data.append({"name": words, "mode": "lines", "x": [None], "y": [None], "line": asymptote})
        seen_steps, seen_examples = [*steps, fit.s_min, *on[1]], [*taken, fit.e_min, *on[2]]
    told = [{"batch size": b, "steps": s, unit: e} for b, s, e in zip(sizes, steps, taken, strict=True)]
    # Labels stand on the side of their point that is away from the curve.
    below = [fit is not None and s < fit.curve.steps(b) for b, s in zip(sizes, steps, strict=True)]
    sides = ["bottom left" if at else "top right" for at in below]
    look = {"mode": "markers+text", "text": [value_text(b) for b in sizes], "textposition": sides, "cliponaxis": False}
    data.append(points(steps, taken, told) | look | {"name": "measured, labelled with the batch size"})
    if run.recommendation is not None:
        data += choice_marks(run.recommendation, "steps", "examples")
    x_axis, y_axis = log_axis("steps to target", seen_steps), log_axis(f"{unit} to target", seen_examples)
    return figure(data, x_axis, y_axis, shapes=shapes)
