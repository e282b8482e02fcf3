"""How much of each search space does nearly as well as the best, and which hyperparameters matter?"""

from typing import Any

import numpy as np

from bcrit.analysis import report as draw
from bcrit.analysis.numbers import value_text
from bcrit.analysis.optimum import words
from bcrit.analysis.optimum.coordinates import EFFECTIVE, Coordinate, values_of
from bcrit.analysis.optimum.near_optimal import WITHIN, evenly
from bcrit.analysis.optimum.sensitivity import Profile, Sensitivity
from bcrit.analysis.questions.optimum import Within, near
from bcrit.analysis.report import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.run import Run

_MOST_PROFILES = 4  # hyperparameters whose profiles are drawn; the JSON has all
_MOST_MARKS = 300  # near-optimal points of one study that are drawn, evenly chosen


def ask(run: Run, within: Within = WITHIN) -> Answer | str:
    """Say how much of each search space does nearly as well as the best, and which hyperparameters matter.

    Exit code 1 when no study reached the target.
    """
    run = near(run, within)
    found, title = run.sensitivity, "How precisely must it be tuned?"
    facts = {"run": run.location, **found.to_json()}
    if not found.reached:
        return Answer("sensitivity", title, found.sentences, (), facts, yes=False, on_page=False)
    parts: list[Plot | Rows] = []
    if any(study.share.value for study in found.reached):
        caption = (
            f"Share of each study's search space that costs at most {100 * found.sets.margin:.0f} % more steps than "
            "its best point, with 95 % intervals. Trials that were cut off early may be near-optimal and widen them; "
            "hollow where the interval spans half of the space or more."
        )
        parts.append(Plot("sensitivity-share", _share_plot(found, run.experiment.unit), caption))
    for number, name in enumerate([p.name for p in found.reached[0].profiles][:_MOST_PROFILES]):
        caption = (
            f"Fewest steps that any trial needed with {words(name)} in each tenth of its range, relative to the best "
            "of its study, one line a batch size. Dotted: the limit of near-optimal. Gaps: no trial there reached the "
            "target."
        )
        parts.append(Plot(f"sensitivity-profile-{number}", _profile_plot(found, name), caption))
    if any(study.found.axes.effective for study in found.reached):
        caption = (
            "The near-optimal points of all studies in the plane of lr / (1 - momentum) and 1 - momentum, coloured by "
            "batch size: where the good region lies and how it moves (Shallue et al. 2018, figure 9)."
        )
        parts.append(Plot("sensitivity-plane", _plane_plot(found), caption))
    parts.append(Rows("Does it matter? Over all studies", _verdict_table(found)))
    parts.append(Rows("Share of the search space that is near-optimal", _share_table(found), folded=True, brief=True))
    parts.append(Rows("Importances: share of the variation in steps", _importance_table(found), folded=True))
    some = bool(found.verdicts)
    return Answer("sensitivity", title, found.sentences, tuple(parts), facts, on_page=some)


def _share_plot(found: Sensitivity, unit: str) -> draw.Figure:
    studies = [study for study in found.reached if study.share.value]
    sizes = [float(study.batch_size) for study in studies]
    shares = [study.share.times(100) for study in studies]
    y = [share.value or 0.0 for share in shares]
    hovers = [
        {
            "batch size": study.batch_size,
            "near-optimal share": f"{value_text(share.value)} % ({share.interval(value_text)} %)",
            "near-optimal, worse, not known": ", ".join(map(str, study.found.counts)),
        }
        for study, share in zip(studies, shares, strict=True)
    ]
    # On a logarithmic axis a bar cannot reach down to 0.
    low = [max(share.low or 0.0, at / 50) for share, at in zip(shares, y, strict=True)]
    marks = draw.points(sizes, y, hovers, low=low, high=[share.high or 0.0 for share in shares])
    colors = [draw.INK if study.known else "#ffffff" for study in studies]
    marks["marker"] = {"size": 9, "color": colors, "line": {"color": draw.INK, "width": 2}}
    y_axis = draw.log_axis("near-optimal share of the space (%)", [min(y) / 3, 100.0], pad=1.1)
    return draw.figure([marks], draw.batch_axis(unit, sizes), y_axis, height=380)


