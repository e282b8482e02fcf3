"""What is printed at the end: the table, the three numbers, the recommendation, where the report is."""

from __future__ import annotations

import math
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from bcrit.analysis.fit.estimate import HyperbolaFit
from bcrit.analysis.fit.next_batch_size import StepSeconds
from bcrit.analysis.fit.next_batch_size import sentence as next_sentence
from bcrit.analysis.fit.regimes import sentence as regimes_sentence
from bcrit.analysis.report.headline import key_numbers, settings
from bcrit.analysis.run import Run
from bcrit.analysis.wording import readable
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.space import hyperparameter
from bcrit.terminal import say

_SHOWN = 5  # rows that were set aside; `--json` has them all
_UNBOUNDED = 10_000  # columns: wide enough for any table, so that it is measured as it is


def print_summary(console: Console, analysis: Run) -> None:
    """Print what a newcomer needs of a run.

    Args:
        console: where.
        analysis: of the run.
    """
    console.print(study_table(analysis, console))
    if analysis.fit is None:
        say(console, f"No curve: {analysis.no_fit}")
    else:
        for line in fit_lines(analysis.fit, str(analysis.experiment.target)):
            say(console, line)
    for note in analysis.notes:
        say(console, f"  note: {note}")
    if (recommendation := analysis.recommendation) is not None:
        console.print()
        for sentence in (*recommendation.sentences, *settings(recommendation)):
            say(console, sentence, style="bold")


def study_table(analysis: Run, console: Console) -> Table:
    """One row a study: steps with their interval, examples, the best point, the edges it lies on.

    Hyperparameters that are the same everywhere come last, and as many columns are left out as do not fit on a line:
    a cut number would be a wrong one. `--json` and the report have them all.

    Args:
        analysis: of the run.
        console: that it is to fit on.
    """
    points = list(analysis.hyperparameters.values())
    names = list(dict.fromkeys(name for point in points for name in point if name not in STEPS_OF))
    names.sort(key=lambda name: len({str(point.get(name)) for point in points}) == 1)
    unbounded = console.options.update(width=_UNBOUNDED)
    for shown in range(len(names), -1, -1):
        table = _study_table(analysis, names[:shown])
        if shown < len(names):
            table.caption = escape(f"not shown: {', '.join(names[shown:])}")
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            break
    return table


def _study_table(analysis: Run, names: list[str]) -> Table:
    target = str(analysis.experiment.target)
    table = Table(title=escape(f"{analysis.experiment.name}: steps to {target}"), box=box.SIMPLE_HEAD)
    points = analysis.hyperparameters
    for heading in ("batch size", "steps (interval)", "seeds", analysis.experiment.unit, *names, "edge"):
        table.add_column(escape(heading.replace("_", " ")), justify="right", no_wrap=True)
    for row in analysis.studies.to_dict("records"):
        batch_size = int(row["batch_size"])
        point = points.get(float(batch_size), {})
        steps, examples = f"> {row['max_steps']:,} (not reached)" if row["max_steps"] else "no trial trained", "-"
        if math.isfinite(row["steps"]):
            steps = readable(row["steps"])
            if not math.isnan(row["steps_low"]):
                steps += f" ({_interval(row['steps_low'], row['steps_high'])})"
            examples = readable(row["examples"])
        edges = analysis.last_edges(batch_size).to_dict("records")
        binding = [f"{hyperparameter(edge['dimension'])} {edge['side']}" for edge in edges if edge["kind"] == "box"]
        table.add_row(
            f"{batch_size:,}",
            steps,
            f"{row['n_reached']}/{row['n_seeds']}" if row["n_seeds"] else "search only",
            examples,
            *(escape(_value(point.get(name))) for name in names),
            escape("\n".join(binding)) or "-",
        )
    return table


def fit_lines(
    fit: HyperbolaFit,
    target: str = "the target",
    step_seconds: StepSeconds | None = None,
) -> list[str]:
    """The three numbers of a fit, each with its interval and what it means, and what follows from them.

    Args:
        fit: of a table or a run.
        target: in words.
        step_seconds: time of a step by batch size, for what to measure next.
    """
    lines = []
    for number in key_numbers(fit, target):
        meaning = number.meaning[0].lower() + number.meaning[1:]
        lines.append(f"{number.symbol:>7} = {number.value} ({number.interval}): {meaning}")
    lines += [f"  note: {note}" for note in fit.notes]
    lines += [f"  set aside: row {aside.row}: {aside.reason}" for aside in fit.rows_set_aside[:_SHOWN]]
    follows = {
        "regimes": regimes_sentence(fit.regimes()),
        "next": next_sentence(fit.next_batch_size(step_seconds), fit.unit),
    }
    return lines + [f"  {name}: {sentence}" for name, sentence in follows.items() if sentence is not None]


def _interval(low: float, high: float) -> str:
    return f"{_end(low)} to {_end(high)}"


def _end(value: float) -> str:
    return readable(value) if math.isfinite(value) else "not reached"


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return readable(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
