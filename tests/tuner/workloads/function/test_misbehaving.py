"""Everything that a user's function can do wrong ends as one clear outcome and stops nothing else: real Ray."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner.check import check_experiment
from bcrit.tuner.session import run
from tests.tuner.workloads.function import misbehaving
from tests.tuner.workloads.function.misbehaving import BEHAVIOURS

NAME = "tests.tuner.workloads.function.misbehaving:train"
SILENCE = 25
SOURCE = Path(inspect.getfile(misbehaving)).read_text().splitlines()


def place(code: str) -> str:
    """Where the line with this code is, as a message says it."""
    (number,) = (n for n, line in enumerate(SOURCE, start=1) if code in line)
    return f"line {number} of misbehaving.py"


EXPECTED: dict[str, tuple[Outcome, str | None]] = {
    "falls": (Outcome.REACHED, None),
    "raises": (
        Outcome.FAILED,
        f"ValueError: the data are broken ({place('raise ValueError')}), after the report at step 0",
    ),
    "hangs": (
        Outcome.FAILED,
        "no report for 25 s after the report at step 0, so the function was taken to hang; "
        "if it needs longer, raise resources.silence_seconds",
    ),
    "segfaults": (
        Outcome.FAILED,
        "the function's process was killed by signal 11 (SIGSEGV), after the report at step 1",
    ),
    "leaves": (Outcome.FAILED, "the function's process ended with exit code 3 before the first report"),
    "exits": (Outcome.FAILED, f"SystemExit: enough ({place('sys.exit')}), before the first report"),
    "turns_nan": (Outcome.DIVERGED, "loss became nan by step 5"),
    "goes_back": (
        Outcome.FAILED,
        "steps must rise, but step 3 was reported after step 7; report each step once, counted in optimizer updates",
    ),
    "repeats": (
        Outcome.FAILED,
        "steps must rise, but step 7 was reported after step 7; report each step once, counted in optimizer updates",
    ),
    "never_reports": (Outcome.FAILED, "the function returned without a single report"),
    "returns_early": (
        Outcome.FAILED,
        "the function returned after its report at step 39 of 100; "
        "it must train and report until it is stopped, or up to max_steps",
    ),
    "reports_every_thirtieth": (Outcome.EXHAUSTED, "the function returned after its report at step 90 of 100"),
    "another_metric": (
        Outcome.FAILED,
        "the report at step 1 lacks the target's metric 'loss': it has accuracy, error",
    ),
    "words": (Outcome.FAILED, "report(...): 'loss' must be a number, but it is 'low' at step 1"),
    "negative": (
        Outcome.FAILED,
        "report(...): 'step' must be a whole number of optimizer updates, at least 0, but it is -1",
    ),
    "half_a_step": (
        Outcome.FAILED,
        "report(...): 'step' must be a whole number of optimizer updates, at least 0, but it is 2.5",
    ),
    "too_late": (
        Outcome.EXHAUSTED,
        "the report at step 101 came after max_steps = 100 and does not count",
    ),
    "out_of_memory": (Outcome.OUT_OF_MEMORY, f"MemoryError ({place('raise MemoryError')}), before the first report"),
    "will_not_stop": (Outcome.REACHED, None),
    "survives_errors": (Outcome.REACHED, None),
    "changes_the_process": (Outcome.REACHED, None),
}


def experiment(**changes: Any) -> Experiment:
    data = {
        "workload": NAME,
        "batch_sizes": list(range(1, len(BEHAVIOURS) + 1)),
        "target": "loss < 1",
        "space": {"lr": "log from 0.2 to 2"},
        "budget": {"steps": 100},
        "search": {"trials": 1, "max_draws": 1, "stopping": "none"},
        "boundary": {"max_rounds": 0},
        "confirm": {"seeds": 0},
        "resources": {"silence_seconds": SILENCE},
        **changes,
    }
    return check_experiment(data, "test")


def started(folder: RunFolder, made: Experiment) -> RunFolder:
    result = run(folder, made, new=True, address=None, workers=2, watch=lambda scheduler: None)
    assert result.complete
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return started(RunFolder.at(tmp_path_factory.mktemp("misbehaving") / "run"), experiment())


@pytest.fixture(scope="module")
def trials(folder: RunFolder) -> dict[str, dict[str, Any]]:
    rows = folder.read(TRIALS).to_pylist()
    assert len(rows) == len(BEHAVIOURS)
    return {BEHAVIOURS[row["batch_size"] - 1].__name__: row for row in rows}


@pytest.mark.parametrize("behaviour", [behaviour.__name__ for behaviour in BEHAVIOURS])
def test_every_behaviour_has_its_outcome_and_its_message(trials: dict[str, dict[str, Any]], behaviour: str) -> None:
    row = trials[behaviour]
    assert (Outcome(row["outcome"]), row["message"]) == EXPECTED[behaviour]


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
    reached = {BEHAVIOURS[s["batch_size"] - 1].__name__ for s in found["studies"] if s["steps"] is not None}
    assert reached == {name for name, (outcome, _) in EXPECTED.items() if outcome is Outcome.REACHED}


def test_a_study_that_always_fails_gives_up_and_trials_see_nothing_of_each_other(tmp_path: Path) -> None:
    names = [behaviour.__name__ for behaviour in BEHAVIOURS]
    falls, raises, changes = (names.index(name) + 1 for name in ("falls", "raises", "changes_the_process"))
    made = experiment(
        batch_sizes=[falls, raises, changes],
        search={"trials": 12, "start": 4, "stopping": "none", "parallel_per_study": 1},
        confirm={"points": 1, "seeds": 2},
    )
    folder = started(RunFolder.at(tmp_path / "run"), made)
    rows = folder.read(TRIALS).to_pylist()
    outcomes = {b: [row["outcome"] for row in rows if row["batch_size"] == b] for b in made.batch_sizes}
    assert outcomes == {falls: ["reached"] * 14, raises: ["failed"] * 10, changes: ["reached"] * 14}
    own = {row["trial_id"] for row in rows if row["batch_size"] == changes}
    curves = [row for row in folder.read(MEASUREMENTS).to_pylist() if row["trial_id"] in own]
    assert {row["threads"] for row in curves} == {1}
    assert len({(row["trial_id"], row["drawn"]) for row in curves}) == len({row["drawn"] for row in curves}) == 14
