"""The tables of a comparison, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bcrit.analysis.comparison.advantage import Advantage, Stretch
from bcrit.analysis.comparison.at_batch_sizes import AtBatchSize
from bcrit.analysis.comparison.compare import Comparison
from bcrit.analysis.comparison.ratios import Ratio
from bcrit.analysis.comparison.source import NUMBERS, Estimate, Side
from bcrit.analysis.report.answer import Table, table_of
from bcrit.analysis.wording import duration, interval_text, value_text


def run_table(runs: Sequence[Side]) -> Table:
    """One row a run: its numbers, and what they were measured from."""
    return table_of([run_row(run) for run in runs])


def run_row(run: Side) -> dict[str, str]:
    """The cells of one run."""
    effort, ends = run.effort, run.range
    return {
        "run": run.label,
        "target": run.target or "not stated",
        **{name: estimate_text(run.estimates.get(name)) for name in NUMBERS},
        "unit": run.unit,
        "batch sizes": f"{value_text(ends[0])} to {value_text(ends[1])}" if ends else "none reached",
        "reached": f"{len(run.reached)} of {len(run.studies)}",
        "scatter": f"{100 * run.fit.rms_log_residual:.1f} %" if run.fit else "–",
        "lack of fit": ("yes" if run.fit.lack_of_fit else "no") if run.fit else "no fit",
        "trials": f"{effort['trials']:,}" if effort else "–",
        "steps in all": f"{effort['steps']:,}" if effort else "–",
    }


def estimate_text(estimate: Estimate | None) -> str:
    """A number with its interval, or why there is none."""
    if estimate is None:
        return "–"
    if not estimate.identified:
        between = interval_text(None, estimate.low, estimate.high)
        return "not identified" if between == "no interval" else f"not identified ({between})"
    return interval_text(estimate.value, estimate.low, estimate.high)


def ratio_table(ratios: Sequence[Ratio]) -> Table:
    """One row a pair and number."""
    rows = []
    for ratio in ratios:
        known = ratio.low is not None or ratio.high is not None
        rows.append(
            {
                "run / baseline": f"{ratio.run} / {ratio.baseline}",
                "of": ratio.quantity,
                "ratio (interval)": interval_text(ratio.ratio, ratio.low, ratio.high) if known else "–",
                "p": p_text(ratio.p_value),
                "p after Holm": p_text(ratio.p_adjusted),
                "verdict": ratio.verdict,
                "why": ratio.reason,
            }
        )
    return table_of(rows)


def batch_size_table(rows: Sequence[AtBatchSize]) -> Table:
    """One row a pair and batch size."""
    found = []
    for row in rows:
        known = row.low is not None or row.high is not None
        between = interval_text(row.ratio, row.low, row.high) if known else "–"
        found.append(
            {
                "run / baseline": f"{row.run} / {row.baseline}",
                "batch size": row.batch_size,
                "steps of the run": row.steps,
                "steps of the baseline": row.baseline_steps,
                "ratio (interval)": between,
                "p after Holm": p_text(row.p_adjusted),
                "fewer steps": row.fewer or ("not told apart" if row.ratio is not None else row.note),
            }
        )
    return table_of(found)


def advantage_table(advantages: Sequence[Advantage]) -> Table:
    """One row a stretch of batch sizes over which one run has the fewer steps, or neither."""
    return table_of([_stretch_row(a, stretch) for a in advantages for stretch in a.stretches])


def _stretch_row(advantage: Advantage, stretch: Stretch) -> dict[str, Any]:
    return {
        "run / baseline": f"{advantage.run} / {advantage.baseline}",
        "batch sizes": f"{value_text(stretch.low)} to {value_text(stretch.high)}",
        "fewer steps": stretch.fewer or "not told apart",
        "ratio farthest from 1": interval_text(stretch.strongest, stretch.strongest_low, stretch.strongest_high),
        "at batch size": stretch.strongest_at,
        "the curves meet at": advantage.crossing,
    }


def fastest_table(comparison: Comparison) -> Table:
    """The shortest training of each run, the fastest first."""
    rows = sorted(comparison.fastest, key=lambda f: f.hours)
    return table_of(
        [{"run": f.run, "batch size": f.batch_size, "steps": f.steps, "time": duration(f.hours)} for f in rows]
    )


def point_table(runs: Sequence[Side]) -> Table:
    """The best hyperparameters of every run at every batch size."""
    points = [
        (run, size, point) for run in runs if run.analysis for size, point in run.analysis.hyperparameters.items()
    ]
    names = list(dict.fromkeys(name for _, _, point in points for name in point))
    return table_of(
        [{"run": r.label, "batch size": size, **{n: point.get(n) for n in names}} for r, size, point in points]
    )


def p_text(p: float | None) -> str:
    """A p-value; very small ones by what they are below."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


__all__ = [
    "advantage_table",
    "batch_size_table",
    "estimate_text",
    "fastest_table",
    "p_text",
    "point_table",
    "ratio_table",
    "run_row",
    "run_table",
]
