"""Export followed by import is the identity: CSV, Parquet and the batch_science layout."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.batch_science import import_batch_science
from bcrit.analysis.exchange.exports import COLUMNS, export_batch_science, export_tables, import_tables, type_name
from bcrit.analysis.exchange.files import TYPES
from bcrit.analysis.exchange.run import ImportedRun
from bcrit.analysis.exchange.write import write_run
from bcrit.analysis.records.arrow_tables import arrow_schema
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.trees import TARGET, Tree, slow_first_crossing
from tests.analysis.probed_runs import probed_run

SPACE: dict[str, Any] = {
    "lr": "log from 0.01 to 10",
    "momentum": "reverse_log from 0 to 0.99",
    "width": "integer from 1 to 9",
    "schedule": "choice of constant, linear",
    "activation": "choice of relu, 1",
}
FLOATS = st.floats(allow_subnormal=True) | st.sampled_from([-0.0, 5e-324, math.inf, math.nan, 1e308, 0.1 + 0.2])
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5) | st.sampled_from(['a"b', "x,y", "nan", ""])


def experiment(direction: str = "minimize") -> Experiment:
    return Experiment.model_validate(
        {
            "name": "made-up",
            "workload": "toy",
            "batch_sizes": [4, 16],
            "target": {"metric": "val/m", "threshold": 0.5, "direction": direction},
            "space": SPACE,
            "budget": {"steps": 40, "examples": 100},
        }
    )


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Trials with every outcome and stage, and their measurements."""
    trials, measurements = [], []
    for number in range(draw(st.integers(1, 4))):
        batch_size, outcome = draw(st.sampled_from([4, 16])), draw(st.sampled_from(Outcome))
        steps, confirm = draw(st.integers(0, 50)), draw(st.booleans())
        reached = outcome is Outcome.REACHED
        trial_id = f"b{batch_size}-{number}"
        trials.append(
            {
                **dict.fromkeys(TRIALS.names),
                "trial_id": trial_id,
                "batch_size": batch_size,
                "stage": "confirm" if confirm else "search",
                "number": number,
                "round": draw(st.integers(0, 2)),
                "repeats": "b4-0" if confirm else None,
                "seed": draw(st.integers(0, 2**40)),
                "outcome": outcome.value,
                "message": draw(st.none() | WORDS),
                "max_steps": 60,
                "steps": steps,
                "examples": batch_size * steps,
                "steps_to_target": steps if reached else None,
                "steps_to_target_low": 0 if reached else None,
                "best_value": draw(st.none() | FLOATS),
                "train_seconds": draw(st.floats(0, 1e6)),
                **dict.fromkeys(("evaluate_seconds", "started_at", "ended_at"), 0.25),
                "lr": draw(st.floats(0.01, 10)),
                "momentum": draw(st.none() | st.floats(0, 0.99)),
                "width": draw(st.integers(1, 9)),
                "schedule": "linear",
                "activation": draw(st.sampled_from(["relu", "1"])),
            }
        )
        for step in draw(st.lists(st.integers(0, 50), unique=True, max_size=4)):
            value = draw(st.none() | FLOATS)
            seconds = draw(st.floats(0, 1e6))
            measurements.append(
                {"trial_id": trial_id, "step": step, "examples": step, "train_seconds": seconds, "val/m": value}
            )
    return trials, sorted(measurements, key=lambda row: row["step"])


def written(place: Path, spec: Experiment, trials: list[dict[str, Any]], measured: list[dict[str, Any]]) -> RunFolder:
    folder = RunFolder.at(place)
    folder.write_experiment(spec)
    folder.append(TRIALS, trials, 0)
    half = len(measured) // 2  # rows of one trial straddle parts and interleave with others
    folder.append(MEASUREMENTS, measured[:half], 0)
    folder.append(MEASUREMENTS, measured[half:], 1)
    return folder


def from_tree(place: str) -> ImportedRun:
    return next(iter(import_batch_science(place, None).values()))


WAYS: dict[str, tuple[Callable[[RunFolder, str], Any], Callable[[str], ImportedRun]]] = {
    "csv": (lambda folder, out: export_tables(folder, out, "csv"), lambda place: import_tables(place, "csv")),
    "parquet": (
        lambda folder, out: export_tables(folder, out, "parquet"),
        lambda place: import_tables(place, "parquet"),
    ),
    "batch_science": (export_batch_science, from_tree),
}


def content(folder: RunFolder, table: Table) -> list[dict[str, str]]:
    """Rows by their key, floats as `repr`, so that NaN equals NaN and -0.0 differs from 0.0."""
    data = folder.read(table).sort_by([(name, "ascending") for name in table.key])
    return [{name: repr(value) for name, value in sorted(row.items())} for row in data.to_pylist()]


