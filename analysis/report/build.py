"""The report as one page: every question's answer put into the template, below what is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bcrit.analysis.questions import QUESTIONS, question
from bcrit.analysis.questions.fit import key_numbers
from bcrit.analysis.questions.steps import settings
from bcrit.analysis.report.answer import Answer, Panels, Plot
from bcrit.analysis.report.figure import VIRIDIS
from bcrit.analysis.report.template import render
from bcrit.analysis.run import Run
from bcrit.analysis.wording import readable

MOST_PANELS = 12
"""So many studies are shown side by side; more share one panel with a list to choose from."""


def build_report(run: Run) -> str:
    """Write everything that is known of a run as one HTML page that loads nothing from anywhere.

    Whatever comes from users is escaped: by the template in the page, by `label` in the figures' texts, and as JSON
    that cannot end its script. What the run lacks (a fit, reached studies) is said in the page.
    """
    topics, figures = sections(run), {}
    for part in (part for topic in topics for part in topic.parts):
        if isinstance(part, Plot):
            figures[part.name] = part.figure
        elif isinstance(part, Panels):
            figures |= {f"{part.name}-{key}": drawn for key, drawn in part.figures.items()}
    return render(
        "page.html",
        name=run.experiment.name,
        workload=run.experiment.workload.name,
        target=str(run.experiment.target),
        unit=run.experiment.unit,
        answer=answer(run),
        key_numbers=[] if run.fit is None else list(key_numbers(run.fit, str(run.experiment.target))),
        caveats=caveats(run),
        sections=topics,
        figures=figures,
        viridis=VIRIDIS,
        most_panels=MOST_PANELS,
    )


def sections(run: Run) -> tuple[Answer, ...]:
    """The questions that this run has something to say on, in the order of the page."""
    found = (question(name)(run) for name in QUESTIONS)
    return tuple(topic for topic in found if isinstance(topic, Answer) and topic.on_page)


def answer(run: Run) -> tuple[str, ...]:
    """The sentences of the prominent box."""
    if run.recommendation is not None:
        return (*run.recommendation.sentences, *settings(run.recommendation))
    if run.fit is None:
        why = run.no_fit or "too little was measured"
        return ("No batch size can be recommended: there is no fit.", f"{why[0].upper()}{why[1:].rstrip('.')}.")
    return ("No recommendation was computed for this run; the fit below is all that is known.",)


def caveats(run: Run) -> tuple[str, ...]:
    """What speaks against the answer: caveats of the recommendation, notes of the fit, and what the studies lack."""
    found = [
        *(run.recommendation.caveats if run.recommendation else ()),
        *(run.fit.notes if run.fit else ()),
        *run.notes,
        *_studies(run),
    ]
    return tuple(dict.fromkeys(found))


def _studies(run: Run) -> Iterator[str]:
    studies = run.studies.to_dict("records")
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
    for edge in (edge for study in studies for edge in run.last_edges(study["batch_size"]).to_dict("records")):
        if edge["kind"] == "box" and math.isnan(edge["widened_to"]):
            yield (
                f"At batch size {readable(edge['batch_size'])} the best {edge['dimension']} lies at the {edge['side']} "
                "end of its box; a better point may lie outside."
            )
