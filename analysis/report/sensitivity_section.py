"""The report's section on sensitivity: how much of the space does nearly as well, what matters, how that moves."""

from __future__ import annotations

from typing import Any

import numpy as np

from bcrit.analysis.optimum.coordinates import EFFECTIVE, values_of
from bcrit.analysis.optimum.sentences import words
from bcrit.analysis.report.answer import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.report.figure import (
    GREY,
    INK,
    Figure,
    Trace,
    figure,
    horizontal,
    hover,
    label,
    linear_axis,
    log_axis,
    viridis,
)
from bcrit.analysis.run import Run
from bcrit.analysis.sensitivity.profiles import Profile
from bcrit.analysis.sensitivity.sensitivity import Sensitivity, StudySensitivity
from bcrit.analysis.wording import value_text

_MOST_PROFILES = 4  # hyperparameters whose profiles are drawn; the JSON has all
_MOST_MARKS = 300  # near-optimal points of one study that are drawn, evenly chosen


def sensitivity_section(analysis: Run) -> Answer | None:
    """What the trials say of the sensitivity to hyperparameters.

    Args:
        analysis: of the run.

    Returns:
        The section; None where no study reached the target or nothing was searched.
    """
    found = analysis.sensitivity
    if not found.reached or not found.verdicts:
        return None
    unit = label(analysis.experiment.unit)
    parts: list[Plot | Rows] = []
    if any(study.share.value for study in found.reached):
        parts.append(Plot("sensitivity-share", _share_plot(found, unit), _share_caption(found)))
    names = [p.name for p in found.reached[0].profiles][:_MOST_PROFILES]
    for number, name in enumerate(names):
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
    parts.append(Rows("Share of the search space that is near-optimal", _share_table(found), folded=True))
    parts.append(Rows("Importances: share of the variation in steps", _importance_table(found), folded=True))
    return Answer("sensitivity", "How precisely must it be tuned?", found.sentences, tuple(parts))


def _share_caption(found: Sensitivity) -> str:
    return (
        f"Share of each study's search space that costs at most {100 * found.margin:.0f} % more steps than its best "
        "point, with 95 % intervals. Trials that were cut off early may be near-optimal and widen them; hollow where "
        "the interval spans half of the space or more."
    )


def _share_plot(found: Sensitivity, unit: str) -> Figure:
    studies = [study for study in found.reached if study.share.value]
    sizes = [float(study.batch_size) for study in studies]
    shares = [100 * (study.share.value or 0.0) for study in studies]
    bars = {
        "type": "data",
        "array": [100 * s.share.high - y for s, y in zip(studies, shares, strict=True)],
        "arrayminus": [y - max(100 * s.share.low, y / 50) for s, y in zip(studies, shares, strict=True)],
        "thickness": 1.5,
        "width": 4,
        "color": INK,
    }
    texts = [
        hover(
            {
                "batch size": s.batch_size,
                "near-optimal share": f"{value_text(y)} % ({value_text(100 * s.share.low)} to "
                f"{value_text(100 * s.share.high)} %)",
                "near-optimal, worse, not known": f"{s.share.n_inside}, {s.share.n_worse}, {s.share.n_unknown}",
            }
        )
        for s, y in zip(studies, shares, strict=True)
    ]
    colors = [INK if study.share.known else "#ffffff" for study in studies]
    marker = {"size": 9, "color": colors, "line": {"color": INK, "width": 2}}
    data = [{"mode": "markers", "x": sizes, "y": shares, "error_y": bars, "hovertext": texts, "marker": marker}]
    y = log_axis("near-optimal share of the space (%)", [min(shares) / 3, 100.0], pad=1.1)
    return figure(data, log_axis(f"batch size ({unit})", sizes, ticks=sizes, pad=1.5), y, height=380)


def _colors(found: Sensitivity) -> dict[int, str]:
    sizes = [study.batch_size for study in found.reached]
    return {size: viridis(place / max(1, len(sizes) - 1)) for place, size in enumerate(sizes)}