def _profile_plot(found: Sensitivity, name: str) -> draw.Figure:
    colors = draw.in_turn(study.batch_size for study in found.reached)
    data, seen, ratios = list[draw.Trace](), list[float](), [1.0]
    coordinate = [c for study in found.reached for c in study.found.axes.coordinates if c.name == name][-1]
    for study in found.reached:
        mine = next((p for p in study.profiles if p.name == name), None)
        if mine is None or not np.isfinite(mine.ratio).any():
            continue
        x, y = _middles(mine, coordinate), mine.ratio.tolist()
        hovers = [
            {
                "batch size": study.batch_size,
                name: f"{value_text(float(low))} to {value_text(float(high))}",
                "fewest steps": f"{value_text(ratio)} × the best",
                "trials": f"{reached} of {n} reached the target",
            }
            for low, high, ratio, n, reached in zip(mine.low, mine.high, y, mine.n, mine.n_reached, strict=True)
        ]
        more = {"name": f"{study.batch_size:,}", "mode": "lines+markers"}
        data.append(draw.line(x, y, hovers, color=colors[study.batch_size], width=1.8) | more)
        seen += x
        ratios += [ratio for ratio in y if np.isfinite(ratio)]
    shown = draw.label(f"1 − {name}" if coordinate.scale == "reverse_log" else words(name))
    title = "lr / (1 − momentum)" if name == EFFECTIVE else shown
    axis = draw.linear_axis(title) if coordinate.scale == "linear" else draw.log_axis(title, seen, pad=1.4)
    limit = draw.horizontal(1 + found.sets.margin, color=draw.GREY, width=1.2, dash="dot")
    return draw.figure(data, axis, draw.log_axis("fewest steps / best", ratios, pad=1.15), shapes=[limit], height=360)


def _middles(mine: Profile, coordinate: Coordinate) -> list[float]:
    scaled = (coordinate.scaled(mine.low) + coordinate.scaled(mine.high)) / 2
    values = [coordinate.unscaled(middle) for middle in scaled]
    return [1 - value for value in values] if coordinate.scale == "reverse_log" else values


def _plane_plot(found: Sensitivity) -> draw.Figure:
    data, across, up = list[draw.Trace](), list[float](), list[float]()
    colors = draw.in_turn(study.batch_size for study in found.reached)
    for study in found.reached:
        inside = evenly(np.flatnonzero(study.found.inside), _MOST_MARKS)
        rows, steps = study.found.points.rows.iloc[inside], study.found.points.steps[inside].tolist()
        x, y = values_of(rows, EFFECTIVE).tolist(), (1 - values_of(rows, "momentum")).tolist()
        hovers = [
            {"batch size": study.batch_size, "lr / (1 - momentum)": a, "1 - momentum": b, "steps": s}
            for a, b, s in zip(x, y, steps, strict=True)
        ]
        marks = draw.points(x, y, hovers, name=f"{study.batch_size:,}")
        marks["marker"] = {"size": 9, "color": colors[study.batch_size], "line": {"width": 1, "color": "#ffffff"}}
        data.append(marks)
        across, up = across + x, up + y
    x_axis = draw.log_axis("lr / (1 − momentum)", across, pad=1.5)
    return draw.figure(data, x_axis, draw.log_axis("1 − momentum", up, pad=1.5), height=400)


def _verdict_table(found: Sensitivity) -> Table:
    rows = []
    for name, verdict in found.verdicts.items():
        kinds = [study.verdicts[name].kind for study in found.reached if name in study.verdicts]
        rows.append(
            {
                "hyperparameter": name,
                "over all studies": verdict.kind,
                "p": verdict.p_value,
                "near-optimal points": verdict.n,
                "share of the box they span (median)": f"{100 * verdict.span:.0f} %",
                **{f"studies: {kind}": kinds.count(kind) for kind in ("sensitive", "insensitive", "not known")},
            }
        )
    return table_of(rows)


def _share_table(found: Sensitivity) -> Table:
    rows: list[dict[str, Any]] = []
    for study in found.reached:
        share = study.share
        rows.append(
            {
                "batch size": study.batch_size,
                "share": None if share.value is None else _percent(share.value),
                "95 % interval": share.interval(_percent),
                **dict(zip(("near-optimal", "worse", "not known"), study.found.counts, strict=True)),
                "set aside": study.found.points.n_set_aside,
            }
        )
    return table_of(rows)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _importance_table(found: Sensitivity) -> Table:
    names = list(dict.fromkeys(name for study in found.reached for name in study.importances.by_name))
    rows: list[dict[str, Any]] = []
    for study in found.reached:
        own = study.importances
        cells = {name: own.by_name[name].text("{:.2f}".format) if name in own.by_name else None for name in names}
        note = f"left out, as not every trial has them: {', '.join(own.left_out)}" if own.left_out else None
        rows.append({"batch size": study.batch_size, **cells, "points": own.n, "note": own.why_not or note})
    return table_of(rows)
