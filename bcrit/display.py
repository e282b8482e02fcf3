"""What is seen while an experiment runs: one row a study, on a terminal live, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.terminal import say
from bcrit.tuner.protocol.proposal import TrialRecord

if TYPE_CHECKING:
    from bcrit.tuner.scheduler import WorkerScheduler

_REDRAW_SECONDS = 0.25
_LINE_SECONDS = 10.0


class Display(AbstractContextManager["Display"]):
    """Shows a ledger as it grows."""

    def __init__(self, experiment: Experiment, console: Console) -> None:
        """Prepare; nothing is shown before `with`.

        Args:
            experiment: what runs.
            console: where to show it.
        """
        self._experiment, self._console = experiment, console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._begun, self._last = time.monotonic(), -_LINE_SECONDS
        self._told = 0  # notes that were said

    def __enter__(self) -> Display:
        """Start the live table, or say that workers are starting, which takes some seconds."""
        if self._live is not None:
            self._live.start()
        else:
            say(self._console, "starting workers ...")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, scheduler: WorkerScheduler) -> None:
        """Show the state, unless that was done a moment ago; notes are said at once."""
        for note in scheduler.notes[self._told :]:
            say(self._console, f"note: {note}")
        self._told = len(scheduler.notes)
        every = _LINE_SECONDS if self._live is None else _REDRAW_SECONDS
        now = time.monotonic()
        if now - self._last < every and scheduler.running:
            return
        self._last = now
        if self._live is None:
            say(self._console, _line(self._experiment, scheduler, now - self._begun))
        else:
            self._live.update(_table(self._experiment, scheduler, now - self._begun), refresh=True)


def _line(experiment: Experiment, scheduler: WorkerScheduler, seconds: float) -> str:
    ledger = scheduler.ledger
    reached = {b: _incumbent(records) for b, records in sorted(ledger.records.items())}
    best = " ".join(f"{b}:{steps}" for b, steps in reached.items() if steps is not None)
    return (
        f"[{seconds:6.0f} s] {ledger.n_finished} trials done, {len(scheduler.running)} running on "
        f"{scheduler.n_workers} workers{_mishaps(scheduler)}; "
        f"fewest steps to {experiment.target} by batch size: {best or 'none yet'}"
    )


def _mishaps(scheduler: WorkerScheduler) -> str:
    """What went wrong with trials by no fault of theirs, and how many failed by their own."""
    failed = sum(r.outcome.broken for records in scheduler.ledger.records.values() for r in records)
    return "".join(f", {n} {word}" for n, word in ((failed, "failed"), (scheduler.retried, "retried")) if n)


def _table(experiment: Experiment, scheduler: WorkerScheduler, seconds: float) -> Table:
    ledger, running = scheduler.ledger, scheduler.running
    done = f"{ledger.n_finished} trials in {seconds:.0f} s on {scheduler.n_workers} workers{_mishaps(scheduler)}"
    table = Table(
        title=f"{experiment.name}: steps to {experiment.target}",
        caption=f"{done}. Ctrl-C stops gently; the run can be resumed.",
    )
    for name in ("batch size", "searched", "confirmed", "running", "fewest steps", "how trials ended"):
        table.add_column(name, justify="left" if name == "how trials ended" else "right")
    reruns = experiment.confirm.points * experiment.confirm.seeds
    now = Counter(proposal.batch_size for proposal in running)
    for batch_size in experiment.batch_sizes:
        records = ledger.records.get(batch_size, [])
        search = [record for record in records if record.stage is Stage.SEARCH]
        feasible = sum(record.outcome.feasible for record in search)
        rounds = max((record.round for record in search), default=0)
        wanted = experiment.search.trials + rounds * experiment.later_trials
        outcomes = Counter(record.outcome for record in search)
        incumbent = _incumbent(records)
        table.add_row(
            str(batch_size),
            f"{feasible}/{wanted}",
            f"{len(records) - len(search)}/{reruns}",
            str(now[batch_size]),
            "-" if incumbent is None else str(incumbent),
            " ".join(f"{outcome.value} {outcomes[outcome]}" for outcome in Outcome if outcomes[outcome]),
        )
    return table


def _incumbent(records: Sequence[TrialRecord]) -> int | None:
    crossings = [r.steps_to_target for r in records if r.stage is Stage.SEARCH and r.steps_to_target is not None]
    return min(crossings, default=None)
