"""What was probed survives export and import, and the joining of parts that lack its columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bcrit.analysis.exchange.batch_science import import_batch_science
from bcrit.analysis.exchange.exports import COLUMNS, export_batch_science, export_tables, import_tables
from bcrit.analysis.exchange.run import ImportedRun
from bcrit.analysis.exchange.write import write_run
from bcrit.analysis.run import Run
from bcrit.analysis.run_folder import RunFolder
from bcrit.search_spaces.tables import MEASUREMENTS
from tests.analysis.probed_runs import probed_run


def there_and_back(kind: str, folder: RunFolder, place: Path) -> ImportedRun:
    if kind == "batch_science":
        export_batch_science(folder, str(place))
        return next(iter(import_batch_science(str(place), None).values()))
    export_tables(folder, str(place), kind)  # type: ignore[arg-type]
    return import_tables(str(place), kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["csv", "parquet", "batch_science"])
def test_the_summary_of_a_run_that_comes_back_is_the_same(kind: str, tmp_path: Path) -> None:
    folder = probed_run(tmp_path / "run")
    back = RunFolder.at(tmp_path / "back")
    write_run(there_and_back(kind, folder, tmp_path / "out"), back)
    before, after = Run(folder).to_json(), Run(back).to_json()
    assert before["noise_scale"] is not None
    assert [after[name] for name in ("noise_scale", "weight_distance", "fit")] == [
        before[name] for name in ("noise_scale", "weight_distance", "fit")
    ]


def test_exported_tables_say_what_the_columns_are(tmp_path: Path) -> None:
    export_tables(probed_run(tmp_path / "run"), str(tmp_path / "out"), "csv")
    described = json.loads((tmp_path / "out" / COLUMNS).read_text())[MEASUREMENTS.name]
    (column,) = (entry for entry in described if entry["name"] == "tr_sigma")
    assert (column["unit"], column["type"]) == ("loss^2 / weight^2", "double")


def test_a_run_without_probes_exports_no_columns_for_them(tmp_path: Path) -> None:
    export_tables(probed_run(tmp_path / "run", ()), str(tmp_path / "out"), "csv")
    described = json.loads((tmp_path / "out" / COLUMNS).read_text())[MEASUREMENTS.name]
    assert [entry["name"] for entry in described] == [*MEASUREMENTS.names, "loss"]


def test_parts_are_joined_where_some_lack_the_columns(tmp_path: Path) -> None:
    folder = probed_run(tmp_path / "run")
    before = Run(folder).to_json()["noise_scale"]
    folder.compact(MEASUREMENTS)
    assert len(folder.parts(MEASUREMENTS)) == 1
    assert before is not None and Run(folder).to_json()["noise_scale"] == before
