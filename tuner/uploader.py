"""From the log to the run folder: one background thread delivers what a session records.

The driver's main thread writes each row to the log on its own disk and goes on; it never waits for the run folder's
storage. Every few seconds this thread takes what the log has gained and writes it as one part a table, measurements
before trials, so that a trial in the folder has all its measurements there. Then that segment of the log goes. A store
that is away is tried again and again; if it stays away too long, or cannot be written to at all, the next call of the
ledger raises what happened, and the rows wait in the log for `bcrit resume`.
"""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TypeVar

import pyarrow as pa

from bcrit.analysis.records.arrow_tables import joined
from bcrit.analysis.records.parted_tables import Rows, begin_segment, number_of, part_name, read_log, record, segments
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.records.storage import patiently
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

T = TypeVar("T")

_ORDER: Final = (MEASUREMENTS, TRIALS)  # a trial in the folder has all its measurements there
# How often the log is emptied. Readers on this machine see the log, those elsewhere wait this long. Chosen.
_DELIVER_SECONDS = 3.0
# The log is emptied sooner when so many rows wait: a part that is written and read in well under a second. Chosen.
_DELIVER_ROWS = 200_000
# How long a store may be away. Object stores come back from an outage of a zone or an expired token in minutes; a run
# that trains for hours on what it may never be able to deliver helps nobody. Chosen.
DELIVERY_PATIENCE = 15 * 60.0
# Parts are joined when so many have come; fewer than `bcrit.analysis.records.parted_tables` joins at once would only be
# listed.
_JOIN_EVERY = 8


class Fence(Protocol):
    """What says whether this process may write to the run at this moment: `bcrit.tuner.lease.Lease`."""

    def check(self) -> None:
        """Raise unless it may."""


class DeliveryError(RuntimeError):
    """Rows could not be brought to the run folder; they are in the log."""


class Uploader:
    """Takes rows, writes them to the log, and delivers them in the background.

    The fence is asked before anything is written to the folder; None where nobody else can be at work in it. Nothing is
    written before the first row.
    """

    def __init__(self, folder: RunFolder, fence: Fence | None) -> None:
        self._folder, self._fence = folder.impatient(), fence
        self._log = patiently(lambda: self._folder.log, DELIVERY_PATIENCE)
        self._left = segments(self._log)  # by sessions before this one
        numbers = [patiently(partial(self._folder.next_number, table), DELIVERY_PATIENCE) for table in _ORDER]
        self._number = max([*numbers, *(number_of(path) + 1 for path in self._left)])
        self._token = uuid.uuid4().hex[:6]
        self._parts = dict.fromkeys((table.name for table in _ORDER), 0)
        self._recording, self._delivering = threading.Lock(), threading.Lock()
        self._segment: BinaryIO | None = None
        self._waiting: list[tuple[Table, pa.Table]] = []
        self._n_waiting = 0
        self._wake, self._closing = threading.Event(), threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="bcrit-uploader", daemon=True)
        self._thread.start()

    def add(self, table: Table, data: pa.Table) -> None:
        """Record rows of `TRIALS` or `MEASUREMENTS`; when this returns they count, whatever happens to this process.

        DeliveryError: the log cannot be written; or earlier rows could not be delivered, and these are recorded.
        """
        content = record(table, data)
        with self._recording:
            try:
                self._append(content)
            except OSError as error:
                remedy = f"mend that and go on with `bcrit resume {self._folder}`; trials that have ended are kept"
                self._error = DeliveryError(f"the log in {self._log} cannot be written: {error}; {remedy}")
                raise self._error from error
            self._waiting.append((table, data))
            self._n_waiting += data.num_rows
        if self._n_waiting >= _DELIVER_ROWS:
            self._wake.set()
        self.check()

    def _append(self, content: bytes) -> None:
        """Write to the current segment; where that did not go to its end nothing may follow it."""
        if self._segment is None:
            self._segment = begin_segment(self._log, self._number, self._token)
        if self._segment.write(content) != len(content):
            raise OSError("its disk is full")

    def check(self) -> None:
        """Raise what went wrong in the background, if anything did."""
        if self._error is not None:
            raise self._error

    def flush(self) -> None:
        """Deliver what is in the log now, and wait for it; DeliveryError where that fails."""
        with self._told(), self._delivering:
            self._deliver()

    def close(self) -> None:
        """Deliver everything and leave one part a table, apart from large ones; DeliveryError where that fails."""
        self._closing.set()
        self._wake.set()
        try:
            while self._thread.is_alive():
                self._thread.join(1.0)  # in short waits, between which Ctrl-C is heard
            self.flush()
        finally:
            if self._segment is not None:
                self._segment.close()
        with self._told():
            for table in _ORDER:
                self._patiently(partial(self._folder.compact, table, patience=0))
        if self._log.is_dir() and not any(self._log.iterdir()):
            self._log.rmdir()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._wake.wait(_DELIVER_SECONDS)
                self._wake.clear()
                self.flush()
                for table in _ORDER:
                    if self._parts[table.name] >= _JOIN_EVERY:
                        self._parts[table.name] = 0
                        with self._told():
                            self._patiently(partial(self._folder.compact, table, everything=False, patience=0))
        except DeliveryError:
            return  # it is raised again where the main thread hears it: see `check`

    def _deliver(self) -> None:
        """Bring what waits to the folder: what earlier sessions left first, since this one went on from it."""
        self.check()
        if self._left:
            rows = self._patiently(lambda: self._folder.lacking(read_log(self._left)))
            self._write(rows, self._next_number(), self._left)
            self._left = []
        with self._recording:
            waiting, self._waiting, self._n_waiting = self._waiting, [], 0
            segment, self._segment = self._segment, None
            number = self._next_number() if segment else self._number
        if segment is not None:
            segment.close()
            pieces = {table.name: [data for of, data in waiting if of is table] for table in _ORDER}
            rows = {name: joined(data) for name, data in pieces.items() if data}
            self._write(rows, number, [Path(segment.name)])
        elif self._fence is not None:
            self._patiently(lambda: None)  # a session that has lost its run hears of it also when nothing is to be done

    def _next_number(self) -> int:
        self._number += 1
        return self._number - 1

    def _write(self, rows: Rows, number: int, delivered: Sequence[Path]) -> None:
        """Write one part a table; only then the log may forget the rows."""
        for table in _ORDER:
            if table.name in rows:
                name = part_name(table, number, token=self._token)
                # Every try writes the same bytes to the same name, so that one which seemed to fail doubles nothing.
                self._patiently(partial(self._folder.write_table, name, rows[table.name], patience=0))
                self._parts[table.name] += 1
        for path in delivered:
            path.unlink(missing_ok=True)

    def _patiently(self, action: Callable[[], T]) -> T:
        def allowed() -> T:
            if self._fence is not None:
                self._fence.check()
            return action()

        return patiently(allowed, 0 if self._folder.is_local else DELIVERY_PATIENCE)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Keep what goes wrong, as one error that says where the rows are."""
        try:
            yield
        except DeliveryError:
            raise
        except Exception as error:
            self._error = DeliveryError(
                f"what this run records cannot be brought to {self._folder}: {error}. Nothing that it has measured is "
                f"lost: what has not arrived is in {self._log}, and `bcrit resume {self._folder}` on this machine "
                "delivers it"
            )
            raise self._error from error
