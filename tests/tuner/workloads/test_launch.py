"""A trial in several ranks, each started as `torchrun` would: the curve of one process, one voice, one end."""

import atexit
import multiprocessing
import re
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from multiprocessing import AuthenticationError
from typing import Any

import pytest
import torch

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.resources import Resources
from bcrit.search_spaces.target import Target
from bcrit.tuner.training.reported import Died, Ended, Report
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Ending, Limits, Measurement, Trial
from bcrit.tuner.workloads.child import Call
from bcrit.tuner.workloads.function import TrainingFunction
from bcrit.tuner.workloads.launch import FunctionRanks, _hearsay, start
from bcrit.tuner.workloads.ranks import Door, Spread, knock
from bcrit.tuner.workloads.registry import load_training
from tests.tuner.workloads.test_function import HERE, ROOT, gone

PROGRAM = f"{sys.executable} tests/tuner/workloads/ranked.py {{batch_size}} {{lr}} {{max_steps}} {{failing}} {{how}}"
Made = tuple[list[Measurement], Ending]


@cache
def another_machine() -> ProcessPoolExecutor:
    """A process that imports once what all trials need of it."""
    atexit.register(another_machine.cache_clear)  # it is let go of while the libraries are there that end it
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def near(nodes: int) -> Spread:
    """One other machine, which ends its part when the first machine lets go."""

    def begin(node: int, work: Any, *given: Any) -> Future[Any]:
        return another_machine().submit(work, *given)

    return Spread(nodes, "127.0.0.1", False, begin, Future.done, lambda begun: begun.exception(60))


def ran(processes: int | None, program: bool, nodes: int = 1, **options: Any) -> Made:
    """One trial to its end, in its processes, without Ray."""
    options = {"failing": -1, "how": "not", **options}
    made = TrainingFunction(f"{HERE}.ranked:train", options)
    if program:
        made = load_training("command", {"command": PROGRAM, **options})  # type: ignore[assignment]
    resources = Resources(processes=processes, cpus=2 * (processes or 1), silence_seconds=300)
    limits = Limits(30, False, (), 0.02, stop_at_target=True)

    def begin() -> Any:
        settings, spread = Settings(32, 7, "own", {"lr": 0.05}), near(nodes) if nodes > 1 else None
        return start(made, str(ROOT), settings, "loss", limits, resources, 30, spread)

    trial, found = Trial(begin, Target.model_validate("loss < 0.3"), limits), list[Measurement]()
    try:
        while trial.ending is None:
            found += trial.advance(60)
    finally:
        trial.close()
    return found, trial.ending


@pytest.fixture(scope="module")
def alone() -> Made:
    return ran(None, program=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("function", marks=pytest.mark.long),
        "function whose first rank reports",
        "program",
        "on two machines",
    ],
)
def test_two_ranks_make_the_curve_of_one_process_and_end_with_it(kind: str, alone: Made) -> None:
    processes, nodes = (1, 2) if "machines" in kind else (2, 1)
    found, ending = ran(processes, kind == "program", nodes, first_only=int("first" in kind))
    assert ending.outcome is alone[1].outcome is Outcome.REACHED and ending.crossing == alone[1].crossing
    assert ending.steps < 30 and [m.step for m in found] == [m.step for m in alone[0]]
    curves = ([m.metrics["loss"] for m in made] for made in (found, alone[0]))
    assert next(curves) == pytest.approx(next(curves), rel=1e-5)
    said = found[0].metrics
    assert (said["local_rank"], said["group_rank"], said["torchelastic_restart_count"]) == (0, 0, 0)
    assert (said["local_world_size"], said["group_world_size"], said["threads"]) == (processes, nodes, 2)
    assert alone[0][0].metrics["local_rank"] == -1, "one process is no rank"
    assert gone(said["pid_0"], said["pid_1"])
    assert ending.memory is not None and ending.memory > 0


WORDS = {
    "raises": (Outcome.FAILED, "ZeroDivisionError: as it was told"),
    "memory": (Outcome.OUT_OF_MEMORY, "MemoryError: nothing is left"),
    "killed": (Outcome.FAILED, "killed by .*SIGKILL.*as the system does when memory runs out"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("program", "rank", "how", "nodes"),
    [
        pytest.param(False, 1, "raises", 1, id="function raises", marks=pytest.mark.long),
        pytest.param(False, 0, "killed", 1, id="the first is killed"),
        pytest.param(True, 1, "memory", 1, id="program raises"),
        pytest.param(False, 1, "killed", 2, id="one on another machine is killed"),
    ],
)
def test_a_rank_that_fails_ends_the_trial_with_its_words(program: bool, rank: int, how: str, nodes: int) -> None:
    found, ending = ran(2 // nodes, program, nodes, failing=rank, how=how)
    outcome, words = WORDS[how]
    assert ending.outcome is outcome and ending.message is not None
    assert re.match(f"rank {rank}: .*{words}.* after the report at step 4", ending.message), ending.message
    assert [m.step for m in found] == list(range(5)) and gone(found[0].metrics["pid_0"], found[0].metrics["pid_1"])


def test_a_machine_that_is_lost_is_no_outcome_of_the_trial() -> None:
    with pytest.raises(Died, match="rank 1: its machine is gone, or the process there that started it"):
        ran(1, program=False, nodes=2, failing=1, how="machine")
    another_machine.cache_clear()


@pytest.mark.timeout(300)
def test_what_rank_0_left_is_there_on_every_machine_when_the_trial_goes_on() -> None:
    settings = {"batch_size": 8, "lr": 0.05, "max_steps": 30, "seed": 7, "leaves": 1}
    made = FunctionRanks(Call(f"{HERE}.ranked:train", str(ROOT), settings, 0.02, 1, 0, False), 300, 1, near(2))
    try:
        made.load({"state": torch.zeros(3, dtype=torch.uint8)}, Report(4, None, 1.0, 0.0, {}))
        while (found := made.next(60)) is None:
            continue
        assert found.step == 5 and found.metrics["found"] == 2, "both find it, and what came before is not told again"
        assert list(made.state() or {}) == ["state"]
        while made._ranks[1].memory < 1e6:  # what it holds there is told after one of its reports
            assert isinstance(made.next(60), Report)
    finally:
        made.close()


def test_what_another_rank_only_heard_of_is_told_from_what_happened() -> None:
    lost = "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234"
    assert _hearsay(Ended(Outcome.FAILED, lost))
    assert not _hearsay(Ended(Outcome.OUT_OF_MEMORY, "CUDA out of memory; NCCL"))
    assert not _hearsay(Ended(Outcome.FAILED, "ValueError: no")) and not _hearsay(Died("it ended"))


def test_who_does_not_show_the_key_is_not_let_in() -> None:
    door, came = Door("127.0.0.1"), []
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(door.let_in, [3], lambda: False)
        for key in (b"another", door.key):
            with suppress(AuthenticationError, EOFError, ConnectionError):
                came.append(knock(door.address, key, 3))
        line = found.result(60)[3]
    came[-1].send_bytes(b"here")
    assert len(came) == 1 and line.recv_bytes() == b"here"
    with pytest.raises(Died, match="a machine of the trial ended before its ranks came up"):
        Door("127.0.0.1").let_in([1], lambda: True)
