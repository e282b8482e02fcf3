"""The process of a function: what it reports, and that it ends however it must."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bcrit.tuner.training.trial import Ended, Report, Returned
from bcrit.tuner.workloads.function.child import Call, _number
from bcrit.tuner.workloads.function.process import FunctionProcess, read_report
from tests.tuner.workloads.function.misbehaving import BEHAVIOURS

ROOT = Path(__file__).parents[4]
HERE = "tests.tuner.workloads.function"


@contextmanager
def process(function: str, silence_seconds: float = 100, **options: Any) -> Iterator[FunctionProcess]:
    settings = {"seed": 1, "max_steps": 100, "batch_size": 1, **options}
    made = FunctionProcess(Call(f"{HERE}.{function}", str(ROOT), settings, 0.02, 1, 0, True), silence_seconds)
    try:
        yield made
    finally:
        made.close()


def report(made: FunctionProcess) -> Report:
    while (found := made.next(10)) is None:
        continue
    return found


def gone(*pids: float, within: float = 30) -> bool:
    """Whether none of the processes runs any more, or will not after a while."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(running(int(pid)) for pid in pids):
            return True
        time.sleep(0.01)
    return False


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_function_waits_for_the_verdict_on_its_report() -> None:
    with process("misbehaving:train", lr=1) as made:
        assert report(made).step == 0
        assert not made._connection.poll(0.3)
        assert [report(made).step for _ in range(3)] == [1, 2, 3]


def test_what_a_function_draws_without_seeding_is_its_seeds_own() -> None:
    size, drawn = [behaviour.__name__ for behaviour in BEHAVIOURS].index("changes_the_process") + 1, []
    for seed in (1, 1, 2):
        with process("misbehaving:train", lr=1, seed=seed, batch_size=size) as made:
            drawn.append(report(made).metrics["drawn"])
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_function_that_is_stopped_cleans_up(tmp_path: Path) -> None:
    with process("endings:cleans_up", file=str(tmp_path / "done")) as made:
        report(made)
    assert (tmp_path / "done").read_text() == "clean"


def test_a_function_without_a_gpu_sees_none() -> None:
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    with process("endings:looks_for_gpus") as made:
        assert report(made).metrics["hidden"] == 1
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_what_a_function_started_ends_with_it() -> None:
    with process("endings:has_children") as made:
        metrics = report(made).metrics
        assert running(int(metrics["pid"])) and running(int(metrics["child"]))
    assert gone(metrics["pid"], metrics["child"])


def test_a_process_that_dies_while_it_waits_for_a_verdict_says_how() -> None:
    with process("endings:has_children") as made:
        pid = int(report(made).metrics["pid"])
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        with pytest.raises(
            Ended, match=r"was killed by signal 9 \(SIGKILL\), as .* runs out, after the report at step 0"
        ):
            report(made)


def test_silence_ends_a_function_that_hangs_after_the_limit_and_not_before() -> None:
    with process("endings:sleeps", silence_seconds=3) as made:
        assert made.next(0.5) is None
        begun = time.monotonic()
        with pytest.raises(Ended, match="no report for 3 s before the first report.*raise resources.silence_seconds"):
            report(made)
        assert 1 < time.monotonic() - begun < 20


def test_a_module_that_cannot_be_imported_is_the_outcome_of_every_trial() -> None:
    for _ in range(2):
        with process("no_such_module:train") as made, pytest.raises(Ended, match="ModuleNotFoundError: No module"):
            report(made)


