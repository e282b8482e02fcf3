"""Repair: what is wrong is set aside and named, what is right stays, and a second repair finds nothing."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from bcrit.analysis.records.repair import Mended, repair, set_trials_aside
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from tests.analysis.records.rows import curve, trial
from tests.object_store import ObjectStore


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, store: ObjectStore) -> RunFolder:
    """Trials a and b as they should be."""
    found = RunFolder.at(tmp_path / "run") if request.param == "local" else store.folder(tmp_path.name)
    found.append(MEASUREMENTS, [*curve("a", range(6)), *curve("b", range(4))], 0)
    found.append(MEASUREMENTS, curve("running", range(3)), 1)
    found.append(TRIALS, [trial("a", 5), trial("b", 3, outcome="reached", steps_to_target=3, steps_to_target_low=2)], 0)
    return found


def files(folder: RunFolder) -> dict[str, bytes]:
    selector = fs.FileSelector(folder.root, recursive=True)
    listed = [info.path for info in folder.filesystem.get_file_info(selector) if info.type == fs.FileType.File]
    return {
        path.removeprefix(f"{folder.root}/"): folder.read_bytes(path.removeprefix(f"{folder.root}/")) for path in listed
    }


def rows(folder: RunFolder) -> tuple[list[str], list[tuple[str, int]]]:
    measured = folder.read(MEASUREMENTS)
    steps = sorted(zip(measured["trial_id"].to_pylist(), measured["step"].to_pylist(), strict=True))
    return sorted(folder.read(TRIALS)["trial_id"].to_pylist()), steps


def aside(folder: RunFolder, mended: Mended, name: str) -> str:
    assert mended.place is not None
    return f"{mended.place.partition('?')[0].removeprefix(folder.location.partition('?')[0])}/{name}".strip("/")


def test_of_a_run_that_is_whole_nothing_is_touched(folder: RunFolder) -> None:
    before = files(folder)
    mended = repair(folder, True)
    assert mended == Mended() and mended.sentences("RUN") == ["nothing to mend"]
    assert files(folder) == before


def test_of_a_trial_that_two_drivers_ran_the_one_that_finished_first_stays(folder: RunFolder) -> None:
    whole = rows(folder)
    folder.append(TRIALS, [trial("a", 5, ended_at=0.5, lr=0.7), trial("c", 0)], 1)
    folder.append(MEASUREMENTS, [*curve("a", range(6), loss=9.0), *curve("c", [0])], 2)
    with pytest.raises(InputError, match=r"must differ in trial_id, but 1 do not\n.*`bcrit repair .*` sets aside"):
        folder.read(TRIALS)
    old = {name for name in files(folder) if name.startswith(("trials/", "measurements/"))}
    mended = repair(folder, True)
    assert mended.doubled == {"trials": 1, "measurements": 6} and not mended.files and not mended.torn
    assert rows(folder) == ([*whole[0], "c"], sorted([*whole[1], ("c", 0)]))
    kept = folder.read(TRIALS).to_pylist()
    assert [row["lr"] for row in kept if row["trial_id"] == "a"] == [0.7]
    assert 9.0 not in folder.read(MEASUREMENTS)["loss"].to_pylist()
    there = files(folder)
    assert {aside(folder, mended, name) for name in old} <= set(there)
    gone = pq.read_table(folder.filesystem.open_input_file(folder.path(aside(folder, mended, "trials.parquet"))))
    assert [(row["trial_id"], row["lr"]) for row in gone.to_pylist()] == [("a", 0.1)]
    first, second, _ = mended.sentences("RUN")
    assert first == "1 doubled row was set aside in 'trials'; the trial that finished first stays"
    assert second.startswith("6 doubled rows were set aside in 'measurements'")
    assert repair(folder, True) == Mended()


def test_what_a_file_without_the_runs_mark_doubles_gives_way(tmp_path: Path) -> None:
    folder, old = RunFolder.at(tmp_path / "run"), RunFolder.at(tmp_path / "other")
    folder.write_bytes("experiment.yaml", b"name: x")
    folder.append(MEASUREMENTS, curve("a", [0, 4, 5]), 0)
    folder.append(TRIALS, [trial("a", 5, ended_at=9.0)], 0)
    # A file of an older version, which wrote no mark, of another run whose trial of that name ended earlier.
    old.append(MEASUREMENTS, [*curve("a", [0, 2, 3], loss=9.0), *curve("b", [0, 5])], 0)
    old.append(TRIALS, [trial("a", 3, ended_at=1.0, lr=0.7, seed=5), trial("b", 5)], 0)
    for table in ("trials", "measurements"):
        folder.write_bytes(f"{table}/000000-000000-abcdef.parquet", old.read_bytes(f"{table}/000000-000000.parquet"))
    mended = repair(folder, True)
    assert mended.unmarked and mended.doubled == {"trials": 1, "measurements": 3} and not mended.torn
    assert "marked as this run's" in mended.sentences("RUN")[0]
    assert rows(folder) == (["a", "b"], [("a", 0), ("a", 4), ("a", 5), ("b", 0), ("b", 5)])
    assert 9.0 not in folder.read(MEASUREMENTS)["loss"].to_pylist() and repair(folder, True) == Mended()


@pytest.mark.parametrize("other", [{"seed": 5}, {"batch_size": 16}, {"width": 3.0}], ids=str)
def test_two_trials_of_one_name_that_no_run_has_both_of_are_refused_with_their_files(
    folder: RunFolder, other: dict[str, Any]
) -> None:
    folder.append(TRIALS, [trial("a", 5, ended_at=0.5, **other)], 1)
    before = files(folder)
    with pytest.raises(
        InputError, match=r"'a' stands in trials/000000-000000.parquet and, .*, in trials/000001-000001"
    ):
        repair(folder, True)
    assert files(folder) == before


def test_parts_that_cannot_be_read_are_set_aside_by_name(folder: RunFolder) -> None:
    whole = rows(folder)
    # One without a checksum, as older versions wrote them, whose first page header pyarrow answers with an OSError.
    sink = pa.BufferOutputStream()
    pq.write_table(folder.read(TRIALS), sink)
    old = sink.getvalue().to_pybytes()
    folder.write_bytes("trials/000005-000005-abcdef.parquet", old[:4] + b"\xff" * 8 + old[12:])
    good = folder.read_bytes("measurements/000000-000000.parquet")
    folder.write_bytes("measurements/000005-000005-abcdef.parquet", good[: len(good) // 2])
    folder.write_bytes("trials/000000-000009-abcdef.parquet", b"")  # what it would have replaced is still there
    folder.write_bytes(f"trials/.000006-000006.parquet.{'0' * 32}", b"PAR1")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        folder.read(MEASUREMENTS)
    mended = repair(folder, True)
    assert sorted(mended.files) == [
        "measurements/000005-000005-abcdef.parquet",
        "trials/.000006-000006.parquet.00000000000000000000000000000000",
        "trials/000000-000009-abcdef.parquet",
        "trials/000005-000005-abcdef.parquet",
    ]
    assert all(aside(folder, mended, name) in files(folder) for name in mended.files)
    assert rows(folder) == whole and repair(folder, True) == Mended()
    assert "not a readable Parquet file" in mended.sentences("RUN")[0]


def test_measurements_after_the_end_of_their_trial_are_set_aside(folder: RunFolder) -> None:
    whole = rows(folder)
    folder.append(MEASUREMENTS, [*curve("b", range(4, 7)), *curve("running", [3])], 2)
    mended = repair(folder, True)
    assert mended.beyond == 3 and mended.place is not None and not mended.doubled
    assert rows(folder) == (whole[0], sorted([*whole[1], ("running", 3)]))


@pytest.mark.parametrize(
    ("row", "steps", "torn"),
    [
        (trial("x", 4), [], True),
        (trial("x", 4), [0, 1, 2], True),
        (trial("x", 4, outcome="reached", steps_to_target=4, steps_to_target_low=3), [0, 4], True),
        (trial("x", 4, outcome="reached", steps_to_target=4, steps_to_target_low=0), [4], False),
        (trial("x", 0, outcome="failed"), [], False),
        (trial("x", 4, outcome="diverged"), [0, 1], True),
        (trial("x", 4, outcome="diverged"), [0, 4], False),
        (trial("x", 4, outcome="out_of_memory"), [], False),
    ],
    ids=["none", "no end", "no evaluation before", "no evaluation at 0", "failed", "end", "diverged", "out of memory"],
)
def test_trials_that_lack_evaluations_which_their_row_names_are_run_again(
    tmp_path: Path, row: dict[str, Any], steps: list[int], torn: bool
) -> None:
    folder = RunFolder.at(tmp_path)
    folder.append(MEASUREMENTS, [*curve("a", range(6)), *curve("x", steps)], 0)
    folder.append(TRIALS, [trial("a", 5), row], 0)
    assert repair(folder, can_run_again=False) == Mended()
    mended = repair(folder, can_run_again=True)
    assert mended.torn == (("x",) if torn else ())
    assert rows(folder)[0] == (["a"] if torn else ["a", "x"])
    assert {name for name, _ in rows(folder)[1]} == ({"a"} if torn or not steps else {"a", "x"})
    if torn:
        assert "1 trial that lacks evaluations set aside (x); `bcrit resume RUN`" in mended.sentences("RUN")[0]


def test_an_empty_run_has_nothing_to_mend(tmp_path: Path) -> None:
    assert repair(RunFolder.at(tmp_path), True) == Mended()


def test_trials_that_failed_or_a_whole_study_are_set_aside_to_be_run_again(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, curve("c", range(2)), 2)
    beside = trial("s", 0, stage="landscape", outcome="failed")  # another command runs it again
    folder.append(TRIALS, [trial("c", 1, outcome="failed"), trial("d", 0, batch_size=16), beside], 1)
    assert set_trials_aside(folder, failed=True, batch_sizes=[]) == 1
    trials, steps = rows(folder)
    assert (
        trials == ["a", "b", "d", "s"] and not [step for name, step in steps if name == "c"] and ("running", 2) in steps
    )
    assert set_trials_aside(folder, failed=False, batch_sizes=[8]) == 2
    assert rows(folder) == (["d", "s"], [("running", step) for step in range(3)])
    assert set_trials_aside(folder, failed=True, batch_sizes=[64]) == 0
