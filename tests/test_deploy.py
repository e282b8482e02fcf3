"""What starts a run on Slurm, Kubernetes or as a Ray job is valid, as far as can be told here, and goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.cli import application
from bcrit.search_spaces.tables import TRIALS
from tests.machines import _UNSHARE, need_machines
from tests.processes import below

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*.sh"))
JOB = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
GROUPS = CLUSTER["workerGroupSpecs"]
# The fields of KubeRay 1.5.1 that are used (ray-operator/apis/ray/v1: rayjob_types.go, raycluster_types.go), and what
# each is. A field that is misspelt is dropped by Kubernetes without a word.
FIELDS: dict[str, dict[str, type]] = {
    "RayJobSpec": {
        "entrypoint": str,
        "backoffLimit": int,
        "submitterConfig": dict,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "rayClusterSpec": dict,
    },
    "SubmitterConfig": {"backoffLimit": int},
    "RayClusterSpec": {
        "rayVersion": str,
        "authOptions": dict,
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": dict,
        "headGroupSpec": dict,
        "workerGroupSpecs": list,
    },
    "AutoscalerOptions": {"version": str},
    "HeadGroupSpec": {"rayStartParams": dict, "template": dict},
    "WorkerGroupSpec": {
        "groupName": str,
        "minReplicas": int,
        "maxReplicas": int,
        "idleTimeoutSeconds": int,
        "rayStartParams": dict,
        "template": dict,
    },
}
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for ((node = 0; node < SLURM_NNODES; node++)); do SLURM_NODEID=$node "$@" & done
wait
"""
EXPERIMENT = """
workload: digits_mlp
batch_sizes: [32, 128, 512]
target: val_loss < 0.15
space: {lr: log from 0.01 to 1, momentum: 0.9}
budget: {steps: 400}
search: {trials: 12, parallel_per_study: 2}
boundary: {max_rounds: 0}
confirm: {points: 1, seeds: 1}
"""


def linted(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name: str) -> Path:
    return Path(sys.executable).parent / name


def test_the_linters_find_no_fault_in_the_scripts_and_the_dockerfile() -> None:
    assert len(SCRIPTS) == 2
    linted(tool("shellcheck"), *SCRIPTS)
    linted(tool("hadolint"), DEPLOY / "Dockerfile")


def test_the_job_has_only_fields_of_kuberays_and_pods_that_kubernetes_takes() -> None:
    def check(kind: str, given: Mapping[str, Any]) -> None:
        assert {key: type(value) for key, value in given.items()} == {key: FIELDS[kind][key] for key in given}

    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    check("RayJobSpec", JOB["spec"])
    check("SubmitterConfig", JOB["spec"]["submitterConfig"])
    check("RayClusterSpec", CLUSTER)
    check("AutoscalerOptions", CLUSTER["autoscalerOptions"])
    check("HeadGroupSpec", CLUSTER["headGroupSpec"])
    for group in GROUPS:
        check("WorkerGroupSpec", group)
    for group in (CLUSTER["headGroupSpec"], *GROUPS):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.37", strict=True)
        pod["spec"] = {**pod["spec"], "serviceAccount_name": "bcrit"}
        with pytest.raises(kubernetes_validate.ValidationError, match="serviceAccount_name"):
            kubernetes_validate.validate(pod, "1.37", strict=True)


def test_the_job_has_the_ray_of_the_constraints_and_no_trial_runs_on_its_head() -> None:
    assert f"ray=={CLUSTER['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    assert CLUSTER["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert CLUSTER["authOptions"] == {"mode": "token"}
    images = [g["template"]["spec"]["containers"][0]["image"] for g in (CLUSTER["headGroupSpec"], *GROUPS)]
    assert set(images) == set(re.findall(r"docker build -f \S+ -t (\S+)", (DEPLOY / "Dockerfile").read_text()))


def test_no_pod_is_restarted_in_its_place() -> None:
    """KubeRay sees to it where the file says v2, and refuses a pod that says otherwise."""
    assert CLUSTER["autoscalerOptions"] == {"version": "v2"}
    templates = [group["template"]["spec"] for group in (CLUSTER["headGroupSpec"], *GROUPS)]
    assert not any("restartPolicy" in spec for spec in templates)


def test_each_task_of_slurms_has_the_cpus_of_the_job() -> None:
    (line,) = re.findall(r"^srun (.*) bash -c", (DEPLOY / "slurm.sh").read_text(), flags=re.MULTILINE)
    assert '--cpus-per-task="$SLURM_CPUS_PER_TASK"' in line.split() and '--ntasks="$SLURM_NNODES"' in line.split()


@pytest.mark.parametrize("file", ["rayjob.yaml", "slurm.sh", "ray_job.sh"])
def test_the_command_goes_on_with_its_run(file: str) -> None:
    text = (DEPLOY / file).read_text()
    (line,) = re.findall(r"^[^#\n]*bcrit tune (.*)$", text, flags=re.MULTILINE)
    known = {option for parameter in get_command(application(())).commands["tune"].params for option in parameter.opts}  # type: ignore[attr-defined]
    used = set(re.findall(r"--[\w-]+", line))
    assert {"--out", "--resume", "--address"} <= used <= known


