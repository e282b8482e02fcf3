"""What `import bcrit` offers, and what it costs to import. `bcrit.tune` is run by the test of the wheel."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import bcrit
from bcrit.search_spaces.problems import InputError
from tests.bcrit.command import ROOT

TABLE = "batch_size,steps\n8,900\n32,300\n128,150\n512,112.5\n"


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "tests/golden/runs/digits", tmp_path / "digits"))


def test_importing_it_loads_nothing() -> None:
    heavy = {"torch", "ray", "pandas", "numpy", "scipy", "plotly"}
    code = f"import sys, bcrit; bcrit.__all__; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_every_name_is_there_and_no_other() -> None:
    assert all(callable(getattr(bcrit, name)) for name in bcrit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bcrit.nothing


def test_a_table_is_fitted_from_a_file_and_from_a_frame(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text(TABLE)
    for table in (tmp_path / "steps.csv", pd.read_csv(tmp_path / "steps.csv")):
        assert bcrit.fit(table).to_json()["b_crit"] == pytest.approx(64)
    assert bcrit.recommend(tmp_path / "steps.csv", max_steps=200).feasible


def test_a_run_answers(digits: Path) -> None:
    run = bcrit.Run(digits)
    assert run.fit is not None and len(run.studies) == 8
    assert run.ask("targets", target=["0.3"]).facts["targets"][0]["target"] == "val_loss < 0.3"
    assert bcrit.recommend(run).to_json() == bcrit.recommend(digits).to_json()


def test_a_run_without_a_curve_says_so(tmp_path: Path) -> None:
    never = shutil.copytree(ROOT / "tests/golden/runs/never", tmp_path / "never")
    with pytest.raises(InputError, match="nothing to recommend from"):
        bcrit.recommend(never)
    with pytest.raises(InputError, match="not a run folder"):
        _ = bcrit.Run(tmp_path / "nowhere").trials
