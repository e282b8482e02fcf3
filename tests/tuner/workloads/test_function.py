"""What a function is given, what it reports, and that its process ends however it must."""

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

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.reported import Ended, Report, Returned
from bcrit.tuner.training.settings import Settings, evaluation_steps, learning_rate
from bcrit.tuner.workloads.child import Call, _number
from bcrit.tuner.workloads.function import Config, read_report, settings_of
from bcrit.tuner.workloads.launch import FunctionProcess
from tests.tuner.workloads.misbehaving import BEHAVIOURS

POINT: dict[str, Value] = {"lr": 0.1, "schedule": "linear", "end_factor": 0.5, "decay_fraction": 0.4, "decay_steps": 40}
FACTS = settings_of(Settings(64, 3, "own", POINT), 100, 80, {"width": 8, "optimizer": "mine"})
CONFIG = Config(FACTS, resolution=0.1)


def test_every_setting_is_found_by_name_in_three_ways() -> None:
    trial = {"batch_size": 64, "seed": 3, "budget_steps": 80, "max_steps": 100}
    expected = {**POINT, "width": 8, "optimizer": "mine", **trial}
    assert dict(CONFIG) == expected and len(CONFIG) == len(expected)
    assert all(getattr(CONFIG, name) == CONFIG[name] == value for name, value in expected.items())
    assert CONFIG.get("momentum", 0.9) == 0.9 and "momentum" not in CONFIG


def test_a_hyperparameter_hides_an_option_and_the_trial_hides_both() -> None:
    facts = settings_of(Settings(64, 3, "own", {"optimizer": "adam"}), 100, 80, {"seed": 5, "optimizer": "mine"})
    assert (facts["optimizer"], facts["seed"]) == ("adam", 3)


def test_the_learning_rate_is_that_of_our_own_schedule() -> None:
    assert [CONFIG.lr_at(step) for step in (0, 20, 40, 90)] == [learning_rate(POINT, s) for s in (0, 20, 40, 90)]
    assert CONFIG.lr_at(90) == pytest.approx(0.05)


def test_evaluations_are_on_the_grid_of_all_trials_and_end_at_the_horizon() -> None:
    steps = [0]
    while steps[-1] < 100:
        steps.append(CONFIG.next_evaluation(steps[-1]))
    assert steps == list(evaluation_steps(100, 0.1))


def test_a_setting_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(AttributeError, match="no setting 'momentum'; the settings are .*lr"):
        _ = CONFIG.momentum
    with pytest.raises(KeyError, match="momentum; the settings are"):
        CONFIG["momentum"]
    with pytest.raises(ValueError, match="no learning rate without 'lr'"):
        Config({"max_steps": 3}).lr_at(0)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot be changed, but 'lr' was set to 3"):
        CONFIG.lr = 3


ROOT = Path(__file__).parents[3]
HERE = "tests.tuner.workloads"


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
        assert not made._line.poll(0.3)
        assert [report(made).step for _ in range(3)] == [1, 2, 3]


def test_what_a_function_draws_without_seeding_is_its_seeds_own() -> None:
    size, drawn = list(BEHAVIOURS).index("changes_the_process") + 1, []
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


