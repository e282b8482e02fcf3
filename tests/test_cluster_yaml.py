"""The clusters on AWS and Google Cloud are valid for the installed Ray, as far as that can be told without a cloud."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.aws.config import DEFAULT_RAY_IAM_ROLE
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text()
COMMENTS = "\n".join(re.findall(r"^ *# ?(.*)$", TEXT, flags=re.MULTILINE))
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
CLUSTER = yaml.safe_load(TEXT)
GOOGLE = yaml.safe_load((ROOT / "deploy" / "cluster_gcp.yaml").read_text())
TYPES = CLUSTER["available_node_types"]
WORKERS = [kind for name, kind in TYPES.items() if name != CLUSTER["head_node_type"]]


def constraint(name: str) -> str:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line.removeprefix(f"{name}==") for line in lines if line.startswith(f"{name}=="))


def check(cluster: dict[str, Any]) -> None:
    """The raw file's schema first: filling in the defaults would hide a missing name."""
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    validate_config(prepare_config(copy.deepcopy(cluster)))


@pytest.mark.parametrize("cluster", [CLUSTER, GOOGLE], ids=["aws", "gcp"])
def test_ray_takes_the_file(cluster: dict[str, Any]) -> None:
    check(cluster)


def test_the_cluster_on_google_cloud_is_that_on_aws_but_for_what_the_clouds_name() -> None:
    of_the_cloud = {"provider", "available_node_types", "rsync_exclude"}
    assert {k: v for k, v in GOOGLE.items() if k not in of_the_cloud} == {
        k: v for k, v in CLUSTER.items() if k not in of_the_cloud
    }
    theirs = GOOGLE["available_node_types"]
    without = [
        {n: {k: v for k, v in kind.items() if k != "node_config"} for n, kind in t.items()} for t in (TYPES, theirs)
    ]
    assert without[0] == without[1]
    accounts = [kind["node_config"].get("serviceAccounts") for name, kind in theirs.items() if name != "head"]
    assert [account[0]["email"].split("@")[0] for account in accounts] == ["bcrit-worker"] * 2


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
    assert all(kind["min_workers"] == 0 and kind["resources"]["CPU"] > 0 for kind in WORKERS)
    assert any(kind["resources"].get("GPU") for kind in WORKERS)


def test_one_number_says_how_many_workers_and_the_commands_follow_from_it() -> None:
    filled = prepare_config(copy.deepcopy(CLUSTER))["available_node_types"]
    most = {name: kind["max_workers"] for name, kind in filled.items()}
    assert most == {"head": 0, "cpu": CLUSTER["max_workers"], "gpu": CLUSTER["max_workers"]}
    assert len(re.findall(r"^ *max_workers:", TEXT, flags=re.MULTILINE)) == 1
    said = re.findall(r"--workers (\d+)", TEXT)
    assert {int(number) for number in said} == {CLUSTER["max_workers"] * TYPES["cpu"]["resources"]["CPU"]}


def test_a_lost_line_does_not_end_the_run() -> None:
    runs = re.findall(r"^# +ray exec .*$", TEXT, flags=re.MULTILINE)
    assert runs and all("--tmux" in line for line in runs)
    assert "`ray attach cluster.yaml --tmux`" in (ROOT / "docs/guides/cluster.md").read_text()


def test_workers_may_read_data_in_s3_and_the_head_may_give_them_that_role() -> None:
    assert {kind["node_config"]["IamInstanceProfile"]["Name"] for kind in WORKERS} == {"bcrit-worker"}
    documents = [json.loads(text) for text in re.findall(r"policy-document '(\{.+?\})'", COMMENTS, flags=re.DOTALL)]
    (may_be_taken,), (may_be_given,) = (document["Statement"] for document in documents)
    assert (may_be_taken["Principal"], may_be_taken["Action"]) == ({"Service": "ec2.amazonaws.com"}, "sts:AssumeRole")
    assert (may_be_given["Action"], may_be_given["Resource"]) == (
        "iam:PassRole",
        "arn:aws:iam::ACCOUNT:role/bcrit-worker",
    )
    # Of the head's own role, which Ray makes, the file gives the name; it is Ray's to choose.
    assert f"--role-name {DEFAULT_RAY_IAM_ROLE} " in COMMENTS
    assert "IamInstanceProfile" not in TYPES["head"]["node_config"]


def test_every_node_demands_the_same_token_and_none_stands_in_the_file() -> None:
    assert CLUSTER["docker"]["run_options"] == ["-e RAY_AUTH_MODE=token"]
    assert CLUSTER["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    secrets = ("aws_secret", "aws_access", "akia", "password", "ray_auth_token=")
    assert not any(word in TEXT.lower() for word in secrets)


def test_the_images_are_made_by_the_dockerfile_from_the_ray_and_the_torch_of_the_constraints() -> None:
    built = re.findall(r"docker build -f deploy/Dockerfile -t (\S+)", DOCKERFILE)
    images = [CLUSTER["docker"]["image"], *(k["docker"]["worker_image"] for k in WORKERS if "docker" in k)]
    assert images == built and len(images) == 2
    rays = re.findall(r"RAY=(\S+)", DOCKERFILE)
    assert [ray.partition("-py3")[0] for ray in rays] == [constraint("ray")] * 2
    assert "FROM rayproject/ray:${RAY}\n" in DOCKERFILE and constraint("torch")
    assert "grep '^torch==' constraints.txt > /tmp/torch.txt" in DOCKERFILE and "-c constraints.txt -e" in DOCKERFILE
    assert (CLUSTER["setup_commands"], CLUSTER.get("initialization_commands", [])) == ([], [])


def test_without_an_image_the_same_is_installed_from_this_folder() -> None:
    lines = re.findall(r"^#: (.*)$", TEXT, flags=re.MULTILINE)
    alternative = yaml.safe_load("\n".join(lines))
    check({**CLUSTER, **alternative})
    assert alternative["file_mounts"] == {**CLUSTER["file_mounts"], "~/bcrit": "."}
    torch, project = alternative["setup_commands"]
    assert "grep '^torch==' ~/bcrit/constraints.txt" in torch
    (installed,) = re.findall(r"-c constraints.txt -e '\.(\S+)'", DOCKERFILE)
    assert project == f"pip install -c ~/bcrit/constraints.txt -e '~/bcrit{installed}'"
    assert set(re.findall(r"rayproject/ray:(\S+?-.pu)", COMMENTS)) == set(re.findall(r"RAY=(\S+)", DOCKERFILE))
    assert {".git", ".venv", "runs"} <= set(CLUSTER["rsync_exclude"])
