"""Somebody's own tables: what is guessed is said, what is missing is named."""

import gzip
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.columns import Mapped, trial_names
from bcrit.analysis.exchange.run import Notes
from bcrit.analysis.exchange.tables import Pieces, import_table, table_curves
from bcrit.analysis.exchange.write import Census
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.made import written

TARGET = Target.model_validate("loss < 1")
STEPS = """bs,learning_rate,seed,steps_to_target,max_steps,state,comment
8,0.1,0,900,2000,finished,x
8,0.1,1,1000.0,2000,finished,
8,0.1,2,,2000,nan,
16,0.1,0,500,2000,,
16,0.2,0,450,2000,,
32,0.1,0,inf,700,,
"""


def imported(
    place: Path, trials: str, measurements: str | None = None, columns: str | None = None
) -> tuple[pd.DataFrame, Census, Run]:
    (place / "t.csv").write_text(trials, encoding="latin-1")
    if measurements is not None:
        (place / "m.csv").write_text(measurements)
    curves = None if measurements is None else str(place / "m.csv")
    run = import_table(str(place / "t.csv"), TARGET, curves, columns)
    census, analysis = written(run, place / "run")
    return RunFolder.at(place / "run").read(TRIALS).to_pandas().set_index("trial_id"), census, analysis


def test_a_row_that_bounds_nothing_is_told(tmp_path: Path) -> None:
    _, census, _ = imported(tmp_path, "batch_size,lr,steps_to_target\n8,0.1,\n16,0.1,300\n")
    assert [note for note in census.notes if "they bound nothing; a column max_steps would" in note]


def test_steps_to_target_are_taken_as_they_are_and_guesses_are_said(tmp_path: Path) -> None:
    trials, census, analysis = imported(tmp_path, STEPS)
    assert list(trials["outcome"]) == ["reached", "reached", "diverged", "reached", "reached", "exhausted"]
    assert list(trials["steps_to_target"].fillna(-1)) == [900, 1000, -1, 500, 450, -1]
    assert trials["steps"].iloc[5] == 700 and list(trials["lr"].iloc[3:5]) == [0.1, 0.2]
    studies = analysis.studies.set_index("batch_size")
    assert studies.loc[8, "steps"] == 1000 and studies.loc[8, "source"] == "confirm" and studies.loc[8, "n_seeds"] == 3
    assert studies.loc[16, "steps"] == 450 and studies.loc[16, "source"] == "search"
    assert studies["steps"].isna().tolist() == [False, False, True] and studies.loc[32, "max_steps"] == 700
    assert studies["step_seconds"].isna().all()
    notes = "\n".join(census.notes)
    assert "batch_size = bs" in notes and "lr = learning_rate" in notes and "outcome = state" in notes
    assert "left out: comment" in notes and "several seeds" in notes
    assert analysis.experiment.imported and analysis.experiment.imported.names == {"lr": "learning_rate"}


def test_a_best_learning_rate_at_the_end_of_those_that_were_tried_lies_at_an_edge(tmp_path: Path) -> None:
    rows = ["batch_size,lr,steps"]
    for size in (8, 16, 32, 64, 128, 256, 512):
        for rate in (0.1, 0.2) if size == 8 else (0.03, 0.1, 0.3, 1):  # two are no search
            need = 200 * (1 + 100 / size) * math.exp(math.log(rate / (0.01 * size)) ** 2 / 2)
            rows.append(f"{size},{rate},{round(need)}")
    _, _, analysis = imported(tmp_path, "\n".join(rows))
    assert analysis.at_edge == dict.fromkeys([64.0, 128.0, 256.0, 512.0], "lr high")
    assert analysis.fit is not None and analysis.fit.boxes is not None and not analysis.fit.identified["b_crit"]


def test_rows_of_one_point_without_seeds_are_repeats_and_said_to_be(tmp_path: Path) -> None:
    steps = {8: (900, 1000, 1300), 16: (500, 520, 600), 32: (300, 310, 400)}
    text = "bs,steps_to_target\n" + "".join(f"{size},{n}\n" for size, several in steps.items() for n in several)
    trials, census, analysis = imported(tmp_path, text)
    assert list(trials["seed"]) == [0, 1, 2] * 3 and set(trials["stage"]) == {"confirm"}
    found = analysis.studies.set_index("batch_size")["steps"]
    assert found.to_dict() == {size: several[1] for size, several in steps.items()}
    (note,) = [note for note in census.notes if "no seed tells apart" in note]
    assert "--columns NAME=COLUMN" in note and "(3)" in note
    assert not any("several seeds" in note for note in census.notes)


