"""What is installed is one package, which a user's own `analysis`, `tuner` and `search_spaces` live beside."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
USERS = ("analysis", "tuner", "search_spaces")
TRAIN = """
from analysis import plot
from search_spaces import space
from tuner import tune

def train(config, report):
    for step in range(1, config.max_steps + 1):
        report(step=step, loss=plot(step) + space() + tune())
"""
EXPERIMENT = """
workload: "mine:train"
optimizer: own
batch_sizes: [8, 64]
target: loss < 0.1
space: {lr: log from 0.01 to 1}
budget: {steps: 20}
search: {trials: 2, protocol: sobol}
boundary: {max_rounds: 0}
confirm: {points: 1, seeds: 1}
"""


def ran(*words: object, cwd: Path) -> str:
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    given = [str(word) for word in words]
    done = subprocess.run(given, cwd=cwd, env=alone, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("wheel")
    for name in ("bcrit", "examples", *USERS):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    ran(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", ".", cwd=copy)
    return next(copy.glob("bcrit-*.whl"))


def test_a_wheel_holds_one_package_whole(wheel: Path) -> None:
    with ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"bcrit"}
    ours = {f"{path.parent}/{path.name}" for path in map(Path, names)}
    files = [path.relative_to(ROOT) for name in USERS for path in (ROOT / name).rglob("*.*")]
    expected = {f"bcrit/{path}" for path in files if "__pycache__" not in path.parts}
    assert expected <= ours and {"bcrit/py.typed", "bcrit/examples/digits.yaml", "bcrit/examples/lora.py"} <= ours


def test_a_users_own_packages_of_our_folders_names_are_theirs(wheel: Path, tmp_path: Path) -> None:
    ran(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    with ZipFile(wheel) as packed:
        packed.extractall(site)
    # What it depends on is found; the links of an editable install, which are files of that folder, are not read there.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    user = tmp_path / "user"
    functions = ("plot(step): return 1 / step", "tune(): return 0", "space(): return 0")
    for name, function in zip(USERS, functions, strict=True):
        (user / name).mkdir(parents=True)
        (user / name / "__init__.py").write_text(f"def {function}\n")
    (user / "mine.py").write_text(TRAIN)
    (user / "mine.yaml").write_text(EXPERIMENT)
    (user / "steps.csv").write_text("batch_size,steps\n8,900\n32,300\n128,150\n512,112\n")
    assert "b_crit" in ran(python, "-m", "bcrit", "fit", "steps.csv", cwd=user)
    tune = "import bcrit, bcrit.tuner; run = bcrit.tune('mine.yaml', 'run', workers=1); print(bcrit.tuner.__file__)\n"
    told = ran(python, "-c", f"{tune}print(sorted(set(run.trials['outcome'])), run.location)", cwd=user)
    assert f"{site}/bcrit/tuner/__init__.py\n['reached'] run\n" in told
    assert (user / "run" / "report.html").exists()
