"""Export followed by import is the identity: CSV, Parquet and the batch_science layout."""

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange import source
from bcrit.analysis.exchange.batch_science import import_batch_science
from bcrit.analysis.exchange.exports import COLUMNS, EXPORTS, import_tables, type_name
from bcrit.analysis.exchange.write import write_run
from bcrit.analysis.records.arrow_tables import arrow_schema
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.made import GOAL, Tree
from tests.analysis.probed_runs import probed_run

EXPERIMENT: dict[str, Any] = {
    "name": "made-up",
    "workload": "toy",
    "batch_sizes": [4, 16],
    "target": "val/m < 0.5",
    "space": {
        "lr": "log from 0.01 to 10",
        "momentum": "reverse_log from 0 to 0.99",
        "width": "integer from 1 to 9",
        "schedule": "choice of constant, linear",
        "activation": "choice of relu, 1",
    },
    "budget": {"steps": 40, "examples": 100},
}
FLOATS = st.floats(allow_subnormal=True) | st.sampled_from([-0.0, 5e-324, math.inf, math.nan, 1e308, 0.1 + 0.2])
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5) | st.sampled_from(['a"b', "x,y", "nan", ""])
Rows = list[dict[str, Any]]


def one(trial_id: str = "b4-0", number: int = 0, **more: Any) -> dict[str, Any]:
    """A trial."""
    row = {"trial_id": trial_id, "batch_size": 4, "stage": "search", "number": number, "round": 0, "seed": 0}
    row |= {"outcome": "exhausted", "max_steps": 60, "steps": 5, "examples": 20, "lr": 0.5}
    times = dict.fromkeys(("train_seconds", "evaluate_seconds", "started_at", "ended_at"), 0.25)
    return {**dict.fromkeys(TRIALS.names), **row, **times, **more}


