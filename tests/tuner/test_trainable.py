"""What a worker makes of an experiment: settings, device, the trial's row. Ray Tune's class, without a cluster."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import STUDY, Outcome, Stage
from bcrit.tuner import trainable
from bcrit.tuner.ledger import trial_row
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.trainable import Worker
from bcrit.tuner.training.trial import Ending

EXPERIMENT: dict[str, Any] = {
    "workload": "digits_mlp",
    "optimizer": "sgd",
    "batch_sizes": [16, 64],
    "target": "val_loss < 0.01",
    "space": {"lr": "log from 0.05 to 0.5"},
    "budget": {"steps": 8},
}


def proposal(batch_size: int) -> Proposal:
    return Proposal(f"b{batch_size}", batch_size, Stage.SEARCH, 0, 0, None, 7, {"lr": 0.1}, budget_steps=8, max_steps=8)


def employed(experiment: dict[str, Any], given: Proposal, function: bool = False) -> Worker:
    worker = Worker.__new__(Worker)
    worker.setup({}, experiment=experiment, function=function)
    assert function or worker._problem() is None
    worker._ready = True
    worker.offer(given, seconds=0.2)
    return worker


def ended(batch_size: int, **more: Any) -> Ending:
    experiment = parse_experiment({**EXPERIMENT, **more}, "test").to_dict()
    worker = employed(experiment, proposal(batch_size))
    while True:
        if (ending := worker.step()["ending"]) is not None:
            assert isinstance(ending, Ending)
            return ending


def test_a_worker_starts_and_trains_without_scipy_and_the_compiler() -> None:
    """In a process of its own: each takes half as long as all else that a worker loads."""
    script = f"""
import sys
from bcrit.tuner.trainable import Worker
from bcrit.search_spaces.outcome import Stage
from bcrit.tuner.protocol.proposal import Proposal
worker = Worker.__new__(Worker)
worker.setup({{}}, experiment={parse_experiment(EXPERIMENT, "test").to_dict()})
assert worker.step()["problem"] is None
worker.offer({proposal(16)!r}, seconds=60)
print(worker.step()["ending"].steps, {{"scipy", "sklearn", "optuna", "sympy", "torch._dynamo"}} & set(sys.modules))
"""
    script = script.replace(repr(Stage.SEARCH), "Stage.SEARCH")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("8 set()\n", 0), done.stderr


def test_execution_reaches_the_run_and_its_trace_the_trial_s_row() -> None:
    whole, divided = ended(64), ended(64, execution={"micro_batch": 24})
    small = ended(16, execution={"micro_batch": 24})
    rows = [trial_row(proposal(64), ending) for ending in (whole, divided, small)]
    assert [(row["gradients_per_example"], row["micro_batch"]) for row in rows] == [(1, None), (1, 24), (1, None)]
    assert divided.best_value == pytest.approx(whole.best_value, rel=1e-4)
    assert ended(64, execution={"precision": "bfloat16"}).best_value != whole.best_value


def test_a_trial_with_a_share_of_a_gpu_is_kept_to_it_and_trains_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(trainable, "prepare_gpu", asked.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ending = ended(16, resources={"gpus": 0.25})
    assert asked == [0.25]
    assert ending.outcome is Outcome.FAILED and "'resources.gpus' is 0.25, but PyTorch" in (ending.message or "")
    assert ended(16).outcome is Outcome.EXHAUSTED and asked == [0.25]


def test_confirming_runs_are_probed_and_searching_ones_are_not() -> None:
    experiment = parse_experiment({**EXPERIMENT, "probes": ["weight_distance"]}, "test").to_dict()
    found = {}
    for stage in STUDY:
        worker = employed(experiment, replace(proposal(16), stage=stage))
        made: list[dict[str, Any]] = []
        while (report := worker.step())["ending"] is None:
            made += report["rows"]
        made += report["rows"]
        found[stage] = made
        seconds = trial_row(proposal(16), report["ending"])["probe_seconds"]
        assert (seconds is None) is (stage is Stage.SEARCH)
    assert all("weight_distance" not in row for row in found[Stage.SEARCH])
    assert all(row["weight_distance"] > 0 for row in found[Stage.CONFIRM] if row["step"] > 0)
    assert [row["val_loss"] for row in found[Stage.SEARCH]] == [row["val_loss"] for row in found[Stage.CONFIRM]]


def test_a_function_is_told_its_study_s_budget_whatever_its_trial_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def made(call: Any, silence_seconds: float) -> Any:
        given.update(call.settings)
        raise RuntimeError("enough is known")

    monkeypatch.setattr("bcrit.tuner.workloads.launch.FunctionProcess", made)
    data = {**EXPERIMENT, "workload": "somewhere:train", "optimizer": "own"}
    given_to = replace(proposal(16), stage=Stage.CONFIRM, max_steps=32)
    worker = employed(parse_experiment(data, "test").to_dict(), given_to, function=True)
    assert "enough is known" in worker.step()["ending"].message
    assert (given["budget_steps"], given["max_steps"]) == (8, 32)


def test_only_searching_trials_that_are_not_for_other_targets_are_evaluated_on_the_coarse_grid() -> None:
    rows: dict[tuple[Stage, str], dict[int, float]] = {}
    for stage, rule in ((Stage.SEARCH, "asha"), (Stage.SEARCH, "full"), (Stage.CONFIRM, "asha")):
        data = {**EXPERIMENT, "budget": {"steps": 40}, "search": {"stopping": rule}}
        experiment = parse_experiment(data, "test").to_dict()
        wanted = replace(proposal(16), stage=stage, stop_at_target=rule != "full", budget_steps=40, max_steps=40)
        worker = employed(experiment, wanted)
        made: list[dict[str, Any]] = []
        ending: Ending | None = None
        while ending is None:
            report = worker.step()
            ending = report["ending"]
            made += report["rows"]
        rows[stage, rule] = {row["step"]: row["val_loss"] for row in made}
    search, full, confirm = rows.values()
    assert list(full) == list(confirm) == list(range(41)) and full == confirm
    assert list(search) == [*range(11), 12, 14, 16, 19, 22, 26, 31, 37, 40]
    assert all(confirm[step] == value for step, value in search.items())
