"""Somebody's own tables: what is guessed is said, what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.run import Notes, trial_row
from bcrit.analysis.exchange.tables import Mapped, TableCurves, import_table, read_mapping, trial_names
from bcrit.analysis.exchange.write import Census, write_run
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.search_spaces.target import Target

TARGET = Target.model_validate("loss < 1")
GUESS = Mapped()
STEPS = """bs,learning_rate,seed,steps_to_target,max_steps,state,comment
8,0.1,0,900,2000,finished,x
8,0.1,1,1000.0,2000,finished,
8,0.1,2,,2000,nan,
16,0.1,0,500,2000,,
16,0.2,0,450,2000,,
32,0.1,0,inf,700,,
"""


def imported(
    tmp_path: Path, trials: str, measurements: str | None = None, mapped: Mapped = GUESS
) -> tuple[pd.DataFrame, Census, RunFolder]:
    (tmp_path / "t.csv").write_text(trials)
    if measurements is not None:
        (tmp_path / "m.csv").write_text(measurements)
    curves = None if measurements is None else str(tmp_path / "m.csv")
    folder = RunFolder.at(tmp_path / "run")
    census = write_run(import_table(str(tmp_path / "t.csv"), curves, TARGET, mapped), folder)
    return folder.read(TRIALS).to_pandas().set_index("trial_id"), census, folder


def test_a_row_that_bounds_nothing_is_told(tmp_path: Path) -> None:
    _, census, _ = imported(tmp_path, "batch_size,lr,steps_to_target\n8,0.1,\n16,0.1,300\n")
    assert [note for note in census.notes if "they bound nothing; a column max_steps would" in note]


def test_steps_to_target_are_taken_as_they_are(tmp_path: Path) -> None:
    trials, census, folder = imported(tmp_path, STEPS)
    assert list(trials["outcome"]) == ["reached", "reached", "diverged", "reached", "reached", "exhausted"]
    assert list(trials["steps_to_target"].fillna(-1)) == [900, 1000, -1, 500, 450, -1]
    assert trials["steps"].iloc[5] == 700 and list(trials["lr"].iloc[3:5]) == [0.1, 0.2]
    studies = Run(folder).studies.set_index("batch_size")
    assert studies.loc[8, "steps"] == 1000 and studies.loc[8, "source"] == "confirm" and studies.loc[8, "n_seeds"] == 3
    assert studies.loc[16, "steps"] == 450 and studies.loc[16, "source"] == "search"
    assert studies["steps"].isna().tolist() == [False, False, True] and studies.loc[32, "max_steps"] == 700
    assert studies["step_seconds"].isna().all()
    assert folder.read_experiment().imported is not None


def test_what_was_guessed_and_left_out_is_said(tmp_path: Path) -> None:
    _, census, folder = imported(tmp_path, STEPS)
    notes = "\n".join(census.notes)
    assert "batch_size = bs" in notes and "lr = learning_rate" in notes and "outcome = state" in notes
    assert "left out: comment" in notes and "several seeds" in notes
    experiment = folder.read_experiment()
    assert experiment.imported and experiment.imported.names == {"lr": "learning_rate"}


def test_rows_of_one_point_without_seeds_are_repeats_and_said_to_be(tmp_path: Path) -> None:
    steps = {8: (900, 1000, 1300), 16: (500, 520, 600), 32: (300, 310, 400)}
    text = "bs,steps_to_target\n" + "".join(f"{size},{n}\n" for size, several in steps.items() for n in several)
    trials, census, folder = imported(tmp_path, text)
    assert list(trials["seed"]) == [0, 1, 2] * 3 and set(trials["stage"]) == {"confirm"}
    studies = Run(folder).studies.set_index("batch_size")
    assert studies["steps"].to_dict() == {size: several[1] for size, several in steps.items()}
    (note,) = [note for note in census.notes if "no seed tells apart" in note]
    assert "--columns NAME=COLUMN" in note and "(3)" in note
    assert not any("several seeds" in note for note in census.notes)


def test_curves_tell_the_steps_and_names_of_trials_are_words(tmp_path: Path) -> None:
    trials = "trial_id,batch_size,lr\n00012,8,0.1\n12,8,0.2\n7,16,0.1\n"
    curves = "trial_id,step,loss,acc,phase\n00012,20,0.5,,a\n00012,10,1.0,1,b\n12,0,3,,\n12,5,0.9,,\n7,5,2,0,\n"
    table, census, folder = imported(tmp_path, trials, curves)
    assert table["steps_to_target"].fillna(-1).to_dict() == {"00012": 20, "12": 5, "7": -1}
    assert table["steps_to_target_low"].fillna(-1).to_dict() == {"00012": 10, "12": 0, "7": -1}
    measured = folder.read(MEASUREMENTS).to_pandas()
    assert list(measured["examples"]) == [80, 160, 0, 40, 80] and "phase" not in measured
    assert any("hold no numbers: phase" in note for note in census.notes)


def test_parquet_is_read_by_its_ending(tmp_path: Path) -> None:
    frame = pd.DataFrame({"trial_id": [1, 2], "batch_size": [8, 16], "optimizer": ["adam", "sgd"]})
    frame.to_parquet(tmp_path / "t.parquet")
    pd.DataFrame({"trial_id": [2, 1], "step": [3, 4], "loss": [0.5, 0.5]}).to_parquet(tmp_path / "m.parquet")
    folder = RunFolder.at(tmp_path / "run")
    write_run(import_table(str(tmp_path / "t.parquet"), str(tmp_path / "m.parquet"), TARGET, Mapped()), folder)
    assert folder.read(TRIALS)["steps_to_target"].to_pylist() == [4, 3]
    assert folder.read(TRIALS)["optimizer"].to_pylist() == ["adam", "sgd"]


def test_the_user_says_which_column_is_what(tmp_path: Path) -> None:
    text = "B,alpha,s,n,how\n8,0.1,0,90,weird\n8,0.2,0,80,fine\n"
    (tmp_path / "map.yaml").write_text(
        "batch_size: B\nsteps_to_target: n\noutcome: how\nhyperparameters: {lr: alpha}\n"
        "outcomes: {weird: diverged, fine: complete}\n"
    )
    trials, _, _ = imported(tmp_path, text, mapped=read_mapping(str(tmp_path / "map.yaml")))
    assert list(trials["outcome"]) == ["diverged", "reached"] and list(trials["lr"]) == [0.1, 0.2]


@pytest.mark.parametrize(
    ("trials", "columns", "message"),
    [
        ("x,steps_to_target\n8,1\n", None, "a column 'batch_size' is needed; name it by --columns batch_size=COLUMN"),
        ("bs,x\n8,1\n", None, "a column 'steps_to_target' is needed"),
        ("bs,steps_to_target\n8,1\n", "batch_size=B", "no column 'B' for 'batch_size'"),
        ("bs,steps_to_target\n8,1\n", "lr=B", "there is no column 'B'; the columns are bs"),
        ("bs,steps_to_target\n8,1\n", "lr", "'lr' has no '='"),
        ("bs,steps_to_target\n8,1.5\n0,2\n", None, "must be a whole number, but it is 1.5 .row 2."),
        ("bs,steps_to_target\n8,1\n16,0\n", None, "'steps_to_target' must be at least 1, or an empty cell .*row 3."),
        ("bs,steps_to_target,state\n8,1,exploded\n", None, "'exploded' is no known outcome"),
        ("bs,steps_to_target,trial\n8,1,a\n8,2,a\n", None, "different names, but a stand more than once"),
        ("bs,steps_to_target\n", None, "it has no row"),
        ("", None, "the table cannot be read"),
        ("bs,steps_to_target\n8,1\n", "map.yaml", "the mapping cannot be read"),
    ],
    ids=[
        *("no batch size", "no steps", "wrong column", "wrong hyperparameter", "no sign", "fraction", "no step"),
        *("unknown word", "doubled trial", "no row", "empty", "no file"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(tmp_path: Path, trials: str, columns: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        imported(tmp_path, trials, mapped=read_mapping(columns))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ("trial_id,step,loss\nz,1,0.5\n", "1 trials are not in the table of trials: z"),
        ("trial_id,step,accuracy\na,1,0.5\n", "metric 'loss' is no column; the metrics are accuracy"),
        ("trial_id,step,loss\na,1.5,0.5\n", "'step' must hold whole numbers"),
        ("trial_id,step,loss\na,,0.5\n", "'step' must hold whole numbers from 0 and no empty cells"),
        ("trial_id,when,loss\na,1,0.5\n", "a column 'step' is needed"),
    ],
    ids=["stranger", "no metric", "fraction", "empty step", "no step"],
)
def test_wrong_measurements_are_refused(tmp_path: Path, curves: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        imported(tmp_path, "trial_id,bs\na,8\n", curves)


ROWS = [trial_row(name, 4, number=i) for i, name in enumerate("abcde")]
Measured = list[tuple[str, int, float]]


def curves(path: Path) -> TableCurves:
    return TableCurves(str(path), ROWS, Mapped(), TARGET, Notes())


def table(path: Path, rows: Measured) -> Path:
    names, steps, values = zip(*rows, strict=True)
    columns = pa.table({"trial_id": list(names), "step": list(steps), "loss": list(values)})
    if path.suffix == ".parquet":
        pq.write_table(columns, path)
    else:
        path.write_text("trial_id,step,loss\n" + "".join(f"{n},{s},{v!r}\n" for n, s, v in rows))
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=5, max_size=5).filter(any),
    piece=st.integers(1, 20),
    scattered=st.booleans(),
)
def test_every_piece_holds_whole_trials(
    tmp_path: Path, ending: str, lengths: list[int], piece: int, scattered: bool
) -> None:
    rows = [(name, step, step / 7) for name, length in zip("abcde", lengths, strict=True) for step in range(length)]
    if scattered:
        rows.sort(key=lambda row: row[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bcrit.analysis.exchange.files.ROWS", piece)
        patch.setattr("bcrit.analysis.exchange.files.BLOCK", 30 + 10 * piece)
        pieces = [part.to_pylist() for part in curves(table(tmp_path / f"m.{ending}", rows))]
    found = [(row["trial_id"], row["step"], row["loss"]) for part in pieces for row in part]
    assert found == rows
    assert all(row["examples"] == 4 * row["step"] for part in pieces for row in part)
    owners = [{row["trial_id"] for row in part} for part in pieces]
    assert sum(map(len, owners)) == len({name for name, _, _ in rows})


def test_trials_that_stand_together_are_not_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.files.BLOCK", 1 << 12)
    rows = [(name, step, 0.5) for name in "abcde" for step in range(1000)]
    assert max(part.num_rows for part in curves(table(tmp_path / "m.csv", rows))) <= 2000


def test_a_word_among_numbers_further_down_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.files.BLOCK", 1 << 12)
    path = table(tmp_path / "m.csv", [("a", step, 0.5) for step in range(1000)])
    with path.open("a") as file:
        file.write("a,1000,diverged\n")
    with pytest.raises(InputError, match=r"the table cannot be read: (.|\n)*invalid value 'diverged'"):
        curves(path)


def test_a_column_that_the_user_names_holds_names_whatever_its_case(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('Case,"Run",step\n007,1,2\n')
    assert trial_names(str(tmp_path / "t.csv"), Mapped({"trial_id": "Case"})) == ["Case", "Run"]


@pytest.mark.parametrize("name", ["no.csv", "no.parquet"])
def test_a_file_that_is_missing_is_said_to_be_missing(name: str) -> None:
    with pytest.raises(InputError, match="the table cannot be read: No such file or directory$"):
        import_table(name, None, TARGET, GUESS)
