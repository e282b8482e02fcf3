"""The report as one page: figures, tables and words put into the template."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from bcrit.analysis.questions import QUESTIONS, question
from bcrit.analysis.recommendation.recommend import Recommendation
from bcrit.analysis.report import tables
from bcrit.analysis.report.answer import Answer, Plot
from bcrit.analysis.report.curves_plot import curves_plot
from bcrit.analysis.report.examples_plot import examples_plot
from bcrit.analysis.report.figure import VIRIDIS, Figure
from bcrit.analysis.report.fit_section import fit_section
from bcrit.analysis.report.glossary import glossary
from bcrit.analysis.report.headline import answer, caveats, key_numbers
from bcrit.analysis.report.steps_plot import steps_plot
from bcrit.analysis.report.template import render
from bcrit.analysis.report.trials_plot import MARKS, TrialPanels, color_ticks, trials_plot
from bcrit.analysis.run import Run
from bcrit.search_spaces.load import dump_experiment

MOST_PANELS = 12
"""So many studies are shown side by side; more share one panel with a list to choose from."""


def build_report(analysis: Run, measurements: pa.Table | None = None) -> str:
    """Write everything that is known of a run as one HTML page that loads nothing from anywhere.

    Whatever comes from users is escaped: by the template in the page, by `label` in the figures' texts, and as JSON
    that cannot end its script.

    Args:
        analysis: of the run; what it lacks (a fit, reached studies) is said in the page.
        measurements: the measurements table, for the learning curves; None leaves them out.

    Returns:
        The page.
    """
    trials = trials_plot(analysis)
    recommendation, topics = analysis.recommendation, sections(analysis)
    plots = {part.name: part.figure for topic in topics for part in topic.parts if isinstance(part, Plot)}
    return render(
        "page.html",
        **words(analysis, recommendation),
        sections=topics,
        trials=trials,
        marks=MARKS,
        viridis=VIRIDIS,
        color_ticks=color_ticks(trials.slowest),
        figures=figures(analysis, recommendation, measurements, trials) | plots,
        most_panels=MOST_PANELS,
    )


def figures(
    analysis: Run, recommendation: Recommendation | None, measurements: pa.Table | None, trials: TrialPanels
) -> dict[str, Figure]:
    """Every figure that there is something to draw in, by its name in the page."""
    found = {
        "steps": steps_plot(analysis),
        "examples": examples_plot(analysis, recommendation),
        **{f"trials-{batch_size}": panel for batch_size, panel in trials.panels},
        "curves": curves_plot(analysis, measurements) if measurements is not None else None,
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def sections(analysis: Run) -> tuple[Answer, ...]:
    """The topics beyond the main answer that this run has something to say on, in the order of the page."""
    topics = (fit_section(analysis), *(question(name)(analysis) for name in QUESTIONS))
    return tuple(topic for topic in topics if isinstance(topic, Answer) and topic.on_page)


def words(analysis: Run, recommendation: Recommendation | None) -> dict[str, Any]:
    """All text of the page, unescaped."""
    experiment, fit, unit = analysis.experiment, analysis.fit, analysis.experiment.unit
    target = str(experiment.target)
    return {
        "name": experiment.name,
        "workload": experiment.workload.name,
        "target": target,
        "unit": unit,
        "location": analysis.location,
        "answer": answer(analysis, recommendation),
        "key_numbers": key_numbers(fit, target) if fit else (),
        "lack_of_fit": fit is not None and fit.lack_of_fit,
        "caveats": caveats(analysis, recommendation),
        "boundary": tables.boundary_table(analysis),
        "edges": {kind: text for kind, text in tables.EDGES.items() if (analysis.boundary["kind"] == kind).any()},
        "outcomes": tables.outcome_table(analysis),
        "points": tables.point_table(analysis),
        "studies": tables.study_table(analysis),
        "experiment": dump_experiment(experiment),
        "environment": tables.environment_table(analysis.environment),
        "glossary": glossary(unit, target),
    }


__all__ = ["MOST_PANELS", "build_report", "figures", "sections", "words"]
