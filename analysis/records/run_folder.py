"""The run folder: the one owner of its paths, and the only place where its experiment and tables are read and written.

Tables grow by *parts* (`bcrit.analysis.records.parted_tables`): files that are written once, under a temporary name,
and moved into place.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from bcrit.analysis.records import parted_tables
from bcrit.analysis.records.arrow_tables import (
    arrow_schema,
    column_violations,
    decoded,
    joined,
    sealed,
    to_arrow,
    violations,
)
from bcrit.analysis.records.json_values import loaded
from bcrit.analysis.records.storage import HALF_WRITTEN, PATIENCE, Place
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import a_file, dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

EXPERIMENT = "experiment.yaml"
ENVIRONMENT = "environment.json"
STATUS = "status.json"
CODE = "code.zip"
STEPS_TO_TARGET_FILE = "analysis/steps_to_target.parquet"
BOUNDARY_FILE = "analysis/boundary.parquet"
TARGET_CELLS_FILE = "analysis/target_cells.parquet"
BUDGET_CELLS_FILE = "analysis/budget_cells.parquet"
FIT = "analysis/fit.json"
TARGETS = "analysis/targets.json"
BUDGETS = "analysis/budgets.json"
RECOMMENDATION = "analysis/recommendation.json"
ASKED = "analysis/recommend.json"
LANDSCAPE = "analysis/landscape.json"
ADAPTIVE = "analysis/adaptive.json"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"
RAY = "ray"
TIMING = "timing"
LOCK = ".lock"
LEASE = ".lease"

_LISTINGS = 5  # chosen; parts are joined minutes apart
_SMALL_PART = 4_000_000  # bytes; smaller parts are read at once, larger ones stay open files. Chosen.


def checkpoint(trial_id: str) -> str:
    """The file with the weights of a trial, within the run folder."""
    return f"{CHECKPOINTS}/{trial_id}.pt"


@dataclass(frozen=True)
class RunFolder(Place):
    """A run folder: its experiment and its tables."""

    # Fingerprint of the experiment; None = of the file in the folder, which an import writes last.
    experiment_sha256: str | None = None

    def impatient(self) -> RunFolder:
        """The same for who asks again himself: a read fails at once where the store is away."""
        return replace(self, patience=0.0, experiment_sha256=self._frozen)

    def occupied(self) -> bool:
        """Whether anything lies at this place; a bare lock or lease, left by a kill before all else, is nothing."""
        info = self._info(self.root)
        if info.type == fs.FileType.Directory:
            # Of folders in a folder Arrow tells nothing on Google's store, only of the files in them.
            entries = self._info(fs.FileSelector(self.root, recursive=self.filesystem.type_name == "gcs"))
            names = {entry.path.removeprefix(f"{self.root}/").partition("/")[0] for entry in entries}
            return bool(names - {LOCK, LEASE})
        return bool(info.type != fs.FileType.NotFound)

    # The experiment

    def read_experiment(self) -> Experiment:
        """The resolved experiment as it was frozen; an InputError where this is no run folder, or it was edited."""
        if not self.has(EXPERIMENT):
            raise InputError(str(self), [f"not a run folder: it has no {EXPERIMENT}; `bcrit tune` makes one"])
        where, text = self.path(EXPERIMENT), self.read_text(EXPERIMENT)
        told = {str(session.get("experiment_sha256")) for session in self.read_environment()} - {"None"}
        if (told or self._told_by_parts()) - {fingerprint(text)}:
            remedy = f"put it back as it was, or start another run with `bcrit tune {where} --out ...`"
            raise InputError(where, [f"the experiment of a run is frozen, but this one was edited; {remedy}"])
        self.__dict__["_frozen"] = fingerprint(text)
        return parse_experiment(read_yaml(text, where), where)

    def _told_by_parts(self) -> set[str]:
        """The fingerprint of the experiment as the first part tells it that can be read."""
        for part in self._parts(TRIALS):
            with part.file, suppress(*parted_tables.DAMAGED):
                told = (pq.read_schema(part.file).metadata or {}).get(parted_tables.EXPERIMENT_OF)
                return set() if told is None else {told.decode(errors="replace")}
        return set()

    @cached_property
    def _frozen(self) -> str | None:
        """The fingerprint of the experiment; of a store, which is not asked for it, once the experiment was read."""
        if self.experiment_sha256 is None and self.is_local and self.has(EXPERIMENT):
            return hashlib.sha256(self.read_bytes(EXPERIMENT)).hexdigest()
        return self.experiment_sha256

    def read_environment(self) -> list[dict[str, Any]]:
        """What each session of the run ran in, in order; empty where nothing was noted or the note was damaged."""
        if not self.has(ENVIRONMENT):
            return []
        try:
            sessions = loaded(self.read_text(ENVIRONMENT))["sessions"]
        except (ValueError, KeyError, TypeError):
            return []
        return [session for session in sessions if isinstance(session, dict)] if isinstance(sessions, list) else []

    def write_experiment(self, experiment: Experiment) -> None:
        """Freeze the experiment."""
        text = dump_experiment(experiment)
        self.write_bytes(EXPERIMENT, text.encode())
        self.__dict__["_frozen"] = fingerprint(text)

    # Tables

    def write_table(self, name: str, data: pa.Table, patience: float = PATIENCE) -> None:
        """Write one Parquet file whole or not at all; see `write_bytes`."""
        self._write_pieces(name, data.schema, [data], patience)

    def _write_pieces(self, name: str, schema: pa.Schema, pieces: Iterable[pa.Table], patience: float) -> None:
        if self._frozen is not None:
            schema = schema.with_metadata({**(schema.metadata or {}), parted_tables.EXPERIMENT_OF: self._frozen})
        self.write_bytes(name, sealed(schema, pieces), patience)

    def append(self, table: Table, rows: Sequence[Mapping[str, Any]], number: int) -> None:
        """Add rows as one new part; columns beyond the table's are hyperparameters or metrics.

        `number` is that of the flush; each is used once.
        """
        if rows:
            self.write_table(parted_tables.part_name(table, number), joined([to_arrow(table, rows)]))

    def append_table(self, table: Table, data: pa.Table, number: int) -> None:
        """Add an Arrow table as one new part, for importers: parts of about a million rows are read fast.

        Only its columns' types and empty cells are checked, not whether rows differ in their key.
        """
        data = decoded(data)
        if problems := column_violations(table, data):
            raise InputError(str(self), problems)
        if data.num_rows:
            self.write_table(parted_tables.part_name(table, number), data)

    def listed(self, table: Table) -> list[parted_tables.PartFile]:
        """All parts that lie there, whether they count or not."""
        selector = fs.FileSelector(self.path(table.name), allow_not_found=True)
        return parted_tables.parts_of(table, self._info(selector))

    def parts(self, table: Table) -> list[str]:
        """File names of the parts that count, in order of their flushes."""
        return [part.name for part in parted_tables.counting(self.listed(table), self._open)]

    def next_number(self, table: Table) -> int:
        """The first flush number that no part holds."""
        return max((part.last for part in self.listed(table)), default=-1) + 1

    def compact(self, table: Table, *, everything: bool = True, patience: float = PATIENCE) -> None:
        """Join parts that stand side by side, and remove what the joined ones replace, also what an earlier kill left.

        Everything is joined into one part, or only as many of one size as keep the table quick to read.
        """
        listed = self.listed(table)
        kept = parted_tables.counting(listed, self._open)
        gone = {part.name for part in listed} - {part.name for part in kept}
        for parts in parted_tables.joinable(kept, everything):
            name, first, last = parted_tables.whole_part(table, parts), parts[0].first, max(part.last for part in parts)
            replaced = {part.name for part in parts}
            replaced |= {p.name for p in listed if p.name in gone and first <= p.first and p.last <= last}
            files = {part.name: self.read_bytes(part.name) for part in parts}
            empty = joined([next(self._pieces_of(*file)) for file in files.items()])
            pieces = (piece for file in files.items() for piece in self._pieces_of(*file))
            schema = parted_tables.replacing(empty, replaced).schema
            self._write_pieces(name, schema, parted_tables.gathered(empty, pieces), patience)
            gone |= replaced
        for name in sorted(gone):
            try:
                self.filesystem.delete_file(self.path(name))
            except FileNotFoundError:
                continue  # a try before this one came as far as here

    def rows_of(self, name: str) -> pa.Table:
        """The rows of one part; an InputError where it is damaged or of another run."""
        return pa.concat_tables(self._pieces_of(name, self.read_bytes(name)))

    def _pieces_of(self, name: str, content: bytes) -> Iterator[pa.Table]:
        """The rows of one part, piece by piece; at first none of them, which tells the columns."""
        try:
            part = parted_tables.Part(name, pa.BufferReader(content), self._frozen).parquet()
            yield part.schema_arrow.empty_table()
            for batch in part.iter_batches(parted_tables.GROUP_ROWS):
                yield pa.Table.from_batches([batch])
        except parted_tables.DAMAGED as error:
            remedy = f"`bcrit repair {self}` sets it aside"
            raise InputError(str(self), [f"{parted_tables.fault(name, error)}; {remedy}"]) from error

    def read(self, table: Table) -> pa.Table:
        """All rows of a table; an InputError lists every violation of its schema."""
        pieces, problems = [arrow_schema(table).empty_table()], []
        for part in self._opened(table):
            with part.file:
                try:
                    pieces.append(part.parquet().read())
                except parted_tables.DAMAGED as error:
                    problems.append(parted_tables.fault(part.name, error))
        if not problems:
            try:
                data = joined(pieces)
            except pa.ArrowException as error:
                problems.append(f"the parts of '{table.name}' do not fit together: {error}")
            else:
                problems = violations(table, data)
        if problems:
            raise InputError(str(self), [*problems, f"`bcrit repair {self}` sets aside what is wrong"])
        return data

    def scan(
        self, table: Table, columns: Sequence[str], trial_ids: Collection[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read a table that may not fit into memory piece by piece: parts in the order of their flushes.

        Rows of one trial come in the order in which they were written, which is that of their steps in what `bcrit`
        writes; rows of different trials may interleave, and a trial may straddle pieces and parts.

        Record batches of at most `BATCH_ROWS` rows have exactly these columns: `trial_id` comes dictionary-encoded,
        and a metric that a part lacks as nulls. A part that is damaged, or breaks the schema in its columns' types or
        empty cells, is an InputError.
        """
        return parted_tables.scan_parts(str(self), table, self._opened(table), columns, trial_ids)

    def select(self, table: Table, columns: Sequence[str], trial_ids: Collection[str]) -> pa.Table:
        """The rows of a few trials; see `scan`."""
        if batches := list(self.scan(table, columns, trial_ids)):
            return decoded(pa.Table.from_batches(batches))
        kinds = {field.name: field.type for field in arrow_schema(table)}
        return pa.schema([pa.field(name, kinds.get(name, pa.float64())) for name in columns]).empty_table()

    def schemas(self, table: Table) -> list[pa.Schema]:
        """The table's own schema, then that of every part."""
        found = [arrow_schema(table)]
        for part in self._opened(table):
            with part.file:
                try:
                    found.append(part.parquet().schema_arrow.remove_metadata())
                except parted_tables.DAMAGED as error:
                    remedy = f"`bcrit repair {self}` sets it aside"
                    raise InputError(str(self), [f"{parted_tables.fault(part.name, error)}; {remedy}"]) from error
        return found

    def column_names(self, table: Table) -> list[str]:
        """Every column that any part of a table has, those of its schema first."""
        return list(dict.fromkeys(name for schema in self.schemas(table) for name in schema.names))

    def _opened(self, table: Table) -> list[parted_tables.Part]:
        """Every part that counts, opened at one moment, and as one more part what the log holds beyond them."""
        # The log comes first: rows that are delivered meanwhile are then in both, not in neither. Trials come before
        # measurements, because that is how to find a finished trial with all of its measurements.
        rows = parted_tables.read_log(parted_tables.segments(self.log)).get(table.name) if self.has_log() else None
        if rows is None:
            return self._parts(table)
        lacking, parts = self._lacking(table, rows)
        sink = pa.BufferOutputStream()
        pq.write_table(lacking, sink)
        return [*parts, parted_tables.Part("the log on this machine", pa.BufferReader(sink.getvalue()))]

    def _lacking(self, table: Table, rows: pa.Table) -> tuple[pa.Table, list[parted_tables.Part]]:
        """Of rows those that the parts lack, of trials that are not finished in them and of later steps; the parts."""
        finished = {} if table is TRIALS else parted_tables.reach(TRIALS, self._parts(TRIALS), rows)
        parts = self._parts(table)
        return parted_tables.beyond(
            rows, {**parted_tables.reach(table, parts, rows), **dict.fromkeys(finished, math.inf)}
        ), parts

    def _parts(self, table: Table) -> list[parted_tables.Part]:
        """Every part that counts, opened at one moment: a running experiment may join parts meanwhile.

        An open file can be read to its end after it was removed; many small parts would be too many open files.
        """
        for _ in range(_LISTINGS):
            opened: list[parted_tables.Part] = []
            try:
                for name in self.parts(table):
                    opened.append(parted_tables.Part(name, self._open(name), self._frozen))
                return opened
            except FileNotFoundError:  # it was joined with others since the listing; list again
                for part in opened:
                    part.file.close()
        raise InputError(str(self), [f"the parts of '{table.name}' change faster than they can be read; try again"])

    def _open(self, name: str) -> pa.NativeFile:
        return self._asked(lambda: self._opened_file(name))

    def _opened_file(self, name: str) -> pa.NativeFile:
        if self.is_local:
            a_file(self.path(name))
        file = self.filesystem.open_input_file(self.path(name))
        if file.size() > _SMALL_PART:
            return pa.memory_map(self.path(name)) if self.is_local else file
        with file:
            return pa.BufferReader(file.read())

    def clear_half_written(self) -> None:
        """Remove what writes left that were killed (`storage.put`); nobody else must be at work in the run."""
        for folder in ("", TRIALS.name, MEASUREMENTS.name, "analysis", CHECKPOINTS) if self.is_local else ():
            for file in Path(self.root, folder).glob(".*"):
                if HALF_WRITTEN.match(file.name):
                    file.unlink(missing_ok=True)

    # Rows on their way

    @property
    def log_home(self) -> Path:
        """Where on this machine the logs of runs at this location lie."""
        return parted_tables.log_home(self.location, self.filesystem, self.root)

    @property
    def log(self) -> Path:
        """The log of this run on this machine: see `bcrit.analysis.records.parted_tables`."""
        if self.is_local:
            return self.log_home
        written = self._info(self.path(EXPERIMENT)).mtime
        return self.log_home / ("0" if written is None else str(int(written.timestamp())))

    def has_log(self) -> bool:
        """Whether a session left rows in the log of this machine, or is about to deliver them."""
        # Where there is no log of any run there is no need to ask a store which run this is.
        return next(self.log_home.rglob("*.log"), None) is not None and bool(parted_tables.segments(self.log))

    def lacking(self, waiting: parted_tables.Rows) -> parted_tables.Rows:
        """Of the rows of a log those that the tables lack."""
        found = {of.name: self._lacking(of, waiting[of.name])[0] for of in (MEASUREMENTS, TRIALS) if of.name in waiting}
        return {name: rows for name, rows in found.items() if rows.num_rows}


def fingerprint(text: str) -> str:
    """SHA-256 of a text, by which a frozen experiment is known again."""
    return hashlib.sha256(text.encode()).hexdigest()