def _profile_plot(found: Sensitivity, name: str) -> Figure:
    colors, data, seen = _colors(found), list[Trace](), list[float]()
    scales = {c.name: c.scale for study in found.reached for c in study.found.axes.coordinates}
    reverse = scales[name] == "reverse_log"
    for study in found.reached:
        mine = next((p for p in study.profiles if p.name == name), None)
        if mine is None or not np.isfinite(mine.ratio).any():
            continue
        x = _middles(mine, scales[name])
        seen += x
        texts = [
            hover(
                {
                    "batch size": study.batch_size,
                    name: f"{value_text(low)} to {value_text(high)}",
                    "fewest steps": f"{value_text(ratio)} × the best",
                    "trials": f"{reached} of {n} reached the target",
                }
            )
            for low, high, ratio, n, reached in zip(
                mine.low.tolist(), mine.high.tolist(), mine.ratio.tolist(), mine.n.tolist(), mine.n_reached.tolist(),
                strict=True,
            )
        ]  # fmt: skip
        color = colors[study.batch_size]
        line = {"mode": "lines+markers", "x": x, "y": list(mine.ratio), "hovertext": texts}
        data.append({**line, "name": f"{study.batch_size:,}", "line": {"color": color, "width": 1.8}})
    title = "lr / (1 − momentum)" if name == EFFECTIVE else label(f"1 − {name}" if reverse else words(name))
    axis = linear_axis(title) if scales[name] == "linear" else log_axis(title, seen, pad=1.4)
    ratios = [float(r) for trace in data for r in trace["y"] if np.isfinite(r)]
    limit = horizontal(1 + found.margin, color=GREY, width=1.2, dash="dot")
    y = log_axis("fewest steps / best", [*ratios, 1.0], pad=1.15)
    return figure(data, axis, y, shapes=[limit], height=360)


def _middles(mine: Profile, scale: str) -> list[float]:
    if scale == "linear":
        return list((mine.low + mine.high) / 2)
    low, high = (1 - mine.low, 1 - mine.high) if scale == "reverse_log" else (mine.low, mine.high)
    return list(np.sqrt(low * high))


def _plane_plot(found: Sensitivity) -> Figure:
    colors, data, seen = _colors(found), list[Trace](), ([], [])  # type: tuple[Any, Any, Any]
    for study in found.reached:
        inside = np.flatnonzero(study.found.inside)
        inside = inside[:: max(1, -(-len(inside) // _MOST_MARKS))]
        rows = study.found.points.rows.iloc[inside]
        x, y = values_of(rows, EFFECTIVE), 1 - values_of(rows, "momentum")
        steps = study.found.points.steps[inside]
        texts = [
            hover({"batch size": study.batch_size, "lr / (1 - momentum)": a, "1 - momentum": b, "steps": s})
            for a, b, s in zip(x.tolist(), y.tolist(), steps.tolist(), strict=True)
        ]
        marker = {"size": 9, "color": colors[study.batch_size], "line": {"width": 1, "color": "#ffffff"}}
        marks = {"mode": "markers", "x": list(x), "y": list(y), "hovertext": texts, "marker": marker}
        data.append({**marks, "name": f"{study.batch_size:,}"})
        seen[0].extend(x)
        seen[1].extend(y)
    return figure(
        data, log_axis("lr / (1 − momentum)", seen[0], pad=1.5), log_axis("1 − momentum", seen[1], pad=1.5), height=400
    )


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
    return table_of(
        [
            {
                "batch size": study.batch_size,
                "share": _percent(study.share.value),
                "95 % interval": f"{_percent(study.share.low)} to {_percent(study.share.high)}",
                "near-optimal": study.share.n_inside,
                "worse": study.share.n_worse,
                "not known": study.share.n_unknown,
                "set aside": study.found.points.n_set_aside,
            }
            for study in found.reached
        ]
    )


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.2g} %"


def _importance_table(found: Sensitivity) -> Table:
    names = list(dict.fromkeys(name for study in found.reached for name in study.importances.by_name))
    rows: list[dict[str, Any]] = []
    for study in found.reached:
        own = study.importances
        cells: dict[str, Any] = {name: _importance(study, name) for name in names}
        note = f"left out, as not every trial has them: {', '.join(own.left_out)}" if own.left_out else None
        rows.append({"batch size": study.batch_size, **cells, "points": own.n, "note": own.why_not or note})
    return table_of(rows)


def _importance(study: StudySensitivity, name: str) -> str | None:
    own = study.importances.by_name.get(name)
    return None if own is None else f"{own.value:.2f} ({own.low:.2f} to {own.high:.2f})"


__all__ = ["sensitivity_section"]
