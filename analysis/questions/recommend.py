"""Which batch size to train at, on which hardware, and what it takes?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from bcrit.analysis.curve.fit import fit_hyperbola
from bcrit.analysis.curve.table import read_table
from bcrit.analysis.recommendation.hardware import Hardware, read_hardware, read_prices
from bcrit.analysis.recommendation.recommend import Recommendation, recommend
from bcrit.analysis.recommendation.terms import FrontierPoint
from bcrit.analysis.recommendation.words import place
from bcrit.analysis.report.answer import Answer, Part, Plot, Rows, Table, Text, Words, table_of
from bcrit.analysis.report.figure import (
    ACCENT,
    BAND,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
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
from bcrit.analysis.wording import duration, readable, value_text
from bcrit.search_spaces.problems import InputError

CHOICES: Final = {
    "best": "the best under the limits that were given",
    "safe": "the best that keeps the limits with the upper end of its interval too",
    "cheapest": "the least cost (without step times: the fewest examples)",
    "balanced": "the least product of steps and examples (with several kinds of hardware: of time and cost)",
    "fastest": "the shortest time (without step times: the fewest steps)",
}
"""What each choice is, in the order of the report."""

_MARKS: Final = (
    ("star", VERMILLION),
    ("diamond", GREEN),
    ("square", ORANGE),
    ("triangle-down", PURPLE),
    ("hexagon", ACCENT),
)
_HOURS_IN: Final = {"days": 1 / 24, "hours": 1.0, "minutes": 60.0, "seconds": 3600.0, "milliseconds": 3.6e6}
_COLORS: Final = (ACCENT, ORANGE, GREEN, PURPLE, VERMILLION, GREY)
_DASHES: Final = ("solid", "dash", "dot", "dashdot")


def ask(
    source: Annotated[Run | Path, "Run folder, or a table as `bcrit fit` takes.", "RUN|TABLE.csv"],
    step_time: Annotated[
        Path | None,
        "CSV with columns batch_size and step_seconds (or examples_per_second); optional device, devices, "
        "price_per_device_hour. Default: measured by the run.",
    ] = None,
    price_per_device_hour: Annotated[float | None, "Price of one device for one hour."] = None,
    price: Annotated[Sequence[str], "Price of one hour of a kind in the column 'device'; once a kind.", "KIND=X"] = (),
    devices: Annotated[
        int | None, "Devices that one training run occupies, where the table does not say (default: 1)."
    ] = None,
    max_hours: Annotated[float | None, "Deadline, in hours of training."] = None,
    max_cost: Annotated[float | None, "Budget in money (device-hours without a price)."] = None,
    max_steps: Annotated[float | None, "Budget of optimizer updates."] = None,
    max_examples: Annotated[float | None, "Budget of training examples."] = None,
    level: Annotated[float | None, "Confidence level of the intervals, for a table (default: 0.95)."] = None,
    unit: Annotated[str | None, "What a batch counts, for a table (default: examples)."] = None,
) -> Answer | str:
    """Recommend batch sizes: the cheapest, the fastest, a balanced one, and the best within your limits.

    With several kinds or numbers of devices in the table of step times, the answer says on which to train.
    Exit code 1 when no batch size keeps the limits; the answer then says which must give, and by how much.
    """
    asked: dict[str, Any] = {"price_per_device_hour": price_per_device_hour, "devices": devices}
    hardware: Sequence[Hardware] | None = None
    prices = read_prices(price)
    if step_time is not None:
        hardware, asked = read_hardware(step_time, prices=prices, **asked), {}
    elif prices:
        raise InputError("--price", ["it names kinds of device, which only a table given by --step-time has"])
    asked |= {"max_hours": max_hours, "max_cost": max_cost, "max_steps": max_steps, "max_examples": max_examples}
    if isinstance(source, Path):
        table = read_table(source)
        fit = fit_hyperbola(table, level=0.95 if level is None else level, unit=unit or "examples")
        return answer(recommend(fit, hardware, **asked))
    if level is not None or unit is not None:
        return "--level and --unit are for tables; a run has its own; leave them out"
    given = hardware is not None or any(value is not None for value in asked.values())
    if given and source.fit is not None:
        return answer(source.recommend(hardware, **asked))
    found = source.recommendation
    return f"nothing to recommend from: {source.no_fit}" if found is None else answer(found)


def answer(found: Recommendation) -> Answer:
    """A recommendation with its table, its figure and the whole frontier."""
    parts: list[Part] = []
    if found.infeasible:
        parts.append(Text("No batch size keeps all limits. What would have to give:", warning=True))
        parts.append(Rows("", _limits(found)))
    drawn = frontier_plot(found)
    if drawn is None:
        unknown = "Step times are not known, so there are no hours and no cost; the figure above is the frontier."
        parts.append(Text(unknown))
    else:
        caption = (
            "Training time to the target at each batch size, evaluation left out. On a fixed number of devices the "
            "cost is this time multiplied by a constant."
        )
        parts.append(Plot("frontier", drawn, caption))
    taken = [{"choice": ", ".join(names), **_taken(found, p)} for p, names in by_place(found).items()]
    parts.append(Rows("", table_of(taken)))
    parts.append(Words({name: f"{meaning}." for name, meaning in CHOICES.items() if name in found.choices}))
    if found.binding:
        parts.append(Text(f"What keeps the best choice from being better: {' and '.join(found.binding)}."))
    if found.hyperparameters:
        parts.append(Rows("Hyperparameters to train with", _advice(found)))
    every = table_of([_taken(found, point) for point in found.frontier])
    parts.append(Rows(f"All {len(every.rows)} points of the frontier", every, folded=True))
    notes = (f"  note: {caveat}" for caveat in found.caveats)
    said: tuple[str | Rows, ...] = (found.paragraph, Rows("", _brief(found)), found.sentences[-1], *notes)
    return Answer("recommend", "What to choose", (), tuple(parts), found.to_json(), yes=found.feasible, terminal=said)


def hardware(run: Run) -> Answer | str:
    """Time against money, where there are several kinds or numbers of devices."""
    found = run.recommendation
    drawn = None if found is None else cost_plot(found)
    if found is None or drawn is None:
        return "there is one kind of hardware, or none is known"
    caption = (
        "Each point is a kind and number of devices at its best batch size. Along the dotted line there is nothing "
        "both faster and cheaper; grey points are never worth it at these prices."
    )
    parts: list[Part] = [Plot("cost", drawn, caption)]
    if found.break_even:
        prices = [
            {
                "device": entry.device,
                "price now": entry.price_per_device_hour,
                "chosen below": entry.chosen_below if entry.chosen_below is not None else "at no price",
                "devices": entry.devices,
                "batch size": entry.batch_size,
            }
            for entry in found.break_even
        ]
        parts.append(Rows("The price at which another kind would be chosen", table_of(prices)))
    sentence = (
        "On a fixed number of devices time and money go together, so every hardware has one best batch size; which "
        "hardware to take is a matter of time against money."
    )
    return Answer("recommend.hardware", "Time against money", (sentence,), tuple(parts))


def decision(run: Run) -> Answer:
    """The decision in one paragraph, for a reader of nothing else: it belongs at the very end of the page."""
    if run.recommendation is None:
        why = (run.no_fit or "no recommendation was computed").rstrip(".")
        text = f"Do not decide on a batch size from this run yet: {why}."
    else:
        text = run.recommendation.paragraph
    return Answer("recommend.decision", "In short", (" ".join([text, *_lacking(run)]),), ())


def _lacking(run: Run) -> Iterator[str]:
    """What of the measurement itself should make a reader wait."""
    studies = run.studies[run.studies["steps"].notna()]
    unconfirmed = studies.loc[studies["source"] != "confirm", "batch_size"].tolist()
    if unconfirmed:
        which = f"batch size {readable(unconfirmed[0])}" if len(unconfirmed) == 1 else f"{len(unconfirmed)} batch sizes"
        yield (
            f"The steps at {which} are those of the luckiest single run of a search: confirm on fresh seeds before "
            "spending much."
        )
    edges = [edge for size in studies["batch_size"] for edge in run.last_edges(int(size)).to_dict("records")]
    edges = [edge for edge in edges if edge["kind"] == "box" and math.isnan(edge["widened_to"])]
    if edges:
        names = ", ".join(dict.fromkeys(str(edge["dimension"]) for edge in edges))
        count = len({edge["batch_size"] for edge in edges})
        yield (
            f"At {count} of {len(run.studies)} batch sizes the best {names} lies at the end of what was searched: "
            "widen the search, since fewer steps may be possible."
        )


def by_place(found: Recommendation) -> dict[FrontierPoint, list[str]]:
    """The names of the choices at each chosen batch size and hardware: those that agree share a row or a mark."""
    places: dict[FrontierPoint, list[str]] = {}
    for name in CHOICES:
        if name in found.choices:
            places.setdefault(found.choices[name], []).append(name)
    return places


def time_unit(found: Recommendation) -> tuple[str, float]:
    """The largest unit in which all times of the frontier are at least 1, and how many of them an hour has."""
    shortest = min((point.hours for point in found.frontier if point.hours is not None), default=0.0)
    return next(((name, by) for name, by in _HOURS_IN.items() if shortest * by >= 1), list(_HOURS_IN.items())[-1])


# --- tables ---


def _brief(found: Recommendation) -> Table:
    """One row a batch size and hardware, in the order of the choices, narrow enough for a terminal."""
    names: dict[FrontierPoint, list[str]] = {}
    for name, point in found.choices.items():
        names.setdefault(point, []).append(name)
    rows = [
        {
            "choice": ", ".join(agreeing),
            "batch size": readable(point.batch_size),
            **({"on": point.hardware} if found.several else {}),
            "steps": readable(point.steps),
            found.unit: readable(point.examples),
            "efficiency": "-" if point.efficiency is None else f"{readable(100 * point.efficiency)} %",
            "time": "-" if point.hours is None else duration(point.hours),
            f"cost ({found.cost_unit or 'unknown'})": "-" if point.cost is None else readable(point.cost),
        }
        for point, agreeing in names.items()
    ]
    return table_of(rows)


def _taken(found: Recommendation, point: FrontierPoint) -> dict[str, Any]:
    """What a training takes at one batch size."""
    row: dict[str, Any] = {"batch size": point.batch_size} | ({"on": point.hardware} if found.several else {})
    share = None if point.efficiency_low is None else point.estimate("efficiency").times(100)
    row |= {"steps": point.estimate("steps").text(), found.unit: point.examples}
    row["sample efficiency"] = None if share is None else f"{readable(share.value or 0)} % ({share.interval()})"
    if point.hours is not None:
        name, factor = time_unit(found)
        row |= {name: point.estimate("hours").times(factor).text(), f"cost ({found.cost_unit})": point.cost}
        row["step time"] = point.step_time_source
    return {**row, "steps measured": "yes" if point.measured else "no"}


def _advice(found: Recommendation) -> Table:
    """The hyperparameters to train with at each choice, and where they come from."""
    known = found.hyperparameters
    advised = {", ".join(names): known[names[0]] for names in by_place(found).values() if names[0] in known}
    names = list(dict.fromkeys(name for at in advised.values() for name in at.values))
    return table_of(
        [
            {
                "choice": choice,
                "batch size": at.batch_size,
                **{name: at.values.get(name) for name in names},
                "where from": f"{at.source} (batch size {', '.join(value_text(size) for size in at.studies)})",
            }
            for choice, at in advised.items()
        ]
    )


def _limits(found: Recommendation) -> Table:
    """The limits that have to give, and where what is needed would do."""
    return table_of(
        [
            {
                "limit": missed.limit,
                "given": missed.given,
                "needed": missed.needed,
                "to be safe": missed.needed_high,
                "batch size": missed.batch_size,
                **({"on": missed.hardware} if found.several else {}),
            }
            for missed in found.infeasible
        ]
    )


# --- figures ---


def _hover(found: Recommendation, point: FrontierPoint, **more: Any) -> Mapping[str, Any]:
    name, factor = time_unit(found)
    return {
        "batch size": point.batch_size,
        **({"on": point.hardware} if found.several else {}),
        name: point.estimate("hours").times(factor).text(),
        f"cost ({found.cost_unit})": point.cost,
        "steps": point.steps,
        found.unit: point.examples,
        **more,
    }


def _by_hardware(found: Sequence[FrontierPoint]) -> dict[str, list[FrontierPoint]]:
    """The points of each kind and number of devices, in the order in which they were given."""
    own: dict[str, list[FrontierPoint]] = {}
    for point in found:
        own.setdefault(point.hardware, []).append(point)
    return own


def frontier_plot(found: Recommendation) -> Figure | None:
    """Hours against the batch size. On fixed devices cost is hours times a constant, so one curve shows both.

    None without step times, where the figure of examples against steps is the frontier.
    """
    timed = [point for point in found.frontier if point.hours is not None]
    if not timed:
        return None
    name, factor = time_unit(found)
    several, data, seen = found.several, list[Trace](), list[float]()
    ends = [(p.hours_low * factor, p.hours_high * factor) for p in timed if p.hours_low is not None and p.hours_high]
    if not several and len(ends) == len(timed):
        edge = {"mode": "lines", "x": [p.batch_size for p in timed], "line": {"width": 0}, "hoverinfo": "skip"}
        filled = {"fill": "tonexty", "fillcolor": BAND, "name": "band from the fit of steps"}
        low, high = zip(*ends, strict=True)
        data = [{**edge, "y": low, "showlegend": False}, {**edge, "y": high, **filled}]
    for number, (on, own) in enumerate(_by_hardware(timed).items()):
        x, y = [point.batch_size for point in own], [(point.hours or 0.0) * factor for point in own]
        told = [_hover(found, point, **{"step time": point.step_time_source}) for point in own]
        color, dash = _COLORS[number % len(_COLORS)], _DASHES[number // len(_COLORS) % len(_DASHES)]
        curve = line(x, y, told, color=color, width=2.5, dash=dash, marker={"color": color})
        data.append(
            {**curve, "name": label(on) if several else "frontier", "mode": "lines" if len(own) > 1 else "markers"}
        )
        mine = [at for at, point in enumerate(own) if point.measured]
        places = ([values[at] for at in mine] for values in (x, y, told))
        marks = points(*places, size=5 if several else 8, showlegend=number == 0)  # type: ignore[arg-type]
        data.append({**marks, "name": "batch size of a study"})
        seen += [*y, *(end * factor for point in own for end in (point.hours_low, point.hours_high) if end is not None)]
    data += choice_marks(found, "batch_size", "hours", y_factor=factor)
    ticks = sorted({point.batch_size for point in timed if point.measured})
    x_axis = log_axis(f"batch size ({label(found.unit)})", [point.batch_size for point in timed], ticks=ticks)
    return figure(data, x_axis, log_axis(f"training time ({name})", seen))


def cost_plot(found: Recommendation) -> Figure | None:
    """Cost against hours, one point a kind and number of devices, at the batch size that is its fastest.

    On one hardware cost is hours times a constant, so that its fastest batch size is its cheapest too, and all others
    lie up and to the right of it. None where there is nothing to compare.
    """
    if not found.several:
        return None
    name, factor = time_unit(found)
    best = [min(own, key=lambda p: p.hours or 0.0) for own in _by_hardware(found.frontier).values()]
    good = sorted((point for point in best if point.efficient), key=lambda point: point.hours or 0.0)

    def hours(of: Sequence[FrontierPoint]) -> list[float]:
        return [(point.hours or 0.0) * factor for point in of]

    def costs(of: Sequence[FrontierPoint]) -> list[float]:
        return [point.cost or 0.0 for point in of]

    stairs = line(hours(good), costs(good), color=ACCENT, width=2, dash="dot")
    stairs["line"]["shape"] = "hv"
    data: list[Trace] = [{**stairs, "name": "no other is both faster and cheaper"}]
    beaten = [point for point in best if not point.efficient]
    for words, of, color in (
        ("best batch size of a hardware", good, INK),
        ("slower or dearer than another", beaten, GREY),
    ):
        cost = f"cost ({found.cost_unit})"
        told = [_hover(found, point, **{cost: point.estimate("cost").text()}) for point in of]
        titles: dict[str, Any] = {"textposition": "middle right", "cliponaxis": False}
        titles["text"] = [f"  {label(p.hardware)}" for p in of]
        if of:
            data.append(
                points(hours(of), costs(of), told, color=color, **titles) | {"name": words, "mode": "markers+text"}
            )
    data += choice_marks(found, "hours", "cost", x_factor=factor)
    shapes, limit = [], {"color": VERMILLION, "width": 1.5, "dash": "dash"}
    x, y = hours(best), [cost for cost in costs(best) if cost]
    for words, value in (("deadline", found.limits.get("max_hours")), ("budget", found.limits.get("max_cost"))):
        if value is not None:
            shapes.append(vertical(value * factor, **limit) if words == "deadline" else horizontal(value, **limit))
            x, y = (x + [value * factor], y) if words == "deadline" else (x, y + [value])
            # A trace of no points is how a shape gets into the legend.
            data.append({"name": words, "mode": "lines", "x": [None], "y": [None], "line": limit})
    x_axis, y_axis = log_axis(f"training time ({name})", x, pad=1.5), log_axis(f"cost ({found.cost_unit})", y, pad=1.5)
    return figure(data, x_axis, y_axis, shapes=shapes)


def choice_marks(
    found: Recommendation, x: str, y: str, y_factor: float = 1.0, x_factor: float = 1.0
) -> Iterator[Trace]:
    """Marks of the choices in a plane of two quantities of the frontier, such as `hours`, in other units."""
    for (point, names), (symbol, color) in zip(by_place(found).items(), _MARKS, strict=False):
        on = point.hardware if found.several else ""
        told: dict[str, Any] = {"choice": ", ".join(names), "batch size": point.batch_size} | ({"on": on} if on else {})
        told |= {"steps": point.steps, "examples": point.examples, "hours": point.hours, "cost": point.cost}
        at = [getattr(point, x) * x_factor], [getattr(point, y) * y_factor]
        marks = points(*at, [told], color=color, symbol=f"{symbol}-open", size=15)
        marks["marker"]["line"] = {"width": 3}  # a ring leaves the measurement under it visible
        yield marks | {"name": label(f"{', '.join(names)}: {place(point.batch_size, on)}")}
