"""The log: torn at any byte it gives its whole records, and a reader sees each row once, here or in the folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
from bcrit.analysis.records.run_log import begin_segment, read_log, record, segments
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table
from tests.object_store import ObjectStore, object_store

TRIAL: dict[str, Any] = {
    **{"batch_size": 8, "stage": "search", "number": 0, "round": 0, "seed": 0, "outcome": "exhausted"},
    **{"max_steps": 5, "steps": 5, "examples": 40, "train_seconds": 1.0, "evaluate_seconds": 1.0},
    **{"started_at": 0.0, "ended_at": 1.0, "lr": 0.1},
}


def measured(trial: str, steps: range, **more: Any) -> list[dict[str, Any]]:
    return [
        {"trial_id": trial, "step": s, "examples": 8 * s, "train_seconds": 0.1 * s, "loss": 1.0, **more} for s in steps
    ]


def log(folder: RunFolder, number: int, *rows: tuple[Table, list[dict[str, Any]]]) -> Path:
    with begin_segment(folder.log, number, "abcdef") as segment:
        for table, some in rows:
            segment.write(record(table, to_arrow(table, some)))
        return Path(segment.name)


def steps(folder: RunFolder) -> list[tuple[str, int]]:
    table = folder.read(MEASUREMENTS)
    found = list(zip(table["trial_id"].to_pylist(), table["step"].to_pylist(), strict=True))
    batches = list(folder.scan(MEASUREMENTS, ["trial_id", "step"]))
    assert [(row["trial_id"], row["step"]) for batch in batches for row in batch.to_pylist()] == found
    return found


def trials(folder: RunFolder) -> list[str]:
    return list(folder.read(TRIALS)["trial_id"].to_pylist())


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


def test_what_is_logged_is_read_as_if_it_were_in_the_folder(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, measured("a", range(3)), 0)
    log(folder, 1, (MEASUREMENTS, measured("b", range(2), accuracy=0.5)), (TRIALS, [TRIAL | {"trial_id": "b"}]))
    assert steps(folder) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)] and trials(folder) == ["b"]
    assert "accuracy" in folder.column_names(MEASUREMENTS)
    assert folder.select(MEASUREMENTS, ["trial_id", "accuracy"], ["b"])["accuracy"].to_pylist() == [0.5, 0.5]


def test_a_segment_torn_at_any_byte_gives_its_whole_records(folder: RunFolder) -> None:
    path = log(folder, 0, *((MEASUREMENTS, measured("a", range(n, n + 1))) for n in range(3)))
    whole = path.read_bytes()
    size = len(whole) // 3
    for length in range(0, len(whole) + 1, 97):
        path.write_bytes(whole[:length])
        rows = read_log([path])
        assert (rows["measurements"].num_rows if rows else 0) == length // size
    torn = bytearray(whole)
    torn[size + 100] ^= 1  # as after a machine went down: the length is right, the content is not
    path.write_bytes(torn)
    assert read_log([path])["measurements"].num_rows == 1


def test_rows_that_are_in_the_folder_too_are_read_once(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, measured("a", range(4)), 0)
    folder.append(TRIALS, [TRIAL | {"trial_id": "done"}], 0)
    log(
        folder,
        1,
        (MEASUREMENTS, measured("a", range(2, 6))),
        (TRIALS, [TRIAL | {"trial_id": "done"}, TRIAL | {"trial_id": "a"}]),
    )
    log(folder, 2, (MEASUREMENTS, measured("a", range(5, 7))), (TRIALS, [TRIAL | {"trial_id": "a"}]))
    assert steps(folder) == [("a", step) for step in range(7)]
    assert trials(folder) == ["done", "a"]


def test_of_a_trial_that_another_machine_finished_the_log_adds_nothing(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, measured("a", range(3)), 0)  # there it was pruned at step 2, here it went on
    folder.append(TRIALS, [TRIAL | {"trial_id": "a", "steps": 2}], 0)
    log(folder, 1, (MEASUREMENTS, measured("a", range(9))), (TRIALS, [TRIAL | {"trial_id": "a", "steps": 8}]))
    assert steps(folder) == [("a", 0), ("a", 1), ("a", 2)]
    assert folder.read(TRIALS)["steps"].to_pylist() == [2]


def test_what_is_delivered_while_it_is_read_is_read_once(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured("a", range(3))
    segment = log(folder, 0, (MEASUREMENTS, rows), (TRIALS, [TRIAL | {"trial_id": "a"}]))
    opened = type(folder._tables)._opened

    def deliver_first(tables: Any, table: Table) -> Any:
        if segment.exists():
            folder.append(MEASUREMENTS, rows, 0)
            folder.append(TRIALS, [TRIAL | {"trial_id": "a"}], 0)
            segment.unlink()
        return opened(tables, table)

    monkeypatch.setattr(type(folder._tables), "_opened", deliver_first)
    assert [(row["trial_id"], row["step"]) for row in folder.read(MEASUREMENTS).to_pylist()] == [
        ("a", 0),
        ("a", 1),
        ("a", 2),
    ]
    assert not segments(folder.log) and trials(folder) == ["a"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with object_store() as found:
        yield found


def test_the_log_of_a_run_on_s3_lies_in_the_users_cache_and_belongs_to_that_run(
    store: ObjectStore, tmp_path: Path
) -> None:
    folder = store.folder("run")
    folder.write_bytes(EXPERIMENT, b"first")
    log(folder, 0, (MEASUREMENTS, measured("a", range(2))))
    assert tmp_path / "cache" in folder.log.parents and len(steps(folder)) == 2
    assert len(steps(RunFolder.at(f"s3://bucket/run/?region=us-east-1&{store.options}"))) == 2
    assert not steps(store.folder("another"))
    before = folder.log
    while folder.log == before:  # the folder was emptied and another run put there, at least a second later
        folder.write_bytes(EXPERIMENT, b"second")
    assert not steps(folder)


def test_reading_a_run_that_left_no_log_asks_the_store_for_nothing_more(store: ObjectStore) -> None:
    folder = store.folder("plain")
    folder.append(MEASUREMENTS, measured("a", range(2)), 0)
    with store.counted() as requests:
        folder.read(MEASUREMENTS)
    name = "/bucket/plain/measurements/000000-000000.parquet"
    listing = "GET /bucket?delimiter=/&list-type=2&max-keys=1000&prefix=plain/measurements/"
    assert requests == [listing, f"HEAD {name}", f"GET {name}"]
