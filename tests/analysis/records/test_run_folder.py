"""The run folder: parts, compaction after any kill, schema violations, paths, S3."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from unittest.mock import Mock, patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bcrit.analysis.exchange.tables import import_table
from bcrit.analysis.records import arrow_tables, storage
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.run_folder import LEASE, RunFolder
from bcrit.search_spaces.load import read_target
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS
from tests.analysis.records.rows import curve
from tests.google_store import GoogleStore
from tests.object_store import ObjectStore


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


def read_steps(folder: RunFolder) -> list[tuple[str, int]]:
    table = folder.read(MEASUREMENTS).sort_by([("trial_id", "ascending"), ("step", "ascending")])
    return list(zip(table["trial_id"].to_pylist(), table["step"].to_pylist(), strict=True))


def test_what_is_appended_is_read_whatever_columns_the_parts_have(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, curve("a", range(3)), 0)
    folder.append(MEASUREMENTS, curve("b", range(2), accuracy=0.5), 1)
    table = folder.read(MEASUREMENTS)
    assert table["accuracy"].to_pylist() == [None, None, None, 0.5, 0.5]
    assert folder.next_number(MEASUREMENTS) == 2


def test_an_empty_folder_reads_as_an_empty_table(folder: RunFolder) -> None:
    assert folder.read(MEASUREMENTS).num_rows == 0 and folder.next_number(MEASUREMENTS) == 0


def test_compaction_keeps_every_row_once(folder: RunFolder) -> None:
    for number in range(5):
        folder.append(MEASUREMENTS, curve(f"t{number}", range(3)), number)
    before = read_steps(folder)
    folder.compact(MEASUREMENTS)
    (part,) = folder.parts(MEASUREMENTS)
    assert re.fullmatch(r"measurements/000000-000004-[0-9a-f]{6}\.parquet", part)
    assert read_steps(folder) == before
    folder.append(MEASUREMENTS, curve("later", range(1)), folder.next_number(MEASUREMENTS))
    assert len(read_steps(folder)) == len(before) + 1


def test_a_kill_between_joining_and_removing_doubles_nothing(folder: RunFolder, tmp_path: Path) -> None:
    for number in range(3):
        folder.append(MEASUREMENTS, curve(f"t{number}", range(2)), number)
    old = {p.name: p.read_bytes() for p in (tmp_path / "run/measurements").iterdir()}
    before = read_steps(folder)
    folder.compact(MEASUREMENTS)
    for name, content in list(old.items())[1:]:  # the kill left two of the three replaced parts
        (tmp_path / "run/measurements" / name).write_bytes(content)
    assert read_steps(folder) == before
    folder.compact(MEASUREMENTS)
    assert [f"measurements/{p.name}" for p in (tmp_path / "run/measurements").iterdir()] == folder.parts(MEASUREMENTS)


def test_a_kill_while_writing_leaves_only_a_temporary_file_that_is_ignored(folder: RunFolder, tmp_path: Path) -> None:
    folder.append(MEASUREMENTS, curve("a", range(2)), 0)
    (tmp_path / "run/measurements/.000001-000001.parquet.abc").write_bytes(b"half")
    assert len(read_steps(folder)) == 2


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x"])
def test_a_path_never_leaves_the_folder(folder: RunFolder, name: str) -> None:
    with pytest.raises(ValueError, match="leads out of it"):
        folder.write_bytes(name, b"")


def test_every_violation_of_the_schema_is_listed(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "run/measurements").mkdir(parents=True)
    table = pa.table({"trial_id": ["a", None], "step": ["1", "2"], "examples": [1, 2]})
    pq.write_table(table, tmp_path / "run/measurements/000000-000000.parquet")
    with pytest.raises(InputError, match="do not fit together|must be int64") as caught:
        folder.read(MEASUREMENTS)
    assert str(tmp_path) in str(caught.value)


def test_doubled_rows_are_a_violation(folder: RunFolder) -> None:
    folder.append(MEASUREMENTS, curve("a", range(2)), 0)
    folder.append(MEASUREMENTS, curve("a", range(1)), 1)
    with pytest.raises(InputError, match="must differ in trial_id, step, but 1 do not"):
        folder.read(MEASUREMENTS)


def test_a_damaged_part_is_named(folder: RunFolder, tmp_path: Path) -> None:
    folder.append(MEASUREMENTS, curve("a", range(2)), 0)
    (tmp_path / "run/measurements/000001-000001.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match="000001-000001.parquet is not a readable Parquet file"):
        folder.read(MEASUREMENTS)


@pytest.mark.parametrize("limit", ["_MOST_BYTES", "_MOST_ROWS"])
def test_a_file_that_stands_for_absurdly_many_rows_is_refused_before_they_are_read(
    folder: RunFolder, tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_MOST_BYTES", "_MOST_ROWS"):
        monkeypatch.setattr(arrow_tables, name, 2**20 if name == limit else 2**40)
    bomb = tmp_path / "run/measurements/000001-000001.parquet"
    folder.append(MEASUREMENTS, curve("a", range(2)), 0)
    pq.write_table(pa.table({"trial_id": pa.nulls(3_000_000, pa.string()), "steps": pa.nulls(3_000_000)}), bomb)
    assert bomb.stat().st_size < 20_000
    says = "the file says that it holds 3,000,000 rows, 0 GiB, in .* bytes, which nothing measured does"
    for read in (lambda: folder.read(MEASUREMENTS), lambda: list(folder.scan(MEASUREMENTS, ["step"]))):
        with pytest.raises(InputError, match=says):
            read()
    with pytest.raises(InputError, match=says):
        import_table(str(bomb), read_target("loss < 1", "target"))


def test_a_file_in_which_a_column_stands_twice_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    part = tmp_path / "run/measurements/000001-000001.parquet"
    folder.append(MEASUREMENTS, curve("a", range(2)), 0)
    pq.write_table(pa.table([["b"], ["b"]], names=["trial_id", "trial_id"]), part)
    for read in (
        lambda: folder.read(MEASUREMENTS),
        lambda: import_table(str(part), read_target("loss < 1", "target")),
    ):
        with pytest.raises(InputError, match="column 'trial_id' stands twice"):
            read()


def test_a_folder_without_an_experiment_is_no_run_folder(folder: RunFolder) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        folder.read_experiment()


def test_a_file_is_named_as_the_user_named_the_folder(tmp_path: Path) -> None:
    assert RunFolder.at("runs/x/").address("report.html") == "runs/x/report.html"
    uri = f"file://{tmp_path}/x"
    assert RunFolder.at(uri).address("report.html") == f"{uri}/report.html"


def test_an_unknown_kind_of_uri_is_refused() -> None:
    with pytest.raises(InputError, match="not a location that can be opened"):
        RunFolder.at("nonsense://bucket/run")


def test_columns_keep_the_type_of_their_values() -> None:
    table = to_arrow(MEASUREMENTS, curve("a", range(1), width=64, kind="relu", flag=True, rate=0.1))
    assert [str(table.schema.field(n).type) for n in ("width", "kind", "flag", "rate")] == [
        "int64",
        "string",
        "bool",
        "double",
    ]


def test_values_that_arrow_does_not_take_as_they_are_become_what_the_column_holds() -> None:
    odd = {"trial_id": 5, "step": 1, "examples": 8, "train_seconds": True, "loss": float("nan"), "empty": None}
    table = to_arrow(MEASUREMENTS, [odd, *curve("a", range(1))])
    assert table["trial_id"].to_pylist() == ["5", "a"] and table["train_seconds"].to_pylist() == [1.0, 0.0]
    assert [str(value) for value in table["loss"].to_pylist()] == ["nan", "1.0"]
    assert table.schema.field("empty").type == pa.null() and to_arrow(MEASUREMENTS, []).num_rows == 0


NAME = "analysis/thing.json"


@dataclass(frozen=True)
class Part:
    ends: tuple[int | None, ...]


@dataclass(frozen=True)
class Thing:
    size: int
    parts: tuple[Part, ...] = ()
    one: Part | None = None


THING = Thing(7, (Part((1, None)), Part(())), Part((2,)))


def test_what_is_written_is_read_again_and_nothing_where_nothing_was(folder: RunFolder) -> None:
    assert folder.read_result(NAME, Thing) is None
    folder.write_result(NAME, THING)
    assert folder.read_result(NAME, Thing) == THING


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"format": 1, "si', "Unterminated string"),
        ("[3]", "object cannot be interpreted"),
        ('{"size": 7}', "'format'"),
        ('{"format": 1}', "'size'"),
        ('{"format": 1, "size": 7, "sort": 2}', "'sort'"),
        ('{"format": 1, "size": 7, "one": {}}', "'ends'"),
        ('{"format": 1, "size": "7"}', "'7' is no number"),
        ('{"format": 1, "size": 7, "one": {"ends": [1, "x"]}}', "'x' is no number"),
        ('{"format": 2, "size": 7}', "its format is 2, not 1"),
    ],
)
def test_a_file_that_is_no_result_is_refused_with_the_remedy(folder: RunFolder, text: str, why: str) -> None:
    folder.write_bytes(NAME, text.encode())
    with pytest.raises(InputError, match=f"cannot be read: .*{why}.*`bcrit thing` makes it again"):
        folder.read_result(NAME, Thing)


def test_a_run_folder_may_lie_on_an_object_store(any_store: ObjectStore | GoogleStore) -> None:
    folder = any_store.folder("run")
    folder.write_bytes(f"{LEASE}/holder", b"what a kill left before all else")
    assert not folder.occupied()
    for number in range(3):
        folder.append(MEASUREMENTS, curve(f"t{number}", range(2)), number)
    folder.compact(MEASUREMENTS)
    assert len(read_steps(folder)) == 6 and folder.occupied()
    (part,) = folder.parts(MEASUREMENTS)
    assert part.startswith("measurements/000000-000002-")
    folder.write_bytes("large", large := os.urandom(20_000_000))
    assert folder.read_bytes("large") == large and not folder.has("larg")


def test_every_file_on_an_object_store_is_one_put_to_its_final_name(store: ObjectStore) -> None:
    folder = store.folder("puts")
    with store.counted() as requests:
        folder.write_json("analysis/fit.json", {"a": 1})
        folder.append(MEASUREMENTS, curve("a", range(1000)), 0)
        folder.write_bytes("report.html", b"x" * 8_000_000)
    names = ("analysis/fit.json", "measurements/000000-000000.parquet", "report.html")
    assert requests == [f"PUT /bucket/puts/{name}" for name in names]


@pytest.mark.parametrize("name", ["experiment.yaml", "measurements/000000-000000.parquet"])
def test_a_pipe_where_a_file_should_be_is_not_read(tmp_path: Path, name: str) -> None:
    folder = RunFolder.at(tmp_path)
    (tmp_path / "measurements").mkdir()
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="it is no file but a device or a pipe"):
        folder.read_text(name) if name == "experiment.yaml" else folder.read(MEASUREMENTS)


@pytest.mark.parametrize(
    ("told", "passes"),
    [
        ("When resolving region for bucket 'b': AWS Error NETWORK_CONNECTION during HeadBucket operation", True),
        ("When resolving region for bucket 'b': AWS Error ACCESS_DENIED during HeadBucket operation", False),
        ("Bucket 'b' not found", False),
        ("Unable to load libjvm", False),
    ],
)
def test_a_store_that_is_away_when_it_is_asked_for_its_region_is_no_bad_input(told: str, passes: bool) -> None:
    with patch.object(storage, "fs", Mock(FileSystem=Mock(from_uri=Mock(side_effect=OSError(told))))):
        with pytest.raises(OSError if passes else InputError, match=told.partition(":")[0]):
            RunFolder.at("s3://b/run")


def test_the_endpoint_may_come_from_the_environment(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{store.options.split('&')[0].partition('=')[2]}")
    folder = RunFolder.at("s3://bucket/environment?region=us-east-1")
    with store.counted() as requests:
        folder.write_bytes("a", b"1")
    assert requests == ["PUT /bucket/environment/a"] and folder.read_bytes("a") == b"1"


def test_a_file_is_written_when_the_store_comes_back(any_store: ObjectStore | GoogleStore) -> None:
    folder = any_store.folder("away")
    any_store.away()
    timer = Timer(1.0, any_store.back)
    timer.start()
    folder.write_bytes("a", b"1")
    timer.join()
    assert folder.read_bytes("a") == b"1"


def test_google_s_client_does_not_try_on_its_own_for_a_quarter_of_an_hour() -> None:
    for options, seconds in (("", 15), ("?retry_limit_seconds=7", 7)):
        filesystem = RunFolder.at(f"gs://anonymous@bucket/run{options}").filesystem
        assert filesystem.__reduce__()[1][0]["retry_time_limit"].total_seconds() == seconds


def test_what_no_waiting_mends_is_said_at_once(store: ObjectStore) -> None:
    begun, folder = time.monotonic(), RunFolder.at(f"s3://no-such-bucket/run?{store.options}")
    with pytest.raises(OSError, match="NO_SUCH_BUCKET"):
        folder.write_bytes("a", b"1")
    assert time.monotonic() - begun < 10
