"""`bcrit import` and `bcrit export` as a user runs them: on to a report, out and back, refusals leave no trace."""

import json
import shutil
from pathlib import Path

import pytest

from bcrit.analysis.exchange.exports import EXPORTS
from tests.analysis.exchange.made import Tree
from tests.analysis.exchange.test_sources import INPUTS
from tests.bcrit.command import bcrit, refused


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_run_goes_out_and_back_and_on_to_a_report(tmp_path: Path, kind: str) -> None:
    """What `bcrit export` writes is as good as the run; the goldens hold what each source's import says."""
    shutil.copytree(INPUTS / "tree", tmp_path / "tree")
    assert bcrit("import", "batch_science", "tree", "--out", "first", cwd=tmp_path).returncode == 0
    done = bcrit("export", kind, "first", "out", cwd=tmp_path)
    assert done.returncode == 0 and f"bcrit import {kind} out" in done.stdout, done.stderr
    assert "lies there already" in refused(bcrit("export", kind, "first", "out", cwd=tmp_path))
    words = ("import", kind, "out", "--out", "run")
    done = bcrit(*words, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (census,) = json.loads(done.stdout)["runs"]
    assert census["format"] == kind and census["outcomes"]["reached"] == sum(census["reached_by_study"].values()) > 4
    assert bcrit("report", "run", cwd=tmp_path).returncode == 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "run" / "analysis" / "recommendation.json").exists()
    assert "lies there already" in refused(bcrit(*words, cwd=tmp_path))
    fits = [json.loads(bcrit("analyze", name, "--json", cwd=tmp_path).stdout)["fit"] for name in ("first", "run")]
    assert fits[0] == fits[1] and fits[0]["b_crit"] == pytest.approx(64, rel=0.1)


def test_a_census_is_one_object_and_a_place_is_found(tmp_path: Path) -> None:
    shutil.copytree(INPUTS / "tree", tmp_path / "tree")
    words = ("import", "batch_science", "tree", "--target", "val/classification_error < 0.01", "--json")
    for name in ("mnist-simple_cnn_base-nesterov_momentum", "mnist-simple_cnn_base-nesterov_momentum-2"):
        (run,) = json.loads(bcrit(*words, cwd=tmp_path).stdout)["runs"]
        assert run["run"] == f"runs/{name}" and (tmp_path / run["run"] / "experiment.yaml").is_file()
        assert run["trials"] == 24 and run["measurements"] == 60 and run["outcomes"]["diverged"] == 6
    choices = json.loads(bcrit("recommend", run["run"], "--json", cwd=tmp_path).stdout)["choices"]
    assert all(choice["hours"] is None for choice in choices.values())


def test_several_workloads_go_under_one_folder(tmp_path: Path) -> None:
    shutil.copytree(INPUTS / "tree", tmp_path / "tree")
    Tree(tmp_path / "tree", "mnist/fc_1024/sgd").study(8).trial(8, 1, [(10, 0.001)])
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
