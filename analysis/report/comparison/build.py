"""The page of a comparison: figures, tables and words put into the template."""

from __future__ import annotations

from typing import Final

from bcrit.analysis.comparison.compare import Comparison
from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.report.comparison import tables
from bcrit.analysis.report.comparison.curves_plot import MOST_BANDS, collapse_plot, curves_plot
from bcrit.analysis.report.comparison.numbers_plot import numbers_plot
from bcrit.analysis.report.figure import Figure
from bcrit.analysis.report.template import render

GENERATOR: Final = "bcrit compare"
"""By which a page of ours is known again, so that nothing else is overwritten."""

_LONG = 12  # a table with more rows is folded; chosen, not studied


def build_comparison(comparison: Comparison) -> str:
    """Write a comparison as one HTML page that loads nothing from anywhere.

    Args:
        comparison: of two or more runs.

    Returns:
        The page; all text is escaped.
    """
    topics = sections(comparison)
    figures: dict[str, Figure] = {
        part.name: part.figure for topic in topics for part in topic.parts if isinstance(part, Plot)
    }
    targets = list(dict.fromkeys(run.target for run in comparison.runs if run.target))
    return render(
        "comparison.html",
        generator=GENERATOR,
        labels=[run.label for run in comparison.runs],
        targets=targets,
        answer=comparison.sentences,
        cautions=comparison.cautions,
        assumed=comparison.assumed,
        places=[(run.label, run.location) for run in comparison.runs],
        sections=topics,
        figures=figures,
    )


def sections(comparison: Comparison) -> tuple[Answer, ...]:
    """The parts of the page below the answer, in their order."""
    return (
        Answer("runs", "The runs", (), (Rows("Numbers, with their intervals", tables.run_table(comparison.runs)),)),
        _curves(comparison),
        _ratios(comparison),
        *_steps(comparison),
        *_points(comparison),
    )


def _units(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(run.unit for run in comparison.runs))


def _curves(comparison: Comparison) -> Answer:
    """Figures of all runs; runs whose batch sizes count different things cannot share an axis."""
    parts: list[Plot] = []
    units = _units(comparison)
    for place, unit in enumerate(units):
        runs = [run for run in comparison.runs if run.unit == unit]
        bands = "" if len(runs) <= MOST_BANDS else f" With more than {MOST_BANDS} runs the bands are left out."
        of = f" Batch sizes in {unit}." if len(units) > 1 else ""
        curves = (
            f"curves-{place}",
            curves_plot(runs, unit),
            "Measured steps to the target with the interval over their seeds, the fitted curves, and the bands that "
            f"hold each curve with 95 %. Click a run in the legend to hide it.{bands}{of}",
        )
        numbers = (
            f"numbers-{place}",
            numbers_plot(runs, unit),
            "The three numbers with their intervals. Hollow and dotted: not identified; a triangle: no end on that "
            f"side.{of}",
        )
        parts += [Plot(name, drawn, caption) for name, drawn, caption in (curves, numbers) if drawn is not None]
    collapse = collapse_plot(comparison.runs)
    if collapse is not None:
        words = (
            "Every run in units of its own s_min and b_crit (runs whose b_crit is not identified are left out). Where "
            "the hyperbola holds, all points lie on the line, whatever the run."
        )
        parts.insert(1, Plot("collapse", collapse, words))
    return Answer("curves", "Steps against batch size", (), tuple(parts))


def _ratios(comparison: Comparison) -> Answer:
    first = comparison.runs[0].label
    against = [ratio for ratio in comparison.ratios if ratio.baseline == first]
    others = [ratio for ratio in comparison.ratios if ratio.baseline != first]
    parts = [Rows(f"Against {first}", tables.ratio_table(against))]
    if others:
        parts.append(Rows("All other pairs", tables.ratio_table(others), len(others) > _LONG))
    tested = sum(ratio.p_value is not None for ratio in comparison.ratios)
    sentence = (
        f"Each number of a run divided by that of another. 'Differs' is what remains after Holm's correction over "
        f"{tested} ratios; the intervals are those of one ratio alone."
    )
    return Answer("ratios", "Which differences are real", (sentence,), tuple(parts))


def _steps(comparison: Comparison) -> list[Answer]:
    if not comparison.advantages:
        return []
    rows = tables.batch_size_table(comparison.at_batch_sizes)
    parts = [Rows("By the curves, where both runs measured", tables.advantage_table(comparison.advantages))]
    if rows.rows:
        parts.append(Rows("As measured, at the batch sizes of both runs", rows, len(rows.rows) > _LONG))
    if comparison.fastest:
        parts.append(Rows("Shortest training, on each run's own machine", tables.fastest_table(comparison)))
    sentence = (
        "The curves tell two runs apart sooner than single batch sizes do, because every study speaks for the whole "
        "curve; the measured steps trust no curve."
    )
    return [Answer("steps", "Which run needs fewer steps, and where", (sentence,), tuple(parts))]


def _points(comparison: Comparison) -> list[Answer]:
    points = tables.point_table(comparison.runs)
    if not points.rows:
        return []
    rows = Rows("By run and batch size", points, len(points.rows) > _LONG)
    return [Answer("points", "Best hyperparameters", (), (rows,))]


__all__ = ["GENERATOR", "build_comparison", "sections"]
