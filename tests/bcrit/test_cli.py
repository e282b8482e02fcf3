"""The command line without Ray: help, plans, and bad input of every kind as one message."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import pytest

from bcrit.tuner import code
from tests.bcrit.command import ROOT, bcrit, process, refused

COMMANDS = [
    *("tune", "resume", "analyze", "targets", "budgets", "optimum", "sensitivity", "fit", "recommend", "compare"),
    *("pilot", "import", "export", "landscape", "adaptive", "report", "workloads"),
]
GOOD = """
workload: digits_mlp
batch_sizes: [16, 64]
target: val_loss < 0.15
space: {lr: log from 0.01 to 1, momentum: 0.9}
budget: {steps: 100}
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = bcrit(command, "--help")
    assert done.returncode == 0 and "Usage" in done.stdout


def test_a_plan_runs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(GOOD)
    plan = json.loads(bcrit("tune", "x.yaml", "--plan", "--json", cwd=tmp_path).stdout)
    assert [study["max_steps"] for study in plan["studies"]] == [100, 100]
    assert plan["totals"]["steps"] == sum(study["steps"] for study in plan["studies"])
    assert "code" not in plan  # a built-in workload needs none
    assert "Nothing was run" in bcrit("tune", "x.yaml", "--plan", cwd=tmp_path).stdout
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]


MODULE = """
print("imported")
import torch
from torch import nn
from bcrit.tuner.workloads.supervised import SupervisedWorkload

class Normalised(SupervisedWorkload):
    def model(self, settings):
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    def train_data(self):
        return torch.zeros(64, 2), torch.zeros(64, dtype=torch.int64)
    validation_data = train_data
"""


def test_a_plan_gives_notes_and_keeps_what_a_user_s_module_prints_out_of_its_answer(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "x.yaml").write_text(GOOD.replace("digits_mlp", "mine:Normalised"))
    done = process("tune", "x.yaml", "--plan", "--json", cwd=tmp_path)
    (note,) = json.loads(done.stdout)["notes"]
    assert "statistics of the whole batch" in note and done.stderr == "imported\n"
    done = process("tune", "x.yaml", "--plan", cwd=tmp_path)
    assert f"note: {note}" in done.stdout and "imported" not in done.stdout


def test_a_plan_says_what_code_goes_along_and_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(GOOD.replace("digits_mlp", "planned:Normalised"))
    (tmp_path / "planned.py").write_text(MODULE)
    (tmp_path / ".bcritignore").write_text("*.pt\n")
    for name in ("data.pt", "env/a.py", "net/b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x" * 1000)
    plan = json.loads(bcrit("tune", "x.yaml", "--plan", "--json", cwd=tmp_path).stdout)
    ignored = [".bcritignore", *(["__pycache__/"] if (tmp_path / "__pycache__").exists() else []), "data.pt", "env/"]
    size = sum((tmp_path / name).stat().st_size for name in ("planned.py", "x.yaml", "net/b.py"))
    assert plan["code"] == {"folder": str(tmp_path), "files": 3, "bytes": size, "ignored": ignored}
    said = " ".join(bcrit("tune", "x.yaml", "--plan", cwd=tmp_path).stdout.split())
    assert f"3 files of {tmp_path}, 2 kB; left out: {', '.join(ignored)}." in said
    with patch.object(code, "MOST_BYTES", 20):
        refused_a_cluster = bcrit("tune", "x.yaml", "--plan", cwd=tmp_path)
    assert refused_a_cluster.returncode == 0 and "your code cannot go along to a cluster: " in refused_a_cluster.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an experiment is a mapping"),
        ("a: !!python/object/apply:os.system ['true']", "YAML tags are refused"),
        (GOOD.replace("16, 64", "16, 9999"), "9999 is larger"),
        (GOOD.replace("0.9", "1.0"), "'momentum' lies in"),
        (GOOD.replace("< 0.15", "> 0.15"), "improves by minimizing"),
        (GOOD.replace("digits_mlp", "no_such:Thing"), "no_such"),
        (GOOD + "budgett: 1", "did you mean 'budget'"),
        (GOOD.replace("digits_mlp", "{name: digits_mlp, a: .inf}"), "'a' must be a finite number, but it is inf"),
    ],
    ids=["empty", "tag", "batch size", "momentum", "direction", "workload", "key", "infinity"],
)
def test_a_bad_experiment_is_one_message_and_leaves_nothing_behind(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert message in refused(bcrit("tune", "x.yaml", cwd=tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["tune", "missing.yaml"],
        ["tune", "."],
        ["resume", "missing"],
        ["analyze", "missing"],
        ["report", "missing"],
        ["recommend", "missing"],
        ["fit", "missing.csv"],
        ["analyze", "nonsense://x"],
        ["tune", "examples/digits.yaml", "--workers", "0"],
        ["tune", "examples/digits.yaml", "--address", "127.0.0.1:1"],
        ["tune", "examples/digits.yaml", "--address", "nowhere:port"],
        ["fit", "README.md"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_message(arguments: list[str]) -> None:
    before = set(ROOT.iterdir())
    call = process if "--address" in arguments else bcrit  # Ray prints past Python, and what it started must end
    assert refused(call(*arguments))
    assert set(ROOT.iterdir()) == before


def test_workloads_are_listed_with_metrics_and_targets() -> None:
    listed = json.loads(bcrit("workloads", "--json").stdout)
    assert {"digits_mlp", "noisy_quadratic"} <= set(listed)
    assert all({"data", "model", "metrics", "target", "unit"} <= set(entry) for entry in listed.values())


def test_a_fit_that_identifies_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("batch_size,steps\n1,1000\n2,500\n4,250\n8,125\n16,62.5\n")
    fit = json.loads(bcrit("fit", tmp_path / "t.csv", "--json").stdout)
    assert fit["identified"]["b_crit"] is False
    assert "not identified" in bcrit("fit", tmp_path / "t.csv").stdout
