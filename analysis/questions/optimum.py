"""How do the best learning rate and momentum move with the batch size, and by which law, if any?"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np

from bcrit.analysis import report as draw
from bcrit.analysis.numbers import readable, value_text
from bcrit.analysis.optimum import OptimumLaws, Quantity, leading, parameters, set_sentence, words
from bcrit.analysis.optimum.coordinates import EFFECTIVE
from bcrit.analysis.optimum.near_optimal import WITHIN, NearOptimal
from bcrit.analysis.recommendation.hyperparameters import HyperparametersAt, hyperparameters_at
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.report import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError

Within: TypeAlias = Annotated[
    float, "Near-optimal: at most this share more steps than the best; seed noise may make it more."
]

_GRID = 80  # points of a drawn law
_WORSE = ("on both sides", "above", "below", "on neither side")  # by whether it is open below, and twice above
_MOST = 3  # figures: effective learning rate, learning rate, momentum; others stand in the tables


def ask(
    run: Run,
    at: Annotated[Sequence[float], "Also predict at this batch size; may be repeated."] = (),
    within: Within = WITHIN,
) -> Answer | str:
    """Say how the best learning rate and momentum move with the batch size, and by which law, if any.

    With --at, hyperparameters at batch sizes that were not measured, marked by where they come from. Exit code 1 when
    no study reached the target.
    """
    run = near(run, within, at)
    laws, reached = run.laws, run.sets.reached
    found = [hyperparameters_at(size, run.hyperparameters, laws) for size in at] if run.hyperparameters else []
    facts = {"run": run.location, **laws.to_json(), "at": plain(found)}
    title = "How the best hyperparameters move"
    if not reached:
        return Answer("optimum", title, laws.sentences, (), facts, yes=False, on_page=False)
    drawn = [q for q in laws.quantities if len(laws.verdicts[q.name].batch_sizes) > 1][:_MOST]
    parts: list[Plot | Rows] = [
        Plot(f"optimum-{n}", _plot(q, laws, run.experiment.unit), _caption(q, laws)) for n, q in enumerate(drawn)
    ]
    parts += [Rows(f"At batch size {readable(point.batch_size)}", _advice(point), brief=True) for point in found]
    if laws.quantities:
        parts.append(Rows("Laws of the optimum, and what speaks against them", _law_table(laws), folded=True))
    parts += _ranges(reached)
    shown = {0, len(reached) // 2, len(reached) - 1}
    sets = [set_sentence(each, run.sets.margin) for place, each in enumerate(reached) if place in shown]
    sentences = (*laws.law_sentences, *sets, _meaning(run))
    return Answer("optimum", title, sentences, tuple(parts), facts, on_page=any(each.ranges for each in reached))


def near(run: Run, within: float, sizes: Sequence[float] = ()) -> Run:
    """The run with near-optimal sets of the user's choice."""
    problems = []
    if not 0 < within < 10:
        problems.append(f"'--within' must lie between 0 and 10, but it is {within:g}; 0.2 stands for 20 % more steps")
    problems += [
        f"'--at' must be a positive batch size, but it is {size:g}; give one such as 4096"
        for size in sizes
        if not 0 < size < 1e15
    ]
    if problems:
        raise InputError("command line", problems)
    return run if within == run.within else run.but(within=within)


def _meaning(run: Run) -> str:
    sd = run.sets.noise.log_sd
    text = f"Near-optimal means at most {100 * run.sets.margin:.0f} % more steps than the study's best point"
    if sd is None:
        return f"{text}; how far seeds differ is not known, because no point was re-run."
    noise = f"seeds of one point differ by {100 * sd:.0f} % (standard deviation)"
    return f"{text}; {noise}{', which sets this width' if sd > math.log1p(run.within) else ''}."


def _caption(quantity: Quantity, laws: OptimumLaws) -> str:
    verdict = laws.verdicts[quantity.name]
    shown = "the law that passes" if verdict.kind == "one" else "the laws that cannot be told apart"
    drawn = f"Lines: {shown}, others dotted." if verdict.supported else "Dotted lines: laws, none of which passes."
    return (
        f"{words(quantity.name)}: best point of every study, bars over its near-optimal set (to the next trial beyond "
        f"it). {drawn}"
    )


