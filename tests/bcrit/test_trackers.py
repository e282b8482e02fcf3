"""`bcrit import mlperf|optuna|ray|wandb` as a user runs them: to a report, and refusals that leave nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from tests.analysis.exchange.planted import SIZES
from tests.analysis.exchange.test_mlperf import resnet
from tests.analysis.exchange.test_optuna_storage import GRID, sqlite, study_of
from tests.analysis.exchange.test_ray_results import reported, trial
from tests.analysis.exchange.test_wandb_export import logged, run_folder
from tests.bcrit.command import bcrit, refused

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("kind", ["mlperf", "optuna", "ray", "wandb"])
def test_an_import_goes_on_to_a_recommendation_and_a_report(tmp_path: Path, kind: str) -> None:
    target: list[object] = ["--target", "val_loss < 0.1"]
    if kind == "mlperf":
        source, target = resnet(tmp_path), []
    elif kind == "optuna":
        source = tmp_path / "study.db"
        study_of(sqlite(source), "demo", GRID)
    elif kind == "ray":
        source = tmp_path / "e"
        for size in SIZES:
            trial(source, f"t{size}", {"batch_size": size, "opt": {"lr": 0.1}}, reported(size))
    else:
        source = tmp_path / "wandb"
        for size in SIZES:
            run_folder(source / f"run-{size}", size, logged(size))
    done = bcrit("import", kind, source, *target, "--out", "run", "--json", cwd=tmp_path)
    (census,) = json.loads(done.stdout)["runs"]
    assert census["format"] == kind and census["outcomes"]["reached"] == sum(census["reached_by_study"].values()) > 4
    assert bcrit("report", "run", cwd=tmp_path).returncode == 0
    fit = json.loads((tmp_path / "run" / "analysis" / "fit.json").read_text())
    assert fit["b_crit"] == pytest.approx(64, rel=1e-6) if kind != "mlperf" else fit["b_crit"] > 1000
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "run" / "analysis" / "recommendation.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mlperf", "none.json"], "cannot be read"),
        (["mlperf", "x.csv", "--unit", "parsecs"], "parsecs"),
        (["optuna", "none.db", "--target", "a < 1"], "there is no such file"),
        (["optuna", "x.csv", "--target", "a ~ 1"], "METRIC < NUMBER"),
        (["ray", ".", "--target", "a < 1"], "no trial was found in it"),
        (["wandb", "x.csv", "--target", "a < 1"], "the columns are a, b"),
        (["wandb", "x.csv"], "Missing option '--target'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_source_is_one_message_and_leaves_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert message in refused(bcrit("import", *arguments, "--out", "run", cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
