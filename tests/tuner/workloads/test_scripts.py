"""Scripts with the trainers that people use: ten lines at most let each be measured, without them it runs as before."""

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bcrit.search_spaces.resources import Resources
from bcrit.search_spaces.target import Target
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Limits, Trial
from bcrit.tuner.workloads.launch import start
from bcrit.tuner.workloads.registry import load_training
from tests.tuner.workloads.test_function import ROOT

SCRIPTS = {
    "scripts/lightning_script.py": ("lightning", "python", "steps"),
    "scripts/accelerate_script.py": ("accelerate", "accelerate launch --num_processes 1 --num_machines 1 "
    "--mixed_precision no --dynamo_backend no", "steps"),
    "scripts/ddp_script.py": ("torch", "python", "steps"),
    "scripts/keras_script.py": ("keras", "KERAS_BACKEND=torch python", "steps"),
    "lora.py": ("peft", "python", "max-steps"),
}  # fmt: skip


def needs(package: str) -> None:
    """Of the extra `dev`; Keras looks for TensorFlow when it is imported, so nothing is."""
    if find_spec(package) is None:
        (pytest.fail if os.environ.get("REQUIRE_ALL_DEPS") else pytest.skip)(
            f"{package} is not installed; it is in the extra 'dev'"
        )


def split(name: str) -> tuple[list[str], list[str]]:
    """The lines of a script that are there for us, and all others."""
    lines = (ROOT / "examples" / name).read_text().splitlines()
    ours = [line for line in lines if line.endswith("# bcrit")]
    return ours, [line for line in lines if line not in ours]


@pytest.mark.parametrize("name", SCRIPTS)
def test_ten_lines_are_enough(name: str) -> None:
    ours, others = split(name)
    assert 0 < len(ours) <= 10 and all("bcrit" not in line for line in others[9:])


def bare(code: str) -> str:
    """What code does: without its annotations, docstrings and comments."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.unparse(tree)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if "ddp" not in name])
def test_the_page_shows_what_the_script_runs(name: str) -> None:
    page = (ROOT / "docs/guides/own_script.md").read_text()
    shown = re.search(rf"<!-- of: {name} -->\n```python\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    script = ast.walk(ast.parse((ROOT / "examples" / name).read_text()))
    assert bare(shown[1]) in [bare(ast.unparse(node)) for node in script if isinstance(node, ast.ClassDef | ast.Expr)]


# The imports of these trainers take seconds, so each is started once here and once more among the long tests.
BRIEF = ("scripts/accelerate_script.py", "scripts/ddp_script.py")  # whose trial is short


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in BRIEF else []) for name in SCRIPTS]
)
def test_a_script_without_them_trains_as_before(name: str, tmp_path: Path) -> None:
    package, runner, steps = SCRIPTS[name]
    needs(package)
    (tmp_path / "plain.py").write_text("\n".join(split(name)[1]))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    plain = subprocess.run(
        ["/bin/sh", "-c", f"{runner} plain.py --{steps} 5"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert plain.returncode == 0 and "bcrit:" not in plain.stdout, plain.stderr


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in BRIEF else [pytest.mark.long]) for name in SCRIPTS]
)
def test_a_trial_of_each_is_stopped_at_its_target(name: str) -> None:
    package, runner, steps = SCRIPTS[name]
    needs(package)
    line = f"{runner} examples/{name} --batch-size {{batch_size}} --lr {{lr}} --seed {{seed}} --{steps} {{max_steps}}"
    function = load_training("command", {"command": line})
    threshold = 2.25 if name == "lora.py" else 1.0
    limits, settings = Limits(1000, False, (), 0.02), Settings(32, 1, "own", {"lr": 0.05})
    resources = Resources(processes=2, cpus=2) if "ddp" in name else Resources()

    def begin() -> object:
        return start(function, str(ROOT), settings, "val_loss", limits, resources, 1000)  # type: ignore[arg-type]

    trial, found = Trial(begin, Target.model_validate(f"val_loss < {threshold}"), limits), []  # type: ignore[arg-type]
    while trial.ending is None:
        found += trial.advance(60)
    assert trial.ending.outcome == "reached", trial.ending.message
    steps_made = [m.step for m in found]
    assert steps_made[-1] < 1000 and all(b - a == 5 for a, b in zip(steps_made, steps_made[1:], strict=False))
