"""A program as a workload: what it is given, what it tells in which way, and that nothing of it is left running."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.resources import Resources
from bcrit.search_spaces.target import Target
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Ending, Limits, Measurement, Trial
from bcrit.tuner.workloads.command import not_there
from bcrit.tuner.workloads.launch import start
from bcrit.tuner.workloads.logs import Timed, clocked
from bcrit.tuner.workloads.processes import clear
from bcrit.tuner.workloads.registry import load_training
from tests.tuner.workloads.test_function import ROOT, gone, running

PYTHON = sys.executable
AWK = (
    "awk -v lr={lr} -v n={max_steps} "
    '\'BEGIN {for (s = 0; s <= n; s += 5) {print "bcrit: step=" s " loss=" 10 - lr * s; fflush()}; while (1) {}}\''
)
C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int n, char **a) {
    double lr = atof(getenv("BCRIT_LR"));
    for (int step = 0; ; step += 5) {
        printf("{\"step\": %d, \"loss\": %g, \"batch\": %s}\n", step, 10 - lr * step, a[1]);
        fflush(stdout);
        usleep(1000);
    }
}
"""
LOGS = """
import os, sys, time
folder, kind, lr = sys.argv[1], sys.argv[2], float(sys.argv[3])
if kind == "tensorboard":
    from torch.utils.tensorboard import SummaryWriter
    writer = SummaryWriter(folder + "/deep", flush_secs=1)
    def log(step, **values):
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()
elif kind == "wandb":
    import wandb
    assert os.environ["WANDB_MODE"] == "offline"
    wandb.init(project="x")
    def log(step, **values):
        wandb.log({"global_step": step, **values})
elif kind == "jsonl":
    import json
    def log(step, **values):
        with open(folder + "/log.jsonl", "a") as sink:
            sink.write(json.dumps({"step": step, "note": "text", **values}) + chr(10))
else:
    def log(step, **values):
        print(f"[{step:,}/2,000] " + " ".join(f"{n} {v:.3f}" for n, v in values.items()), file=sys.stderr)
for step in range(0, 2001, 10):
    log(step, train_loss=1.0)
    if step % 50 == 0:
        log(step, loss=10 - lr * step)
        time.sleep(0.01)
if kind == "wandb":
    wandb.finish()
"""


def ran(command: str, cwd: Path = ROOT, lr: float = 0.1, max_steps: int = 200, **more: Any) -> tuple[
    list[Measurement], Ending
]:  # fmt: skip
    """One trial to its end, in its processes, without Ray."""
    made = load_training("command", {"command": command, **more})
    limits = Limits(max_steps, False, (), 0.02)
    settings, resources = Settings(32, 7, "own", {"lr": lr, "name": "a b"}), Resources(silence_seconds=100)

    def begin() -> Any:
        return start(made, str(cwd), settings, "loss", limits, resources, 150)  # type: ignore[arg-type]

    trial, found = Trial(begin, Target.model_validate("loss < 1"), limits), []
    while trial.ending is None:
        found += trial.advance(60)
    return found, trial.ending


def test_a_program_in_awk_reports_by_lines_and_is_stopped_at_its_target() -> None:
    found, ending = ran(AWK)
    assert ending.outcome is Outcome.REACHED and ending.crossing is not None
    assert (ending.crossing.steps, ending.crossing.steps_low) == (95, 90)
    assert [m.step for m in found] == list(range(0, 96, 5)) and found[1].metrics == {"loss": 9.5}


def test_a_program_in_c_reads_its_environment_and_logs_lines_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "train.c").write_text(C)
    subprocess.run(["gcc", "train.c", "-o", "train"], cwd=tmp_path, check=True)
    line = r'"step": (?P<step>\d+), "loss": (?P<loss>\S+), "batch": (?P<batch>\d+)'
    found, ending = ran("./train {batch_size}", cwd=tmp_path, report={"line": line}, reads=["lr"])
    assert ending.outcome is Outcome.REACHED and ending.crossing is not None and ending.crossing.steps == 95
    assert found[0].metrics == {"loss": 10, "batch": 32} and 0 < ending.train_seconds < 30


