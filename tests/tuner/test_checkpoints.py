"""What is kept of a trial: whole or not at all, of this trial or nothing, in the run folder or through the driver."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder, fingerprint
from bcrit.search_spaces.experiment import Experiment
from bcrit.tuner.checkpoints import Reach, left, packed_state, remove, unfinished, unpacked_state
from tests.tuner.test_trainable import EXPERIMENT as GIVEN
from tests.tuner.test_trainable import employed
from tests.tuner.training.test_state import PROPOSAL

STATE: dict[str, Any] = {"run": {"weights": [torch.arange(5.0)], "betas": (0.9, 0.99), "epoch": 3}, "made": []}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder.at(tmp_path / "run")
    made.write_experiment(Experiment.model_validate({**GIVEN, "checkpoint_seconds": 1e-6}))
    return made


def here(folder: RunFolder) -> Reach:
    return Reach.to(folder.root, fingerprint(folder.read_text(EXPERIMENT)))


def test_what_is_written_comes_back_and_is_listed_until_it_is_removed(folder: RunFolder) -> None:
    reach, path = here(folder), unfinished("b16")
    assert reach.folder is not None and reach.read(path) is None and left(folder) == set()
    reach.write(path, packed_state(STATE, PROPOSAL))
    found = unpacked_state(reach.read(path) or b"", PROPOSAL)
    assert found is not None and found["run"]["betas"] == (0.9, 0.99)
    assert torch.equal(found["run"]["weights"][0], torch.arange(5.0))
    assert left(folder) == {"b16"}
    remove(folder, {"b16", "never there"})
    assert left(folder) == set()


def test_a_torn_or_changed_file_and_one_of_another_trial_are_passed_over() -> None:
    content = packed_state(STATE, PROPOSAL)
    for place in range(0, len(content), 97):
        assert unpacked_state(content[:place], PROPOSAL) is None
    weights = torch.arange(5.0).numpy().tobytes()
    assert content.count(weights) == 1
    assert unpacked_state(content.replace(weights, weights[::-1]), PROPOSAL) is None
    for other in ({"trial_id": "b17"}, {"seed": 8}, {"point": {"lr": 0.02}}, {"start": "b3"}):
        assert unpacked_state(content, replace(PROPOSAL, **other)) is None
    assert unpacked_state(content, replace(PROPOSAL, max_steps=7, capped=True)) is not None


def test_a_worker_that_does_not_see_the_folder_sends_and_gets_files_by_the_driver(folder: RunFolder) -> None:
    for reach in (Reach.to(folder.root, "another"), Reach.to(f"{folder.root}/nowhere", "any")):
        assert reach.folder is None
        reach.write("checkpoints/x", b"1")
        assert reach.goes == {"checkpoints/x": b"1"} and reach.read("checkpoints/x") is None
        assert Reach(None, {"checkpoints/y": b"2"}).read("checkpoints/y") == b"2"
    assert not folder.has("checkpoints")


def test_a_trial_goes_on_at_another_worker_whether_that_sees_the_folder_or_not(folder: RunFolder) -> None:
    given = replace(PROPOSAL, budget_steps=60, max_steps=60)
    data = folder.read_experiment().to_dict()

    def rows_of(worker: Any, at_most: int = 10**9) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for _ in range(at_most):
            report = worker.step()
            rows += report["rows"]
            if report["ending"] is not None:
                break
        return [{"step": row["step"], "val_loss": row["val_loss"]} for row in rows], report

    def worker(reach: Reach, goes_on: bool) -> Any:
        made = employed(data, given)
        made._reach = reach
        made.offer(given, 0.0, goes_on, reach.came)
        return made

    expected, _ = rows_of(worker(here(folder), False))
    remove(folder, left(folder))
    rows_of(worker(here(folder), False), 10)
    assert left(folder) == {given.trial_id}
    sent = {unfinished(given.trial_id): folder.read_bytes(unfinished(given.trial_id))}
    for reach in (Reach(None, sent), here(folder)):
        found, report = rows_of(worker(reach, True))
        assert found == expected and report["keeps"] and report["resumed_at"] > 0
        assert report["ending"].checkpoint_seconds > 0
    last = worker(Reach(None, sent), True)
    last.step()
    last._leaving = True
    told = last.step()
    assert told["preempted"] and [path for path, _ in told["files"]] == [unfinished(given.trial_id)]


def test_a_damaged_checkpoint_is_said_and_its_trial_begins_anew(folder: RunFolder) -> None:
    worker = employed(folder.read_experiment().to_dict(), PROPOSAL)
    worker.offer(PROPOSAL, 0.0, True, {unfinished(PROPOSAL.trial_id): b"torn"})
    report = worker.step()
    assert "the checkpoint of b16 cannot be read, so it begins anew: it is damaged" in report["notes"][0]
    assert report["resumed_at"] == 0
