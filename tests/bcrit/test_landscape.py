"""`bcrit landscape` as a user runs it, on digits at two batch sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import LANDSCAPE, REPORT, RunFolder
from tests.bcrit.command import bcrit
from tests.tuner.landscape.small import experiment, filled

QUICK = ("--seeds", 1, "--eps", 0.001, "--subspace", 4, "--examples", 200, "--iterations", 2)


def tree(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    filled(path, experiment(workload="digits_mlp", batch_sizes=[32, 256], target="val_loss < 0.5"))
    return path


@pytest.fixture(scope="module")
def answer(run: Path) -> dict[str, Any]:
    """Of the first call, which trains."""
    done = bcrit("landscape", run, *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained checkpoints/") == 3 and "read from" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_answer_has_tuned_and_un_tuned_networks_with_the_recorded_curves(answer: dict[str, Any]) -> None:
    kinds = [(n["batch_size"], n["tuned"], n["same_curve"]) for n in answer["networks"]]
    assert kinds == [(32, True, True), (256, True, True), (256, False, None)]
    assert all(n["outcome"] == "reached" and n["top_eigenvalue"] > 0 for n in answer["networks"])
    assert all(rise["value"] > 0 and rise["iterations"] == 2 for n in answer["networks"] for rise in n["rises"])
    assert len(answer["paths"]) == 4 and answer["n_examples"] == 200
    assert answer["sentences"][0].startswith("Sharpness (the full space, eps 0.001)")


def test_a_second_call_trains_nothing_and_prints_the_same(run: Path, answer: dict[str, Any]) -> None:
    done = bcrit("landscape", run, *QUICK, "--json")
    assert json.loads(done.stdout) == answer
    assert done.stderr.count("read from checkpoints/") == 3 and "trained checkpoints/" not in done.stderr


def test_the_result_and_the_report_are_in_the_folder(run: Path, answer: dict[str, Any]) -> None:
    folder = RunFolder.at(run)
    assert json.loads(folder.read_text(LANDSCAPE))["networks"] == answer["networks"]
    assert 'id="landscape"' in folder.read_text(REPORT)


def test_warm_starts_are_added_where_they_are_asked_for(run: Path, answer: dict[str, Any]) -> None:
    assert answer["warm_starts"] is None
    done = bcrit("landscape", run, *QUICK, "--warm-starts", 2, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["networks"] == answer["networks"]
    warm = found["warm_starts"]
    assert [state["kind"] for state in warm["states"]] == ["small", "tuned", "un-tuned"] * 2
    assert (warm["small"], warm["large"], warm["metric"]) == (32, 256, "val_accuracy")
    assert all(0 < state["sharpness"] and 0 < state["last"]["val_accuracy"] <= 1 for state in warm["states"])
    assert 'data-figure="landscape-warm"' in RunFolder.at(run).read_text(REPORT)


def test_without_json_a_table_and_sentences_are_printed(run: Path, answer: dict[str, Any]) -> None:
    done = bcrit("landscape", run, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "un-tuned" in done.stdout and answer["sentences"][0] in done.stdout
    assert f"report: {run}/report.html" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--eps", "nan"), "'eps' must be positive"),
        (("--seeds", "0"), "--seeds"),
        (("--warm-starts", "1"), "'warm_starts' must be 0 or at least 2"),
    ],
    ids=str,
)
def test_bad_options_are_one_message_and_nothing_is_written(run: Path, options: tuple[str, ...], message: str) -> None:
    before = tree(run)
    done = bcrit("landscape", run, *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and tree(run) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"workload": "noisy_quadratic", "target": "risk < 3", "space": {"lr": "log from 0.05 to 0.5"}},
            "SupervisedWorkload",
        ),
        ({"target": "val_loss < 0.0001", "budget": {"steps": 5}}, "no study has a confirmed winner"),
    ],
    ids=["unsupported workload", "nothing reached"],
)
def test_a_run_without_a_landscape_is_refused_and_kept_as_it_is(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    filled(tmp_path / "run", experiment(**more))
    before = tree(tmp_path)
    done = bcrit("landscape", tmp_path / "run")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and tree(tmp_path) == before