def test_files_named_as_python_s_own_hide_nothing_and_a_module_that_kills_its_process_is_no_outcome(
    tmp_path: Path,
) -> None:
    for name in ("random", "queue", "numbers", "select", "torch"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    (tmp_path / "mine.py").write_text("import helper\ndef train(config, report): pass")
    (tmp_path / "helper.py").write_text("import random; random.Random")
    (tmp_path / "dies.py").write_text("import os; os._exit(5)")
    code = (
        "import sys\nfrom bcrit.search_spaces.resources import Resources\n"
        "from bcrit.tuner.workloads.launch import why_no_start\n"
        "for name in sys.argv[1:]: print(why_no_start(name, '.', Resources()))"
    )
    words = [sys.executable, "-P", "-c", code, "mine:train", "dies:train", "lacks:train"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said = [line[:20] for line in done.stdout.splitlines() if line.startswith(("None", "the function", "ModuleNot"))]
    assert said == ["None", "the function's proce", "ModuleNotFoundError:"], done.stdout + done.stderr


def test_a_module_that_starts_threads_is_not_forked() -> None:
    code = (
        "from tests.tuner.workloads.test_function import *\n"
        "with process('with_thread:train') as made: print(report(made).metrics, made._call.forked)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "{'loss': 1.0, 'answered': 1.0} False", done.stderr


def test_a_function_that_returns_is_told_from_one_that_goes_on() -> None:
    with process("misbehaving:never_reports") as made, pytest.raises(Returned):
        report(made)


def test_nothing_outlives_the_process_that_asked_for_it() -> None:
    code = (
        "from tests.tuner.workloads.test_function import *\n"
        "from contextlib import ExitStack\n"
        "with ExitStack() as stack:\n"
        "    for function in ('has_children', 'has_children_and_sleeps', 'holds_the_interpreter'):\n"
        "        made = stack.enter_context(process(f'endings:{function}'))\n"
        "        found = report(made).metrics\n"
        "        made.next(0)\n"
        "        print(int(found['pid']), int(found['child']), end=' ', flush=True)\n"
        "    print(flush=True)\n"
        "    time.sleep(1000)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 6 and all(map(running, pids))
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert gone(*pids)


BEFORE = Report(2, None, train_seconds=1.0, evaluate_seconds=0.0, metrics={})  # 16 examples at batch size 8


def said(**changes: Any) -> dict[str, Any]:
    return {"step": 4, "examples": None, "train_seconds": None, "seconds": 3.0, "metrics": {"loss": 1}, **changes}


def test_all_time_is_training_but_what_the_function_s_own_seconds_leave_to_evaluation() -> None:
    report = read_report(said(), BEFORE, 8)
    assert (report.train_seconds, report.evaluate_seconds, report.examples) == (3.0, 0.0, None)
    assert type(report.metrics["loss"]) is float
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


NUMBERS: list[tuple[Any, Any]] = [
    *((3, 3), (3.0, 3), (2.5, 2.5), (np.float32(0.5), 0.5), (np.int64(7), 7), (math.inf, math.inf)),
    *((torch.tensor(0.25), 0.25), (torch.tensor([0.25]), 0.25), (torch.tensor(math.inf), math.inf), (None, None)),
    *((True, "True"), ("low", "'low'"), ([1], "list [1]"), (torch.zeros(2), "Tensor tensor([0., 0.])")),
]


@pytest.mark.parametrize(("value", "number"), NUMBERS, ids=repr)
def test_numbers_of_every_kind_arrive_as_numbers_and_all_else_as_words(value: Any, number: Any) -> None:
    assert _number(value) == number and type(_number(value)) is type(number)
    assert math.isnan(_number(np.nan))


def test_a_function_goes_on_from_what_it_left_in_its_folder() -> None:
    settings = {"seed": 1, "max_steps": 100, "batch_size": 1}

    def begun() -> FunctionProcess:
        return FunctionProcess(Call(f"{HERE}.resumable:train", str(ROOT), settings, 0.02, 1, 0, True), 100)

    whole = begun()
    try:
        expected = [report(whole) for _ in range(6)]
        state = {name: content.clone() for name, content in (whole.state() or {}).items()}
        expected += [report(whole) for _ in range(4)]
    finally:
        whole.close()
    assert set(state) == {"deep/state.pt"} and [r.step for r in expected] == list(range(10))
    assert not Path(whole.folder).parent.exists(), "its folder goes with it"
    again = begun()
    try:
        again.load(state, expected[5])  # of step 4: what was reported at 4 and 5 is not heard again
        rest = [report(again) for _ in range(4)]
    finally:
        again.close()
    assert [r.step for r in rest] == [6, 7, 8, 9]
    assert [r.metrics["loss"] for r in rest] == [r.metrics["loss"] for r in expected[6:]]
    assert all(r.metrics["found"] == 1 for r in rest)
    assert rest[0].train_seconds > expected[5].train_seconds, "its clock goes on"


def test_a_function_that_leaves_nothing_has_nothing_to_go_on_from() -> None:
    with process("misbehaving:falls", lr=0.1) as made:
        report(made)
        assert made.state() is None


def test_a_function_that_is_only_tried_out_has_a_new_folder() -> None:
    config = Config({"max_steps": 3})
    assert config.checkpoint.is_dir() and config.checkpoint == config.checkpoint != Config({}).checkpoint
    assert not any(config.checkpoint.iterdir())
