"""`bcrit compare` as a user calls it, on two small runs and on tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from bcrit.search_spaces.load import parse_experiment, read_yaml
from tests.bcrit.command import bcrit, refused
from tests.tuner.stages.small import filled

EXPERIMENT = """
name: {name}
workload: {{name: tests.scripted:ExactHyperbola, s_min: {s_min}, b_crit: {b_crit}}}
optimizer: sgd
batch_sizes: [8, 32, 128, 512]
target: loss < 1
space: {{lr: log from 0.001 to 1}}
budget: {{steps: 1000, examples: 20_000}}
search: {{trials: 12}}
confirm: {{points: 1, seeds: 1}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """SGD with s_min 400 and b_crit 32, and something that extends its perfect scaling: 100 and 128."""
    folder = tmp_path_factory.mktemp("runs")
    for name, s_min, b_crit in (("near", 400, 32), ("far", 100, 128)):
        text = EXPERIMENT.format(name=name, s_min=s_min, b_crit=b_crit)
        filled(folder / name, parse_experiment(read_yaml(text, name), name))
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


def ratio(answer: dict[str, Any], quantity: str) -> dict[str, Any]:
    (found,) = [row for row in answer["ratios"] if row["quantity"] == quantity]
    return dict(found)


def test_two_runs_are_told_apart_by_their_truth(runs: tuple[Path, Path]) -> None:
    done = bcrit("compare", *runs, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["runs"][0]["name"] == "near" and len({run["label"] for run in answer["runs"]}) == 2
    for quantity, truth, verdict in (("s_min", 1 / 4, "differs"), ("b_crit", 4.0, "differs"), ("e_min", 1.0, None)):
        found = ratio(answer, quantity)
        assert found["ratio"] == pytest.approx(truth, rel=0.15)
        assert verdict is None or found["verdict"] == verdict
    assert answer["at_batch_sizes"][-1]["fewer"] == answer["runs"][1]["label"]


def test_a_page_may_be_written_again_but_nothing_else_is_overwritten(tables: tuple[Path, Path], tmp_path: Path) -> None:
    page, other = tmp_path / "new" / "page.html", tmp_path / "notes.html"
    other.write_text("<p>mine</p>")
    before = set(tmp_path.rglob("*"))
    assert bcrit("compare", *tables).returncode == 0 and set(tmp_path.rglob("*")) == before
    for _ in range(2):
        done = bcrit("compare", *tables, "--out", page, "--json")
        assert done.returncode == 0 and json.loads(done.stdout) and str(page) in done.stderr.replace("\n", "")
    assert "no comparison lies there" in refused(bcrit("compare", *tables, "--out", other))
    assert other.read_text() == "<p>mine</p>"
    assert "is a folder" in refused(bcrit("compare", *tables, "--out", tmp_path))
    assert "is a folder" in refused(bcrit("compare", *tables, "--out", f"{tmp_path}/"))


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
    tables: tuple[Path, Path], tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty.csv").write_text("")
    assert message in refused(bcrit("compare", *arguments, "--out", "page.html", cwd=tmp_path))
    assert not (tmp_path / "page.html").exists()
