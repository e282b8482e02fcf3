"""The run folder: the one owner of its paths, and the only place where its files are written.

Tables grow by *parts* (`bcrit.analysis.records.parted_tables`): files that are written once, under a temporary name,
and moved into place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from bcrit.analysis.records.arrow_tables import column_violations, decoded, joined, to_arrow
from bcrit.analysis.records.parted_tables import PartedTables, PartFile, part_name
from bcrit.analysis.records.run_log import Rows, log_home, segments
from bcrit.analysis.records.storage import opened, patiently, put
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import Table

EXPERIMENT = "experiment.yaml"
ENVIRONMENT = "environment.json"
CODE = "code.zip"
STEPS_TO_TARGET_FILE = "analysis/steps_to_target.parquet"
BOUNDARY_FILE = "analysis/boundary.parquet"
TARGET_CELLS_FILE = "analysis/target_cells.parquet"
BUDGET_CELLS_FILE = "analysis/budget_cells.parquet"
FIT = "analysis/fit.json"
TARGETS = "analysis/targets.json"
BUDGETS = "analysis/budgets.json"
RECOMMENDATION = "analysis/recommendation.json"
LANDSCAPE = "analysis/landscape.json"
ADAPTIVE = "analysis/adaptive.json"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"
ADAPTIVE_RUNS = "adaptive"
RAY = "ray"
LOCK = ".lock"
LEASE = ".lease"

PATIENCE = 150.0
"""Seconds for which a single file is tried where an object store is away: twice the minute that a run must bear."""


@dataclass(frozen=True)
class RunFolder:
    """A run folder on a local path or on any file system that pyarrow reaches by URI (`s3://bucket/run`)."""

    location: str  # as the user named it
    filesystem: fs.FileSystem
    root: str  # its path there

    @classmethod
    def at(cls, location: str | Path) -> RunFolder:
        """Name a run folder, which need not exist; a URI of no known file system is an InputError."""
        text = str(location)
        return cls(text, *opened(text))

    def __str__(self) -> str:
        return self.location

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """The path of a file in the folder; a name that leads out of it is refused."""
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"a file of a run folder lies inside it, but {name!r} leads out of it")
        return f"{self.root}/{name}"

    def address(self, name: str) -> str:
        """A file of the folder as the user would name it; options of a URI come last."""
        place, question, options = self.location.partition("?")
        return f"{place.rstrip('/')}/{name}{question}{options}"

    def has(self, name: str) -> bool:
        """Whether the folder has this file or sub-folder."""
        return bool(self.filesystem.get_file_info(self.path(name)).type != fs.FileType.NotFound)

    def occupied(self) -> bool:
        """Whether anything lies at this place; a bare lock or lease, left by a kill before all else, is nothing."""
        info = self.filesystem.get_file_info(self.root)
        if info.type == fs.FileType.Directory:
            found = self.filesystem.get_file_info(fs.FileSelector(self.root))
            return any(entry.base_name not in {LOCK, LEASE} for entry in found)
        return bool(info.type != fs.FileType.NotFound)

    def creatable(self) -> bool:
        """Whether a local folder can be made here; of other file systems only trying tells."""
        if not self.is_local:
            return True
        existing = next(parent for parent in [Path(self.root), *Path(self.root).parents] if parent.exists())
        return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)

    # Text and JSON

    def read_text(self, name: str) -> str:
        """Read a text file of the folder."""
        return self.read_bytes(name).decode()

    def read_bytes(self, name: str) -> bytes:
        """Read a file of the folder as it is."""
        with self.filesystem.open_input_stream(self.path(name)) as stream:
            return bytes(stream.read())

    def write_bytes(self, name: str, content: bytes, patience: float = PATIENCE) -> None:
        """Write a file whole or not at all.

        Where a store is away, it is tried again for `patience` seconds; a disk of this machine is tried once.
        """
        path = self.path(name)
        patiently(lambda: put(self.filesystem, path, content), 0 if self.is_local else patience)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write an object as JSON; NaN and infinity are refused."""
        self.write_bytes(name, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())

    # The experiment

    def read_experiment(self) -> Experiment:
        """The resolved experiment as it was frozen; an InputError where this is no run folder, or it was edited."""
        if not self.has(EXPERIMENT):
            raise InputError(str(self), [f"not a run folder: it has no {EXPERIMENT}; `bcrit tune` makes one"])
        where, text = self.path(EXPERIMENT), self.read_text(EXPERIMENT)
        frozen = {session.get("experiment_sha256") for session in self.read_environment()} - {None, fingerprint(text)}
        if frozen:
            remedy = f"put it back as it was, or start another run with `bcrit tune {where} --out ...`"
            raise InputError(where, [f"the experiment of a run is frozen, but this one was edited; {remedy}"])
        return parse_experiment(read_yaml(text, where), where)

    def read_environment(self) -> list[dict[str, Any]]:
        """What each session of the run ran in, in order; empty where nothing was noted or the note was damaged."""
        if not self.has(ENVIRONMENT):
            return []
        try:
            sessions = json.loads(self.read_text(ENVIRONMENT))["sessions"]
        except (ValueError, KeyError, TypeError):
            return []
        return [session for session in sessions if isinstance(session, dict)] if isinstance(sessions, list) else []

    def write_experiment(self, experiment: Experiment) -> None:
        """Freeze the experiment."""
        self.write_bytes(EXPERIMENT, dump_experiment(experiment).encode())

    # Tables

    def write_table(self, name: str, data: pa.Table, patience: float = PATIENCE) -> None:
        """Write one Parquet file whole or not at all; see `write_bytes`."""
        sink = pa.BufferOutputStream()
        pq.write_table(data, sink)
        self.write_bytes(name, sink.getvalue().to_pybytes(), patience)

    def append(self, table: Table, rows: Sequence[Mapping[str, Any]], number: int) -> None:
        """Add rows as one new part; columns beyond the table's are hyperparameters or metrics.

        `number` is that of the flush; each is used once.
        """
        if rows:
            self.write_table(part_name(table, number), joined([to_arrow(table, rows)]))

    def lacking(self, waiting: Rows) -> Rows:
        """The rows of a log that the tables lack: `PartedTables.lacking`."""
        return self._tables.lacking(waiting)

    def append_table(self, table: Table, data: pa.Table, number: int) -> None:
        """Add an Arrow table as one new part, for importers: parts of about a million rows are read fast.

        Only its columns' types and empty cells are checked, not whether rows differ in their key.
        """
        data = decoded(data)
        if problems := column_violations(table, data):
            raise InputError(str(self), problems)
        if data.num_rows:
            self.write_table(part_name(table, number), data)

    def parts(self, table: Table) -> list[str]:
        """File names of the parts that count, in order of their flushes."""
        return self._tables.parts(table)

    def listed(self, table: Table) -> list[PartFile]:
        """All parts that lie there, whether they count or not."""
        return self._tables.listed(table)

    def next_number(self, table: Table) -> int:
        """The first flush number that no part holds."""
        return self._tables.next_number(table)

    def read(self, table: Table) -> pa.Table:
        """Read and validate a table: `PartedTables.read`."""
        return self._tables.read(table)

    def scan(
        self, table: Table, columns: Sequence[str], trial_ids: Collection[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read a table piece by piece, for tables that do not fit into memory: `PartedTables.scan`."""
        return self._tables.scan(table, columns, trial_ids)

    def select(self, table: Table, columns: Sequence[str], trial_ids: Collection[str]) -> pa.Table:
        """The rows of a few trials of a table that may not fit into memory: `PartedTables.select`."""
        return self._tables.select(table, columns, trial_ids)

    def column_names(self, table: Table) -> list[str]:
        """Every column that any part of a table has, those of its schema first."""
        return list(dict.fromkeys(name for schema in self.schemas(table) for name in schema.names))

    def schemas(self, table: Table) -> list[pa.Schema]:
        """The table's own schema, then that of every part: `PartedTables.schemas`."""
        return self._tables.schemas(table)

    def compact(self, table: Table, *, everything: bool = True, patience: float = PATIENCE) -> None:
        """Join parts and remove what the joined ones replace.

        Everything is joined into one part, or only as many of one size as keep the table quick to read.
        """
        write = partial(self.write_table, patience=patience)
        for name in self._tables.join(table, write, everything=everything):
            try:
                self.filesystem.delete_file(self.path(name))
            except FileNotFoundError:
                continue  # a try before this one came as far as here

    # Rows on their way

    @property
    def log_home(self) -> Path:
        """Where on this machine the logs of runs at this location lie."""
        return log_home(self.location, self.filesystem, self.root)

    @property
    def log(self) -> Path:
        """The log of this run on this machine: see `bcrit.analysis.records.run_log`."""
        if self.is_local:
            return self.log_home
        written = self.filesystem.get_file_info(self.path(EXPERIMENT)).mtime
        return self.log_home / ("0" if written is None else str(int(written.timestamp())))

    def has_log(self) -> bool:
        """Whether a session left rows in the log of this machine, or is about to deliver them."""
        # Where there is no log of any run there is no need to ask a store which run this is.
        return next(self.log_home.rglob("*.log"), None) is not None and bool(segments(self.log))

    @property
    def _tables(self) -> PartedTables:
        log = self.log if self.has_log() else None
        return PartedTables(self.location, self.filesystem, self.root, log)


def fingerprint(text: str) -> str:
    """SHA-256 of a text, by which a frozen experiment is known again."""
    return hashlib.sha256(text.encode()).hexdigest()