@pytest.mark.parametrize(
    "report",
    [
        {"line": r"\[(?P<step>\S+)/.*\] loss (?P<loss>\S+)"},
        {"jsonl": "{trial_folder}/log.jsonl"},
        "tensorboard",
        {"wandb": "{trial_folder}", "step": "global_step"},
    ],
    ids=["line", "jsonl", "tensorboard", "wandb"],
)
def test_logs_of_every_kind_are_read_as_they_grow(tmp_path: Path, report: Any) -> None:
    (tmp_path / "logs.py").write_text(LOGS)
    kind = report if isinstance(report, str) else next(iter(report))
    command = f"{PYTHON} logs.py {{trial_folder}} {kind} {{lr}}"
    found, ending = ran(command, cwd=tmp_path, lr=0.006, max_steps=2000, report=report)
    assert ending.outcome is Outcome.REACHED and ending.crossing is not None, ending.message
    assert (ending.crossing.steps, ending.crossing.steps_low) == (1550, 1500)
    assert [m.step for m in found] == list(range(0, 1551, 50))


def test_values_are_words_of_the_shell_and_the_environment_has_them_all(tmp_path: Path) -> None:
    shows = "import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open('said.json', 'w'))"
    (tmp_path / "shows.py").write_text(shows)
    ran(f"{PYTHON} shows.py {{name}} {{{{name}}}} {{seed}} {{width}} {{on}}", cwd=tmp_path, width=3, on=True)
    words, environment = json.loads((tmp_path / "said.json").read_text())
    assert words == ["a b", "{name}", "7", "3", "true"]
    given = {name: value for name, value in environment.items() if name.startswith("BCRIT_")}
    folder, kept = given.pop("BCRIT_TRIAL_FOLDER"), given.pop("BCRIT_CHECKPOINT")
    assert Path(folder).parent == Path(kept).parent  # so that a file of the one can be moved into the other at once
    assert given == {
        "BCRIT_BATCH_SIZE": "32", "BCRIT_SEED": "7", "BCRIT_BUDGET_STEPS": "150", "BCRIT_MAX_STEPS": "200",
        "BCRIT_LR": "0.1", "BCRIT_NAME": "a b", "BCRIT_OPTIMIZER": "own", "BCRIT_WIDTH": "3", "BCRIT_ON": "true",
    }  # fmt: skip
    assert environment["PYTHONPATH"] == os.environ.get("PYTHONPATH", "") and not Path(folder).exists()


@pytest.mark.parametrize(
    ("command", "outcome", "message"),
    [
        ("echo oh dear >&2; exit 3", Outcome.FAILED, "the program ended with exit code 3: oh dear, before the first"),
        (
            "echo 'torch.OutOfMemoryError: CUDA out of memory.' >&2; exit 1",
            Outcome.OUT_OF_MEMORY,
            "exit code 1: torch.OutOfMemoryError: CUDA out of memory.",
        ),
        (
            "echo 'MemoryError: nothing is left' >&2; echo Aborted >&2; kill -6 $$",  # on its way out
            Outcome.OUT_OF_MEMORY,
            "killed by SIGABRT: MemoryError: nothing is left",
        ),
        ("echo bcrit: step=5 loss=nan; sleep 100", Outcome.DIVERGED, "loss became nan by step 5"),
        ("echo bcrit: step=5 loss=3; kill -9 $$", Outcome.FAILED, "was killed by SIGKILL, as the system does when"),
        ("echo bcrit: step=5 loss=3; exit 0", Outcome.FAILED, "it returned after its report at step 5 of 200; it must"),
        ("echo bcrit: step=150 loss=3", Outcome.EXHAUSTED, "it returned after its report at step 150 of 200"),
        ("echo bcrit: loss=3; sleep 100", Outcome.FAILED, "a report reads 'bcrit: step=10 val_loss=0.5', but it was"),
        ("echo bcrit: step=1 acc=3; sleep 100", Outcome.FAILED, "lacks the target's metric 'loss': it has acc"),
        ("echo done", Outcome.FAILED, "no line of its output was 'bcrit: step=... loss=...'"),
    ],
    ids=[
        *("fails", "memory", "memory and aborted", "nan", "killed", "too short", "long enough", "no step"),
        *("other metric", "nothing"),
    ],
)
def test_every_end_is_an_outcome_with_its_reason(command: str, outcome: Outcome, message: str) -> None:
    _, ending = ran(command)
    assert ending.outcome is outcome and message in (ending.message or ""), ending.message


