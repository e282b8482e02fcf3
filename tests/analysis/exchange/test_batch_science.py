"""Trees in the batch_science layout are read right to the last row, the nasty ones too."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.exchange.batch_science import import_batch_science
from bcrit.analysis.exchange.write import Census
from bcrit.analysis.run import Run
from bcrit.search_spaces.dimensions import Choice, Integer, Linear, Log, ReverseLog
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.made import CONFIGS, GOAL, HEADER, Tree, rows, written
from tests.analysis.exchange.test_exports import slow_first_crossing


def imported(tree: Tree, target: Target | None = GOAL, first: int | None = None) -> tuple[pd.DataFrame, Run, Census]:
    (run,) = import_batch_science(str(tree.root), target, first=first)
    census, analysis = written(run, tree.root.parent / "run")
    return analysis.trials.set_index("trial_id"), analysis, census


def tree(place: Path) -> Tree:
    return Tree(place / "tree").study(8)


def test_planted_first_crossings_come_out_of_a_random_tree(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    made = tree(tmp_path)
    for batch_size in (8, 64, 512):
        made.study(batch_size)
        for trial in range(1, 30):
            steps = rng.choice(np.arange(0, 400, 10), size=rng.choice([1, 2, 3, *range(12, 30)]), replace=False)
            values = rng.choice([0.2, 0.0100001, 0.01, 0.0099999, 0.5], size=len(steps), p=[0.6, 0.1, 0.1, 0.1, 0.1])
            status = rng.choice(["COMPLETE", "INFEASIBLE", "INCOMPLETE"], p=[0.6, 0.3, 0.1])
            made.trial(batch_size, trial, list(zip(steps, values, strict=True)), status)
    trials, _, census = imported(made)
    assert len(trials) == census.trials == 87
    n_rows = 0
    for trial_id, row in trials.iterrows():
        path = made.folder(*str(trial_id).split("/")) / "measurements.csv"  # type: ignore[arg-type]
        status = json.loads((path.parent / "metadata.json").read_text())["status"]
        crossing = slow_first_crossing(path) if status == "COMPLETE" else None
        ended = {"INFEASIBLE": "diverged", "INCOMPLETE": "failed"}.get(status, "reached" if crossing else "exhausted")
        assert row["outcome"] == ended
        assert (None if pd.isna(row["steps_to_target"]) else row["steps_to_target"]) == crossing
        n_rows += len(path.read_text().split()) - 1
    assert census.measurements == n_rows


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
    made = tree(tmp_path).trial(8, 1, [(10, 0.5), (90, 0.4)]).trial(8, 2, text).trial(8, 3, [(10, 0.5), (70, 0.0001)])
    trials, _, _ = imported(made)
    row = trials.loc["8/2"]
    found = [None if pd.isna(row[name]) else row[name] for name in ("steps_to_target", "steps_to_target_low")]
    assert found == [crossing, low]
    assert row["outcome"] == ("exhausted" if crossing is None else "reached")
    assert trials.loc["8/3", "steps_to_target"] == 70 and trials.loc["8/1", "outcome"] == "exhausted"


def test_a_diverged_trial_has_not_reached_whatever_it_crossed_before(tmp_path: Path) -> None:
    made = tree(tmp_path).trial(8, 1, [(10, 0.001), (20, "nan")], "INFEASIBLE", steps=20)
    trials, analysis, census = imported(made)
    row = trials.loc["8/1"]
    assert list(row[["outcome", "best_value", "steps", "examples", "max_steps"]]) == ["diverged", 0.001, 20, 160, 100]
    assert trials["steps_to_target"].isna().all() and census.reached_by_study == {8: 0}
    assert analysis.studies["step_seconds"].isna().all()


def test_equal_steps_go_to_the_smaller_trial_number_not_to_the_smaller_word(tmp_path: Path) -> None:
    made = tree(tmp_path)
    for trial in ("10", "9", "00100"):
        made.trial(8, trial, [(10, 0.001)], parameters={"learning_rate": float(trial), "momentum": 0.95})
    trials, analysis, _ = imported(made)
    assert analysis.studies.iloc[0]["best_trial"] == "8/9" and list(trials.index) == ["8/9", "8/10", "8/00100"]


def test_a_metric_may_be_to_be_maximised(tmp_path: Path) -> None:
    made = Tree(tmp_path / "tree", "open_images_v4/resnet_50/nesterov_momentum").study(64)
    trials, analysis, _ = imported(
        made.trial(64, 1, "step,val/average_precision\n10,0.31\n20,0.3100001\n30,0.2\n"), None
    )
    assert str(analysis.experiment.target) == "val/average_precision > 0.31"
    assert list(trials.loc["64/1", ["steps_to_target", "steps_to_target_low", "best_value"]]) == [20, 10, 0.3100001]


def test_measurements_come_back_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).lognormal(sigma=30, size=400)
    made = tree(tmp_path).trial(8, 1, [(step, repr(float(value))) for step, value in enumerate(values)])
    (run,) = import_batch_science(str(made.root), GOAL)
    (table,) = run.measurements()
    assert table["val/classification_error"].to_pylist() == values.tolist()
    assert table["examples"].to_pylist() == [8 * step for step in range(400)]


def test_scales_become_dimensions_and_names_become_ours(tmp_path: Path) -> None:
    configs = {
        **CONFIGS,
        "end": {"min_value": 0.0, "max_value": 1.0, "scale": "LINEAR_SCALE", "type": "DOUBLE"},
        "decay": {"min_value": 300, "max_value": 600, "scale": "", "type": "INTEGER"},
        "label_smoothing": {"feasible_points": [0.0, 0.01, 0.1], "type": "DISCRETE"},
        "activation": {"feasible_points": ["relu", "tanh"], "type": "CATEGORICAL"},
        "steps": {"min_value": 1.0, "max_value": 2.0, "type": "DOUBLE"},
    }
    point = {"learning_rate": 1, "momentum": 0.95, "end": 0.5, "decay": 400, "activation": "relu", "steps": 1.5}
    made = Tree(tmp_path / "tree").study(8, configs)
    made.trial(8, 1, [(10, 0.001)], parameters={**point, "label_smoothing": 0})
    made.trial(8, 2, [(10, 0.02)], parameters={**point, "label_smoothing": 0.1})
    trials, analysis, _ = imported(made)
    assert {name: type(axis) for name, axis in analysis.experiment.space_at(8).root.items()} == {
        **{"lr": Log, "momentum": ReverseLog, "end": Linear, "decay": Integer},
        **{"label_smoothing": Choice, "activation": Choice, "steps_in_source": Linear},
    }
    told = analysis.experiment.imported
    assert told and told.names == {"lr": "learning_rate", "steps_in_source": "steps"}
    assert list(trials["label_smoothing"]) == ["0", "0.1"]
    assert analysis.boundary.empty


def test_every_way_in_which_a_trial_can_be_broken_leaves_a_visible_row(tmp_path: Path) -> None:
    made = tree(tmp_path).trial(8, 1, [(10, 0.001)])
    made.trial(8, 2, None).trial(8, 3, "").trial(8, 4, HEADER + "\n").trial(8, 5, [(10, 0.001)], "EXPLODED")
    made.trial(8, 6, None, "INFEASIBLE").trial(8, 7, "a,b\n1,2\n").trial(8, 8, [(10, 0.001)], "INCOMPLETE")
    made.trial(8, 9, [(10, 0.001)]).folder(8, 9).joinpath("metadata.json").write_text("{broken")
    made.trial(8, 10, [(10, 0.001)]).folder(8, 10).joinpath("metadata.json").unlink()
    made.folder(8, 11).mkdir()
    made.trial(8, 12, "step,step\n1,2\n").trial(8, 13, None)
    text = rows([(10, 0.001)]).encode()
    made.folder(8, 13).joinpath("measurements.csv.gz").write_bytes(gzip.compress(text))
    damaged = made.trial(8, 14, None).folder(8, 14).joinpath("measurements.csv.gz")
    damaged.write_bytes(gzip.compress(text)[:12] + b"damaged" * 9)
    trials, analysis, census = imported(made)
    failed = {f"8/{n}": "failed" for n in (2, 3, 4, 5, 7, 8, 9, 10, 12, 14)}
    assert trials["outcome"].to_dict() == {"8/1": "reached", "8/6": "diverged", "8/13": "reached", **failed}
    assert trials["message"].drop(["8/1", "8/13"]).notna().all()
    notes = "\n".join(census.notes)
    for words in ("without measurements stand as failed (6;", "unknown status", "metadata.json is missing", "Empty fo"):
        assert words in notes
    assert analysis.studies.iloc[0]["steps"] == 10


def test_a_budget_of_time_counts_every_trial_that_did_not_diverge(tmp_path: Path) -> None:
    made = Tree(tmp_path / "tree").study(8, train_steps=0).trial(8, 1, [(10, 0.5), (30, 0.4)], steps=35)
    trials, _, census = imported(made)
    assert list(trials.loc["8/1", ["outcome", "steps", "max_steps"]]) == ["exhausted", 35, 35]
    assert any("budget of time" in note for note in census.notes)


def test_several_workloads_are_several_runs_and_a_pattern_picks_some(tmp_path: Path) -> None:
    for workload in ("mnist/fc_1024/sgd", "mnist/simple_cnn_base/sgd", "mnist_subsets/mnist_6875/simple_cnn_base/sgd"):
        Tree(tmp_path / "tree", workload).study(8).trial(8, 1, [(10, 0.001)])
    source = str(tmp_path / "tree")
    runs = [run.experiment for run in import_batch_science(source, None)]
    assert {experiment.name: experiment.target.threshold for experiment in runs} == {
        "mnist-fc_1024-sgd": 0.03,
        "mnist-simple_cnn_base-sgd": 0.01,
        "mnist_subsets-mnist_6875-simple_cnn_base-sgd": 0.02,
    }
    for place, pattern in ((source, "mnist/fc*/sgd"), (source + "/mnist/fc_1024/sgd/8", None)):
        assert [run.experiment.name for run in import_batch_science(place, None, pattern)] == ["mnist-fc_1024-sgd"]
    with pytest.raises(InputError, match="no workload fits 'cifar"):
        import_batch_science(source, None, "cifar*")


def test_only_the_first_complete_trials_may_be_wanted(tmp_path: Path) -> None:
    made = tree(tmp_path)
    for trial, status in enumerate(("COMPLETE", "INFEASIBLE", "COMPLETE", "INCOMPLETE", "COMPLETE"), start=1):
        made.trial(8, trial, [(10 * (6 - trial), 0.001)], status)
    trials, _, census = imported(made, first=2)
    assert list(trials.index) == ["8/1", "8/2", "8/3"] and trials["steps_to_target"].min() == 30
    assert any("after the first 2 complete ones" in note for note in census.notes)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("[]", "must hold one JSON object"),
        ('{"batch_size": 16}', "'batch_size' is 16, but the folder is named 8"),
        ('{"batch_size": 0.5}', "must be a whole number"),
        ('{"batch_size": 8, "train_steps": -1}', "'train_steps' must be"),
        ('{"batch_size": 8, "parameter_configs": [1]}', "'parameter_configs' must hold"),
    ],
    ids=["list", "contradiction", "fraction", "train_steps", "configs"],
)
def test_a_broken_study_is_refused(tmp_path: Path, study: str, message: str) -> None:
    made = tree(tmp_path).trial(8, 1, [(10, 0.001)])
    made.folder(8).joinpath("study.json").write_text(study)
    with pytest.raises(InputError, match=message):
        import_batch_science(str(made.root), GOAL)


def test_a_source_without_studies_or_a_goal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no study.json lies in it"):
        import_batch_science(str(tmp_path / "empty"), GOAL)
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
    made = tree(tmp_path).trial(8, 1, [(10, 0.001)]).trial(8, 2, [(20, 0.001)], parameters=parameters)
    _, analysis, census = imported(made.trial(8, 3, [(30, 0.001)]))
    assert analysis.studies.iloc[0]["steps"] == 10
    assert any(note in sentence for sentence in census.notes)
