"""The run folder: the one owner of its paths, and the only place where its files are written.

Tables grow by *parts* (`analysis.parted_tables`): files that are written once, under a temporary name, and moved into
place.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from analysis.arrow_tables import column_violations, decoded, to_arrow
from analysis.parted_tables import PartedTables, part_name
from search_spaces.experiment import Experiment
from search_spaces.load import dump_experiment, parse_experiment, read_yaml
from search_spaces.problems import InputError
from search_spaces.tables import Table

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


@dataclass(frozen=True)
class RunFolder:
    """A run folder on a local path or on any file system that pyarrow reaches by URI (`s3://bucket/run`).

    Attributes:
        location: as the user named it.
        filesystem: where it lies.
        root: its path there.
    """

    location: str
    filesystem: fs.FileSystem
    root: str

    @classmethod
    def at(cls, location: str | Path) -> RunFolder:
        """Name a run folder, which need not exist.

        Args:
            location: local path or URI.

        Returns:
            The folder.

        Raises:
            InputError: the URI is of no known file system.
        """
        text = str(location)
        if not text.strip():
            raise InputError("run folder", ["its location is empty; give a path or a URI"])
        if "://" not in text:
            return cls(text, fs.LocalFileSystem(), str(Path(text).expanduser().absolute()))
        try:
            filesystem, root = fs.FileSystem.from_uri(text)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise InputError(text, [f"not a location that can be opened: {error}"]) from error
        return cls(text, filesystem, root.rstrip("/"))

    def __str__(self) -> str:
        return self.location

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """The path of a file in the folder.

        Args:
            name: relative path.

        Returns:
            The path on the file system.

        Raises:
            ValueError: the name leads out of the folder.
        """
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
        """Whether anything lies at this place; a bare lock, left by a kill before anything was written, is nothing."""
        info = self.filesystem.get_file_info(self.root)
        if info.type == fs.FileType.Directory:
            found = self.filesystem.get_file_info(fs.FileSelector(self.root))
            return any(entry.base_name != LOCK for entry in found)
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

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all: a temporary name, then a move."""
        path = self.path(name)
        parent, _, stem = path.rpartition("/")
        self.filesystem.create_dir(parent, recursive=True)
        temporary = f"{parent}/.{stem}.{uuid.uuid4().hex}"
        with self.filesystem.open_output_stream(temporary) as stream:
            stream.write(content)
        self.filesystem.move(temporary, path)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write an object as JSON; NaN and infinity are refused."""
        self.write_bytes(name, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())

    # The experiment

    def read_experiment(self) -> Experiment:
        """The resolved experiment.

        Returns:
            The experiment as it was frozen.

        Raises:
            InputError: this is no run folder, or the file was damaged.
        """
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

    def write_table(self, name: str, data: pa.Table) -> None:
        """Write one Parquet file whole or not at all."""
        sink = pa.BufferOutputStream()
        pq.write_table(data, sink)
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def append(self, table: Table, rows: Sequence[Mapping[str, Any]], number: int) -> None:
        """Add rows as one new part.

        Args:
            table: `TRIALS` or `MEASUREMENTS`.
            rows: the rows; columns beyond the table's are hyperparameters or metrics.
            number: number of the flush; each number is used once.
        """
        if rows:
            self.write_table(part_name(table, number), to_arrow(table, rows))

    def append_table(self, table: Table, data: pa.Table, number: int) -> None:
        """Add an Arrow table as one new part, for importers: parts of about a million rows are read fast.

        Args:
            table: `TRIALS` or `MEASUREMENTS`.
            data: the rows; only its columns' types and empty cells are checked, not whether rows differ in their key.
            number: number of the flush; each number is used once.

        Raises:
            InputError: lists every violation.
        """
        data = decoded(data)
        if problems := column_violations(table, data):
            raise InputError(str(self), problems)
        if data.num_rows:
            self.write_table(part_name(table, number), data)

    def parts(self, table: Table) -> list[str]:
        """File names of the parts that count, in order of their flushes."""
        return self._tables.parts(table)

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
        return self._tables.column_names(table)

    def compact(self, table: Table) -> None:
        """Join all parts into one and remove what it replaces."""
        joined = self._tables.joined_name(table)
        if joined is not None:
            self.write_table(joined, self.read(table))
        for name in self._tables.superseded(table):
            self.filesystem.delete_file(self.path(name))

    @property
    def _tables(self) -> PartedTables:
        return PartedTables(self.location, self.filesystem, self.root)


def fingerprint(text: str) -> str:
    """SHA-256 of a text, by which a frozen experiment is known again."""
    return hashlib.sha256(text.encode()).hexdigest()
