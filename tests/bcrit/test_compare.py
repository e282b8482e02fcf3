"""`bcrit compare` as a user runs it, on two small real runs and on tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bcrit.cli import main

ROOT = Path(__file__).parents[2]
EXPERIMENT = """
name: scripted
workload: {{name: tests.scripted:ExactHyperbola, s_min: {s_min}, b_crit: {b_crit}}}
optimizer: sgd
batch_sizes: [8, 32, 128, 512]
target: loss < 1
space: {{lr: log from 0.001 to 1}}
budget: {{steps: 1000, examples: 20_000}}
search: {{trials: 12}}
confirm: {{points: 1, seeds: 1}}
"""


class Bcrit:
    """The command line in this process: what it printed and its exit code."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.chdir(cwd)

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        self._monkeypatch.setattr(sys, "argv", ["bcrit", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        printed = self._capsys.readouterr()
        return subprocess.CompletedProcess("bcrit", code, printed.out, printed.err)


@pytest.fixture
def bcrit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Bcrit:
    return Bcrit(monkeypatch, capsys, tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """SGD with s_min 400 and b_crit 32, and something that extends its perfect scaling: 100 and 128."""
    folder = tmp_path_factory.mktemp("runs")
    for name, s_min, b_crit in (("near", 400, 32), ("far", 100, 128)):
        text = EXPERIMENT.format(s_min=s_min, b_crit=b_crit)
        (folder / f"{name}.yaml").write_text(text.replace("name: scripted", f"name: {name}", 1))
        command = [sys.executable, "-m", "bcrit", "tune", f"{folder}/{name}.yaml", "--out", f"{folder}/{name}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 0, done.stderr
    return folder / "near", folder / "far"


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    steps = {
        "slow": "8,2410\n32,895\n128,520\n512,431\n2048,398\n",
        "quick": "8,1690\n32,515\n128,196\n512,126\n2048,105\n",
    }
    for name, rows in steps.items():
        (tmp_path / f"{name}.csv").write_text(f"batch_size,steps\n{rows}")
    return tmp_path / "slow.csv", tmp_path / "quick.csv"


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    return done.stderr


def ratio(answer: dict[str, Any], quantity: str) -> dict[str, Any]:
    (found,) = [row for row in answer["ratios"] if row["quantity"] == quantity]
    return dict(found)


def test_two_runs_are_told_apart_by_their_truth(bcrit: Bcrit, runs: tuple[Path, Path]) -> None:
    done = bcrit("compare", *runs, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["runs"][0]["name"] == "near" and len({run["label"] for run in answer["runs"]}) == 2
    for quantity, truth, verdict in (("s_min", 1 / 4, "differs"), ("b_crit", 4.0, "differs"), ("e_min", 1.0, None)):
        found = ratio(answer, quantity)
        assert found["ratio"] == pytest.approx(truth, rel=0.15)
        assert verdict is None or found["verdict"] == verdict
    assert answer["at_batch_sizes"][-1]["fewer"] == answer["runs"][1]["label"]


def test_the_terminal_has_the_table_the_sentences_and_where_the_page_is(
    bcrit: Bcrit, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    done = bcrit("compare", *runs, "--out", "page.html")
    assert done.returncode == 0, done.stderr
    for words in ("s_min", "e_min", "b_crit", "target: loss < 1", "times as large", "fewer steps by the curves"):
        assert words in done.stdout
    assert done.stdout.rstrip().endswith("comparison: page.html")
    page = (tmp_path / "page.html").read_text()
    assert "What was assumed" in page and "plotly.js" in page
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_without_out_nothing_is_written(bcrit: Bcrit, tables: tuple[Path, Path], tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    done = bcrit("compare", *tables)
    assert done.returncode == 0 and "quick against slow: s_min is 0.2" in done.stdout
    assert set(tmp_path.iterdir()) == before


def test_a_page_may_be_written_again_but_nothing_else_is_overwritten(
    bcrit: Bcrit, tables: tuple[Path, Path], tmp_path: Path
) -> None:
    page, other = tmp_path / "new" / "page.html", tmp_path / "notes.html"
    other.write_text("<p>mine</p>")
    for _ in range(2):
        done = bcrit("compare", *tables, "--out", page, "--json")
        assert done.returncode == 0 and json.loads(done.stdout) and str(page) in done.stderr.replace("\n", "")
    assert "no comparison lies there" in refused(bcrit("compare", *tables, "--out", other))
    assert other.read_text() == "<p>mine</p>"
    assert "is a folder" in refused(bcrit("compare", *tables, "--out", tmp_path))
    assert "is a folder" in refused(bcrit("compare", *tables, "--out", f"{tmp_path}/"))


def test_a_run_and_a_table_are_compared(bcrit: Bcrit, runs: tuple[Path, Path], tables: tuple[Path, Path]) -> None:
    done = bcrit("compare", runs[0], tables[1])
    assert done.returncode == 0 and "A table does not say which target" in done.stdout


def test_nothing_comparable_is_exit_code_1(bcrit: Bcrit, runs: tuple[Path, Path], tables: tuple[Path, Path]) -> None:
    done = bcrit("compare", runs[0], tables[1], "--unit", "tokens")
    assert done.returncode == 1
    assert "their batch sizes count different things (tokens, examples)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["slow.csv"], "two or more runs are needed, but there is 1"),
        (["slow.csv", "slow.csv"], "'slow.csv' is given twice"),
        (["slow.csv", "."], "not a run folder"),
        (["slow.csv", "missing.csv"], "missing.csv: cannot be read"),
        (["missing", "empty.csv"], "2 problems"),
        (["slow.csv", "nonsense://x"], "nonsense"),
        ([], "Missing argument"),
    ],
    ids=["one", "twice", "folder", "missing", "two problems", "address", "none"],
)
def test_bad_input_is_one_message(
    bcrit: Bcrit, tables: tuple[Path, Path], tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty.csv").write_text("")
    assert message in refused(bcrit("compare", *arguments, "--out", "page.html"))
    assert not (tmp_path / "page.html").exists()


def test_help_explains(bcrit: Bcrit) -> None:
    done = bcrit("compare", "--help")
    assert done.returncode == 0 and "Two or more run folders" in done.stdout
