"""`bcrit import` and `bcrit export` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.analysis.exchange.trees import Tree
from tests.bcrit.command import bcrit, refused

GOAL = "val/classification_error < 0.01"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Six batch sizes whose fewest steps are 100 (1 + 64 / B), rounded up to tens."""
    made = Tree(tmp_path / "tree")
    for batch_size in (8, 16, 32, 64, 128, 256):
        made.study(batch_size)
        best = -(-100 * (1 + 64 / batch_size) // 10) * 10
        for trial, factor in enumerate((3, 1, 2), start=1):
            steps = int(best * factor)
            curve = [(0, 0.9), (steps - 10, 0.01), (steps, 0.009)]
            made.trial(batch_size, trial, curve, parameters={"learning_rate": 0.1 * factor, "momentum": 0.95})
        made.trial(batch_size, 4, [(10, 0.001)], "INFEASIBLE")
    return tmp_path / "tree"


def test_an_imported_tree_is_a_run_like_any_other(tree: Path, tmp_path: Path) -> None:
    done = bcrit("import", "batch_science", tree, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bcrit report run" in done.stdout and "goal that the paper sets" in done.stdout
    fit = json.loads(bcrit("analyze", "run", "--json", cwd=tmp_path).stdout)["fit"]
    assert fit["b_crit"] == pytest.approx(64, rel=0.1) and fit["identified"]["b_crit"]
    choices = json.loads(bcrit("recommend", "run", "--json", cwd=tmp_path).stdout)["choices"]
    assert all(choice["hours"] is None for choice in choices.values())
    assert bcrit("report", "run", cwd=tmp_path).returncode == 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert "lie" in refused(bcrit("import", "batch_science", tree, "--out", "run", cwd=tmp_path))


def test_a_census_is_one_object_and_a_place_is_found(tree: Path, tmp_path: Path) -> None:
    for name in ("mnist-simple_cnn_base-nesterov_momentum", "mnist-simple_cnn_base-nesterov_momentum-2"):
        told = json.loads(bcrit("import", "batch_science", tree, "--target", GOAL, "--json", cwd=tmp_path).stdout)
        (run,) = told["runs"]
        assert run["run"] == f"runs/{name}" and (tmp_path / run["run"] / "experiment.yaml").is_file()
        assert run["trials"] == 24 and run["measurements"] == 60 and run["outcomes"]["diverged"] == 6


def test_several_workloads_go_under_one_folder(tree: Path, tmp_path: Path) -> None:
    Tree(tree, "mnist/fc_1024/sgd").study(8).trial(8, 1, [(10, 0.001)])
    done = bcrit("import", "batch_science", tree, "--out", "all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert names == ["mnist-fc_1024-sgd", "mnist-simple_cnn_base-nesterov_momentum"]
    one = bcrit("import", "batch_science", tree, "--workload", "mnist/fc*/*", "--out", "fc", cwd=tmp_path)
    assert one.returncode == 0 and (tmp_path / "fc" / "experiment.yaml").is_file()


@pytest.mark.parametrize("kind", ["csv", "parquet", "batch_science"])
def test_out_and_back(tree: Path, tmp_path: Path, kind: str) -> None:
    bcrit("import", "batch_science", tree, "--out", "run", cwd=tmp_path)
    done = bcrit("export", kind, "run", "out", cwd=tmp_path)
    assert done.returncode == 0 and f"bcrit import {kind} out" in done.stdout, done.stderr
    assert bcrit("import", kind, "out", "--out", "back", cwd=tmp_path).returncode == 0
    fits = [json.loads(bcrit("analyze", name, "--json", cwd=tmp_path).stdout)["fit"] for name in ("run", "back")]
    assert fits[0] == fits[1]
    assert "lies there already" in refused(bcrit("export", kind, "run", "out", cwd=tmp_path))


def test_a_table_is_imported(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("bs,lr,steps_to_target\n8,0.1,90\n16,0.1,50\n32,0.1,30\n")
    done = bcrit("import", "table", "--trials", "t.csv", "--target", "loss < 1", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0 and "batch_size = bs" in done.stdout, done.stderr
    assert len(json.loads(bcrit("analyze", "run", "--json", cwd=tmp_path).stdout)["studies"]) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "batch_science", "missing"],
        ["import", "batch_science", "examples"],
        ["import", "batch_science", "examples", "--target", "nonsense"],
        ["import", "csv", "examples"],
        ["import", "table", "--trials", "missing.csv", "--target", "loss < 1"],
        ["import", "table", "--trials", "missing.csv"],
        ["import", "nonsense", "x"],
        ["export", "csv", "missing", "out"],
        ["export", "batch_science", "missing", "out"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_message_and_writes_nothing(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "examples").mkdir()
    assert refused(bcrit(*arguments, cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["examples"]
