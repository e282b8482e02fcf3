"""Trees in the batch_science layout are read right to the last row, the nasty ones too."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.exchange.batch_science import import_batch_science
from bcrit.analysis.exchange.write import Census, write_run
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.dimensions import Choice, Integer, Linear, Log, ReverseLog
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.trees import HEADER, TARGET, Tree, rows, slow_first_crossing


def imported(tmp_path: Path, target: Target | None = TARGET, name: str = "run") -> tuple[RunFolder, Census]:
    runs = import_batch_science(str(tmp_path / "tree"), target)
    assert len(runs) == 1
    folder = RunFolder.at(tmp_path / name)
    return folder, write_run(next(iter(runs.values())), folder)


def trials_of(folder: RunFolder) -> pd.DataFrame:
    frame: pd.DataFrame = folder.read(TRIALS).to_pandas().set_index("trial_id")
    return frame


def row_of(folder: RunFolder, trial_id: str) -> dict[str, Any]:
    (row,) = (row for row in folder.read(TRIALS).to_pylist() if row["trial_id"] == trial_id)
    return dict(row)


def test_planted_first_crossings_come_out_of_a_random_tree(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    tree = Tree(tmp_path / "tree")
    for batch_size in (8, 64, 512):
        tree.study(batch_size)
        for trial in range(1, 30):
            steps = rng.choice(np.arange(0, 400, 10), size=rng.integers(1, 30), replace=False)
            values = rng.choice([0.2, 0.0100001, 0.01, 0.0099999, 0.5], size=len(steps), p=[0.6, 0.1, 0.1, 0.1, 0.1])
            status = rng.choice(["COMPLETE", "INFEASIBLE", "INCOMPLETE"], p=[0.6, 0.3, 0.1])
            tree.trial(batch_size, trial, list(zip(steps, values, strict=True)), status)
    folder, census = imported(tmp_path)
    trials = trials_of(folder)
    assert len(trials) == 87 and census.trials == 87
    for trial_id, row in trials.iterrows():
        path = tree.folder(*str(trial_id).split("/")) / "measurements.csv"  # type: ignore[arg-type]
        status = json.loads((path.parent / "metadata.json").read_text())["status"]
        crossing = slow_first_crossing(path, TARGET)
        if status == "COMPLETE":
            assert row["outcome"] == ("exhausted" if crossing is None else "reached")
            assert (None if pd.isna(row["steps_to_target"]) else row["steps_to_target"]) == crossing
        else:
            assert row["outcome"] == {"INFEASIBLE": "diverged", "INCOMPLETE": "failed"}[status]
            assert pd.isna(row["steps_to_target"])
    counts = folder.read(MEASUREMENTS).to_pandas()["trial_id"].value_counts()
    assert all(
        counts[i] == len(tree.folder(*i.split("/")).joinpath("measurements.csv").read_text().split()) - 1
        for i in counts.index
    )


@pytest.mark.parametrize(
    ("text", "crossing", "low"),
    [
        (rows([(0, 0.9), (10, 0.02), (20, 0.009), (30, 0.5)]), 20, 10),
        (rows([(20, 0.009), (0, 0.9), (30, 0.001), (10, 0.02)]), 20, 10),
        (rows([(10, 0.01), (20, 0.0099999999)]), 20, 10),
        (rows([(0, 0.001), (10, 0.02)]), None, None),
        (rows([(0, 0.001), (10, 0.002)]), 10, 0),
        (rows([(10, 0.02), (20, 0.5), (20, 0.001), (30, 0.5)]), 20, 10),
        (rows([(10, 0.02), (10, 0.02), (20, 0.001)]), 20, 10),
        (rows([("10.0", 0.02), ("2e1", 0.001)]), 20, 10),
        (rows([(10, "nan"), (20, "NaN"), (30, ""), (40, "inf"), (50, "0.001")]), 50, 40),
        (rows([(10, "-0"), (20, "0.5")]), 10, 0),
        (rows([(10, 0.02), (20, 0.001)]).replace("\n", "\r\n"), 20, 10),
        (rows([(10, 0.02), (20, 0.001)]).replace("\n", "\n\n"), 20, 10),
        (rows([(10, 0.02), (20, 0.001)]).rstrip("\n"), 20, 10),
        ("\ufeff" + rows([(10, 0.02), (20, 0.001)]), 20, 10),
        (f"{HEADER},phase\n10,1,0.02,warmup\n20,1,0.001,decay\n", 20, 10),
        (f",{HEADER}\n0,10,1,0.02\n1,20,1,0.001\n", 20, 10),
        (f"{HEADER}\n10,1,0.02\n20,1,0.001\n30,1\n", 20, 10),
        (f"{HEADER}\n10,1,oops\n20,1,0.001\n", 20, 0),
        ("step,val/classification_error\n10,0.02\n20,0.001\n", 20, 10),
        ('"step","val/classification_error"\n"10","0.02"\n"20","0.001"\n', 20, 10),
        (f"{HEADER}\n 10 , 1 , 0.02\n20,1,0.001\n", 20, 10),
    ],
    ids=[
        *("plain", "unsorted", "equal to the goal", "only at step 0", "at step 0 and later", "repeated step"),
        *("repeated row", "float steps", "empty and infinite", "minus zero", "CRLF", "blank lines", "no last newline"),
        *("byte order mark", "a column of words", "an index column", "cut off", "a word among numbers"),
        *("fewer columns", "quoted", "spaces"),
    ],
)
def test_the_first_crossing_is_found_however_the_file_is_written(
    tmp_path: Path, text: str, crossing: int | None, low: int | None
) -> None:
    # Beside plain trials, so that the file is joined with others or not.
    tree = Tree(tmp_path / "tree").study(8).trial(8, 1, [(10, 0.5), (90, 0.4)]).trial(8, 2, text)
    tree.trial(8, 3, [(10, 0.5), (70, 0.0001)])
    folder, _ = imported(tmp_path)
    trials = trials_of(folder)
    row = trials.loc["8/2"]
    found = [None if pd.isna(row[name]) else row[name] for name in ("steps_to_target", "steps_to_target_low")]
    assert found == [crossing, low]
    assert row["outcome"] == ("exhausted" if crossing is None else "reached")
    assert trials.loc["8/3", "steps_to_target"] == 70 and trials.loc["8/1", "outcome"] == "exhausted"


def test_a_diverged_trial_has_not_reached_whatever_it_crossed_before(tmp_path: Path) -> None:
    Tree(tmp_path / "tree").study(8).trial(8, 1, [(10, 0.001), (20, "nan")], "INFEASIBLE", steps=20)
    folder, census = imported(tmp_path)
    row = row_of(folder, "8/1")
    assert row["outcome"] == "diverged" and row["steps_to_target"] is None and row["best_value"] == 0.001
    assert row["steps"] == 20 and row["examples"] == 160 and row["max_steps"] == 100
    assert census.reached_by_study == {8: 0}


def test_equal_steps_go_to_the_smaller_trial_number_not_to_the_smaller_word(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree").study(8)
    for trial in ("10", "9", "00100"):
        tree.trial(8, trial, [(10, 0.001)], parameters={"learning_rate": float(trial), "momentum": 0.95})
    folder, _ = imported(tmp_path)
    analysis = Run(folder)
    assert analysis.studies.iloc[0]["best_trial"] == "8/9"
    assert list(trials_of(folder).index) == ["8/9", "8/10", "8/00100"]


def test_a_metric_may_be_to_be_maximised(tmp_path: Path) -> None:
    target = Target.model_validate("val/average_precision > 0.31")
    text = "step,val/average_precision\n10,0.31\n20,0.3100001\n30,0.2\n"
    Tree(tmp_path / "tree", "open_images_v4/resnet_50/nesterov_momentum").study(64).trial(64, 1, text)
    folder, census = imported(tmp_path, None)
    assert folder.read_experiment().target == target
    row = trials_of(folder).loc["64/1"]
    assert (row["steps_to_target"], row["steps_to_target_low"], row["best_value"]) == (20, 10, 0.3100001)
    assert any("goal that the paper sets" in note for note in census.notes)


def test_measurements_come_back_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).lognormal(sigma=30, size=400)
    curve = [(step, repr(float(value))) for step, value in enumerate(values)]
    Tree(tmp_path / "tree").study(8).trial(8, 1, curve)
    folder, _ = imported(tmp_path)
    table = folder.read(MEASUREMENTS)
    assert table["val/classification_error"].to_pylist() == values.tolist()
    assert table["examples"].to_pylist() == [8 * step for step in range(400)]


def test_scales_become_dimensions_and_names_become_ours(tmp_path: Path) -> None:
    configs = {
        "learning_rate": {"min_value": 1e-4, "max_value": 10.0, "scale": "LOG_SCALE", "type": "DOUBLE"},
        "momentum": {"min_value": 0.9, "max_value": 0.9999, "scale": "REVERSE_LOG_SCALE", "type": "DOUBLE"},
        "end": {"min_value": 0.0, "max_value": 1.0, "scale": "LINEAR_SCALE", "type": "DOUBLE"},
        "decay": {"min_value": 300, "max_value": 600, "scale": "", "type": "INTEGER"},
        "label_smoothing": {"feasible_points": [0.0, 0.01, 0.1], "type": "DISCRETE"},
        "activation": {"feasible_points": ["relu", "tanh"], "type": "CATEGORICAL"},
        "steps": {"min_value": 1.0, "max_value": 2.0, "type": "DOUBLE"},
    }
    point = {"learning_rate": 1, "momentum": 0.95, "end": 0.5, "decay": 400, "activation": "relu", "steps": 1.5}
    tree = Tree(tmp_path / "tree").study(8, configs)
    tree.trial(8, 1, [(10, 0.001)], parameters={**point, "label_smoothing": 0})
    tree.trial(8, 2, [(10, 0.02)], parameters={**point, "label_smoothing": 0.1})
    folder, _ = imported(tmp_path)
    experiment = folder.read_experiment()
    space = experiment.space_at(8).root
    kinds = {name: type(axis) for name, axis in space.items()}
    assert kinds == {
        **{"lr": Log, "momentum": ReverseLog, "end": Linear, "decay": Integer},
        **{"label_smoothing": Choice, "activation": Choice, "steps_in_source": Linear},
    }
    assert experiment.imported and experiment.imported.names == {"lr": "learning_rate", "steps_in_source": "steps"}
    assert list(trials_of(folder)["label_smoothing"]) == ["0", "0.1"]
    assert set(Run(folder).boundary["dimension"]) <= set(kinds)


def test_every_way_in_which_a_trial_can_be_broken_leaves_a_visible_row(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree").study(8).trial(8, 1, [(10, 0.001)])
    tree.trial(8, 2, None).trial(8, 3, "").trial(8, 4, HEADER + "\n").trial(8, 5, [(10, 0.001)], "EXPLODED")
    tree.trial(8, 6, None, "INFEASIBLE").trial(8, 7, "a,b\n1,2\n").trial(8, 8, [(10, 0.001)], "INCOMPLETE")
    tree.trial(8, 9, [(10, 0.001)]).folder(8, 9).joinpath("metadata.json").write_text("{broken")
    tree.trial(8, 10, [(10, 0.001)]).folder(8, 10).joinpath("metadata.json").unlink()
    tree.folder(8, 11).mkdir()
    tree.trial(8, 12, "step,step\n1,2\n")
    folder, census = imported(tmp_path)
    trials = trials_of(folder)
    assert trials["outcome"].to_dict() == {
        "8/1": "reached",
        "8/6": "diverged",
        **{f"8/{n}": "failed" for n in (2, 3, 4, 5, 7, 8, 9, 10, 12)},
    }
    assert trials["message"].drop("8/1").notna().all()
    notes = "\n".join(census.notes)
    for words in (
        "without measurements stand as failed (5;",
        "unknown status",
        "metadata.json is missing",
        "Empty folders",
    ):
        assert words in notes
    analysis = Run(folder)
    assert analysis.studies.iloc[0]["steps"] == 10


def test_a_gzipped_file_is_read_where_the_plain_one_is_missing(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree").study(8).trial(8, 1, None)
    tree.folder(8, 1).joinpath("measurements.csv.gz").write_bytes(gzip.compress(rows([(10, 0.001)]).encode()))
    folder, _ = imported(tmp_path)
    assert trials_of(folder).loc["8/1", "steps_to_target"] == 10


def test_a_budget_of_time_counts_every_trial_that_did_not_diverge(tmp_path: Path) -> None:
    Tree(tmp_path / "tree").study(8, train_steps=0).trial(8, 1, [(10, 0.5), (30, 0.4)], steps=35)
    folder, census = imported(tmp_path)
    row = trials_of(folder).loc["8/1"]
    assert (row["outcome"], row["steps"], row["max_steps"]) == ("exhausted", 35, 35)
    assert any("budget of time" in note for note in census.notes)


def test_step_times_of_an_import_are_unknown_and_not_zero(tmp_path: Path) -> None:
    Tree(tmp_path / "tree").study(8).trial(8, 1, [(10, 0.001)])
    folder, census = imported(tmp_path)
    assert Run(folder).studies["step_seconds"].isna().all()
    assert any("time and cost are unknown" in note for note in census.notes)


def test_several_workloads_are_several_runs_and_a_pattern_picks_some(tmp_path: Path) -> None:
    for workload in ("mnist/fc_1024/sgd", "mnist/simple_cnn_base/sgd", "mnist_subsets/mnist_6875/simple_cnn_base/sgd"):
        Tree(tmp_path / "tree", workload).study(8).trial(8, 1, [(10, 0.001)])
    source = str(tmp_path / "tree")
    runs = import_batch_science(source, None)
    goals = {name: run.experiment.target.threshold for name, run in runs.items()}
    assert goals == {
        "mnist-fc_1024-sgd": 0.03,
        "mnist-simple_cnn_base-sgd": 0.01,
        "mnist_subsets-mnist_6875-simple_cnn_base-sgd": 0.02,
    }
    assert list(import_batch_science(source, None, "mnist/fc*/sgd")) == ["mnist-fc_1024-sgd"]
    assert list(import_batch_science(source + "/mnist/fc_1024/sgd/8", None)) == ["mnist-fc_1024-sgd"]
    with pytest.raises(InputError, match="no workload fits 'cifar"):
        import_batch_science(source, None, "cifar*")


def test_only_the_first_complete_trials_may_be_wanted(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree").study(8)
    for trial, status in enumerate(("COMPLETE", "INFEASIBLE", "COMPLETE", "INCOMPLETE", "COMPLETE"), start=1):
        tree.trial(8, trial, [(10 * (6 - trial), 0.001)], status)
    run = import_batch_science(str(tmp_path / "tree"), TARGET, first=2)["mnist-simple_cnn_base-nesterov_momentum"]
    write_run(run, RunFolder.at(tmp_path / "run"))
    trials = trials_of(RunFolder.at(tmp_path / "run"))
    assert list(trials.index) == ["8/1", "8/2", "8/3"] and trials["steps_to_target"].min() == 30
    assert any("after the first 2 complete ones" in note for note in run.notes.sentences())


def test_a_study_without_its_file_is_known_by_its_folder(tmp_path: Path) -> None:
    Tree(tmp_path / "tree").trial(8, 1, [(10, 0.001)])
    folder, census = imported(tmp_path)
    assert trials_of(folder).loc["8/1", "batch_size"] == 8
    assert folder.read_experiment().space_at(8).axes == {}
    assert any("search space unknown" in note for note in census.notes)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "must hold one JSON object"),
        ('{"batch_size": 16}', "'batch_size' is 16, but the folder is named 8"),
        ('{"batch_size": 0.5}', "must be a whole number"),
        ('{"batch_size": 8, "train_steps": -1}', "'train_steps' must be"),
        ('{"batch_size": 8, "parameter_configs": [1]}', "'parameter_configs' must hold"),
    ],
    ids=["broken", "list", "contradiction", "fraction", "train_steps", "configs"],
)
def test_a_broken_study_is_refused(tmp_path: Path, study: str, message: str) -> None:
    tree = Tree(tmp_path / "tree").study(8).trial(8, 1, [(10, 0.001)])
    tree.folder(8).joinpath("study.json").write_text(study)
    with pytest.raises(InputError, match=message):
        import_batch_science(str(tmp_path / "tree"), TARGET)


@pytest.mark.parametrize(
    ("source", "message"), [("nothing", "no such folder"), (".", "no study.json lies in it")], ids=str
)
def test_a_source_without_studies_is_refused(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_batch_science(str(tmp_path / source), TARGET)


def test_a_metric_that_is_not_there_is_refused_and_nothing_stays_behind(tmp_path: Path) -> None:
    Tree(tmp_path / "tree").study(8).trial(8, 1, [(10, 0.001)])
    with pytest.raises(InputError, match="'val/accuracy' is not measured; the metrics are train/cross"):
        imported(tmp_path, Target.model_validate("val/accuracy > 0.9"))
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_workload_without_a_goal_asks_for_one(tmp_path: Path) -> None:
    Tree(tmp_path / "tree", "own/net/sgd").study(8).trial(8, 1, [(10, 0.001)])
    with pytest.raises(InputError, match="sets no goal for 'own/net/sgd'"):
        import_batch_science(str(tmp_path / "tree"), None)


@pytest.mark.parametrize(
    ("parameters", "note"),
    [
        ({"learning_rate": 0.1}, "'momentum' is left out"),
        ({"learning_rate": 0.0, "momentum": 0.95}, "'lr' is taken as linear"),
        ({"learning_rate": "big", "momentum": 0.95}, "'lr' is left out"),
        ({"learning_rate": 0.1, "momentum": None}, "'momentum' is left out"),
    ],
    ids=["missing", "off the scale", "a word", "null"],
)
def test_points_that_do_not_fit_the_space_do_not_stop_the_analysis(
    tmp_path: Path, parameters: dict[str, Any], note: str
) -> None:
    tree = Tree(tmp_path / "tree").study(8).trial(8, 1, [(10, 0.001)]).trial(8, 2, [(20, 0.001)], parameters=parameters)
    tree.trial(8, 3, [(30, 0.001)])
    folder, census = imported(tmp_path)
    assert Run(folder).studies.iloc[0]["steps"] == 10
    assert any(note in sentence for sentence in census.notes)