@st.composite
def made_up(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """Trials with every outcome and stage, and their measurements."""
    trials, measurements = [], []
    for number in range(draw(st.integers(1, 4))):
        batch_size, outcome = draw(st.sampled_from([4, 16])), draw(st.sampled_from(Outcome))
        steps, confirm, reached = draw(st.integers(0, 50)), draw(st.booleans()), outcome is Outcome.REACHED
        known: dict[str, Any] = {
            "batch_size": batch_size,
            "stage": "confirm" if confirm else "search",
            "round": draw(st.integers(0, 2)),
            "repeats": "b4-0" if confirm else None,
            "seed": draw(st.integers(0, 2**40)),
            "outcome": outcome.value,
            "message": draw(st.none() | WORDS),
            "steps": steps,
            "examples": batch_size * steps,
            "steps_to_target": steps if reached else None,
            "steps_to_target_low": 0 if reached else None,
            "best_value": draw(st.none() | FLOATS),
            "train_seconds": draw(st.floats(0, 1e6)),
            "lr": draw(st.floats(0.01, 10)),
            "momentum": draw(st.none() | st.floats(0, 0.99)),
            "width": draw(st.integers(1, 9)),
            "schedule": "linear",
            "activation": draw(st.sampled_from(["relu", "1"])),
        }
        trials.append(one(f"b{batch_size}-{number}", number, **known))
        for step in draw(st.lists(st.integers(0, 50), unique=True, max_size=4)):
            row = {"trial_id": trials[-1]["trial_id"], "step": step, "examples": step}
            row |= {"train_seconds": draw(st.floats(0, 1e6)), "val/m": draw(st.none() | FLOATS)}
            measurements.append(row)
    return trials, sorted(measurements, key=lambda row: row["step"])


def stored(place: Path, trials: Rows, measured: Rows, target: str = "val/m < 0.5") -> RunFolder:
    folder = RunFolder.at(place)
    folder.write_experiment(Experiment.model_validate({**EXPERIMENT, "target": target}))
    folder.append(TRIALS, trials, 0)
    half = len(measured) // 2  # rows of one trial straddle parts and interleave with others
    folder.append(MEASUREMENTS, measured[:half], 0)
    folder.append(MEASUREMENTS, measured[half:], 1)
    return folder


def from_tree(place: Path, target: Target | None = GOAL) -> RunFolder:
    (run,) = import_batch_science(str(place), target)
    write_run(run, RunFolder.at(place.parent / "run"))
    return RunFolder.at(place.parent / "run")


def content(folder: RunFolder, table: Table) -> list[dict[str, str]]:
    """Rows by their key, floats as `repr`, so that NaN equals NaN and -0.0 differs from 0.0."""
    data = folder.read(table).sort_by([(name, "ascending") for name in table.key])
    return [{name: repr(value) for name, value in sorted(row.items())} for row in data.to_pylist()]


def back_again(folder: RunFolder, kind: str, place: Path) -> RunFolder:
    """The run after its way out and back, which must not have changed it."""
    EXPORTS[kind](folder, str(place / "out"))
    found, back = source(kind)(str(place / "out")), RunFolder.at(place / "back")
    (run,) = found if isinstance(found, list) else [found]
    write_run(run, back)
    for table in (TRIALS, MEASUREMENTS):
        assert content(back, table) == content(folder, table)
    types = {field.name: field.type for field in folder.read(TRIALS).schema if field.type != pa.null()}
    assert types == {name: back.read(TRIALS).schema.field(name).type for name in types}
    assert back.read_experiment() == folder.read_experiment()
    return back


@pytest.mark.parametrize("kind", EXPORTS)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(made=made_up(), target=st.sampled_from(["val/m < 0.5", "val/m > 0.5"]))
def test_what_goes_out_comes_back(
    tmp_path_factory: pytest.TempPathFactory, kind: str, made: tuple[Rows, Rows], target: str
) -> None:
    place = tmp_path_factory.mktemp("identity")
    back_again(stored(place / "run", *made, target), kind, place)


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    """A run with answers to many questions, and these."""
    folder = probed_run(tmp_path_factory.mktemp("probed") / "run")
    return folder, Run(folder).to_json()


@pytest.mark.parametrize("kind", EXPORTS)
def test_answers_of_a_run_that_comes_back_are_the_same(
    probed: tuple[RunFolder, dict[str, Any]], tmp_path: Path, kind: str
) -> None:
    folder, before = probed
    after = Run(back_again(folder, kind, tmp_path)).to_json()
    assert before["noise_scale"] is not None
    assert all(after[name] == before[name] for name in ("noise_scale", "weight_distance", "fit", "studies"))


@pytest.mark.parametrize("kind", EXPORTS)
def test_an_imported_run_comes_back_too_and_an_export_never_overwrites(tmp_path: Path, kind: str) -> None:
    tree = Tree(tmp_path / "tree").study(8).study(16).trial(8, 1, [(0, 0.9), (10, 0.001)]).trial(16, 3, [(10, 0.5)])
    tree.trial(8, 2, [(5, 0.001)], "INFEASIBLE").trial(8, 4, None, "INCOMPLETE")
    folder = from_tree(tmp_path / "tree")
    back_again(folder, kind, tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="lies there already"):
        EXPORTS[kind](folder, str(tmp_path / "out"))
    with pytest.raises(InputError, match="not a run folder"):
        EXPORTS[kind](RunFolder.at(tmp_path / "nothing"), str(tmp_path / "out2"))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "out", "run", "tree"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_measurements_come_back_piece_by_piece_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.files.BLOCK", 1 << 12)
    monkeypatch.setattr("bcrit.analysis.exchange.files.ROWS", 50)
    values: list[float | None] = np.random.default_rng(0).standard_normal(900).tolist()
    values[::7] = [[None, math.nan, -math.inf, -0.0, 5e-324][i % 5] for i in range(len(values[::7]))]
    measured = [
        {"trial_id": f"b4-{i % 3}", "step": i // 3, "examples": 4 * i, "train_seconds": 0.1 * i, "val/m": value}
        for i, value in enumerate(values)
    ]
    back_again(stored(tmp_path / "run", [one(f"b4-{i}", i) for i in range(3)], measured), kind, tmp_path)
    sizes = [part.num_rows for part in import_tables(str(tmp_path / "out"), kind).measurements()]
    assert sum(sizes) == 900 and max(sizes) < 200
    assert [p.name for p in (tmp_path / "back" / "measurements").iterdir()] == ["000000-000000.parquet"]


def slow_first_crossing(path: Path) -> int | None:
    """The published rule, read with `csv` and `float`: sort by step, take the first row strictly better."""
    with path.open(newline="") as file:
        read = [(float(row["step"]), float(row[GOAL.metric] or "nan")) for row in csv.DictReader(file)]
    return next((int(step) for step, value in sorted(read) if GOAL.reached(value) and step > 0), None)


def test_a_reader_that_knows_only_the_layout_reads_the_same_steps(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree").study(8).trial(8, 12, [(0, 0.9), (10, 0.02), (20, 0.001)]).trial(8, 3, [(10, 0.5)])
    folder = from_tree(tree.trial(8, 4, [(5, 0.001)], "INFEASIBLE").root)
    EXPORTS["batch_science"](folder, str(tmp_path / "out"))
    study = tmp_path / "out/mnist/simple_cnn_base/nesterov_momentum/8"
    told, there = (json.loads((place / "study.json").read_text()) for place in (study, tree.folder(8)))
    assert {name: told[name] for name in there} == there
    for trial, status in {"12": "COMPLETE", "3": "COMPLETE", "4": "INFEASIBLE"}.items():
        metadata = json.loads((study / trial / "metadata.json").read_text())
        assert metadata["status"] == status and metadata["trial_id"] == int(trial)
        assert metadata["parameters"] == {"learning_rate": 0.1, "momentum": 0.95}
        own, theirs = (place / trial / "measurements.csv" for place in (study, tree.folder(8)))
        assert slow_first_crossing(own) == slow_first_crossing(theirs)
    (looser,) = import_batch_science(str(tmp_path / "out"), Target.model_validate("val/classification_error < 0.1"))
    assert any("with another target" in note for note in looser.notes.sentences())
    for path in (tmp_path / "out").rglob("*.json"):
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "bcrit"}))
    (tmp_path / "plain").mkdir()
    plain = from_tree((tmp_path / "out").rename(tmp_path / "plain" / "out"))
    both = zip(content(folder, TRIALS), content(plain, TRIALS), strict=True)
    assert all(again == {**row, "message": again["message"]} for row, again in both)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("columns.json", "{", "cannot be read"),
        ("columns.json", '{"trials": [], "measurements": []}', "does not describe trial_id"),
        ("environment.json", "{}", "environment.json is damaged"),
    ],
    ids=["broken", "undescribed", "environment"],
)
def test_a_damaged_export_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    EXPORTS["csv"](stored(tmp_path / "run", [one()], []), str(tmp_path / "out"))
    (tmp_path / "out" / name).write_text(text)
    with pytest.raises(InputError, match=message):
        import_tables(str(tmp_path / "out"), "csv")


