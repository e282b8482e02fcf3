"""What follows from a run, written into its folder: derived tables, fit, recommendation, and the report as one page."""

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

import pyarrow as pa

from bcrit.analysis.numbers import duration, readable
from bcrit.analysis.questions import QUESTIONS
from bcrit.analysis.questions.fit import key_numbers, no_curve
from bcrit.analysis.questions.steps import settings
from bcrit.analysis.recommendation import Recommendation
from bcrit.analysis.recommendation.choices import FrontierPoint, place_text
from bcrit.analysis.records import run_folder
from bcrit.analysis.report import VERMILLION, VIRIDIS, Answer, Figure, Panels, Plot, area, points
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import COMMAND

MOST_PANELS = 12
"""So many studies are shown side by side; more share one panel with a list to choose from."""


def finish(folder: run_folder.RunFolder) -> Run:
    """Compute and write everything that follows from the tables of a run with finished trials."""
    run = Run(folder)
    write_analysis(run)
    if run.recommendation is not None:
        folder.write_json(run_folder.RECOMMENDATION, run.recommendation.to_json())
    folder.write_bytes(run_folder.REPORT, build_report(run).encode())
    return run


def write_analysis(run: Run) -> None:
    """Write the derived tables and the fit into the run folder."""
    folder = run.folder
    for name, frame in ((run_folder.STEPS_TO_TARGET_FILE, run.studies), (run_folder.BOUNDARY_FILE, run.boundary)):
        folder.write_table(name, pa.Table.from_pandas(frame, preserve_index=False))
    folder.write_json(run_folder.FIT, {"no_fit": run.no_fit} if run.fit is None else run.fit.to_json())
    if run.targets is not None:
        folder.write_table(run_folder.TARGET_CELLS_FILE, pa.Table.from_pandas(run.targets.cells, preserve_index=False))
        folder.write_json(run_folder.TARGETS, run.targets.to_json())
    if run.budgets is not None:
        folder.write_table(run_folder.BUDGET_CELLS_FILE, pa.Table.from_pandas(run.budgets.cells, preserve_index=False))
        folder.write_json(run_folder.BUDGETS, run.budgets.to_json())


def build_report(run: Run, live: str = "") -> str:
    """Write everything that is known of a run as one HTML page that loads nothing from anywhere.

    A `live` page, by the name of its revision, asks its server for the state at its top, and for a newer one.

    Whatever comes from users is escaped: by the template in the page, by `label` in the figures' texts, and as JSON
    that cannot end its script. What the run lacks (a fit, reached studies) is said in the page.
    """
    begun = not run.finished.empty
    topics, figures = sections(run) if begun else (), {}
    for part in (part for topic in topics for part in topic.parts):
        if isinstance(part, Plot):
            figures[part.name] = part.figure
        elif isinstance(part, Panels):
            figures |= {f"{part.name}-{key}": drawn for key, drawn in part.figures.items()}
    if begun:
        figures["steps"] = zoned(figures["steps"], run)
    return render(
        "page.html",
        name=run.experiment.name,
        subject=_subject(run.experiment),
        target=str(run.experiment.target),
        unit=run.experiment.unit,
        live=live,
        state=state_of(run),
        answer=answer(run) if begun else ("No trial has finished yet.",),
        decision=decision(run) if begun else Decision(),
        key_numbers=[] if not begun or run.fit is None else list(key_numbers(run.fit, str(run.experiment.target))),
        caveats=caveats(run) if begun else (),
        sections=topics,
        figures=figures,
        viridis=VIRIDIS,
        most_panels=MOST_PANELS,
        beside="steps",
        unfolded=("recommend",),
    )


def _subject(experiment: Experiment) -> str:
    """What is trained, in the title: a command has no name, so its experiment's is taken."""
    return experiment.name if experiment.workload.name == COMMAND else experiment.workload.name


def sections(run: Run) -> tuple[Answer, ...]:
    """The questions that this run has something to say on, in the order of the page."""
    found = (run.answer(name) for name in QUESTIONS if name != "status")  # which stands at the top
    return tuple(topic for topic in found if isinstance(topic, Answer) and topic.on_page)


def state_of(run: Run) -> Answer | None:
    """How far a run is, for the top of its page; None where it is complete, or nothing is known but its tables."""
    found = run.answer("status")
    return found if isinstance(found, Answer) and found.on_page else None


def answer(run: Run) -> tuple[str, ...]:
    """The sentences of the prominent box."""
    if run.recommendation is not None:
        return (*run.how_far, *run.recommendation.sentences, *settings(run.recommendation))
    return no_curve(run).sentences


