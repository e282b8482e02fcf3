"""`bcrit import` and `bcrit export` as a user runs them: every source goes on to a report, refusals leave no trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from bcrit.analysis.exchange import SOURCES
from bcrit.analysis.exchange.exports import EXPORTS
from tests.analysis.exchange.planted import SIZES
from tests.analysis.exchange.test_mlperf import resnet
from tests.analysis.exchange.test_optuna_storage import GRID, sqlite, study_of
from tests.analysis.exchange.test_ray_results import reported, trial
from tests.analysis.exchange.test_wandb_export import logged, run_folder
from tests.analysis.exchange.trees import Tree
from tests.bcrit.command import bcrit, refused

optuna.logging.set_verbosity(optuna.logging.ERROR)
GOAL = "val/classification_error < 0.01"
Words = list[object]


def tree(place: Path) -> Path:
    """Six batch sizes whose fewest steps are 100 (1 + 64 / B), rounded up to tens."""
    made = Tree(place / "tree")
    for batch_size in (8, 16, 32, 64, 128, 256):
        made.study(batch_size)
        best = -(-100 * (1 + 64 / batch_size) // 10) * 10
        for number, factor in enumerate((3, 1, 2), start=1):
            steps = int(best * factor)
            curve = [(0, 0.9), (steps - 10, 0.01), (steps, 0.009)]
            made.trial(batch_size, number, curve, parameters={"learning_rate": 0.1 * factor, "momentum": 0.95})
        made.trial(batch_size, 4, [(10, 0.001)], "INFEASIBLE")
    return place / "tree"


def a_table(place: Path) -> Words:
    rows = [f"{size},0.1,{20 + 1280 // size}\n" for size in SIZES]
    (place / "t.csv").write_text("bs,lr,steps_to_target\n" + "".join(rows))
    return ["--trials", "t.csv", "--target", "loss < 1"]


def an_optuna_study(place: Path) -> Words:
    study_of(sqlite(place / "study.db"), "demo", GRID)
    return ["study.db", "--target", "val_loss < 0.1"]


def ray_results(place: Path) -> Words:
    for size in SIZES:
        trial(place / "e", f"t{size}", {"batch_size": size, "opt": {"lr": 0.1}}, reported(size))
    return ["e", "--target", "val_loss < 0.1"]


def wandb_folders(place: Path) -> Words:
    for size in SIZES:
        run_folder(place / "wandb" / f"run-{size}", size, logged(size))
    return ["wandb", "--target", "val_loss < 0.1"]


def exported(kind: str) -> Callable[[Path], Words]:
    def make(place: Path) -> Words:
        assert bcrit("import", "batch_science", tree(place), "--out", "first", cwd=place).returncode == 0
        done = bcrit("export", kind, "first", "out", cwd=place)
        assert done.returncode == 0 and f"bcrit import {kind} out" in done.stdout, done.stderr
        assert "lies there already" in refused(bcrit("export", kind, "first", "out", cwd=place))
        return ["out"]

    return make


# What each source reads, and how near the planted b_crit of 64 comes to it; MLPerf's points are real.
MADE: dict[str, tuple[Callable[[Path], Words], float | None]] = {
    "batch_science": (exported("batch_science"), 0.1),
    "csv": (exported("csv"), 0.1),
    "parquet": (exported("parquet"), 0.1),
    "table": (a_table, 1e-6),
    "mlperf": (lambda place: [resnet(place)], None),
    "optuna": (an_optuna_study, 1e-6),
    "ray": (ray_results, 1e-6),
    "wandb": (wandb_folders, 1e-6),
}


@pytest.mark.parametrize("kind", [*SOURCES])
def test_an_import_goes_on_to_a_recommendation_and_a_report(tmp_path: Path, kind: str) -> None:
    make, near = MADE[kind]
    words: Words = ["import", kind, *make(tmp_path), "--out", "run"]
    done = bcrit(*words, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (census,) = json.loads(done.stdout)["runs"]
    assert census["format"] == kind and census["outcomes"]["reached"] == sum(census["reached_by_study"].values()) > 4
    assert bcrit("report", "run", cwd=tmp_path).returncode == 0
    fit = json.loads((tmp_path / "run" / "analysis" / "fit.json").read_text())
    assert fit["b_crit"] > 1000 if near is None else fit["b_crit"] == pytest.approx(64, rel=near)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "run" / "analysis" / "recommendation.json").exists()
    assert "lies there already" in refused(bcrit(*words, cwd=tmp_path))
    if kind in EXPORTS:
        fits = [json.loads(bcrit("analyze", name, "--json", cwd=tmp_path).stdout)["fit"] for name in ("first", "run")]
        assert fits[0] == fits[1]


def test_a_census_is_one_object_and_a_place_is_found(tmp_path: Path) -> None:
    tree(tmp_path)
    for name in ("mnist-simple_cnn_base-nesterov_momentum", "mnist-simple_cnn_base-nesterov_momentum-2"):
        told = json.loads(bcrit("import", "batch_science", "tree", "--target", GOAL, "--json", cwd=tmp_path).stdout)
        (run,) = told["runs"]
        assert run["run"] == f"runs/{name}" and (tmp_path / run["run"] / "experiment.yaml").is_file()
        assert run["trials"] == 24 and run["measurements"] == 60 and run["outcomes"]["diverged"] == 6
    choices = json.loads(bcrit("recommend", run["run"], "--json", cwd=tmp_path).stdout)["choices"]
    assert all(choice["hours"] is None for choice in choices.values())


def test_several_workloads_go_under_one_folder(tmp_path: Path) -> None:
    Tree(tree(tmp_path), "mnist/fc_1024/sgd").study(8).trial(8, 1, [(10, 0.001)])
    done = bcrit("import", "batch_science", "tree", "--out", "all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert names == ["mnist-fc_1024-sgd", "mnist-simple_cnn_base-nesterov_momentum"]
    one = bcrit("import", "batch_science", "tree", "--workload", "mnist/fc*/*", "--out", "fc", cwd=tmp_path)
    assert one.returncode == 0 and (tmp_path / "fc" / "experiment.yaml").is_file()


@pytest.mark.parametrize(
    "arguments",
    ["import batch_science examples", "import csv examples", "import ray . --target a<1", "export csv missing out"],
)
def test_wrong_usage_is_one_message_and_writes_nothing(tmp_path: Path, arguments: str) -> None:
    (tmp_path / "examples").mkdir()
    assert refused(bcrit(*arguments.split(), cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["examples"]
