"""The floors hold: read from the imports, and by importing with what is forbidden blocked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a file of each room may import, beside the standard library and itself. Longest prefix wins.
ALLOWED = {
    "search_spaces": {"numpy", "pydantic", "pydantic_core", "yaml"},
    "tuner/training": {"numpy", "scipy", "torch", "bcrit.search_spaces"},
    "tuner/workloads": {
        *("numpy", "pydantic", "torch", "sklearn", "bcrit.search_spaces", "bcrit.tuner.training"),
        *("datasets", "huggingface_hub", "PIL", "tokenizers", "gymnasium"),  # extras, imported where they are used
        # Logs of a program, read by the readers of foreign runs; likewise.
        *("bcrit.analysis.exchange.wandb_folders", "tensorboardX.proto.event_pb2"),
    },
    "analysis": {
        *("numpy", "pandas", "pyarrow", "scipy", "plotly", "jinja2", "markupsafe"),
        *("bcrit.search_spaces", "bcrit.analysis"),
    },
    "analysis/optimum": {"bcrit.search_spaces", "bcrit.analysis", "numpy", "pandas", "scipy", "optuna"},
    "analysis/exchange": {
        *("bcrit.search_spaces", "bcrit.analysis", "numpy", "pandas", "pyarrow", "optuna", "sqlalchemy")
    },
    "tuner": {
        *("numpy", "scipy", "pyarrow", "optuna", "ray", "torch", "pydantic", "threadpoolctl"),
        *("bcrit.search_spaces", "bcrit.analysis", "bcrit.tuner"),
        *("mlflow", "tensorboardX", "trackio", "wandb"),  # trackers, imported where they are used
    },
    "bcrit": {"bcrit", "typer", "rich", "pandas"},
}


def room(path: Path) -> str:
    inside = path.relative_to(ROOT).as_posix()
    return max((name for name in ALLOWED if inside.startswith(name + "/")), key=len)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its floor"
            found.add(node.module or "")
    return found


FILES = sorted(p for name in ("search_spaces", "analysis", "tuner", "bcrit") for p in (ROOT / name).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_file_imports_only_from_its_own_floor_and_those_below(path: Path) -> None:
    own = room(path)
    allowed = ALLOWED[own] | {f"bcrit.{own}".replace("/", ".")} | set(sys.stdlib_module_names)
    for name in imports(path):
        assert any(name == a or name.startswith(a + ".") for a in allowed), f"{path} imports {name}"


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(name + " is forbidden on this floor")
sys.meta_path.insert(0, Block())
import {module}
"""


@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        ("bcrit.search_spaces", {"torch", "ray", "pandas", "pyarrow", "scipy", "optuna"}),
        ("bcrit.analysis", {"torch", "ray", "optuna", "plotly", "pandas", "pyarrow", "scipy"}),
        ("bcrit.analysis.report.build", {"torch", "ray", "optuna", "plotly", "jinja2"}),
        ("bcrit.analysis.exchange.optuna_storage", {"torch", "ray", "optuna", "sqlalchemy"}),
        ("bcrit.analysis.exchange.tracker_files", {"torch", "ray", "optuna"}),
        ("bcrit.tuner", {"torch", "ray"}),
        ("bcrit.tuner.training.supervised", {"ray", "pyarrow", "pandas"}),
        ("bcrit.tuner.workloads.digits", {"ray", "pyarrow"}),
        ("bcrit.tuner.protocol.protocol", {"torch", "ray"}),
        ("bcrit.cli", {"torch", "ray", "optuna", "plotly", "pandas", "pyarrow", "scipy"}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_floor_can_be_imported_without_what_it_must_not_know(module: str, blocked: set[str]) -> None:
    code = BLOCK.format(blocked=blocked, module=module)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