STUBBORN = (
    "trap '' TERM; sleep 1000 & setsid sleep 1000 & "
    "echo bcrit: step=0 loss=9 shell=$$ one=$!; while :; do sleep 0.1; done"
)


def test_a_program_that_ignores_sigterm_is_killed_with_all_that_it_started() -> None:
    made = load_training("command", {"command": STUBBORN})
    limits = Limits(100, False, (), 0.02)
    reports = start(made, "/", Settings(1, 1, "own", {}), "loss", limits, Resources(), 1)  # type: ignore[arg-type]
    while (report := reports.next(60)) is None:
        continue
    pids = [int(report.metrics[name]) for name in ("shell", "one")]
    assert all(map(running, pids))
    reports.close()
    assert gone(*pids)


def test_nothing_outlives_the_worker_not_even_what_left_the_group() -> None:
    code = (
        "from tests.tuner.workloads.test_command import *\n"
        "made = load_training('command', {'command': STUBBORN})\n"
        "reports = start(made, '/', Settings(1, 1, 'own', {}), 'loss', Limits(9, False, (), 0.1), Resources(), 1)\n"
        "while (report := reports.next(60)) is None: continue\n"
        "print(*(int(report.metrics[name]) for name in ('shell', 'one')), flush=True)\n"
        "time.sleep(1000)"
    )
    owner = subprocess.Popen([PYTHON, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 2 and all(map(running, pids))
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert gone(*pids)


def test_a_program_that_is_told_to_stop_can_clean_up_and_its_folder_is_removed(tmp_path: Path) -> None:
    script = "trap 'touch done; exit' TERM; touch {trial_folder}/x; echo bcrit: step=5 loss=0 {trial_folder} >&2"
    _, ending = ran(f"{script}; echo bcrit: step=5 loss=0; while :; do sleep 0.05; done", cwd=tmp_path)
    assert ending.outcome is Outcome.REACHED and (tmp_path / "done").exists()
    deadline = time.monotonic() + 10
    while (left := list(Path("/tmp").glob("bcrit-trial-*/*/x"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


RESUMABLE = """
import os, sys
file = sys.argv[1] + "/step"
step = int(open(file).read()) if os.path.exists(file) else 0
found = step
while True:
    with open(file + ".new", "w") as sink:
        sink.write(str(step))
    os.replace(file + ".new", file)
    print(f"bcrit: step={step} loss={10 - step} found={found}", flush=True)
    step += 1
    if step > 6:
        sys.exit(3)
"""


def test_a_program_goes_on_from_what_it_left_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "resumable.py").write_text(RESUMABLE)
    made = load_training("command", {"command": f"{PYTHON} resumable.py {{checkpoint}}"})

    def begun() -> Any:
        settings, limits = Settings(1, 1, "own", {}), Limits(100, False, (), 0.02)
        return start(made, str(tmp_path), settings, "loss", limits, Resources(), 1)._reports  # type: ignore[arg-type]

    def report(of: Any) -> Any:
        while (found := of.next(60)) is None:
            continue
        return found

    first = begun()
    try:
        before = [report(first) for _ in range(3)][-1]
        state = {name: content.clone() for name, content in first.state().items()}
    finally:
        first.close()
    kept = int(bytes(state["step"].tolist()))
    assert before.step == 2 <= kept  # it does not wait for its reports
    again = begun()
    try:
        again.load(state, before)
        after = report(again)
    finally:
        again.close()
    assert after.step == max(3, kept) and after.metrics["found"] == kept
    assert after.train_seconds > before.train_seconds, "its clock goes on"


RANKS = """
import sys
import torch
from torch import distributed as dist
batch_size, lr, steps = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr)
draws = torch.Generator().manual_seed(7)
for step in range(steps + 1):
    rows = torch.randn(batch_size, 4, generator=draws)[rank::size]
    loss = ((model(rows) - rows.sum(1, keepdim=True)) ** 2).mean()
    if step % 5 == 0:
        total = loss.detach().clone()
        dist.all_reduce(total)
        if rank == 0:
            print(f"bcrit: step={step} loss={total.item() / size} ranks={size}", flush=True)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.long
def test_torchrun_gives_the_ranks_of_a_program_their_places(tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text(RANKS)
    command = "torchrun --standalone --nproc-per-node 2 ranks.py {batch_size} {lr} {max_steps}"
    found, ending = ran(command, cwd=tmp_path, lr=0.02, max_steps=400)
    assert ending.outcome is Outcome.REACHED and found[-1].metrics["ranks"] == 2


def test_folders_of_workers_that_were_killed_are_removed_and_those_of_the_living_are_not() -> None:
    code = "from bcrit.tuner.workloads.processes import *; print(Scratch().path, flush=True); time.sleep(1000)"
    folders, owners = list[Path](), list[subprocess.Popen[str]]()
    for _ in range(2):
        owner = subprocess.Popen([PYTHON, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert owner.stdout is not None
        folders.append(Path(owner.stdout.readline().strip()))
        owner.stdout.close()
        owners.append(owner)
    dead, living = folders
    new = Path(tempfile.mkdtemp(prefix="bcrit-trial-"))  # not held yet
    try:
        owners[0].kill()
        owners[0].wait()
        for folder in folders:
            os.utime(folder, (0, 0))
        clear.__wrapped__()
        assert not dead.exists() and living.exists() and new.exists()
    finally:
        new.rmdir()
        owners[1].kill()
        owners[1].wait()
        clear.__wrapped__()
    assert not living.exists()


def test_looking_at_a_command_runs_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not_there({"command": "true $(touch ran) `touch ran` {batch_size}; touch ran"}) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [
        ([(3, 0), (4, 10), (6, 20)], [0, 1, 3]),  # a report at step 0 starts the clock
        ([(13, 10), (14, 20), (15, 30)], [1, 2, 3]),  # getting ready took ten seconds
        ([(13, 10)], [13]),
        ([(5, 10), (5, 20)], [0, 0]),
    ],
    ids=["from 0", "without", "alone", "at once"],
)
def test_getting_ready_is_no_training(rows: list[tuple[float, int]], seconds: list[float]) -> None:
    timed: list[Timed] = [None, *((at, {"step": step}) for at, step in rows)]
    assert [row["train_seconds"] for row in clocked(timed, 0.0) if row is not None] == pytest.approx(seconds)


def test_what_a_program_says_of_its_own_time_counts() -> None:
    assert list(clocked([(9.0, {"step": 10, "train_seconds": 2.0})], 0.0)) == [{"step": 10, "train_seconds": 2.0}]


def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workload: Any, **more: Any) -> list[str]:
    """The notes of an experiment, or its problems."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    notes: list[str] = []
    data = {
        "workload": workload if isinstance(workload, dict) else {"command": workload},
        "batch_sizes": [8, 16],
        "target": "val_loss < 1",
        "space": {"lr": "log from 0.1 to 1", "width": 4},
        "budget": {"steps": 100},
        **more,
    }
    try:
        check_experiment(data, "x.yaml", notes.append)
    except InputError as error:
        return list(error.problems)
    return notes


GOOD = f"{PYTHON} train.py --bs {{batch_size}} --lr {{lr}}"
WHOLE = f"{GOOD} --seed {{seed}} --steps {{max_steps}}"


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (f"{GOOD} --x {{learning_rate}}", r"there is no setting 'learning_rate' for the command; the settings are"),
        (f"{GOOD} --x {{batchsize}}", r"did you mean 'batch_size'\?"),
        (f"{PYTHON} train.py --lr {{lr}}", r"the command never uses batch_size, .*; add --batch-size \{batch_size\}"),
        (f"{PYTHON} train.py --bs $BCRIT_BATCH_SIZE", r"never uses lr, .* 'reads: \[lr\]'"),
        ({"command": GOOD, "metric": {"a": 1}}, r"'metric' stands beside the command, .*did you mean 'metrics'\?"),
        (f"no_such_program {WHOLE}", "there is no program 'no_such_program' here"),
        (WHOLE.replace("train.py", "trian.py"), "there is no file 'trian.py' in"),
        (f"{WHOLE} 'x", "the command cannot be read: No closing quotation"),
        (f"( {WHOLE}", "the shell does not understand the command"),
        ({"command": GOOD, "report": {"jsonl": "log.jsonl"}}, "each trial must log into a folder of its own"),
        ({"command": GOOD, "report": {"line": "loss (.*)"}}, "a group must be named 'step'"),
        ({"command": GOOD, "report": {"line": "("}}, "it is no regular expression"),
        ({"command": GOOD, "report": {}}, "'report' has one of line, jsonl, tensorboard, wandb"),
        ({"command": 3}, "'command' must be a word"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_command_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workload: Any, message: str
) -> None:
    [problem] = checked(tmp_path, monkeypatch, workload)
    with pytest.raises(AssertionError, match=message):
        assert problem == ""


def test_a_hyperparameter_of_one_option_is_read_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"lr": "log from 0.1 to 1", "schedule": {"constant": {}, "linear": {"end_factor": "linear from 0 to 1"}}}
    line = f"{WHOLE} --schedule {{schedule}} --end {{end_factor}} --decay {{decay_fraction}}"
    found = checked(tmp_path, monkeypatch, line, space=space)
    assert [problem.split(";")[0] for problem in found] == [
        f"'workload': not every trial has '{name}', so it is no placeholder"
        for name in ("decay_fraction", "end_factor")
    ]
    reads = {"command": f"{WHOLE} --schedule {{schedule}}", "reads": ["end_factor", "decay_steps", "decay_fraction"]}
    assert checked(tmp_path, monkeypatch, reads, space=space) == []


def test_a_command_that_cannot_be_repeated_or_does_not_know_its_length_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checked(tmp_path, monkeypatch, WHOLE) == []
    said = checked(tmp_path, monkeypatch, GOOD)
    assert ["{seed}" in note for note in said] == [True, False] and "{max_steps} or {budget_steps}" in said[1]


def test_what_starts_its_own_ranks_is_not_started_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = f"{PYTHON} -m torch.distributed.run --nproc-per-node 2 {WHOLE.removeprefix(PYTHON)}"
    [problem] = checked(tmp_path, monkeypatch, launched, resources={"processes": 2})
    assert "is started 2 times, once for each rank, but 'torch.distributed.run' starts ranks of its own" in problem
    [note] = checked(tmp_path, monkeypatch, WHOLE, resources={"gpus": 4})
    assert "started once, for 4 GPUs; if it is to be started for each, as torchrun would, add 'processes: 4'" in note
    assert checked(tmp_path, monkeypatch, WHOLE, resources={"gpus": 4, "processes": 4}) == []
    assert checked(tmp_path, monkeypatch, launched, resources={"gpus": 4}) == []