@pytest.mark.parametrize(("tune", "status", "good"), [(0, 0, True), (1, 0, True), (1, 1, False), (3, 0, False)])
def test_the_job_is_done_where_the_run_is_complete(tune: int, status: int, good: bool, tmp_path: Path) -> None:
    (tmp_path / "bcrit").write_text(f"#!/bin/sh\n[ $1 = tune ] && exit {tune}\nexit {status}\n")
    (tmp_path / "bcrit").chmod(0o755)
    entrypoint = JOB["spec"]["entrypoint"].replace("/experiment", str(tmp_path))
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert (subprocess.run(["sh", "-c", entrypoint], env=environment, check=False).returncode == 0) == good


def test_the_workers_of_the_job_follow_from_its_pods() -> None:
    (workers,) = re.findall(r"--workers (\d+)", JOB["spec"]["entrypoint"])
    cpus = GROUPS[0]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    assert int(workers) == GROUPS[0]["maxReplicas"] * int(cpus)


def test_a_ray_job_is_sent_with_options_that_ray_has_and_with_the_version_that_is_here(tmp_path: Path) -> None:
    (tmp_path / "ray").write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    (tmp_path / "ray").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    sent = [str(DEPLOY / "ray_job.sh"), "my.yaml", "s3://bucket/my-run", "--workers", "4"]
    done = subprocess.run(["sh", *sent], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    options, command = words[2 : words.index("--")], words[words.index("--") + 1 :]
    asked = subprocess.run([tool("ray"), "job", "submit", "--help"], capture_output=True, text=True, check=True)
    used = [word for word in options if word.startswith("--")]
    assert len(used) == 4 and all(f"  {option} " in asked.stdout for option in used)
    environment_of_job = json.loads(options[options.index("--runtime-env-json") + 1])
    assert environment_of_job == {"pip": [f"bcrit[cluster]=={version('bcrit')}"]}
    assert command == "bcrit tune my.yaml --out s3://bucket/my-run --resume --address auto --workers 4".split()


class Slurm:
    """What a job's script needs of Slurm: two tasks on this machine, and a note of what is queued again."""

    def __init__(self, place: Path) -> None:
        self.place, self.run, self.asked = place, RunFolder.at(place / "run"), place / "asked.txt"
        (place / "bin").mkdir()
        bcrit = f'#!/bin/sh\nexec "{sys.executable}" -m bcrit "$@"\n'
        for name, text in {"srun": SRUN, "scontrol": f'#!/bin/sh\necho "$@" >> {self.asked}\n', "bcrit": bcrit}.items():
            (place / "bin" / name).write_text(text)
            (place / "bin" / name).chmod(0o755)
        (place / "my.yaml").write_text(EXPERIMENT)

    def job(self, restarts: int) -> subprocess.Popen[bytes]:
        paths = [self.place / "bin", Path(sys.executable).parent]
        environment = {
            **os.environ,
            "PATH": ":".join([*map(str, paths), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(self.place / "ray"),
            "SLURM_JOB_ID": "4711",
            "SLURM_NNODES": "2",
            "SLURM_CPUS_PER_TASK": "2",
            "SLURM_RESTART_COUNT": str(restarts),
        }
        (self.place / "ray").mkdir(exist_ok=True)
        with open(self.place / "log.txt", "ab") as log:
            return subprocess.Popen(
                [*_UNSHARE, "bash", DEPLOY / "slurm.sh", "my.yaml", "run"],
                cwd=self.place, env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return (self.place / "log.txt").read_text()

    @property
    def n_finished(self) -> int:
        return self.run.read(TRIALS).num_rows if self.run.has("experiment.yaml") else 0


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    need_machines()
    with tempfile.TemporaryDirectory(prefix="sl", dir="/tmp") as place:  # short: sockets' paths hold 107 characters
        yield Slurm(Path(place))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_job_of_slurms_that_reaches_its_time_limit_is_queued_again_and_goes_on(slurm: Slurm) -> None:
    first = slurm.job(0)
    until = time.monotonic() + 500
    while slurm.n_finished < 2:
        assert first.poll() is None and time.monotonic() < until, slurm.said
        time.sleep(0.2)
    (script,) = [
        process for process in below(first.pid) if process.line.startswith("bash ") and process.parent == first.pid
    ]
    os.kill(script.pid, signal.SIGUSR1)
    assert first.wait(timeout=60) == 128 + signal.SIGUSR1, slurm.said
    assert slurm.asked.read_text() == "requeue 4711\n"
    before = {row["trial_id"]: row["ended_at"] for row in slurm.run.read(TRIALS).to_pylist()}
    assert slurm.job(1).wait(timeout=800) == 0, slurm.said
    after = {row["trial_id"]: row["ended_at"] for row in slurm.run.read(TRIALS).to_pylist()}
    assert before.items() < after.items() and len(slurm.run.read_environment()) == 2
    assert slurm.asked.read_text() == "requeue 4711\n"
