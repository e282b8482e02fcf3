"""What is printed: sentences wrapped at words on a terminal, whole lines into files and pipes; answers; the display."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text as Shown

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import printable

if TYPE_CHECKING:
    from bcrit.analysis.report import Answer, Rows
    from bcrit.analysis.studies.state import Progress
    from bcrit.tuner.protocol.proposal import Proposal, TrialRecord
    from bcrit.tuner.scheduler import WorkerScheduler

_UNBOUNDED = 10_000  # columns: wide enough for any table, so that it is measured as it is


class Screen(Console):
    """A console that shows names and messages of others as text: nothing in them steers the terminal."""

    def render_str(self, text: str, **options: Any) -> Shown:
        """Markup as text, also of cells and titles of tables."""
        return super().render_str(printable(text), **options)


def wide_console(stderr: bool = False) -> Console:
    """A console that does not squeeze tables into 80 columns where there is no terminal to tell its width."""
    console = Screen(stderr=stderr)
    return console if console.is_terminal else Screen(stderr=stderr, width=120)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print text, which may hold anything, as it is: without markup or highlighting."""
    console.print(escape(text), style=style, highlight=False, soft_wrap=not console.is_terminal)


def paragraphs(function: Callable[..., Any]) -> str:
    """The docstring of a command with each paragraph on one line, which a terminal of any width can then fill."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(function.__doc__ or "").split("\n\n"))


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object to stdout."""
    print(json.dumps(content, indent=2, allow_nan=False))


def tell(answer: Answer, as_json: bool) -> None:
    """An answer as JSON, or for the eyes."""
    if as_json:
        print_json(answer.facts)
    else:
        show(answer)


def show(answer: Answer, console: Console | None = None) -> None:
    """The terminal's face of an answer: its brief tables, then what it says, unless it has a face of its own."""
    from bcrit.analysis.report import Rows, Text

    console = console or wide_console()
    notes = (f"  note: {note}" for note in answer.notes)
    usual: tuple[Rows | Text | str, ...] = (*answer.brief, *answer.sentences, *notes)
    for part in answer.terminal or usual:
        if isinstance(part, Rows):
            console.print(table(part, console))
        elif isinstance(part, Text):
            say(console, part.text, style="bold")
        else:
            say(console, part)


def table(rows: Rows, console: Console) -> Table:
    """Right-aligned under its heading, without the columns that do not fit: a cut number would be a wrong one.

    The spare ones go first, so that cells stay on one line; others, the last first, where cells that are broken between
    words have too little room too.
    """
    unbounded, head = console.options.update(width=_UNBOUNDED), rows.table.head
    spare = [list(rows.spare)[kept:] for kept in range(len(rows.spare), -1, -1)]
    for hidden in [*spare, *([*range(last, len(head))] for last in range(len(head) - 1, 1, -1))]:
        found = _table(rows, hidden)
        if hidden:
            found.caption = escape(f"not shown: {', '.join(rows.spare.get(place, head[place]) for place in hidden)}")
        if Measurement.get(console, unbounded, found).maximum <= console.width:
            break
        lines = console.render_lines(found)
        words = {word for line in lines for word in "".join(part.text for part in line).split()}
        if len(hidden) >= len(rows.spare) and words >= set(_words(rows, hidden)):
            break
    return found


def _words(rows: Rows, hidden: Collection[int]) -> Iterator[str]:
    """All that is not to be cut at the console's edge."""
    for row in (rows.table.head, *rows.table.rows):
        for place, cell in enumerate(row):
            if place not in hidden:
                yield from cell.split()


def _table(rows: Rows, hidden: Collection[int]) -> Table:
    found = Table(title=escape(rows.heading) or None, box=box.SIMPLE_HEAD)
    shown = [place for place in range(len(rows.table.head)) if place not in hidden]
    for place in shown:
        words = " ".join((rows.table.head[place], *(row[place] for row in rows.table.rows))).split()
        width = max(map(len, words), default=1)
        found.add_column(escape(rows.table.head[place]), justify="right", min_width=width)
    for row in rows.table.rows:
        found.add_row(*(escape(row[place]) for place in shown))
    return found


_REDRAW_SECONDS = 0.25
_LINE_SECONDS = 10.0
_COUNT_SECONDS = 2.0  # between two looks at how far all studies are: a few ms with some thousand trials