def caveats(run: Run) -> tuple[str, ...]:
    """What speaks against the answer: caveats of the recommendation, notes of the fit, and what the studies lack."""
    found = [
        *(run.recommendation.caveats if run.recommendation else ()),
        *(run.fit.notes if run.fit else ()),
        *run.notes,
        *_studies(run),
    ]
    return tuple(each for each in dict.fromkeys(found) if not any(each in other for other in found if other != each))


def _studies(run: Run) -> Iterator[str]:
    studies = run.studies[~(run.studies["batch_size"].isin(run.early) & run.studies["steps"].isna())].to_dict("records")
    unreached = [f"{readable(s['batch_size'])} ({readable(s['max_steps'])})" for s in studies if math.isnan(s["steps"])]
    reached = [study for study in studies if not math.isnan(study["steps"])]
    searched = [readable(study["batch_size"]) for study in reached if study["source"] != "confirm"]
    missed = [
        f"{readable(study['batch_size'])} ({study['n_reached']} of {study['n_seeds']})"
        for study in reached
        if study["n_reached"] < study["n_seeds"]
    ]
    if unreached:
        yield f"The target was not reached at batch size (in steps): {', '.join(unreached)}."
    if searched:
        yield (
            f"At batch size {', '.join(searched)} the number is that of the search's best trial, not confirmed on "
            "fresh seeds, and so too low by the luck of the search."
        )
    if missed:
        yield f"Not all fresh seeds reached the target at batch size (how many did): {', '.join(missed)}."
    for size, edges in run.at_edge.items() if run.fit is None else ():  # a fit says it, and what hangs on it
        yield (
            f"At batch size {readable(size)} the best setting lies at the edge of its search box ({edges}), so that "
            "fewer steps may be possible there."
        )