def test_a_module_that_starts_threads_is_not_forked() -> None:
    code = (
        "from tests.tuner.workloads.function.test_process import *\n"
        "with process('with_thread:train') as made: print(report(made).metrics, made._call.forked)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "{'loss': 1.0, 'answered': 1.0} False", done.stderr


def test_a_function_that_returns_is_told_from_one_that_goes_on() -> None:
    with process("misbehaving:never_reports") as made, pytest.raises(Returned):
        report(made)


@pytest.mark.parametrize("function", ["has_children", "has_children_and_sleeps", "holds_the_interpreter"])
def test_nothing_outlives_the_process_that_asked_for_it(function: str) -> None:
    code = (
        "from tests.tuner.workloads.function.test_process import *\n"
        f"with process('endings:{function}') as made:\n"
        "    found = report(made).metrics\n"
        "    made.next(0)\n"
        "    print(int(found['pid']), int(found['child']), flush=True)\n"
        "    time.sleep(1000)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 2 and all(map(running, pids))
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert gone(*pids)


BEFORE = Report(2, None, train_seconds=1.0, evaluate_seconds=0.0, metrics={})  # 16 examples at batch size 8


def said(**changes: Any) -> dict[str, Any]:
    return {
        "step": 4,
        "examples": None,
        "train_seconds": None,
        "seconds": 3.0,
        "metrics": {"loss": 1},
        **changes,
    }


def test_without_seconds_of_its_own_all_time_is_training() -> None:
    report = read_report(said(), BEFORE, 8)
    assert (report.train_seconds, report.evaluate_seconds, report.examples) == (3.0, 0.0, None)
    assert type(report.metrics["loss"]) is float


def test_the_function_s_own_seconds_leave_the_rest_to_evaluation() -> None:
    report = read_report(said(train_seconds=2, examples=99), BEFORE, 8)
    assert (report.train_seconds, report.evaluate_seconds, report.examples) == (2.0, 1.0, 99)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": None}, "'step' must be a whole number .* but it is None"),
        ({"step": "3"}, "'step' must"),
        ({"examples": 2.5}, "'examples' must be a whole number .* but it is 2.5 at step 4; or leave it out"),
        ({"examples": -1}, "'examples' must"),
        ({"examples": 2**63}, "at least 0 and below 2\\^63, but it is 9223372036854775808 at step 4"),
        ({"examples": 15}, "'examples' must be .* at least 16 as before, but it is 15 at step 4; count from the start"),
        ({"train_seconds": 0.5}, "'train_seconds' must be .* at least 1 as before, but it is 0.5 at step 4"),
        ({"train_seconds": math.nan}, "'train_seconds' must"),
        ({"metrics": {"loss": "list [1]"}}, r"'loss' must be a number, but it is list \[1\] at step 4"),
        ({"metrics": {"loss": None}}, "'loss' must be a number, but it is None"),
        (
            {"metrics": {"loss \udce9": 1}},
            r"name of a metric must be text that can be printed, but it is 'loss \\udce9'",
        ),
        ({"metrics": {"trial_id": 1}}, "'trial_id' is a column of the run folder's tables"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named_with_its_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Ended) as caught:
        read_report(said(**changes), BEFORE, 8)
    assert re.search(message, caught.value.message), caught.value.message


def test_examples_left_out_must_not_fall_either() -> None:
    before = replace(BEFORE, examples=50)
    with pytest.raises(Ended) as caught:
        read_report(said(), before, 8)
    assert "at least 50 as before, but it is 32 (step x batch_size, because it was left out)" in caught.value.message
    assert read_report(said(examples=50), before, 8).examples == 50


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (3.0, 3),
        (2.5, 2.5),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (torch.tensor(0.25), 0.25),
        (torch.tensor([0.25]), 0.25),
        (None, None),
        (True, "True"),
        ("low", "'low'"),
        ([1], "list [1]"),
        (torch.zeros(2), "Tensor tensor([0., 0.])"),
    ],
    ids=repr,
)
def test_numbers_of_every_kind_arrive_as_numbers_and_all_else_as_words(value: Any, number: Any) -> None:
    assert _number(value) == number and type(_number(value)) is type(number)


def test_infinity_and_nan_stay_what_they_are() -> None:
    assert _number(torch.tensor(math.inf)) == math.inf and math.isnan(_number(np.nan))