class Display(AbstractContextManager["Display"]):
    """Shows a ledger as it grows."""

    def __init__(self, experiment: Experiment, console: Console, listed: Sequence[Proposal] = ()) -> None:
        """Prepare; nothing is shown before workers start. `listed` are trials beside the study, where these are run."""
        self._experiment, self._console, self._listed = experiment, console, listed
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._begun, self._last = time.monotonic(), -_LINE_SECONDS
        self._ready: float | None = None  # when the first worker was
        self._told = 0  # notes that were said
        self._so_far: Progress | None = None
        self._counted = -math.inf
        self._still: tuple[int, int] | None = None  # what was shown when nothing ran

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, scheduler: WorkerScheduler | None) -> None:
        """Show the state, unless that was done a moment ago; notes are said at once.

        None says that workers are about to start, which takes some seconds.
        """
        from bcrit.analysis.numbers import workers_of

        if scheduler is None:
            if self._live is not None:
                self._live.start()
            else:
                say(self._console, "starting workers ...")
            return
        self._ready = time.monotonic() if self._ready is None else self._ready
        for note in scheduler.notes[self._told :]:
            say(self._console, f"note: {note}")
        self._told = len(scheduler.notes)
        every = _LINE_SECONDS if self._live is None else _REDRAW_SECONDS
        now, still = time.monotonic(), (len(scheduler.running), scheduler.ledger.n_finished)
        if still == self._still or (now - self._last < every and scheduler.running):
            return
        self._last, self._still = now, None if scheduler.running else still
        if self._so_far is None or now - self._counted > _COUNT_SECONDS or not scheduler.running:
            self._so_far, self._counted = scheduler.ledger.so_far(self._experiment), now
        so_far, workers = self._so_far, f"on {workers_of(scheduler.n_workers)}{_mishaps(scheduler)}"
        if self._live is None:
            line = _listed_line(self._listed, scheduler) if self._listed else self._line(so_far, scheduler, workers)
            say(self._console, f"[{now - self._begun:6.0f} s] {line}{self._left(so_far, scheduler)}")
        else:
            made = _listed_table(self._listed, scheduler) if self._listed else self._studies(so_far, scheduler)
            of = "" if self._listed else f" of about {so_far.expected}"
            done = f"{scheduler.ledger.n_finished}{of} trials in {now - self._begun:.0f} s {workers}"
            made.caption = f"{done}{self._left(so_far, scheduler)}. {_STOP}"
            self._live.update(made, refresh=True)

    def _left(self, so_far: Progress, scheduler: WorkerScheduler) -> str:
        """How long the rest of the study will take, where that is known."""
        from bcrit.analysis.numbers import duration
        from bcrit.analysis.studies.driver import seconds_left

        if self._listed or self._ready is None:
            return ""
        now, elapsed = time.time(), time.monotonic() - self._ready
        spent = sum(
            record.ended_at - record.started_at
            for records in scheduler.ledger.records.values()
            for record in records
            if record.ended_at > now - elapsed
        )
        flight = sum(now - trial.since for trial in scheduler.at_work)
        left = seconds_left(so_far, spent, flight, elapsed, scheduler.n_workers)
        return f"; about {duration(left / 3600)} left" if left else ""

    def _line(self, so_far: Progress, scheduler: WorkerScheduler, workers: str) -> str:
        best = " ".join(f"{study.batch_size}:{study.fewest}" for study in so_far.studies if study.fewest is not None)
        done = f"{scheduler.ledger.n_finished} of about {so_far.expected} trials done, {len(scheduler.running)} running"
        target = self._experiment.target
        return f"{done} {workers}; fewest steps to {target} by batch size: {best or 'none yet'}"

    def _studies(self, so_far: Progress, scheduler: WorkerScheduler) -> Table:
        experiment = self._experiment
        table = Table(title=escape(f"{experiment.name}: steps to {experiment.target}"))
        for name in ("batch size", "searched", "confirmed", "running", "fewest steps", "how trials ended"):
            table.add_column(name, justify="left" if name == "how trials ended" else "right")
        now = Counter(proposal.batch_size for proposal in scheduler.running)
        for study in so_far.studies:
            search = (r for r in scheduler.ledger.records.get(study.batch_size, ()) if r.stage is Stage.SEARCH)
            table.add_row(
                str(study.batch_size),
                f"{study.searched}/{study.to_search}",
                f"{study.rerun}/{study.to_rerun}",
                str(now[study.batch_size]),
                "-" if study.fewest is None else str(study.fewest),
                _ended(Counter(record.outcome for record in search)),
            )
        return table


_STOP = "Ctrl-C stops gently; what has finished is kept."


def _mishaps(scheduler: WorkerScheduler) -> str:
    """What went wrong with trials by no fault of theirs, and how many failed by their own."""
    failed = sum(r.outcome.broken for records in scheduler.ledger.records.values() for r in records)
    return "".join(f", {n} {word}" for n, word in ((failed, "failed"), (scheduler.retried, "retried")) if n)


def _ended(outcomes: Mapping[Outcome, int]) -> str:
    return " ".join(f"{outcome.value} {outcomes[outcome]}" for outcome in Outcome if outcomes[outcome])


def _finished(listed: Sequence[Proposal], scheduler: WorkerScheduler) -> dict[str, TrialRecord]:
    wanted = {proposal.trial_id for proposal in listed}
    return {r.trial_id: r for of_size in scheduler.ledger.records.values() for r in of_size if r.trial_id in wanted}


def _listed_line(listed: Sequence[Proposal], scheduler: WorkerScheduler) -> str:
    return (
        f"{len(_finished(listed, scheduler))} of {len(listed)} training runs done, {len(scheduler.running)} running on "
        f"{scheduler.n_workers} workers{_mishaps(scheduler)}"
    )


def _listed_table(listed: Sequence[Proposal], scheduler: WorkerScheduler) -> Table:
    """One row for every batch size and purpose."""
    table, finished = Table(title="training runs beside the study"), _finished(listed, scheduler)
    for name in ("batch size", "for", "trained", "running", "how they ended"):
        table.add_column(name, justify="right" if name in ("batch size", "trained", "running") else "left")
    now = Counter((proposal.batch_size, proposal.stage) for proposal in scheduler.running)
    for batch_size, stage in sorted({(proposal.batch_size, proposal.stage) for proposal in listed}):
        mine = [p.trial_id for p in listed if (p.batch_size, p.stage) == (batch_size, stage)]
        done = [finished[name] for name in mine if name in finished]
        cells = (str(batch_size), stage.value.replace("_", " "), f"{len(done)}/{len(mine)}")
        table.add_row(*cells, str(now[batch_size, stage]), _ended(Counter(record.outcome for record in done)))
    return table


def say_notes(console: Console, notes: Sequence[str]) -> None:
    """What should be known of an experiment before it runs."""
    for note in notes:
        say(console, f"note: {note}")