def render(template: str, /, **words: Any) -> str:
    """One of this folder's templates filled; every text is escaped, and a word that was not given is an error."""
    # Jinja and plotly's script are needed by nothing else in this package.
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("bcrit.analysis", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    css = resources.files("bcrit.analysis.report").joinpath("page.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(words, css=css, plotly=get_plotlyjs())


def _code(text: str) -> str:
    """A sentence with what stands between backticks set as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  (escaped just before)


def page_of(answer: Answer, generator: str) -> str:
    """A comparison as one HTML page that loads nothing from anywhere; the generator's name stands in its head."""
    parts = [part for section in answer.sections for part in section.parts]
    figures = {part.name: part.figure for part in parts if isinstance(part, Plot)}
    return render(
        "comparison.html",
        generator=generator,
        title=answer.title,
        runs=answer.facts["runs"],
        assumed=answer.facts["assumed"],
        answer=answer.sentences,
        decision=Decision(),
        caveats=answer.notes,
        sections=answer.sections,
        figures=figures,
        beside=None,
        unfolded=tuple(section.name for section in answer.sections),
    )


# --- the first screen: what the choice takes, how sure it is, its settings to copy, and the curve's zones ---

ZONES: Final = (
    ("too small", "rgba(230, 159, 0, 0.16)", "a larger batch saves time for free"),
    ("pays", "rgba(0, 158, 115, 0.14)", "a larger batch saves time and costs some examples"),
    ("wasted", "rgba(110, 119, 129, 0.20)", "a larger batch costs more and saves next to nothing"),
)
"""Where perfect scaling holds, where returns diminish, and the plateau, for somebody who pays for training."""
_DARK: Final = "#a84300"  # vermillion with a contrast of 4.5 and more on white and on the zones

_NAMED: Final = 0.1  # of the axis: a narrower zone has no room for its name; on a phone, one of less than twice as much


@dataclass(frozen=True)
class Decision:
    """What stands beside the answer's sentences; empty where nothing is advised."""

    headline: str = ""  # what to train at; empty where something else comes first: too early to decide, or in progress
    taken: tuple[tuple[str, str, str], ...] = ()  # what a training takes: name, number with unit, its interval
    sure: tuple[str, ...] = ()  # what speaks for the numbers, and how far they reach
    copies: Mapping[str, str] = field(default_factory=dict)  # the settings, by the language they are written in
    zones: tuple[tuple[str, str, str, str], ...] = ()  # name, colour, range of batch sizes, meaning


def decision(run: Run) -> Decision:
    """What a manager and whoever starts the training need of a run."""
    zones = tuple((*zone[:2], where, zone[2]) for zone, (where, _, _) in zip(ZONES, _ranges(run), strict=False))
    found = run.recommendation
    if found is None or found.advised is None:
        return Decision(zones=zones)
    point = found.choices[found.advised]
    place = f"Train at {place_text(point.batch_size, point.hardware)}"
    headline = f"{place}." if answer(run)[0].startswith(f"{place}:") else ""
    return Decision(headline, tuple(_taken(found, point)), tuple(_sure(run, point)), _copies(found, point), zones)


def zoned(steps: Figure, run: Run) -> Figure:
    """The figure of steps against the batch size with the zones behind it and the advised batch size on it."""
    drawn = deepcopy(steps)
    for note in drawn["layout"]["annotations"]:
        note["font"] = {**note.get("font", {}), "color": _DARK}
    left, right = (10**end for end in drawn["layout"]["xaxis"]["range"])
    for (name, color, _), (_, low, high) in zip(ZONES, _ranges(run), strict=False):
        low, high = max(low, left), min(high, right)
        if low >= high:
            continue
        drawn["layout"]["shapes"].append(area(low, high, color))
        share = math.log(high / low) / math.log(right / left)
        if share < _NAMED:
            continue  # its name stands in the legend
        # At the zone's left end: b_crit's line stands in the middle of the zone that pays.
        place = {"x": math.log10(low), "xanchor": "left", "yref": "paper", "y": 0, "yanchor": "bottom"}
        room = {"name": "wide only"} if share < 2 * _NAMED else {}
        drawn["layout"]["annotations"].append({**place, **room, "text": name, "showarrow": False})
    found = run.recommendation
    if found is not None and found.advised is not None:
        point = found.choices[found.advised]
        star = points([point.batch_size], [point.steps], color=VERMILLION, symbol="star", size=17, hoverinfo="skip")
        drawn["data"].append({"type": "scatter", **star, "name": f"advised: batch size {readable(point.batch_size)}"})
        drawn["layout"]["showlegend"] = True
    return drawn


def _ranges(run: Run) -> Iterator[tuple[str, float, float]]:
    """The batch sizes of each zone, in words and numbers; nothing where the curve does not tell them."""
    if run.fit is None or not run.fit.identified["b_crit"]:
        return
    found = run.fit.regimes()
    low, high = found.perfect_scaling_ends.value, found.plateau_begins.value
    if low is None or high is None:
        return
    yield f"below {readable(low)}", 0.0, low
    yield f"{readable(low)} to {readable(high)}", low, high
    yield f"above {readable(high)}", high, math.inf


def _taken(found: Recommendation, point: FrontierPoint) -> Iterator[tuple[str, str, str]]:
    """Steps, examples, hours and cost of one training, with intervals where they are known."""
    level = f"{100 * found.level:g} %"
    yield "steps", readable(point.steps), f"{level}: {point.estimate('steps').interval()}"
    yield found.unit, readable(point.examples), "to the target"
    if point.hours is not None:
        ends = (point.hours_low, point.hours_high)
        known = "" if None in ends else f"{level}: {duration(ends[0] or 0)} to {duration(ends[1] or 0)}"
        yield "time", duration(point.hours), known or "on the devices timed"
    if point.cost is not None and found.cost_unit == "currency":
        yield "cost", readable(point.cost), f"{level}: {point.estimate('cost').interval()}"
    elif point.cost is not None:
        yield "cost", duration(point.cost), "of device time; no price given"


def _sure(run: Run, point: FrontierPoint) -> Iterator[str]:
    fit, studies = run.fit, run.studies[run.studies["batch_size"] == point.batch_size]
    for row in studies.to_dict("records"):
        if row["source"] == "confirm":
            yield f"{row['n_reached']} of {row['n_seeds']} fresh seeds reached the target at this batch size"
        else:
            yield "not confirmed on fresh seeds at this batch size"
    if fit is not None and fit.identified["b_crit"] and 0 < fit.b_crit_low and math.isfinite(fit.b_crit_high):
        factor = math.sqrt(fit.b_crit_high / fit.b_crit_low)
        yield f"the bend of the curve is known to a factor {readable(factor)} ({len(fit.reached)} batch sizes)"


def _copies(found: Recommendation, point: FrontierPoint) -> dict[str, str]:
    at = found.hyperparameters.get(found.advised or "")
    values: dict[str, Any] = {"batch_size": point.batch_size, **(at.values if at else {})}
    plain = {name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in values.items()}
    plain = {name: int(v) if isinstance(v, float) and v == int(v) else v for name, v in plain.items()}
    flags = (f"{shlex.quote('--' + name.replace('_', '-'))} {shlex.quote(str(value))}" for name, value in plain.items())
    return {
        "YAML": "".join(f"{name}: {value}\n" for name, value in plain.items()),
        "Python": repr(plain),
        "flags": " ".join(flags),
    }
