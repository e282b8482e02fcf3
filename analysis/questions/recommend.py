"""Which batch size to train at, on which hardware, and what it takes?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from bcrit.analysis import report as draw
from bcrit.analysis.curve import fit_hyperbola
from bcrit.analysis.curve.table import read_table
from bcrit.analysis.numbers import duration, readable, value_text
from bcrit.analysis.questions.fit import no_curve
from bcrit.analysis.recommendation import Asked, Recommendation, recommend
from bcrit.analysis.recommendation.choices import FrontierPoint, place_text
from bcrit.analysis.recommendation.hardware import Hardware, read_hardware, read_prices
from bcrit.analysis.records.run_folder import ASKED
from bcrit.analysis.report import Answer, Part, Plot, Rows, Table, Text, Words, table_of
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError

CHOICES: Final = {
    "measured": "the best batch size that was measured itself, with the hyperparameters found there",
    "best": "the best under the limits that were given",
    "safe": "the best that keeps the limits with the upper end of its interval too",
    "cheapest": "the least cost (without step times: the fewest examples)",
    "balanced": "the least product of steps and examples (with several kinds of hardware: of time and cost)",
    "fastest": "the shortest time (without step times: the fewest steps)",
}
"""What each choice is, in the order of the report."""

_MARKS: Final = (
    ("circle", draw.INK),
    ("star", draw.VERMILLION),
    ("diamond", draw.GREEN),
    ("square", draw.ORANGE),
    ("triangle-down", draw.PURPLE),
    ("hexagon", draw.ACCENT),
)
_HOURS_IN: Final = {"days": 1 / 24, "hours": 1.0, "minutes": 60.0, "seconds": 3600.0, "milliseconds": 3.6e6}
_COLORS: Final = (draw.ACCENT, draw.ORANGE, draw.GREEN, draw.PURPLE, draw.VERMILLION, draw.GREY)
_DASHES: Final = ("solid", "dash", "dot", "dashdot")


def ask(
    source: Annotated[Run | Path, "Run folder, or a table as `bcrit fit` takes.", "RUN|TABLE.csv"],
    step_time: Annotated[
        Path | None,
        "CSV with columns batch_size and step_seconds (or examples_per_second); optional device, devices, "
        "price_per_device_hour. Default: measured by the run.",
    ] = None,
    price_per_device_hour: Annotated[float | None, "Price of one device for one hour."] = None,
    price: Annotated[
        Sequence[str],
        "Price of one device for one hour, as `bcrit tune` takes it; or KIND=X, once a kind in the column 'device'.",
        "X|KIND=X",
    ] = (),
    devices: Annotated[
        int | None, "Devices that one training run occupies, where the table does not say (default: 1)."
    ] = None,
    max_hours: Annotated[float | None, "Deadline, in hours of training."] = None,
    max_cost: Annotated[float | None, "Budget in money (device-hours without a price)."] = None,
    max_steps: Annotated[float | None, "Budget of optimizer updates."] = None,
    max_examples: Annotated[float | None, "Budget of training examples."] = None,
    level: Annotated[float | None, "Confidence level of the intervals, for a table (default: 0.95)."] = None,
    unit: Annotated[str | None, "What a batch counts, for a table (default: examples)."] = None,
    write: Annotated[
        bool, "Keep these prices and limits in the run and write its report with them; without any, forget them."
    ] = False,
) -> Answer | str:
    """Recommend batch sizes: the cheapest, the fastest, a balanced one, and the best within your limits.

    With several kinds or numbers of devices in the table of step times, the answer says on which to train.
    Exit code 1 when no batch size keeps the limits (the answer then says which must give, and by how much), and when
    a run has no curve.
    """
    if len(price) == 1 and (number := _number(price[0])) is not None:
        if price_per_device_hour is not None:
            return "--price and --price-per-device-hour say the same; leave one out"
        price_per_device_hour, price = number, ()
    asked: dict[str, Any] = {"price_per_device_hour": price_per_device_hour, "devices": devices}
    hardware: tuple[Hardware, ...] | None = None
    prices = read_prices(price)
    if step_time is not None:
        hardware, asked = read_hardware(step_time, prices=prices, **asked), {}
    elif prices:
        raise InputError("--price", ["it names kinds of device, which only a table given by --step-time has"])
    asked |= {"max_hours": max_hours, "max_cost": max_cost, "max_steps": max_steps, "max_examples": max_examples}
    if isinstance(source, Path):
        if write:
            return "--write keeps prices and limits in a run, and this is a table; leave it out"
        table = read_table(source)
        fit = fit_hyperbola(table, level=0.95 if level is None else level, unit=unit or "examples")
        return answer(recommend(fit, hardware, **asked))
    if level is not None or unit is not None:
        return "--level and --unit are for tables; a run has its own; leave them out"
    if source.fit is None or source.recommendation is None:
        return no_curve(source, "recommend")
    asked = {name: value for name, value in asked.items() if value is not None}
    if write:
        return answer(kept(source, Asked(asked, hardware)))
    if hardware is not None or asked:
        return answer(source.recommend(hardware, **asked))
    return answer(source.recommendation)


def _number(text: str) -> float | None:
    """A price without a kind; None where the text is no number."""
    try:
        return float(text)
    except ValueError:
        return None


def kept(run: Run, asked: Asked) -> Recommendation:
    """Keep the terms in the run and write its report with them; what cannot be recommended from is an InputError."""
    from bcrit.analysis.report.build import finish

    run.recommend(asked.hardware, **asked.terms)  # refuses before anything is written
    run.folder.write_result(ASKED, asked)
    found = finish(run.folder).recommendation
    assert found is not None, "there is a curve"
    return found


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
    if run.at_edge:
        edges = ", ".join(dict.fromkeys(", ".join(run.at_edge.values()).split(", ")))
        yield (
            f"At {len(run.at_edge)} of {len(run.studies)} batch sizes the best setting lies at the edge of its search "
            f"box ({edges}): widen it, since fewer steps may be possible."
        )


def by_place(found: Recommendation, names: Iterable[str] = CHOICES) -> dict[FrontierPoint, list[str]]:
    """The names of the choices at each chosen batch size and hardware: those that agree share a row or a mark."""
    places: dict[FrontierPoint, list[str]] = {}
    for name in names:
        if name in found.choices:
            places.setdefault(found.choices[name], []).append(name)
    return places


def time_unit(found: Recommendation) -> tuple[str, float]:
    """The largest unit in which all times of the frontier are at least 1, and how many of them an hour has."""
    shortest = min((point.hours for point in found.frontier if point.hours is not None), default=0.0)
    return next(((name, by) for name, by in _HOURS_IN.items() if shortest * by >= 1), list(_HOURS_IN.items())[-1])


def cost_unit(found: Recommendation) -> tuple[str, float]:
    """What a cost is called, and how many of that one of it is: money, or devices in the unit of the times."""
    name, factor = time_unit(found)
    return ("cost (currency)", 1.0) if found.cost_unit == "currency" else (f"cost (device-{name})", factor)


# --- tables ---


def _on(found: Recommendation, hardware: str) -> dict[str, str]:
    """The cell that says on what, where there is something to tell apart."""
    return {"on": hardware} if found.several else {}


def _brief(found: Recommendation) -> Table:
    """One row a batch size and hardware, in the order of the choices, narrow enough for a terminal."""
    cost, each = cost_unit(found) if found.cost_unit else ("cost (unknown)", 1.0)
    return table_of(
        [
            {
                "choice": ", ".join(names),
                "batch size": readable(point.batch_size),
                **_on(found, point.hardware),
                "steps": readable(point.steps),
                found.unit: readable(point.examples),
                "efficiency": "-" if point.efficiency is None else f"{readable(100 * point.efficiency)} %",
                "time": "-" if point.hours is None else duration(point.hours),
                cost: "-" if point.cost is None else readable(point.cost * each),
            }
            for point, names in by_place(found, found.choices).items()
        ]
    )


def _taken(found: Recommendation, point: FrontierPoint) -> dict[str, Any]:
    """What a training takes at one batch size."""
    row: dict[str, Any] = {"batch size": point.batch_size, **_on(found, point.hardware)}
    share = None if point.efficiency_low is None else point.estimate("efficiency").times(100)
    row |= {"steps": point.estimate("steps").text(), found.unit: point.examples}
    row["sample efficiency"] = None if share is None else f"{readable(share.value or 0)} % ({share.interval()})"
    if point.hours is not None and point.cost is not None:
        (name, factor), (cost, each) = time_unit(found), cost_unit(found)
        row |= {name: point.estimate("hours").times(factor).text(), cost: point.cost * each}
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
                **_on(found, missed.hardware),
            }
            for missed in found.infeasible
        ]
    )


# --- figures ---


def _hover(found: Recommendation, point: FrontierPoint, **more: Any) -> Mapping[str, Any]:
    (name, factor), (cost, each) = time_unit(found), cost_unit(found)
    where = {"batch size": point.batch_size, **_on(found, point.hardware)}
    paid = {name: point.estimate("hours").times(factor).text(), cost: (point.cost or 0.0) * each}
    return {**where, **paid, "steps": point.steps, found.unit: point.examples, **more}


def _by_hardware(found: Sequence[FrontierPoint]) -> dict[str, list[FrontierPoint]]:
    """The points of each kind and number of devices, in the order in which they were given."""
    own: dict[str, list[FrontierPoint]] = {}
    for point in found:
        own.setdefault(point.hardware, []).append(point)
    return own


def frontier_plot(found: Recommendation) -> draw.Figure | None:
    """Hours against the batch size. On fixed devices cost is hours times a constant, so one curve shows both.

    None without step times, where the figure of examples against steps is the frontier.
    """
    timed = [point for point in found.frontier if point.hours is not None]
    if not timed:
        return None
    (name, factor), sizes = time_unit(found), [point.batch_size for point in timed]
    data, seen = list[draw.Trace](), list[float]()
    ends = [(p.hours_low * factor, p.hours_high * factor) for p in timed if p.hours_low is not None and p.hours_high]
    if not found.several and len(ends) == len(timed):
        low, high = zip(*ends, strict=True)
        filled: dict[str, Any] = {"fill": "tonexty", "fillcolor": draw.BAND, "name": "band from the fit of steps"}
        data = [draw.line(sizes, low, width=0, showlegend=False), draw.line(sizes, high, width=0, **filled)]
    for number, (on, own) in enumerate(_by_hardware(timed).items()):
        x, y = [point.batch_size for point in own], [(point.hours or 0.0) * factor for point in own]
        told = [_hover(found, point, **{"step time": point.step_time_source}) for point in own]
        color, dash = _COLORS[number % len(_COLORS)], _DASHES[number // len(_COLORS) % len(_DASHES)]
        curve = draw.line(x, y, told, color=color, width=2.5, dash=dash, marker={"color": color})
        curve |= {
            "name": draw.label(on) if found.several else "frontier",
            "mode": "lines" if len(own) > 1 else "markers",
        }
        mine = [k for k, point in enumerate(own) if point.measured]
        look: dict[str, Any] = {"size": 5 if found.several else 8, "showlegend": number == 0}
        marks = draw.points([x[k] for k in mine], [y[k] for k in mine], [told[k] for k in mine], **look)
        data += [curve, marks | {"name": "batch size of a study"}]
        seen += [*y, *(end * factor for point in own for end in (point.hours_low, point.hours_high) if end is not None)]
    data += choice_marks(found, "batch_size", "hours", y_factor=factor)
    ticks = sorted({point.batch_size for point in timed if point.measured})
    x_axis = draw.log_axis(f"batch size ({draw.label(found.unit)})", sizes, ticks=ticks)
    return draw.figure(data, x_axis, draw.log_axis(f"training time ({name})", seen))


def cost_plot(found: Recommendation) -> draw.Figure | None:
    """Cost against hours, one point a kind and number of devices, at the batch size that is its fastest.

    On one hardware cost is hours times a constant, so that its fastest batch size is its cheapest too, and all others
    lie up and to the right of it. None where there is nothing to compare.
    """
    if not found.several:
        return None
    (name, factor), (cost, each) = time_unit(found), cost_unit(found)
    best = [min(own, key=lambda p: p.hours or 0.0) for own in _by_hardware(found.frontier).values()]
    good = sorted((point for point in best if point.efficient), key=lambda point: point.hours or 0.0)

    def places(of: Sequence[FrontierPoint]) -> tuple[list[float], list[float]]:
        return [(point.hours or 0.0) * factor for point in of], [(point.cost or 0.0) * each for point in of]

    stairs = draw.line(
        *places(good), color=draw.ACCENT, width=2, dash="dot", name="no other is both faster and cheaper"
    )
    stairs["line"]["shape"] = "hv"
    data: list[draw.Trace] = [stairs]
    beaten = [point for point in best if not point.efficient]
    kinds = (("best batch size of a hardware", good, draw.INK), ("slower or dearer than another", beaten, draw.GREY))
    for words, of, color in (kind for kind in kinds if kind[1]):
        told = [_hover(found, point, **{cost: point.estimate("cost").times(each).text()}) for point in of]
        titles: dict[str, Any] = {"textposition": "middle right", "cliponaxis": False}
        titles |= {"text": [f"  {draw.label(p.hardware)}" for p in of], "name": words}
        data.append(draw.points(*places(of), told, color=color, **titles) | {"mode": "markers+text"})
    data += choice_marks(found, "hours", "cost", x_factor=factor, y_factor=each)
    shapes, style = [], {"color": draw.VERMILLION, "width": 1.5, "dash": "dash"}
    x, y = places(best)
    y = [cost for cost in y if cost]
    if (deadline := found.limits.get("max_hours")) is not None:
        shapes.append(draw.vertical(deadline * factor, **style))
        x.append(deadline * factor)
    if (budget := found.limits.get("max_cost")) is not None:
        shapes.append(draw.horizontal(budget * each, **style))
        y.append(budget * each)
    # A trace of no points is how a shape gets into the legend.
    named = {"deadline": deadline, "budget": budget}
    data += [
        {"name": n, "mode": "lines", "x": [None], "y": [None], "line": style} for n in named if named[n] is not None
    ]
    return draw.figure(
        data, draw.log_axis(f"training time ({name})", x, pad=1.5), draw.log_axis(cost, y, pad=1.5), shapes=shapes
    )


def choice_marks(
    found: Recommendation, x: str, y: str, y_factor: float = 1.0, x_factor: float = 1.0
) -> Iterator[draw.Trace]:
    """Marks of the choices in a plane of two quantities of the frontier, such as `hours`, in other units."""
    for (point, names), (symbol, color) in zip(by_place(found).items(), _MARKS, strict=False):
        on = _on(found, point.hardware) if point.hardware else {}
        told = {"choice": ", ".join(names), "batch size": point.batch_size, **on, "steps": point.steps}
        told |= {"examples": point.examples, "hours": point.hours, "cost": point.cost}
        at = [getattr(point, x) * x_factor], [getattr(point, y) * y_factor]
        marks = draw.points(*at, [told], color=color, symbol=f"{symbol}-open", size=15)
        marks["marker"]["line"] = {"width": 3}  # a ring leaves the measurement under it visible
        where = place_text(point.batch_size, on.get("on", ""))
        yield marks | {"name": draw.label(f"{', '.join(names)}: {where}")}
