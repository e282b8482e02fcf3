"""A run folder as two plain tables, CSV or Parquet, and back: nothing is lost on the way.

`trials.csv`, `measurements.csv`, `experiment.yaml`, `environment.json`, and `columns.json`, which says of every column
its type, unit and meaning. Floats are written with as many digits as tell them from their neighbours, so that they
come back bit for bit; an empty cell is no value, `nan` is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from bcrit.analysis.exchange.column_types import TYPES, type_name
from bcrit.analysis.exchange.free_place import new_folder
from bcrit.analysis.exchange.imported_run import ImportedRun, Notes
from bcrit.analysis.exchange.tables.batches import open_batches
from bcrit.analysis.records.arrow_tables import decoded
from bcrit.analysis.records.run_folder import ENVIRONMENT, EXPERIMENT, RunFolder
from bcrit.search_spaces.load import parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

Format = Literal["csv", "parquet"]
COLUMNS = "columns.json"


def export_tables(folder: RunFolder, out: str, kind: Format) -> dict[str, int]:
    """Write a run folder as two tables.

    Args:
        folder: the run.
        out: a free local place.
        kind: `csv` or `parquet`.

    Returns:
        Rows written, by table.
    """
    text = folder.read_text(EXPERIMENT) if folder.has(EXPERIMENT) else ""
    folder.read_experiment()
    trials = folder.read(TRIALS)
    with new_folder(out) as place:
        (place / EXPERIMENT).write_text(text, encoding="utf-8")
        if folder.has(ENVIRONMENT):
            (place / ENVIRONMENT).write_text(folder.read_text(ENVIRONMENT), encoding="utf-8")
        schema = measurement_schema(folder)
        described = {
            TRIALS.name: _described(TRIALS, trials.schema),
            MEASUREMENTS.name: _described(MEASUREMENTS, schema),
        }
        (place / COLUMNS).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        with _writer(place / f"{TRIALS.name}.{kind}", trials.schema) as writer:
            writer.write_table(trials)
        rows = 0
        with _writer(place / f"{MEASUREMENTS.name}.{kind}", schema) as writer:
            for batch in folder.scan(MEASUREMENTS, schema.names):
                writer.write_table(decoded(pa.Table.from_batches([batch])).cast(schema))
                rows += batch.num_rows
    return {TRIALS.name: trials.num_rows, MEASUREMENTS.name: rows}


def measurement_schema(folder: RunFolder) -> pa.Schema:
    """The columns of a run's measurements: floats where any part has floats."""
    unified = pa.unify_schemas(folder.schemas(MEASUREMENTS), promote_options="permissive")
    return pa.schema([pa.field(f.name, pa.float64() if pa.types.is_null(f.type) else f.type) for f in unified])


def _writer(path: Path, schema: pa.Schema) -> Any:
    return pq.ParquetWriter(path, schema) if path.suffix == ".parquet" else arrow_csv.CSVWriter(path, schema)


def _described(table: Table, schema: pa.Schema) -> list[dict[str, str]]:
    known = {column.name: column for column in (*table.columns, *table.optional)}
    found = []
    for field in schema:
        column = known.get(field.name)
        entry = {"name": field.name, "type": type_name(field.type)}
        if column is not None:
            entry |= {"unit": column.unit, "description": column.description}
        else:
            entry["description"] = f"One of the {table.others}."
        found.append(entry)
    return found


def import_tables(source: str, kind: Format) -> ImportedRun:
    """Read what `export_tables` wrote; the measurements are read piece by piece, while the run is written.

    Args:
        source: the folder.
        kind: `csv` or `parquet`.

    Returns:
        The run as it was.

    Raises:
        InputError: files are missing or damaged.
    """
    place = Path(source)
    needed = [EXPERIMENT, COLUMNS, f"{TRIALS.name}.{kind}", f"{MEASUREMENTS.name}.{kind}"]
    if missing := [name for name in needed if not (place / name).is_file()]:
        rule = f"it must be a folder that `bcrit export {kind}` wrote, but it has no {', '.join(missing)}"
        raise InputError(source, [f"{rule}; tables from elsewhere are read by `bcrit import table`"])
    experiment = parse_experiment(read_yaml((place / EXPERIMENT).read_text(encoding="utf-8"), source), source)
    trials = pa.concat_tables(_Pieces(place, TRIALS, kind, source))
    sessions: list[Mapping[str, Any]] = []
    if (place / ENVIRONMENT).is_file():
        try:
            sessions = json.loads((place / ENVIRONMENT).read_text(encoding="utf-8"))["sessions"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(source, [f"{ENVIRONMENT} is damaged: {error}"]) from error
    return ImportedRun(
        kind,
        source,
        experiment,
        lambda: trials,
        _Pieces(place, MEASUREMENTS, kind, source),
        Notes(),
        recorded=True,
        sessions=sessions,
    )


@dataclass(frozen=True)
class _Pieces:
    """The rows of a table that `export_tables` wrote; every iteration reads the file anew."""

    place: Path
    table: Table
    kind: Format
    source: str

    def __iter__(self) -> Iterator[pa.Table]:
        """Read.

        Yields:
            At least one table, with all columns.

        Raises:
            InputError: the file is damaged, or it has columns that nothing describes.
        """
        convert = None if self.kind == "parquet" else self._convert()
        try:
            schema, batches = open_batches(self._path, convert)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        if unknown := [name for name in schema.names if convert is not None and name not in convert.column_types]:
            raise InputError(self.source, [f"{COLUMNS} does not describe {', '.join(unknown)} of {self._path.name}"])
        yield schema.empty_table()
        try:
            for batch in batches:
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    @property
    def _path(self) -> Path:
        return self.place / f"{self.table.name}.{self.kind}"

    def _damaged(self, error: Exception) -> InputError:
        return InputError(self.source, [f"{self._path.name} cannot be read: {error}"])

    def _convert(self) -> arrow_csv.ConvertOptions:
        try:
            described = json.loads((self.place / COLUMNS).read_text(encoding="utf-8"))[self.table.name]
            types = {column["name"]: TYPES[column["type"]] for column in described}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(self.source, [f"{COLUMNS} cannot be read: {error}"]) from error
        return arrow_csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        )


__all__ = ["COLUMNS", "Format", "export_tables", "import_tables", "measurement_schema"]
