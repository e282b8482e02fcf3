"""`bcrit finals`: where the runs of given settings end, side by side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from bcrit.runs import AsJson
from bcrit.terminal import say, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.comparison.finals import Finals, Gap


def finals(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, in the order of the table.")],
    metric: Annotated[
        str | None, typer.Option(help="One of the workload's metrics. Default: that of the first run's target.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare what runs have got after their last step, over seeds: for given settings, as in a paper's table.

    It reads the re-runs of every study's point, which must train on beyond the target: 'confirm: {beyond_target:
    true}'. Means have 95 % t-intervals; differences are Welch's, and '*' marks those that survive Holm's correction
    over all of the table.
    """
    from bcrit.analysis.comparison.finals import finals as finals_of
    from bcrit.analysis.records.run_folder import RunFolder

    found = finals_of([RunFolder.at(run) for run in runs], metric)
    if as_json:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))
        return
    console = wide_console()
    console.print(_table(found))
    for sentence in found.sentences:
        say(console, sentence)


def _table(found: Finals) -> Table:
    from bcrit.analysis.wording import value_text

    table = Table(title=escape(f"{found.metric} after the last step"), box=box.SIMPLE_HEAD)
    for heading in (
        "row",
        "run",
        "batch size",
        "steps",
        "examples",
        "seeds",
        found.metric,
        "to row before",
        "to row 1",
    ):
        left = heading == "run"
        table.add_column(escape(heading), justify="left" if left else "right", no_wrap=left)
    for place, row in enumerate(found.rows):
        ended = f"{row.n}/{row.n + row.n_lost}"
        interval = "" if row.low is None else f"\n({value_text(row.low)} to {value_text(row.high)})"
        gaps = [_gap(found.gap(place, other)) for other in (place - 1, 0)]
        numbers = [f"{number:,}" for number in (row.batch_size, row.steps, row.examples)]
        name = row.run.rstrip("/").rpartition("/")[2]
        table.add_row(str(place + 1), escape(name), *numbers, ended, f"{value_text(row.mean)}{interval}", *gaps)
    return table


def _gap(gap: Gap | None) -> str:
    from bcrit.analysis.wording import value_text

    if gap is None:
        return "–"
    return f"{value_text(gap.value)}{'*' if gap.real else ''}\n({value_text(gap.low)} to {value_text(gap.high)})"


__all__ = ["finals"]