def _plot(quantity: Quantity, laws: OptimumLaws, unit: str) -> draw.Figure:
    """Supported laws in colour; the others dotted and, but for the plain ones, only in the legend until asked for."""
    studies = [(s, s.ranges[quantity.coordinate]) for s in laws.sets.reached if quantity.coordinate in s.ranges]
    sizes = [float(s.batch_size) for s, _ in studies]
    best = [quantity.of(seen.best) for _, seen in studies]
    low, high = zip(*(quantity.ends(seen) for _, seen in studies), strict=True)
    spans = [f"{value_text(start)} to {value_text(end)}" for start, end in zip(low, high, strict=True)]
    hovers = [
        {"batch size": s.batch_size, "best": y, "near-optimal": span, "near-optimal points": seen.n}
        for (s, seen), y, span in zip(studies, best, spans, strict=True)
    ]
    x = draw.batch_axis(unit, sizes)
    grid, data = np.logspace(x["range"][0], x["range"][1], _GRID), list[draw.Trace]()
    verdict, colors = laws.verdicts[quantity.name], draw.in_turn(laws.verdicts[quantity.name].supported)
    for fit in (fit for fit in verdict.laws if fit.freedom):
        look: dict[str, Any] = {"color": draw.GREY, "width": 1.2, "dash": "dot"}
        if (name := fit.law.name) in verdict.supported:
            look = {"color": colors[name], "width": 2.5 if name == verdict.supported[0] else 1.8}
        elif name not in ("none", "sqrt", "linear"):
            look["visible"] = "legendonly"
        named = f"{name} (rejected)" if fit.rejected else name
        data.append(draw.line(grid.tolist(), np.exp(fit.log_value(grid)).tolist(), **look, name=named))
    data.append(draw.points(sizes, best, hovers, low=low, high=high, name="best point and near-optimal set"))
    title = draw.label(
        "lr / (1 − momentum)" if quantity.name == EFFECTIVE else words(quantity.name).replace(" - ", " − ")
    )
    return draw.figure(data, x, draw.log_axis(title, [*best, *low, *high], pad=2.0))


def _law_table(laws: OptimumLaws) -> Table:
    rows = []
    for quantity in laws.quantities:
        verdict = laws.verdicts[quantity.name]
        for fit in verdict.laws:
            state = "rejected" if fit.rejected else "passes"
            if fit.law.name in verdict.supported:
                state = "supported" if verdict.kind == "one" else "supported, not alone"
            rows.append(
                {
                    "of": quantity.name,
                    "law": fit.law.name,
                    "verdict": "too few studies" if verdict.kind == "too few" else state,
                    "parameters (95 % interval)": parameters(fit),
                    "p": fit.p_value,
                    "AICc above best": verdict.delta(fit),
                    "misses at batch size": ", ".join(map(value_text, verdict.misses(fit))) or None,
                    "studies": len(verdict.batch_sizes),
                    "formula": fit.law.formula,
                }
            )
    return table_of(rows)


def _ranges(reached: Sequence[NearOptimal]) -> list[Rows]:
    """What the sets span: of the learning rate, as the terminal shows it too, and of everything else."""
    lead, first, others = leading(reached[0]), list[dict[str, Any]](), list[dict[str, Any]]()
    for found in reached:
        at = {"batch size": found.batch_size}
        for name, seen in found.ranges.items():
            cells = {
                "best": seen.best,
                "near-optimal trials": f"{value_text(seen.seen_low)} to {value_text(seen.seen_high)}",
                "to the next trial": f"{value_text(seen.low)} to {value_text(seen.high)}",
                "known to be worse": _WORSE[seen.open_low + 2 * seen.open_high],
                "n": seen.n,
            }
            if name == lead:
                first.append(at | cells)
            else:
                others.append({**at, "hyperparameter": name, **cells})
        for name, options in found.options.items():
            inside = [f"{option} ({counts[0]} of {counts[2]})" for option, counts in options.items() if counts[0]]
            cells = {"best": found.best.get(name), "near-optimal trials": ", ".join(inside)}
            nothing = {"to the next trial": None, "known to be worse": None, "n": found.counts[0]}
            others.append({**at, "hyperparameter": name, **cells, **nothing})
    of = "Near-optimal values of"
    tables = [Rows(f"{of} {words(lead)}", table_of(first), folded=True, brief=True)] if lead else []
    return tables + ([Rows(f"{of} the other hyperparameters", table_of(others), folded=True)] if others else [])


def _advice(point: HyperparametersAt) -> Table:
    rows = []
    for name, value in point.values.items():
        low, high = point.low.get(name), point.high.get(name)
        interval = None if low is None or high is None else f"{readable(low)} to {readable(high)}"
        source = point.sources.get(name, point.source)
        rows.append({"hyperparameter": name, "value": value, "interval": interval, "source": source})
    return table_of(rows)
