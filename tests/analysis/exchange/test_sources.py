"""What every source keeps to: its small input becomes a valid run folder, whatever is broken is one message."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bcrit.analysis.exchange import SOURCES, Reading, source
from bcrit.analysis.exchange.run import ImportedRun
from bcrit.analysis.exchange.write import write_run
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.search_spaces.target import Target

INPUTS = Path(__file__).parents[2] / "golden/inputs"
READING = Reading(Target.model_validate("val_loss < 0.1"))
HOW = {"how": READING}
ARGUMENT = dict.fromkeys(("mlperf", "ray", "wandb"), Path)


@dataclass(frozen=True)
class Case:
    """A small input of a source, and what is said when a file of it is missing, empty, torn or of another kind."""

    place: str  # in the goldens' inputs
    file: str  # the one that is broken; "" = itself
    said: tuple[str, ...]
    read: str = ""  # the faults with which it is read all the same, which the notes tell where something is missing
    options: Mapping[str, Any] = field(default_factory=dict)
    b_crit: float = 64.0  # 20 (1 + 64 / B) steps are planted in most


EXPORTED = "it must be a folder that `bcrit export {0}` wrote, but it has no trials.{0}; tables from elsewhere"
NO_TEXT, NO_JSON, EMPTY = "it is not text in UTF-8 (byte 0)", "not readable as JSON", "the file is empty"
NO_TABLE, NO_BATCH_SIZE = "the table cannot be read", "'batch_size' must be a whole number of at least 1"
NO_STORAGE, NO_PARQUET = "neither an SQLite database nor an Optuna journal", "trials.parquet cannot be read: Parquet"
STUDY = "mnist/simple_cnn_base/nesterov_momentum/64/study.json"
UNKNOWN = "search space unknown"
CASES = {
    "batch_science": Case("tree", STUDY, (UNKNOWN, NO_JSON, NO_JSON, NO_JSON), "missing", b_crit=61.5),
    "table": Case(
        "steps.csv",
        "",
        (f"{NO_TABLE}: No such file or directory", NO_TABLE, "", NO_TABLE),
        "torn",
        {"target": READING.target},
        b_crit=44.4,
    ),
    "csv": Case("exported_csv", "trials.csv", (EXPORTED.format("csv"), *["trials.csv cannot be read"] * 3)),
    "parquet": Case("exported_parquet", "trials.parquet", (EXPORTED.format("parquet"), *[NO_PARQUET] * 3)),
    "mlperf": Case("rcps_resnet.json", "", ("No such file or directory", EMPTY, NO_JSON, NO_TEXT), b_crit=48728.0),
    "optuna": Case("optuna.log", "", ("there is no such file", NO_STORAGE, "never reported", NO_STORAGE), "torn", HOW),
    "ray": Case("ray_results", "t64/params.json", (NO_BATCH_SIZE, EMPTY, NO_JSON, NO_TEXT), "", HOW),
    "wandb": Case("wandb", "run-64/config.yaml", ("", EMPTY, "run 'run-64' has None", NO_TEXT), "missing", HOW),
}


def imported(kind: str, place: Path) -> ImportedRun:
    found = source(kind)(ARGUMENT.get(kind, str)(place / CASES[kind].place), **CASES[kind].options)
    (run,) = found if isinstance(found, list) else [found]
    return run


def copied(kind: str, place: Path) -> Path:
    there = INPUTS / CASES[kind].place
    return Path(shutil.copytree(there, place / there.name) if there.is_dir() else shutil.copy(there, place))


def contents(place: Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_every_source_has_a_case_and_a_docstring_that_begins_with_its_line() -> None:
    assert set(CASES) == set(SOURCES)
    assert {name: (source(name).__doc__ or "").splitlines()[0] for name in SOURCES} == {
        name: line.says for name, line in SOURCES.items()
    }


@pytest.mark.parametrize("kind", CASES)
def test_a_small_input_becomes_the_same_run_folder_every_time(tmp_path: Path, kind: str) -> None:
    copied(kind, tmp_path)
    before = contents(tmp_path)
    folders = [RunFolder.at(tmp_path / name) for name in ("first", "second")]
    for folder in folders:
        run = imported(kind, tmp_path)
        census = write_run(run, folder)
    assert {name: of for name, of in contents(tmp_path).items() if name in before} == before
    for table in (TRIALS, MEASUREMENTS):
        first, second = (folder.read(table).to_pandas() for folder in folders)
        pd.testing.assert_frame_equal(first, second)
    analysis = Run(folders[0])
    assert (census.format, census.trials, census.measurements) == (kind, len(analysis.trials), len(second))
    assert list(census.reached_by_study) == list(census.batch_sizes) == analysis.studies["batch_size"].tolist()
    assert census.outcomes["reached"] == sum(census.reached_by_study.values()) > 4
    assert analysis.experiment == run.experiment and analysis.fit is not None
    assert analysis.fit.to_json()["b_crit"] == pytest.approx(CASES[kind].b_crit, rel=1e-3)
    written = contents(tmp_path / "first")
    with pytest.raises(InputError, match="something lies there already; give another place with --out"):
        write_run(run, folders[0])
    assert contents(tmp_path / "first") == written


@pytest.mark.parametrize("fault", ["missing", "empty", "torn", "foreign"])
@pytest.mark.parametrize("kind", CASES)
def test_a_file_that_is_broken_is_one_message_and_leaves_nothing(tmp_path: Path, kind: str, fault: str) -> None:
    file = copied(kind, tmp_path) / CASES[kind].file
    content = file.read_bytes()
    file.unlink()
    texts = {"empty": b"", "torn": content[: len(content) // 2 - 3], "foreign": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"}
    if fault in texts:
        file.write_bytes(texts[fault])
    said = dict(zip(("missing", *texts), CASES[kind].said, strict=True))[fault]
    if fault in CASES[kind].read:
        census = write_run(imported(kind, tmp_path), RunFolder.at(tmp_path / "run"))
        assert census.trials and said in " ".join(census.notes)
        return
    with pytest.raises(InputError, match=f": 1 problem\n(.|\n)*{re.escape(said)}"):
        write_run(imported(kind, tmp_path), RunFolder.at(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