def test_cells_that_a_spreadsheet_would_run_begin_with_an_apostrophe_where_that_is_wanted(tmp_path: Path) -> None:
    run = stored(tmp_path / "run", [one(lr="=1+1", note="-x", message="fine")], [])
    for name, safe in (("as_it_is", False), ("safe", True)):
        EXPORTS["csv"](run, str(tmp_path / name), safe_cells=safe)
        with (tmp_path / name / "trials.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        mark = "'" * safe
        assert (row["lr"], row["note"], row["message"]) == (f"{mark}=1+1", f"{mark}-x", "fine")
        assert import_tables(str(tmp_path / name), "csv").trials()["lr"].to_pylist() == [f"{mark}=1+1"]


def test_exported_tables_say_what_the_columns_are(tmp_path: Path) -> None:
    for name, measure in {"probed": ("noise_scale", "weight_distance"), "bare": ()}.items():
        EXPORTS["csv"](probed_run(tmp_path / f"run-{name}", measure), str(tmp_path / name))
    probed, bare = (json.loads((tmp_path / name / COLUMNS).read_text())["measurements"] for name in ("probed", "bare"))
    (column,) = (entry for entry in probed if entry["name"] == "tr_sigma")
    assert (column["unit"], column["type"]) == ("loss^2 / weight^2", "double")
    assert [entry["name"] for entry in bare] == [*MEASUREMENTS.names, "loss"]


@pytest.mark.parametrize("table", [TRIALS, MEASUREMENTS], ids=lambda table: table.name)
def test_types_of_a_table_out_and_back_are_the_same(table: Table) -> None:
    assert all(pa.type_for_alias(type_name(field.type)) == field.type for field in arrow_schema(table))
    assert pa.type_for_alias(type_name(pa.null())) == pa.float64()


def test_only_the_study_is_exported_to_a_layout_that_knows_no_stages(tmp_path: Path) -> None:
    """The stored run has trials of `landscape`, `warm_start` and `adaptive` beside its study, one of no update."""
    run = RunFolder.at(Path(__file__).parents[2] / "golden" / "runs" / "full")
    stages = Counter(run.read(TRIALS)["stage"].to_pylist())
    assert min(stages[stage] for stage in ("search", "confirm", "landscape", "warm_start", "adaptive")) > 0
    written = EXPORTS["batch_science"](run, str(tmp_path / "out"))
    assert written[TRIALS.name] == stages["search"] + stages["confirm"]
    told = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("*.json")]
    assert min(study["train_steps"] for study in told if "train_steps" in study) > 0
