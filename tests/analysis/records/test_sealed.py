"""What was damaged, lost or comes from elsewhere is named, and no flipped bit becomes another number."""

from collections import Counter
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bcrit.analysis.records.arrow_tables import parquet, unsealed, vouched_for
from bcrit.analysis.records.one_pass import read_measurements
from bcrit.analysis.records.parted_tables import _may_hold
from bcrit.analysis.records.repair import repair
from bcrit.analysis.records.run_folder import ENVIRONMENT, EXPERIMENT, RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table
from tests.analysis.records.rows import curve, trial
from tests.search_spaces.declared import parsed


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Forty trials, of a run whose environment was not noted."""
    return made(tmp_path / "run", 16)


def made(place: Path, batch_size: int) -> RunFolder:
    found = RunFolder.at(place)
    found.write_experiment(parsed(batch_sizes=[batch_size]))
    names = [f"{batch_size}-{number}" for number in range(40)]
    found.append(MEASUREMENTS, [row for name in names for row in curve(name, range(6))], 0)
    found.append(TRIALS, [trial(name, lr=0.1 * k, message="slow" * (k % 3)) for k, name in enumerate(names)], 0)
    return found


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("table", [TRIALS, MEASUREMENTS], ids=lambda table: table.name)
def test_no_flipped_bit_goes_unseen(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, table: Table, large: bool
) -> None:
    monkeypatch.setattr("bcrit.analysis.records.run_folder._SMALL_PART", 0 if large else 4_000_000)
    path = Path(folder.path(folder.parts(table)[0]))
    whole, good, columns = folder.read(table), path.read_bytes(), ["trial_id", "lr" if table is TRIALS else "loss"]
    random, seen = Random(0), Counter[str]()
    for _ in range(300):
        place, content = random.randrange(8 * len(good)), bytearray(good)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            read, scanned = folder.read(table), list(folder.scan(table, columns))
        except InputError as error:
            seen["named"] += 1
            assert path.name in str(error)
        else:
            same = read.equals(whole) and sum(batch.num_rows for batch in scanned) == whole.num_rows
            seen["same" if same else "unseen"] += 1
    assert seen["unseen"] == 0 and seen["named"] > 290


def test_only_a_footer_that_is_vouched_for_tells_which_trials_a_part_lacks(folder: RunFolder, tmp_path: Path) -> None:
    part, older = folder.path(folder.parts(MEASUREMENTS)[0]), str(tmp_path / "older.parquet")
    pq.write_table(pq.read_table(part).replace_schema_metadata(None), older)
    ways = {pa.memory_map: [True, False], pa.OSFile: [False, False]}  # a store's file is not compared as a whole
    for way, found in ways.items():  # a flipped bit in statistics ended the process
        files = [way(path) for path in (part, older)]
        assert [vouched_for(file, unsealed(file)) for file in files] == found
    wanted = pa.array(["no such trial"])
    assert not _may_hold(pq.ParquetFile(part), 0, wanted)


def test_names_of_trials_that_are_numbers_are_refused(folder: RunFolder) -> None:
    [part] = folder.parts(MEASUREMENTS)
    table = folder.read(MEASUREMENTS)
    place = table.column_names.index("trial_id")
    pq.write_table(table.set_column(place, "trial_id", pa.array([0.5] * table.num_rows)), folder.path(part))
    with pytest.raises(InputError, match=f"'measurements.trial_id' must be string, but it is double in {part}"):
        list(folder.scan(MEASUREMENTS, ["trial_id"]))


def test_a_name_that_is_no_text_any_more_is_damage(folder: RunFolder, tmp_path: Path) -> None:
    older = tmp_path / "older.parquet"
    pq.write_table(folder.read(TRIALS).replace_schema_metadata(None), older)
    older.write_bytes(older.read_bytes().replace(b"message", b"mess\xe9ge"))
    with pytest.raises(pa.ArrowInvalid, match="a name in it is not text"):
        parquet(older)


def test_a_part_of_another_run_is_named_and_set_aside(folder: RunFolder, tmp_path: Path) -> None:
    other = made(tmp_path / "other", 32)
    stranger = "trials/000007-000007.parquet"
    Path(folder.path(stranger)).write_bytes(other.read_bytes(other.parts(TRIALS)[0]))
    for ask in (folder.read, lambda table: list(folder.scan(table, ["trial_id"])), folder.schemas):
        with pytest.raises(InputError, match=f"{stranger} belongs to a run of another experiment"):
            ask(TRIALS)
    assert repair(folder, True).files == {stranger: "it belongs to a run of another experiment"}
    assert folder.read(TRIALS).num_rows == 40


def test_an_edited_experiment_is_noticed_without_a_note_of_the_environment(folder: RunFolder) -> None:
    text = folder.read_text(EXPERIMENT)
    assert not folder.has(ENVIRONMENT) and folder.read_experiment().target.threshold == 0.15
    folder.write_bytes(EXPERIMENT, text.replace("0.15", "0.25").encode())
    with pytest.raises(InputError, match="frozen, but this one was edited; put it back"):
        folder.read_experiment()
    folder.write_bytes(EXPERIMENT, b"\xff" + text.encode())
    with pytest.raises(InputError, match="the file is damaged: .* put it back"):
        folder.read_experiment()


def test_measurements_that_are_gone_are_missed(folder: RunFolder) -> None:
    Path(folder.path(folder.parts(MEASUREMENTS)[0])).unlink()
    with pytest.raises(InputError, match="the files of 'measurements' are gone; put them back, or `bcrit repair"):
        read_measurements(folder, ["16-0"], "loss", [])


def test_what_killed_writes_left_is_removed(folder: RunFolder) -> None:
    left = [f".report.html.{'0' * 32}", f"trials/.000001-000001.parquet.{'a' * 32}"]
    for name in left:
        Path(folder.path(name)).write_bytes(b"half")
    (keep := Path(folder.path(".lease"))).write_text("{}")
    folder.clear_half_written()
    assert not any(folder.has(name) for name in left) and keep.exists() and folder.read(TRIALS).num_rows == 40