def test_curves_tell_the_steps_and_names_of_trials_are_words(tmp_path: Path) -> None:
    trials = "trial_id,batch_size,lr\n00012,8,0.1\n12,8,0.2\n7,16,0.1\n"
    curves = "trial_id,step,loss,acc,phase\n00012,20,0.5,,a\n00012,10,1.0,1,b\n12,0,3,,\n12,5,0.9,,\n7,5,2,0,\n"
    table, census, _ = imported(tmp_path, trials, curves)
    assert table["steps_to_target"].fillna(-1).to_dict() == {"00012": 20, "12": 5, "7": -1}
    assert table["steps_to_target_low"].fillna(-1).to_dict() == {"00012": 10, "12": 0, "7": -1}
    measured = RunFolder.at(tmp_path / "run").read(MEASUREMENTS).to_pandas()
    assert list(measured["examples"]) == [80, 160, 0, 40, 80] and "phase" not in measured
    assert any("hold no numbers: phase" in note for note in census.notes)
    # A column that the user names holds names too, whatever its case.
    (tmp_path / "c.csv").write_text('Case,"Run",step\n007,1,2\n')
    assert trial_names(str(tmp_path / "c.csv"), Mapped({"trial_id": "Case"})) == ["Case", "Run"]


EVALUATIONS = (
    "run,step,time,train,mAP@50(B)\na,10,0:00:10,1,0.5\na,20,0:01:00,2,0.7\nb,5,5,3,0.5\nb,10,1 days 00:00:01,4,0.7\n"
)
TRIALS_OF = "run,batch_size,lr\na,8,0.1\nb,16,0.2\n"


