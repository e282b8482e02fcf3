"""A trial in several ranks, each started as `torchrun` would: the curve of one process, one voice, one end."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from bcrit.search_spaces.options import Resources
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Target
from bcrit.tuner.training.reported import Died, Ended
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Ending, Limits, Measurement, Trial
from bcrit.tuner.workloads.function import TrainingFunction
from bcrit.tuner.workloads.launch import _hearsay, start
from bcrit.tuner.workloads.registry import load_training
from tests.tuner.workloads.test_function import HERE, ROOT, gone

PROGRAM = f"{sys.executable} tests/tuner/workloads/ranked.py {{batch_size}} {{lr}} {{max_steps}} {{failing}} {{how}}"
Made = tuple[list[Measurement], Ending]


def ran(processes: int | None, program: bool, **options: Any) -> Made:
    """One trial to its end, in its processes, without Ray."""
    options = {"failing": -1, "how": "not", **options}
    made = TrainingFunction(f"{HERE}.ranked:train", options)
    if program:
        made = load_training("command", {"command": PROGRAM, **options})  # type: ignore[assignment]
    resources = Resources(processes=processes, cpus=2 * (processes or 1), silence_seconds=300)
    limits = Limits(30, False, (), 0.02, stop_at_target=True)

    def begin() -> Any:
        return start(made, str(ROOT), Settings(32, 7, "own", {"lr": 0.05}), "loss", limits, resources, 30)

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
@pytest.mark.parametrize("kind", ["function", "function whose first rank reports", "program"])
def test_two_ranks_make_the_curve_of_one_process_and_end_with_it(kind: str, alone: Made) -> None:
    found, ending = ran(2, program=kind == "program", first_only=int("first" in kind))
    assert ending.outcome is alone[1].outcome is Outcome.REACHED and ending.crossing == alone[1].crossing
    assert ending.steps < 30 and [m.step for m in found] == [m.step for m in alone[0]]
    curves = ([m.metrics["loss"] for m in made] for made in (found, alone[0]))
    assert next(curves) == pytest.approx(next(curves), rel=1e-5)
    said = found[0].metrics
    assert (said["local_rank"], said["group_rank"], said["torchelastic_restart_count"]) == (0, 0, 0)
    assert (said["local_world_size"], said["group_world_size"], said["threads"]) == (2, 1, 2)
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
    ("program", "rank", "how"),
    [(False, 1, "raises"), (False, 0, "killed"), (True, 1, "memory"), (True, 1, "killed")],
    ids=["function raises", "the first is killed", "program raises", "program is killed"],
)
def test_a_rank_that_fails_ends_the_trial_with_its_words(program: bool, rank: int, how: str) -> None:
    found, ending = ran(2, program, failing=rank, how=how)
    outcome, words = WORDS[how]
    assert ending.outcome is outcome and ending.message is not None
    assert re.match(f"rank {rank}: .*{words}.* after the report at step 4", ending.message), ending.message
    assert [m.step for m in found] == list(range(5)) and gone(found[0].metrics["pid_0"], found[0].metrics["pid_1"])


def test_what_another_rank_only_heard_of_is_told_from_what_happened() -> None:
    lost = "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234"
    assert _hearsay(Ended(Outcome.FAILED, lost))
    assert not _hearsay(Ended(Outcome.OUT_OF_MEMORY, "CUDA out of memory; NCCL"))
    assert not _hearsay(Ended(Outcome.FAILED, "ValueError: no")) and not _hearsay(Died("it ended"))
