"""Everything that a user's function can do wrong ends as one clear outcome and stops nothing else: real Ray."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner.check import check_experiment
from bcrit.tuner.session import run
from tests.tuner.workloads import misbehaving
from tests.tuner.workloads.misbehaving import BEHAVIOURS

NAMES = list(BEHAVIOURS)
pytestmark = pytest.mark.usefixtures("one_ray")


def experiment(**changes: Any) -> Experiment:
    data = {
        "workload": f"{misbehaving.__name__}:train",
        "batch_sizes": list(range(1, len(BEHAVIOURS) + 1)),
        "target": "loss < 1",
        "space": {"lr": "log from 0.2 to 2"},
        "budget": {"steps": 100},
        "search": {"trials": 1, "max_draws": 1, "stopping": "none"},
        "boundary": {"max_rounds": 0},
        "confirm": {"seeds": 0},
        "resources": {"silence_seconds": 6},
        **changes,
    }
    return check_experiment(data, "test")


def started(folder: RunFolder, made: Experiment) -> RunFolder:
    result = run(folder, made, new=True, address=None, workers=1, watch=lambda scheduler: None)
    assert result.complete
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return started(RunFolder.at(tmp_path_factory.mktemp("misbehaving") / "run"), experiment())


@pytest.fixture(scope="module")
def trials(folder: RunFolder) -> dict[str, dict[str, Any]]:
    rows = folder.read(TRIALS).to_pylist()
    assert len(rows) == len(BEHAVIOURS)
    return {NAMES[row["batch_size"] - 1]: row for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_every_behaviour_has_its_outcome_and_its_message(trials: dict[str, dict[str, Any]], name: str) -> None:
    function, outcome, message = BEHAVIOURS[name]
    lines, first = inspect.getsourcelines(function)
    place = f"line {first + len(lines) - 1} of misbehaving.py"
    row = trials[name]
    assert (Outcome(row["outcome"]), row["message"]) == (outcome, message and message.replace("PLACE", place))


def test_a_crossing_after_the_horizon_is_not_in_the_tables(
    folder: RunFolder, trials: dict[str, dict[str, Any]]
) -> None:
    row = trials["too_late"]
    assert (row["steps"], row["steps_to_target"], row["best_value"]) == (90, None, 10)
    measured = [m["step"] for m in folder.read(MEASUREMENTS).to_pylist() if m["trial_id"] == row["trial_id"]]
    assert measured == [90]


def test_time_to_the_first_report_at_step_0_is_no_training(trials: dict[str, dict[str, Any]]) -> None:
    assert 0 < trials["falls"]["train_seconds"] < 1
    assert trials["hangs"]["train_seconds"] == 0


def test_the_analysis_works_on_what_is_left(folder: RunFolder) -> None:
    found = Run(folder).to_json()
    reached = {NAMES[s["batch_size"] - 1] for s in found["studies"] if s["steps"] is not None}
    assert reached == {name for name, (_, outcome, _) in BEHAVIOURS.items() if outcome is Outcome.REACHED}


def test_a_run_in_which_nothing_but_one_failure_happens_is_stopped_and_can_go_on(tmp_path: Path) -> None:
    wrong = NAMES.index("another_metric") + 1
    made = experiment(batch_sizes=[wrong], search={"trials": 12, "max_draws": 1, "parallel_per_study": 1})
    folder = RunFolder.at(tmp_path / "run")
    again = f"mend that, and go on with `bcrit resume {folder} --retry-failed --code .`"
    with pytest.raises(InputError, match="the first 3 failed alike before their first update") as caught:
        run(folder, made, new=True, address=None, workers=1, watch=lambda scheduler: None)
    (row, *others) = folder.read(TRIALS).to_pylist()
    assert row["message"] in str(caught.value) and again in str(caught.value) and len(others) == 2
    assert Run(folder).how_far[0].startswith("No trial trained: they failed alike before their first update.")


def test_a_study_that_always_fails_gives_up_and_trials_see_nothing_of_each_other(tmp_path: Path) -> None:
    falls, raises, changes = (NAMES.index(name) + 1 for name in ("falls", "raises", "changes_the_process"))
    made = experiment(
        batch_sizes=[falls, raises, changes],
        search={"trials": 4, "start": 2, "stopping": "none", "parallel_per_study": 1},
        confirm={"points": 1, "seeds": 2},
    )
    folder = started(RunFolder.at(tmp_path / "run"), made)
    rows = folder.read(TRIALS).to_pylist()
    outcomes = {b: [row["outcome"] for row in rows if row["batch_size"] == b] for b in made.batch_sizes}
    assert outcomes == {falls: ["reached"] * 6, raises: ["failed"] * 10, changes: ["reached"] * 6}
    own = {row["trial_id"] for row in rows if row["batch_size"] == changes}
    curves = [row for row in folder.read(MEASUREMENTS).to_pylist() if row["trial_id"] in own]
    assert {row["threads"] for row in curves} == {1}
    assert len({(row["trial_id"], row["drawn"]) for row in curves}) == len({row["drawn"] for row in curves}) == 6