@pytest.mark.parametrize(
    ("trials", "measurements"),
    [
        pytest.param(TRIALS_OF.encode(), EVALUATIONS.encode(), id="plain"),
        pytest.param(TRIALS_OF.replace(",", "\t").encode(), EVALUATIONS.replace(",", " ; ").encode(), id="other marks"),
        pytest.param(gzip.compress(TRIALS_OF.encode()), gzip.compress(EVALUATIONS.encode()), id="gzip"),
        pytest.param(
            b"\xef\xbb\xbf# of, three, cells\n\n" + TRIALS_OF.encode(), EVALUATIONS.encode() + b"# end\n", id="comments"
        ),
        pytest.param(
            TRIALS_OF.replace("run,batch_size", "RUN , Batch Size").encode(),
            EVALUATIONS.replace("run,step", " Run,  STEP").encode(),
            id="case and blanks",
        ),
        pytest.param(
            TRIALS_OF.replace("batch_size,lr", "params_batch_size,params_lr").encode(),
            EVALUATIONS.encode(),
            id="Optuna",
        ),
        pytest.param(
            TRIALS_OF.replace("batch_size,lr", "config/batch_size,config/lr").encode(), EVALUATIONS.encode(), id="Ray"
        ),
    ],
)
def test_tables_are_read_however_they_are_written(tmp_path: Path, trials: bytes, measurements: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(trials)
    (tmp_path / "m.csv").write_bytes(measurements)
    target = Target.model_validate("'mAP@50(B)' > 0.6")
    run = import_table(str(tmp_path / "t.csv"), target, str(tmp_path / "m.csv"), "seconds=TIME")
    found = written(run, tmp_path / "run")[1].trials[["batch_size", "lr", "steps_to_target"]]
    assert found.to_numpy().tolist() == [[8, 0.1, 20], [16, 0.2, 10]]
    data = RunFolder.at(tmp_path / "run").read(MEASUREMENTS)
    assert data["train_seconds"].to_pylist() == [10, 60, 5, 86401] and data["train"].to_pylist() == [1, 2, 3, 4]


def test_a_trial_that_never_reported_the_metric_is_left_out_and_named(tmp_path: Path) -> None:
    trials = "id,bs,outcome,max_steps\na,8,,\nb,16,,100\nc,32,,100\nd,64,failed,\n"
    found, census, _ = imported(tmp_path, trials, "id,step,loss\na,10,0.5\na,20,0.01\nb,10,\nb,20,nan\n")
    assert found["outcome"].to_dict() == {"a": "reached", "d": "failed"}
    assert RunFolder.at(tmp_path / "run").read(MEASUREMENTS)["trial_id"].to_pylist() == ["a", "a"]
    assert "Trials that never reported 'loss' were left out (2; the first: b)" in census.notes


def test_parquet_is_read_by_its_ending(tmp_path: Path) -> None:
    frame = pd.DataFrame({"trial_id": [1, 2], "batch_size": [8, 16], "optimizer": ["adam", "sgd"]})
    frame.to_parquet(tmp_path / "t.parquet")
    pd.DataFrame({"trial_id": [2, 1], "step": [3, 4], "loss": [0.5, 0.5]}).to_parquet(tmp_path / "m.parquet")
    run = import_table(str(tmp_path / "t.parquet"), TARGET, str(tmp_path / "m.parquet"))
    trials = written(run, tmp_path / "run")[1].trials
    assert trials["steps_to_target"].tolist() == [4, 3] and trials["optimizer"].tolist() == ["adam", "sgd"]


def test_the_user_says_which_column_is_what(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(
        "batch_size: B\nsteps_to_target: n\noutcome: how\nhyperparameters: {lr: alpha}\n"
        "outcomes: {weird: diverged, fine: complete}\n"
    )
    text = "B,alpha,s,n,how\n8,0.1,0,90,weird\n8,0.2,0,80,fine\n"
    trials, _, _ = imported(tmp_path, text, columns=str(tmp_path / "map.yaml"))
    assert list(trials["outcome"]) == ["diverged", "reached"] and list(trials["lr"]) == [0.1, 0.2]


GOOD = "bs,steps_to_target\n8,1\n"


@pytest.mark.parametrize(
    ("trials", "columns", "message"),
    [
        ("x,steps_to_target\n8,1\n", None, "a column 'batch_size' is needed; name it by --columns batch_size=COLUMN"),
        ("bs,x\n8,1\n", None, "a column 'steps_to_target' is needed"),
        (GOOD, "batch_size=B", "no column 'B' for 'batch_size'"),
        (GOOD, "lr=B", "there is no column 'B'; the columns are bs"),
        (GOOD, "lr", "'lr' has no '='"),
        (GOOD, "map.yaml", "the mapping cannot be read"),
        ("bs,steps_to_target\n8,1.5\n0,2\n", None, "must be a whole number below .*, but it is 1.5 .row 2."),
        (f"{GOOD}16,0\n", None, "'steps_to_target' must be at least 1, or an empty cell .*row 3."),
        ("bs,steps_to_target,state\n8,1,exploded\n", None, "'exploded' is no known outcome"),
        ("bs,steps_to_target,trial\n8,1,a\n8,2,a\n", None, "different names, but a stand more than once"),
        ("bs,steps_to_target\n", None, "it has no row"),
        ("bs,bs,steps_to_target\n8,8,1\n", None, "column 'bs' stands twice"),
        ("bs,steps_to_target,seconds\n8,1,soon\n", None, "'seconds' must be a number of seconds or a duration .* soon"),
        (
            "bs,steps_to_target\n8,1e308\n",
            None,
            "'steps_to_target' must be a whole number below 1e.12, but it is 1e.308",
        ),
        ("bs,steps_to_target,seed\n8,1,1e101\n", None, "'seed' must be a whole number below"),
        ("bs,steps_to_target\n8e9,8e11\n", None, "batch size times steps must be below 2.63"),
        ("bs,steps_to_target\n8,\xff\n", None, "not text in UTF-8 .byte"),
    ],
    ids=[
        *("no batch size", "no steps", "wrong column", "wrong hyperparameter", "no sign", "no file"),
        *("fraction", "no step", "unknown word", "doubled trial", "no row"),
        *("doubled column", "no duration", "horizon", "seed", "examples", "not UTF-8"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(tmp_path: Path, trials: str, columns: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        imported(tmp_path, trials, columns=columns)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ("trial_id,step,loss,time\na,1,,0.5\na,2,nan,0.6\n", "no trial reported the target's metric 'loss'"),
        ("trial_id,step,loss\nz,1,0.5\n", "1 trials are not in the table of trials: z"),
        ("trial_id,step,accuracy\na,1,0.5\n", "metric 'loss' is no column; the metrics are accuracy"),
        ("trial_id,step,loss\na,1.5,0.5\n", "'step' must hold whole numbers"),
        ("trial_id,step,loss\na,,0.5\n", "'step' must hold whole numbers from 0 and no empty cells"),
        ("trial_id,when,loss\na,1,0.5\n", "a column 'step' is needed"),
        (
            "trial_id,step,loss\n" + "a,1,0.5\n" * 1000 + "a,1000,diverged\n",
            r"the table cannot be read: (.|\n)*invalid value 'diverged'",
        ),
    ],
    ids=["nothing", "stranger", "no metric", "fraction", "empty step", "no step", "a word further down"],
)
def test_wrong_measurements_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curves: str, message: str
) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.files.BLOCK", 1 << 12)
    with pytest.raises(InputError, match=message):
        imported(tmp_path, "trial_id,bs\na,8\n", curves)


def pieces(path: Path, rows: list[tuple[str, int]]) -> Pieces:
    frame = pd.DataFrame([(name, step, step / 7) for name, step in rows], columns=["trial_id", "step", "loss"])
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return table_curves(str(path), dict.fromkeys("abcde", 4), Mapped(), TARGET, Notes())[0]


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
    rows = [(name, step) for name, length in zip("abcde", lengths, strict=True) for step in range(length)]
    if scattered:
        rows.sort(key=lambda row: row[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bcrit.analysis.exchange.files.ROWS", piece)
        patch.setattr("bcrit.analysis.exchange.files.BLOCK", 30 + 10 * piece)
        parts = [part.to_pylist() for part in pieces(tmp_path / f"m.{ending}", rows)()]
    found = [(row["trial_id"], row["step"], row["loss"], row["examples"]) for part in parts for row in part]
    assert found == [(name, step, pytest.approx(step / 7, rel=1e-15), 4 * step) for name, step in rows]
    owners = [{row["trial_id"] for row in part} for part in parts]
    assert sum(map(len, owners)) == len({name for name, _ in rows})


def test_trials_that_stand_together_are_not_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.files.BLOCK", 1 << 12)
    rows = [(name, step) for name in "abcde" for step in range(1000)]
    assert max(part.num_rows for part in pieces(tmp_path / "m.csv", rows)()) <= 2000
