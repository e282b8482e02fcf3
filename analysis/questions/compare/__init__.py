"""Which differences between runs are real? Optimizers, models, targets side by side, in ratios with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.questions.compare.figures import plots
from bcrit.analysis.questions.compare.ratios import Ratio, ratios
from bcrit.analysis.questions.compare.sides import NUMBERS, Side, StepsTable, named, side_of
from bcrit.analysis.questions.compare.steps import (
    Advantage,
    AtBatchSize,
    Fastest,
    advantages,
    at_batch_sizes,
    fastest,
)
from bcrit.analysis.questions.compare.words import cautions, sentences
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.report.answer import Answer, Rows, Table, table_of
from bcrit.analysis.run import Run
from bcrit.analysis.wording import duration, value_text
from bcrit.search_spaces.problems import InputError

ASSUMED = (
    "Each run is a measurement of its own: its studies scatter about its curve independently of the other runs.",
    "Each run was tuned afresh at every batch size. Ratios then compare ways of training, tuning and its effort "
    "included; b_crit belongs to the target and to that way of training.",
    "A larger b_crit is not better by itself: it is also had by wasting examples at small batch sizes. What counts are "
    "the steps, or hours, at the batch size that is going to be used.",
    "Intervals hold for one ratio each and come from the scatter of the studies about the curves, with Welch's degrees "
    "of freedom. 'Differs' needs a p-value below 5 % after Holm's correction over all ratios of this comparison; at "
    "single batch sizes, over the batch sizes of the two runs.",
    "'No difference seen' is not 'the same': the interval says how large a difference could be.",
)
"""What every comparison takes for granted."""
_LONG = 12  # a table with more rows is folded; chosen, not studied


def ask(
    sources: Annotated[
        Sequence[Run | Path | StepsTable], "Two or more run folders, or tables as `bcrit fit` takes them.", "RUN..."
    ],
    across_targets: Annotated[bool, "Divide numbers of runs to different targets too."] = False,
    unit: Annotated[str, "What a batch counts in tables; a run says it itself."] = "examples",
) -> Answer | str:
    """Compare runs: optimizers, models, targets side by side, and which differences are real.

    The first run is the one that the others are compared with. Exit code 1 when no two of them can be compared.
    """
    runs = named(_sides(sources, unit))
    divided, between = ratios(runs, across_targets), advantages(runs, across_targets)
    at_sizes, quickest = at_batch_sizes(runs, across_targets), fastest(runs)
    said, told = sentences(divided, between, quickest, runs[0].label), cautions(runs, across_targets)
    facts = {
        "runs": [run.to_json() for run in runs],
        "ratios": [ratio.to_json() for ratio in divided],
        "at_batch_sizes": [row.to_json() for row in at_sizes],
        "advantages": [advantage.to_json() for advantage in between],
        "fastest": quickest,
        "sentences": said,
        "cautions": told,
        "assumed": ASSUMED,
    }
    numbers = (
        Rows("Numbers, with their intervals", table_of([_numbers(run) for run in runs]), brief=True),
        Rows("What they were measured from", table_of([_measured(run) for run in runs]), brief=True),
    )
    sections = (
        Answer("runs", "The runs", (), numbers),
        Answer("curves", "Steps against batch size", (), tuple(plots(runs))),
        _ratios(divided, runs[0].label),
        *_steps(between, at_sizes, quickest),
        *_points(runs),
    )
    title = " and ".join(run.label for run in runs) if len(runs) == 2 else f"{len(runs)} runs"
    comparable = any(ratio.verdict != "not comparable" for ratio in divided) or bool(between)
    return Answer(
        *("compare", f"{title}, side by side", said, numbers, plain(facts), told), yes=comparable, sections=sections
    )


def _sides(sources: Sequence[Run | Path | StepsTable], unit: str) -> list[Side]:
    """Read every run and table; the problems of all come in one message."""
    found, problems = [], []
    places = [str(source) if isinstance(source, Path) else source.location for source in sources]
    for source, place in zip(sources, places, strict=True):
        try:
            found.append(side_of(source, unit))
        except InputError as error:
            problems += [f"{place}: {problem}" for problem in error.problems]
    if not problems:
        problems += [f"'{place}' is given twice; name each run once" for place in places if places.count(place) > 1]
        if len(sources) < 2:
            problems.append(f"two or more runs are needed, but there is {len(sources)}; name another run or table")
    if problems:
        raise InputError("compare", problems)
    return found


def _numbers(run: Side) -> dict[str, str]:
    known = {name: run.estimates.get(name) for name in NUMBERS}
    return {"run": run.label, "unit": run.unit, **{name: estimate_text(each) for name, each in known.items()}}


def _measured(run: Side) -> dict[str, str]:
    effort, ends = run.effort, run.range
    return {
        "run": run.label,
        "target": run.target or "not stated",
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
    if not estimate.why:
        return str(estimate)
    between = estimate.interval()
    return estimate.why if between == "no interval" else f"{estimate.why} ({between})"


def _ratios(found: Sequence[Ratio], first: str) -> Answer:
    others = [ratio for ratio in found if ratio.baseline != first]
    parts = [Rows(f"Against {first}", ratio_table([ratio for ratio in found if ratio.baseline == first]))]
    if others:
        parts.append(Rows("All other pairs", ratio_table(others), len(others) > _LONG))
    tested = sum(ratio.p_value is not None for ratio in found)
    sentence = (
        f"Each number of a run divided by that of another. 'Differs' is what remains after Holm's correction over "
        f"{tested} ratios; the intervals are those of one ratio alone."
    )
    return Answer("ratios", "Which differences are real", (sentence,), tuple(parts))


def ratio_table(found: Sequence[Ratio]) -> Table:
    """One row a pair and number."""
    return table_of(
        [
            {
                "run / baseline": f"{ratio.run} / {ratio.baseline}",
                "of": ratio.quantity,
                "ratio (interval)": _known(ratio.size),
                "p": p_text(ratio.p_value),
                "p after Holm": p_text(ratio.p_adjusted),
                "verdict": ratio.verdict,
                "why": ratio.reason,
            }
            for ratio in found
        ]
    )


def _known(ratio: Estimate) -> str:
    return "–" if ratio.low is None and ratio.high is None else str(ratio)


def p_text(p: float | None) -> str:
    """A p-value; very small ones by what they are below."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _steps(between: Sequence[Advantage], at_sizes: Sequence[AtBatchSize], quickest: Sequence[Fastest]) -> list[Answer]:
    if not between:
        return []
    stretches = [
        {
            "run / baseline": f"{advantage.run} / {advantage.baseline}",
            "batch sizes": f"{value_text(stretch.low)} to {value_text(stretch.high)}",
            "fewer steps": stretch.fewer or "not told apart",
            "ratio farthest from 1": str(stretch.strongest),
            "at batch size": stretch.strongest_at,
            "the curves meet at": advantage.crossing,
        }
        for advantage in between
        for stretch in advantage.stretches
    ]
    parts = [Rows("By the curves, where both runs measured", table_of(stretches))]
    if at_sizes:
        table = batch_size_table(at_sizes)
        parts.append(Rows("As measured, at the batch sizes of both runs", table, len(at_sizes) > _LONG))
    if quickest:
        shortest = [
            {"run": f.run, "batch size": f.batch_size, "steps": f.steps, "time": duration(f.hours)}
            for f in sorted(quickest, key=lambda f: f.hours)
        ]
        parts.append(Rows("Shortest training, on each run's own machine", table_of(shortest)))
    sentence = (
        "The curves tell two runs apart sooner than single batch sizes do, because every study speaks for the whole "
        "curve; the measured steps trust no curve."
    )
    return [Answer("steps", "Which run needs fewer steps, and where", (sentence,), tuple(parts))]


def batch_size_table(rows: Sequence[AtBatchSize]) -> Table:
    """One row a pair and batch size."""
    return table_of(
        [
            {
                "run / baseline": f"{row.run} / {row.baseline}",
                "batch size": row.batch_size,
                "steps of the run": row.steps,
                "steps of the baseline": row.baseline_steps,
                "ratio (interval)": _known(row.ratio),
                "p after Holm": p_text(row.p_adjusted),
                "fewer steps": row.fewer or ("not told apart" if row.ratio.known else row.note),
            }
            for row in rows
        ]
    )


def _points(runs: Sequence[Side]) -> list[Answer]:
    points = [
        (run, size, point) for run in runs if run.analysis for size, point in run.analysis.hyperparameters.items()
    ]
    names = list(dict.fromkeys(name for _, _, point in points for name in point))
    rows: list[dict[str, Any]] = [
        {"run": run.label, "batch size": size, **{name: point.get(name) for name in names}}
        for run, size, point in points
    ]
    if not rows:
        return []
    table = Rows("By run and batch size", table_of(rows), len(rows) > _LONG)
    return [Answer("points", "Best hyperparameters", (), (table,))]
