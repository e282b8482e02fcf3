"""The command line without Ray: help and plans. Bad input of every kind is among the goldens."""

import itertools
import json
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from rich.console import Console

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.report import Rows, table_of
from bcrit.search_spaces.outcome import Outcome
from bcrit.terminal import Screen, _mishaps, say, table
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


@pytest.mark.parametrize("words", [["pilot"], ["import", "table"]])
def test_help_fills_the_lines_of_a_narrow_terminal(words: list[str]) -> None:
    told = bcrit(*words, "--help").stdout.partition("╭")[0]
    prose = [line.strip() for line in told.splitlines()[3:]]
    for line, after in itertools.pairwise(prose):
        if line and after:  # within a paragraph a line ends where the next word has no room
            assert len(line) + 1 + len(after.split()[0]) > 78, line


def test_a_plan_runs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(GOOD)
    plan = json.loads(bcrit("tune", "x.yaml", "--plan", "--json", cwd=tmp_path).stdout)
    assert [study["max_steps"] for study in plan["studies"]] == [100, 100]
    assert plan["totals"]["steps"] == sum(study["steps"] for study in plan["studies"])
    assert "code" not in plan  # a built-in workload needs none
    assert "Nothing was run" in bcrit("tune", "x.yaml", "--plan", cwd=tmp_path).stdout
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]


def test_the_display_counts_trials_that_failed_or_were_tried_again() -> None:
    records = [SimpleNamespace(outcome=outcome) for outcome in (Outcome.FAILED, Outcome.REACHED, Outcome.DIVERGED)]
    ledger: Any = SimpleNamespace(records={8: records})
    assert _mishaps(SimpleNamespace(ledger=ledger, retried=2)) == ", 1 failed, 2 retried"  # type: ignore[arg-type]
    ledger.records = {}
    assert _mishaps(SimpleNamespace(ledger=ledger, retried=0)) == ""  # type: ignore[arg-type]


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
    done = bcrit("tune", "x.yaml", "--plan", "--json", cwd=tmp_path)
    (note,) = json.loads(done.stdout)["notes"]
    assert "statistics of the whole batch" in note and done.stderr == "imported\n"
    done = bcrit("tune", "x.yaml", "--plan", cwd=tmp_path)
    assert f"note: {note}" in " ".join(done.stdout.split()) and "imported" not in done.stdout


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


def test_a_cluster_that_does_not_answer_is_one_message(tmp_path: Path) -> None:
    """Ray prints past Python, and what it started must end."""
    words = ("tune", ROOT / "examples/digits.yaml", "--address", "127.0.0.1:1")
    assert "no Ray cluster answers at '127.0.0.1:1'" in refused(process(*words, cwd=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError("AWS Error NETWORK_CONNECTION: Could not connect"), 3, "a disk or a store fails: AWS Error NETWORK"),
        (OSError(22, "it is no file but a device", "run"), 2, "cannot be read or written: [Errno 22] it is no file"),
        (PermissionError(13, "Permission denied", "run"), 2, "cannot be read or written: [Errno 13] Permission denied"),
    ],
    ids=["away", "no-file", "not-ours"],
)
def test_a_store_that_does_not_answer_is_one_message(error: OSError, code: int, says: str) -> None:
    with patch.object(RunFolder, "_info", side_effect=error):
        done = bcrit("analyze", "run")
    assert done.returncode == code and done.stdout == "" and says in " ".join(done.stderr.split())


def test_workloads_are_listed_with_metrics_and_targets() -> None:
    listed = json.loads(bcrit("workloads", "--json").stdout)
    assert {"digits_mlp", "noisy_quadratic"} <= set(listed)
    assert all({"data", "model", "metrics", "target", "unit"} <= set(entry) for entry in listed.values())


def test_a_fit_that_identifies_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("batch_size,steps\n1,1000\n2,500\n4,250\n8,125\n16,62.5\n")
    fit = json.loads(bcrit("fit", tmp_path / "t.csv", "--json").stdout)
    assert fit["identified"]["b_crit"] is False
    assert "not identified" in bcrit("fit", tmp_path / "t.csv").stdout


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r"


def test_names_of_others_neither_steer_the_terminal_nor_tell_it_a_password(tmp_path: Path) -> None:
    """In sentences, cells, headings and titles, and in messages on what is wrong."""
    out = StringIO()
    console = Screen(width=200, file=out, color_system=None)
    made = Rows(HOSTILE, table_of([{HOSTILE: HOSTILE, "[bold]x": "[/bold]"}]))
    console.print(table(made, console))
    say(console, f"{HOSTILE} of mysql://me:p@ss:w/rd@host/db, s3://key:secret@bucket/x, http://x/?a=1&password=abc: no")
    said = out.getvalue()
    assert said.count(SHOWN) == 4 and "[bold]x" in said and "[/bold]" in said
    assert "mysql://me:***@host/db, s3://key:***@bucket/x, http://x/?a=1&password=***: no" in said
    (tmp_path / "x.yaml").write_text(GOOD + f"{json.dumps(HOSTILE)}: 1\n" + "name: 'http://me:secret@host'\n")
    told = refused(bcrit("tune", "x.yaml", cwd=tmp_path))
    assert SHOWN in told and not set(HOSTILE) & set(told) - set("]0;owned[2J31m") and "secret" not in told


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_a_terminal_shows_whole_words_or_says_which_columns_it_has_no_room_for(width: int) -> None:
    head = ("batch size", "hyperparameters", "steps", "val_accuracy", "sharpness (%), eps 0.001, full space", "[x]")
    rows = Rows("", table_of([dict(zip(head, (4, "un-tuned", 288, 0.958, 1.55, "[1.5]"), strict=True))]))
    out = StringIO()
    console = Console(width=width, file=out, color_system=None)
    console.print(table(rows, console))
    said = out.getvalue()
    shown, _, left_out = " ".join(said.split()).partition("not shown:")
    for name, cell in zip(head, ("4", "un-tuned", "288", "0.958", "1.55", "[1.5]"), strict=True):
        assert (cell in shown.split()) is (name not in left_out), said
