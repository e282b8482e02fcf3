"""How many steps does the best setting of every batch size need, how many examples is that, and how did it train?"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bcrit.analysis import report as draw
from bcrit.analysis.curve import HyperbolaFit
from bcrit.analysis.curve.other_curves import U_FORMULA
from bcrit.analysis.numbers import interval_text, readable, value_text
from bcrit.analysis.questions.fit import fit_lines
from bcrit.analysis.questions.recommend import choice_marks
from bcrit.analysis.recommendation import Recommendation
from bcrit.analysis.recommendation.choices import place_text
from bcrit.analysis.report import Answer, Plot, Rows, Table, Text
from bcrit.analysis.run import Run
from bcrit.search_spaces.presets import STEPS_OF

_GRID = 120  # points of a fitted curve that is drawn
_POINTS = 300  # of one learning curve
_ALL_POINTS = 30_000  # of all learning curves together: about 0.7 MB of page
_ALL_CURVES = 150  # more lines cannot be told apart; chosen, not studied


def ask(run: Run) -> Answer:
    """The steps of every study with the curve through them; on the terminal all that a newcomer needs of a run."""
    fit, found = run.fit, run.recommendation
    knee = ""
    if fit is not None and fit.trough is not None:
        knee = f" Below b_opt they lie above it: smaller batch sizes need more {run.experiment.unit} again."
    elif fit is not None and fit.lack_of_fit:
        knee = " The points bend away from the hyperbola; the dashed curve has a knee of its own sharpness."
    caption = (
        "While the points follow the dotted line, twice the batch means half the steps. Near b_crit they leave it, and "
        f"beyond it larger batches hardly save steps.{knee}"
    )
    plot = Plot("steps", steps_plot(run), caption if fit else "What was measured; there is no fit.")
    lines = [f"No curve: {run.no_fit}"] if fit is None else fit_lines(fit, str(run.experiment.target))
    advice = [] if found is None else [Text(words) for words in (*found.sentences, *settings(found))]
    nearest, unreached = run.answer("unreached"), tuple[str | Rows, ...]()
    if isinstance(nearest, Answer):
        unreached = ("", *nearest.brief, *nearest.sentences)
    said: tuple[str | Rows | Text, ...] = (
        *(Text(words) for words in run.how_far),
        _brief(run),
        *lines,
        *unreached,
        *(f"  note: {note}" for note in run.notes),
        *([""] if advice else []),
        *advice,
    )
    return Answer("steps", "Steps against batch size", (), (plot,), terminal=said)


def settings(found: Recommendation) -> tuple[str, ...]:
    """The hyperparameters of the choice that the first sentence names; nothing where it names none."""
    at = found.hyperparameters.get(found.advised or "")
    return () if at is None else (f"Hyperparameters at {place_text(at.batch_size)} ({at.source}): {at.listed}.",)


def steps_text(row: Mapping[Any, Any]) -> str:
    """Steps of a study, and their interval where there is one: its upper end open where some seeds did not reach."""
    if math.isnan(row["steps_low"]):
        return readable(row["steps"])
    high = readable(row["steps_high"]) if math.isfinite(row["steps_high"]) else "not reached"
    return f"{readable(row['steps'])} ({readable(row['steps_low'])} to {high})"


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
        if batch_size in run.early:
            steps = "not reached yet"
        if math.isfinite(row["steps"]):
            steps, taken = steps_text(row), readable(row["examples"])
            if math.isnan(row["steps_low"]) and run.progress is not None and batch_size in run.progress.searching:
                steps += " so far"
        seeds = f"{row['n_reached']}/{row['n_seeds']}" if row["n_seeds"] else "search only"
        values = ("-" if point.get(name) is None else value_text(point[name]) for name in names)
        rows.append(
            (
                f"{batch_size:,}",
                steps,
                seeds,
                taken,
                *values,
                run.at_edge.get(float(batch_size), "-").replace(", ", "\n"),
            )
        )
    head = ("batch size", "steps (interval)", "seeds", unit, *names, "edge")
    shown = Table(tuple(name.replace("_", " ") for name in head), tuple(rows))
    return Rows(f"{run.experiment.name}: steps to {run.experiment.target}", shown, spare=dict(enumerate(names, 4)))


def steps_plot(run: Run) -> draw.Figure:
    """Studies, their intervals, the fitted curve with its band, both asymptotes and b_crit, log-log.

    Without a fit only the studies are drawn.
    """
    open_ = run.studies["batch_size"].isin(run.early) & run.studies["steps"].isna()  # no bound yet
    studies, fit = run.studies[~open_], run.fit
    sizes = [float(b) for b in studies["batch_size"]]
    data, shapes, notes = _studies(studies, run.hyperparameters), list[Any](), list[Any]()
    seen = [*studies["steps"], *studies["steps_low"], *studies["steps_high"]]
    seen += list(studies.loc[studies["steps"].isna(), "max_steps"])
    x = draw.batch_axis(run.experiment.unit, sizes)
    if fit is not None:
        low, high = (10**end for end in x["range"])
        grid = np.geomspace(low, high, _GRID)
        data = [*_curves(fit, grid), *data]
        seen += [float(s) for s in fit.curve.steps(grid)] + [fit.s_min]
        shapes, notes = _critical(fit, low, high)
    return draw.figure(data, x, draw.log_axis("steps to target", seen), shapes=shapes, notes=notes, height=520)


def _studies(studies: pd.DataFrame, best: Mapping[float, Mapping[str, Any]]) -> list[draw.Trace]:
    """One trace for each kind of study: confirmed on fresh seeds, found by the search only, not reached."""
    reached, confirmed = studies["steps"].notna(), studies["source"] == "confirm"
    # An open upper end (a seed that did not reach) is drawn as far as it was trained; one run has no interval.
    open_end = studies["steps_high"].isna() & studies["steps_low"].notna()
    shown = studies.assign(steps_high=studies["steps_high"].mask(open_end, studies["max_steps"]))
    hollow = {"color": "#ffffff", "line": {"width": 2, "color": draw.INK}}
    # The triangle points to where the true number lies.
    up = {"size": 13, "symbol": "triangle-up-open", "color": draw.VERMILLION, "line": {"width": 2}}
    found = []
    for name, which, column, marker in (
        ("confirmed: median and interval over seeds", reached & confirmed, "steps", {}),
        ("search only (its best trial: too good by luck)", reached & ~confirmed, "steps", hollow),
        ("not reached: more than this many steps", ~reached, "max_steps", up),
    ):
        rows = shown[which]
        told = [
            {
                "batch size": row["batch_size"],
                "steps": interval_text(row["steps"], row["steps_low"], row["steps_high"]),
                "examples": row["examples"],
                "seeds that reached": f"{row['n_reached']} of {row['n_seeds']}",
                "trained up to": f"{value_text(row['max_steps'])} steps",
                **best.get(float(row["batch_size"]), {}),
            }
            for row in studies[which].to_dict("records")
        ]
        ends = {"low": list(rows["steps_low"]), "high": list(rows["steps_high"])}
        bars: dict[str, Any] = ends if column == "steps" else {}
        if len(rows):
            found.append(draw.points(list(rows["batch_size"]), list(rows[column]), told, **bars) | {"name": name})
            found[-1]["marker"] |= marker
    return found


def _curves(fit: HyperbolaFit, grid: npt.NDArray[np.float64]) -> list[draw.Trace]:
    along, x = fit.predict(grid), list(grid)
    found: list[draw.Trace] = []
    if along["steps_low"].notna().all():
        filled: dict[str, Any] = {
            "fill": "tonexty",
            "fillcolor": draw.BAND,
            "name": f"{100 * fit.level:g} % band of the curve",
        }
        found.append(draw.line(x, list(along["steps_low"]), width=0, showlegend=False))
        found.append(draw.line(x, list(along["steps_high"]), width=0, **filled))
    if fit.e_min > 0:
        found.append(
            draw.line(x, list(fit.e_min / grid), color=draw.GREY, dash="dot", name="perfect scaling: e_min / B")
        )
    if fit.s_min > 0:
        name = f"least steps: s_min = {value_text(fit.s_min)}"
        found.append(draw.line(x, [fit.s_min] * len(x), color=draw.GREY, dash="dashdot", name=name))
    if fit.lack_of_fit and fit.p_norm is not None:
        name = f"curve with a free knee (p = {fit.p_norm.p:.2g})"
        found.append(draw.line(x, list(fit.p_norm.steps(grid)), color=draw.ORANGE, width=2.5, dash="dash", name=name))
    told = [{"batch size": b, "steps on the curve": s} for b, s in zip(grid, along["steps"], strict=True)]
    name = "fitted hyperbola: s_min + e_min / B" if fit.trough is None else f"fitted U: {U_FORMULA}"
    return [*found, draw.line(x, list(along["steps"]), told, color=draw.ACCENT, width=2.5, name=name)]


def _critical(fit: HyperbolaFit, low: float, high: float) -> tuple[list[Any], list[Any]]:
    """Vertical lines at b_crit and b_opt, the areas of their intervals (open ends reach the frame), and their words."""
    marks = {"b_crit": (fit.b_crit, fit.b_crit_low, fit.b_crit_high, fit.identified["b_crit"])}
    if fit.trough is not None:
        low_end, high_end = fit.b_opt_low or 0.0, fit.b_opt_high or math.inf
        marks["b_opt"] = (fit.trough.curve.b_opt, low_end, high_end, fit.b_opt is not None)
    shapes, notes = list[Any](), list[Any]()
    for name, (place, least, most, known) in marks.items():
        left, right = max(least, low), min(most, high)
        if low < left < right or left < right < high:  # an area over everything would say nothing
            shapes.append(draw.area(left, right, "rgba(213, 94, 0, 0.10)"))
        if low < place < high:
            look = {"width": 2, "dash": "dash"} if known else {"width": 1, "dash": "dot"}
            shapes.append(draw.vertical(place, color=draw.VERMILLION, **look))
        between = interval_text(place if known else None, least, most)
        middle = min(max(place, low), high)
        share = math.log(middle / low) / math.log(high / low)
        note = {"x": math.log10(middle), "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
        note |= {"text": f"{name} {'=' if known else 'not identified:'} {between}", **({"yshift": 14} if notes else {})}
        anchor = "left" if share < 0.3 else "right" if share > 0.7 else "center"
        notes.append({**note, "xanchor": anchor, "font": {"color": draw.VERMILLION, "size": 13}})
    return shapes, notes


# --- steps against examples ---


def examples(run: Run) -> Answer | str:
    """The exchange of steps for examples."""
    drawn, unit = examples_plot(run), run.experiment.unit
    if drawn is None:
        return "no study reached the target"
    along = "There is no fit."
    if run.fit is not None:
        along = "The curve nears both asymptotes and never meets them."
        if run.fit.trough is not None:
            along = (
                f"The curve has its fewest {unit} at b_opt; smaller batch sizes, to the right of it, need more of both."
            )
    caption = f"Each point is a batch size: few steps (fast) to the left, few {unit} (cheap) at the bottom. {along}"
    plot = Plot("examples", drawn, caption)
    return Answer("steps.examples", f"Steps against {unit}", (), (plot,))


def examples_plot(run: Run) -> draw.Figure | None:
    """The studies that reached, the hyperbola (S / s_min - 1) (E / e_min - 1) = 1, its asymptotes and the choices.

    None where no study reached the target.
    """
    studies, fit, unit = run.studies[run.studies["steps"].notna()], run.fit, draw.label(run.experiment.unit)
    if studies.empty:
        return None
    sizes, steps, taken = (list(studies[name]) for name in ("batch_size", "steps", "examples"))
    seen_steps, seen_examples = [*steps], [*taken]
    data, shapes = list[draw.Trace](), list[Any]()
    if fit is not None:
        grid = np.geomspace(min(sizes) / 1.5, max(sizes) * 1.5, _GRID)
        on = list(grid), list(fit.curve.steps(grid)), list(fit.curve.examples(grid))
        told = [{"batch size": b, "steps": s, unit: e} for b, s, e in zip(*on, strict=True)]
        name = "fitted hyperbola" if fit.trough is None else "fitted U"
        data.append(draw.line(on[1], on[2], told, color=draw.ACCENT, width=2.5, name=name))
        # A trace of no points is how a shape gets into the legend.
        asymptote = {"color": draw.GREY, "width": 1.5, "dash": "dashdot"}
        shapes += [draw.vertical(fit.s_min, **asymptote)] if fit.s_min > 0 else []
        shapes += [draw.horizontal(fit.e_min, **asymptote)] if fit.e_min > 0 else []
        lines = "asymptotes" if fit.trough is None else "floors"
        words = f"{lines}: s_min = {value_text(fit.s_min)}, e_min = {value_text(fit.e_min)}"
        data.append({"name": words, "mode": "lines", "x": [None], "y": [None], "line": asymptote})
        seen_steps, seen_examples = [*steps, fit.s_min, *on[1]], [*taken, fit.e_min, *on[2]]
    told = [{"batch size": b, "steps": s, unit: e} for b, s, e in zip(sizes, steps, taken, strict=True)]
    # Labels stand on the side of their point that is away from the curve.
    below = [fit is not None and s < fit.curve.steps(b) for b, s in zip(sizes, steps, strict=True)]
    sides = ["bottom left" if at else "top right" for at in below]
    look = {"mode": "markers+text", "text": [value_text(b) for b in sizes], "textposition": sides, "cliponaxis": False}
    data.append(draw.points(steps, taken, told) | look | {"name": "measured, labelled with the batch size"})
    if run.recommendation is not None:
        data += choice_marks(run.recommendation, "steps", "examples")
    x_axis, y_axis = draw.log_axis("steps to target", seen_steps), draw.log_axis(f"{unit} to target", seen_examples)
    return draw.figure(data, x_axis, y_axis, shapes=shapes)


# --- learning curves ---


def curves(run: Run) -> Answer | str:
    """The target's metric against the step, one line for each confirming run, or the search's best trial."""
    if run.unmeasured is not None:
        return run.unmeasured
    drawn = curves_plot(run, run.measurements(drawn_runs(run)))
    if drawn is None:
        return "no run that counts has a measurement of the target's metric"
    caption = (
        "The runs behind each number: the point of every study, on fresh seeds where it was confirmed. Click a batch "
        "size in the legend to hide it."
    )
    return Answer("steps.curves", "Learning curves", (), (Plot("curves", drawn, caption),))


def curves_plot(run: Run, measurements: pa.Table) -> draw.Figure | None:
    """The curves in a measurements table; None where no run that counts has one."""
    target = run.experiment.target
    runs, every = drawn_runs(run), sum(len(trials) for trials in _trials_behind(run).values())
    frame = measurements.filter(pc.is_in(measurements["trial_id"], pa.array(list(runs), pa.string()))).to_pandas()
    frame = frame[np.isfinite(frame[target.metric].astype(float)) & (frame["step"] > 0)].sort_values("step")
    if frame.empty:
        return None
    grouped = frame.groupby("trial_id", sort=True)
    most = max(2, min(_POINTS, _ALL_POINTS // len(grouped)))
    colors, data, in_legend = draw.in_turn(run.studies["batch_size"]), list[draw.Trace](), set[int]()
    for trial_id, curve in sorted(grouped, key=lambda group: runs[str(group[0])]):
        batch_size = runs[str(trial_id)]
        if len(curve) > most:  # evenly spread in log step, first and last among them
            step = np.log(curve["step"].to_numpy(dtype=float))
            curve = curve.iloc[np.unique(np.searchsorted(step, np.linspace(step[0], step[-1], most)))]
        values = [float(f"{value:.4g}") for value in curve[target.metric]]
        look: dict[str, Any] = {"hoverinfo": "x+y+name", "opacity": 0.75, "legendgroup": str(batch_size)}
        look |= {"name": f"batch size {value_text(batch_size)}", "showlegend": batch_size not in in_legend}
        data.append(draw.line(list(curve["step"]), values, color=colors[batch_size], width=1.3) | look)
        in_legend.add(batch_size)
    words = f"dashed: target {draw.label(target)}"
    if len(runs) < every:
        words = f"{len(runs)} of {every:,} runs drawn; {words}"
    if (grouped.size() > most).any():
        words = f"at most {most} points of a curve drawn; {words}"
    corner = {"xref": "paper", "x": 1, "y": 1, "yref": "paper", "xanchor": "right", "yanchor": "bottom"}
    x = draw.log_axis("step", frame["step"], pad=1.05)
    y = draw.value_axis(draw.label(target.metric), [*frame[target.metric], target.threshold], pad=1.05)
    shape = draw.horizontal(target.threshold, color=draw.INK, width=1.5, dash="dash")
    return draw.figure(data, x, y, shapes=[shape], notes=[{**corner, "showarrow": False, "text": words}])


def drawn_runs(run: Run) -> dict[str, int]:
    """The trials whose curves are drawn, each with its batch size: those that made the numbers.

    Where they are very many, the first ones of every study.
    """
    found = _trials_behind(run)
    each = max(1, _ALL_CURVES // max(1, len(found)))
    return {trial: batch_size for batch_size, trials in found.items() for trial in trials[:each]}


def _trials_behind(run: Run) -> dict[int, list[str]]:
    """The trials that made a study's number, by batch size."""
    trials, found = run.trials, {}
    for row in run.studies.to_dict("records"):
        confirm = trials["trial_id"][trials["repeats"] == row["best_trial"]] if row["source"] == "confirm" else []
        own = [row["best_trial"]] if pd.notna(row["best_trial"]) else []
        found[int(row["batch_size"])] = [str(trial) for trial in (list(confirm) or own)]
    return found