@pytest.mark.parametrize("way", WAYS, ids=str)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(made=rows())
def test_what_goes_out_comes_back(
    tmp_path_factory: pytest.TempPathFactory, way: str, made: tuple[list[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    place = tmp_path_factory.mktemp("identity")
    folder = written(place / "run", experiment(), *made)
    export, read = WAYS[way]
    export(folder, str(place / "out"))
    back = RunFolder.at(place / "back")
    write_run(read(str(place / "out")), back)
    for table in (TRIALS, MEASUREMENTS):
        assert content(back, table) == content(folder, table)
    types = {field.name: field.type for field in folder.read(TRIALS).schema if field.type != pa.null()}
    assert types == {name: back.read(TRIALS).schema.field(name).type for name in types}
    assert back.read_experiment() == folder.read_experiment()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_measurements_come_back_piece_by_piece_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Literal["csv", "parquet"]
) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.files.BLOCK", 1 << 12)
    monkeypatch.setattr("bcrit.analysis.exchange.files.ROWS", 50)
    values = np.random.default_rng(0).standard_normal(900)
    special = [None, math.nan, -math.inf, -0.0, 5e-324]
    trials = [{**ONE[0][0], "trial_id": f"b4-{i}", "number": i} for i in range(3)]
    measured = [
        {
            "trial_id": f"b4-{i % 3}",
            "step": i // 3,
            "examples": 4 * (i // 3),
            "train_seconds": 0.1 * i,
            "val/m": special[i % 5] if i % 7 == 0 else float(value),
        }
        for i, value in enumerate(values)
    ]
    folder = written(tmp_path / "run", experiment(), trials, measured)
    export_tables(folder, str(tmp_path / "out"), kind)
    run = import_tables(str(tmp_path / "out"), kind)
    sizes = [part.num_rows for part in run.measurements]
    assert sum(sizes) == 900 and max(sizes) < 200
    back = RunFolder.at(tmp_path / "back")
    write_run(run, back)
    assert content(back, MEASUREMENTS) == content(folder, MEASUREMENTS)
    assert [p.name for p in (tmp_path / "back" / "measurements").iterdir()] == ["000000-000000.parquet"]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_metric_to_be_maximised_and_an_imported_run_come_back_too(tmp_path: Path, way: str) -> None:
    tree = Tree(tmp_path / "tree").study(8).study(16).trial(8, 1, [(0, 0.9), (10, 0.001)]).trial(16, 3, [(10, 0.5)])
    tree.trial(8, 2, [(5, 0.001)], "INFEASIBLE").trial(8, 4, None, "INCOMPLETE")
    target = Target.model_validate("val/classification_error > 0.4")
    folder = RunFolder.at(tmp_path / "run")
    write_run(next(iter(import_batch_science(str(tmp_path / "tree"), target).values())), folder)
    export, read = WAYS[way]
    export(folder, str(tmp_path / "out"))
    back = RunFolder.at(tmp_path / "back")
    write_run(read(str(tmp_path / "out")), back)
    assert [content(back, t) for t in (TRIALS, MEASUREMENTS)] == [content(folder, t) for t in (TRIALS, MEASUREMENTS)]
    assert back.read_experiment() == folder.read_experiment()
    assert Run(back).to_json()["studies"] == Run(folder).to_json()["studies"]


def test_a_reader_that_knows_only_the_layout_reads_the_same_steps(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree").study(8).trial(8, 12, [(0, 0.9), (10, 0.02), (20, 0.001)]).trial(8, 3, [(10, 0.5)])
    tree.trial(8, 4, [(5, 0.001)], "INFEASIBLE")
    folder = RunFolder.at(tmp_path / "run")
    write_run(next(iter(import_batch_science(str(tmp_path / "tree"), TARGET).values())), folder)
    export_batch_science(folder, str(tmp_path / "out"))
    study = tmp_path / "out/mnist/simple_cnn_base/nesterov_momentum/8"
    told = json.loads((study / "study.json").read_text())
    assert (
        told["parameter_configs"] == json.loads(tree.folder(8).joinpath("study.json").read_text())["parameter_configs"]
    )
    assert told["train_steps"] == 100 and told["optimizer"] == "nesterov_momentum"
    for trial, status in {"12": "COMPLETE", "3": "COMPLETE", "4": "INFEASIBLE"}.items():
        metadata = json.loads((study / trial / "metadata.json").read_text())
        assert metadata["status"] == status and metadata["trial_id"] == int(trial)
        assert metadata["parameters"] == {"learning_rate": 0.1, "momentum": 0.95}
        own, theirs = (f / trial / "measurements.csv" for f in (study, tree.folder(8)))
        assert slow_first_crossing(own, TARGET) == slow_first_crossing(theirs, TARGET)
    for path in (tmp_path / "out").rglob("*.json"):
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "bcrit"}))
    plain = RunFolder.at(tmp_path / "plain")
    write_run(next(iter(import_batch_science(str(tmp_path / "out"), TARGET).values())), plain)
    assert content(plain, TRIALS) == [
        {**row, "message": again["message"]}
        for row, again in zip(content(folder, TRIALS), content(plain, TRIALS), strict=True)
    ]


def test_an_export_asked_for_another_target_is_read_as_any_tree(tmp_path: Path) -> None:
    Tree(tmp_path / "tree").study(8).trial(8, 1, [(10, 0.02), (20, 0.001)])
    folder = RunFolder.at(tmp_path / "run")
    write_run(next(iter(import_batch_science(str(tmp_path / "tree"), TARGET).values())), folder)
    export_batch_science(folder, str(tmp_path / "out"))
    looser = Target.model_validate("val/classification_error < 0.1")
    run = next(iter(import_batch_science(str(tmp_path / "out"), looser).values()))
    back = RunFolder.at(tmp_path / "back")
    census = write_run(run, back)
    assert back.read(TRIALS)["steps_to_target"].to_pylist() == [10]
    assert any("with another target" in note for note in census.notes)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_export_never_overwrites(tmp_path: Path, way: str) -> None:
    folder = written(tmp_path / "run", experiment(), *ONE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(InputError, match="lies there already"):
        WAYS[way][0](folder, str(tmp_path / "out"))
    with pytest.raises(InputError, match="not a run folder"):
        WAYS[way][0](RunFolder.at(tmp_path / "nothing"), str(tmp_path / "out2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


ROW = {
    "trial_id": "b4-0",
    "batch_size": 4,
    "stage": "search",
    "number": 0,
    "round": 0,
    "seed": 0,
    "outcome": "exhausted",
}
TIMES: dict[str, Any] = dict.fromkeys(("train_seconds", "evaluate_seconds", "started_at", "ended_at"), 0.0)
ONE: tuple[list[dict[str, Any]], list[dict[str, Any]]] = (
    [{**dict.fromkeys(TRIALS.names), **ROW, **TIMES, "max_steps": 5, "steps": 5, "examples": 20, "lr": 0.5}],
    [],
)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("trials.csv", None, "has no trials.csv; tables from elsewhere"),
        ("columns.json", "{", "cannot be read"),
        ("columns.json", '{"trials": [], "measurements": []}', "does not describe trial_id"),
        ("trials.csv", "trial_id\n1,2\n", "trials.csv cannot be read"),
        ("environment.json", "{}", "environment.json is damaged"),
    ],
    ids=["missing", "broken", "undescribed", "ragged", "environment"],
)
def test_a_damaged_export_is_refused(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    folder = written(tmp_path / "run", experiment(), *ONE)
    export_tables(folder, str(tmp_path / "out"), "csv")
    file = tmp_path / "out" / name
    file.unlink(missing_ok=True)
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        import_tables(str(tmp_path / "out"), "csv")


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_summary_of_a_run_that_comes_back_is_the_same(tmp_path: Path, way: str) -> None:
    folder, back = probed_run(tmp_path / "run"), RunFolder.at(tmp_path / "back")
    export, read = WAYS[way]
    export(folder, str(tmp_path / "out"))
    write_run(read(str(tmp_path / "out")), back)
    before, after = Run(folder).to_json(), Run(back).to_json()
    assert before["noise_scale"] is not None
    assert all(after[name] == before[name] for name in ("noise_scale", "weight_distance", "fit"))


def test_exported_tables_say_what_the_columns_are(tmp_path: Path) -> None:
    for name, run in {"probed": probed_run(tmp_path / "a"), "bare": probed_run(tmp_path / "b", ())}.items():
        export_tables(run, str(tmp_path / name), "csv")
    probed, bare = (json.loads((tmp_path / name / COLUMNS).read_text())["measurements"] for name in ("probed", "bare"))
    (column,) = (entry for entry in probed if entry["name"] == "tr_sigma")
    assert (column["unit"], column["type"]) == ("loss^2 / weight^2", "double")
    assert [entry["name"] for entry in bare] == [*MEASUREMENTS.names, "loss"]


def test_parts_are_joined_where_some_lack_the_columns(tmp_path: Path) -> None:
    folder = probed_run(tmp_path / "run")
    before = Run(folder).to_json()["noise_scale"]
    folder.compact(MEASUREMENTS)
    assert len(folder.parts(MEASUREMENTS)) == 1
    assert before is not None and Run(folder).to_json()["noise_scale"] == before


@pytest.mark.parametrize("table", [TRIALS, MEASUREMENTS], ids=lambda table: table.name)
def test_types_of_a_table_out_and_back_are_the_same(table: Table) -> None:
    assert all(TYPES[type_name(field.type)] == field.type for field in arrow_schema(table))


def test_a_column_without_any_value_is_one_of_floats() -> None:
    assert TYPES[type_name(pa.null())] == pa.float64()
