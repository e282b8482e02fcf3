"""cluster.yaml is valid for the installed Ray, as far as that can be told without a cloud."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text()
CLUSTER = yaml.safe_load(TEXT)
TYPES = CLUSTER["available_node_types"]


def constraint(name: str) -> str:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line.removeprefix(f"{name}==") for line in lines if line.startswith(f"{name}=="))


def check(cluster: dict[str, Any]) -> None:
    """The raw file's schema first: filling in the defaults would hide a missing name."""
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_ray_takes_the_file() -> None:
    check(CLUSTER)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"max_worker": 3}, jsonschema.ValidationError),
        ({"cluster_name": None}, jsonschema.ValidationError),
        ({"head_node_type": "nobody"}, ValueError),
        ({"max_workers": -1}, jsonschema.ValidationError),
    ],
    ids=["unknown key", "no name", "unknown head", "negative workers"],
)
def test_the_check_would_notice_a_fault(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"max_worker|None is not|head_node_type|minimum"):
        check({**CLUSTER, **change})


def test_no_trial_runs_on_the_head_and_no_worker_is_paid_for_without_trials() -> None:
    assert TYPES[CLUSTER["head_node_type"]]["resources"] == {"CPU": 0}
    workers = [kind for name, kind in TYPES.items() if name != CLUSTER["head_node_type"]]
    assert all(kind["min_workers"] == 0 and kind["resources"]["CPU"] > 0 for kind in workers)
    assert any(kind["resources"].get("GPU") for kind in workers)


def test_the_images_have_the_ray_of_the_constraints() -> None:
    images = [
        CLUSTER["docker"]["image"],
        *(kind["docker"]["worker_image"] for kind in TYPES.values() if "docker" in kind),
    ]
    assert all(image.startswith(f"rayproject/ray:{constraint('ray')}-py3") for image in images)


def test_the_setup_installs_the_pinned_torch_and_this_folder() -> None:
    (target, source), *others = CLUSTER["file_mounts"].items()
    assert (target, source, others) == ("~/bcrit", ".", [])
    assert constraint("torch")
    torch, project = CLUSTER["setup_commands"]
    assert "grep '^torch==' ~/bcrit/constraints.txt" in torch
    assert "-c ~/bcrit/constraints.txt -e ~/bcrit" in project
    assert {".git", ".venv", "runs"} <= set(CLUSTER["rsync_exclude"])


def test_the_file_holds_no_secret() -> None:
    assert not any(word in TEXT.lower() for word in ("aws_secret", "aws_access", "akia", "password", "token"))
