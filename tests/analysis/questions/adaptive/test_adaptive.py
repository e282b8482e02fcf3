"""The verdict says no more than the data show; what is stored comes back, and is told when it is old."""

from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.numbers import Estimate
from bcrit.analysis.questions.adaptive import ask, verdict
from bcrit.analysis.questions.adaptive.result import Adaptive
from bcrit.analysis.records.run_folder import ADAPTIVE
from bcrit.analysis.report import Answer
from bcrit.analysis.run import Run
from tests.analysis.questions.adaptive.made_up import adaptive
from tests.analysis.report import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return runs.stored(adaptive(), ADAPTIVE, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def answer(run: Run) -> Answer:
    return runs.answered(ask, run)


NOTHING = "neither a gain nor a loss is shown"
COARSE = f"{NOTHING}, because what fixed ones need is known no better"


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said"),
    [
        (0.8, 0.7, 0.9, "a gain"),
        (1.2, 1.1, 1.3, "a loss"),
        (0.9, 0.7, 1.1, NOTHING),
        (0.985, 0.98, 0.99, COARSE),  # nearer to 1 than the fixed batch sizes lie to their curve
        (0.8, None, None, f"without an interval, which needs three seeds, {NOTHING}"),
    ],
    ids=str,
)
def test_a_gain_is_one_that_interval_and_frontier_both_show(
    ratio: float, low: float | None, high: float | None, said: str
) -> None:
    assert verdict(replace(adaptive(), misfit=0.01), Estimate(ratio, low, high), [8e7]) == said


def test_a_model_without_chance_needs_no_interval_but_finer_steps_than_its_gain() -> None:
    exact = replace(adaptive(1, 0.0), deterministic=True, misfit=0.001)
    assert verdict(exact, Estimate(0.9), [8e7]) == "a gain"
    assert verdict(exact, Estimate(0.95), [15.0]) == COARSE


def test_batch_sizes_that_were_confirmed_since_are_said(run: Run, answer: Answer, tmp_path: Path) -> None:
    text = "run `bcrit adaptive` again"
    assert any(text in said for said in answer.sentences)
    now = tuple(int(b) for b in run.studies["batch_size"])
    fresh = runs.answered(ask, runs.stored(adaptive(tuned_at=now, rates=(0.1,) * len(now)), ADAPTIVE, tmp_path))
    assert not any(text in said for said in fresh.sentences)


def test_what_is_stored_comes_back(run: Run) -> None:
    assert run.folder.read_result(ADAPTIVE, Adaptive) == adaptive()
