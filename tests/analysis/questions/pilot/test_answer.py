"""A pilot says what it proposes, and each of its doubts where there is one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.questions.pilot.answer import doubts, sentences
from bcrit.analysis.questions.pilot.study import Hint
from tests.analysis.questions.pilot.made_up import pilot

UNKNOWN = Estimate(None, n=3, why="noise hides the gradient")


def test_the_proposal_is_said() -> None:
    said = " ".join(sentences(pilot()))
    assert "b_crit may be about 60, with 30 to 120 to be reckoned with" in said
    assert "a hint at the order of magnitude, not a measurement" in said
    assert "batch sizes from 2 to 512" in said and "Box of lr:" in said and "Budget:" in said
    assert "1.34 times the tuned steps a search trial" in said and "on 2 workers" in said
    assert "the pilot took 5 s on one, 3 s of them in the noise scale" in said


def test_what_is_always_unsure_is_the_tuning_that_the_pilot_left_out() -> None:
    [left_out, held] = doubts(pilot())
    assert left_out.startswith("The workload cannot make batches of 16;")
    assert held.startswith("The pilot held momentum 0.9, which the study searches")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"steps_each": (100, None, 110)}, "1 of 3 seeds did not reach the target"),
        ({"steps_each": (100, 80, 130)}, "Seeds took from 80 to 130 steps"),
        ({"steps": 4.0}, "The target is reached after 4 steps, too few to tell batch sizes apart"),
        ({"edge": "high"}, "lies at the high end of its box"),
        ({"simple": UNKNOWN}, "Not resolved: B_simple (noise hides the gradient)"),
        ({"simple": Estimate(80.0, n=1, why="one run")}, "The noise scale has no interval"),
        (
            {"around": Hint(10, 5, 20)},
            "6.4 times the hint: there noise scales come out too large, so run it again with ",
        ),
        ({"temperature": None}, "The temperature of the runs is not known"),
        ({"temperature": 40.0}, "far above the usual 2"),
        ({"temperature": 0.1}, "far below the usual 2"),
        ({"seconds": None}, "could not be timed (it failed)"),
    ],
    ids=str,
)
def test_each_doubt_is_said(more: dict[str, Any], message: str) -> None:
    assert any(message in doubt for doubt in doubts(pilot(**more)))
    assert not any(message in doubt for doubt in doubts(pilot()))


def test_clipping_is_said() -> None:
    assert not any("It would have" in sentence for sentence in sentences(pilot()))
    said = " ".join(sentences(pilot(around=Hint(40, 8, 400), n=500)))
    assert "It would have begun at 0.5, but no smaller batch can be made" in said
    assert "ended at 1,000, but the training set has 500 examples: if b_crit is above 102" in said


def test_without_the_target_there_is_no_cost_and_a_remedy() -> None:
    said = sentences(pilot(steps=None, steps_each=(None, None, 90)))
    assert any("1 of 3 runs reached val_loss < 0.1" in s and "Raise 'budget'" in s for s in said)
    assert not any("Budget:" in s for s in said)


def test_without_a_hint_the_middle_is_said_to_be_a_guess() -> None:
    [first, *_] = sentences(pilot(around=Hint(None, 6.4, 640), simple=UNKNOWN, noise=UNKNOWN))
    assert "Neither is resolved" in first and "a factor ten of the pilot's batch size, from 6.4 to 640" in first


def test_a_search_that_does_not_reach_says_how_far_it_came() -> None:
    [said, held] = sentences(pilot(steps=None, steps_each=(), around=Hint(None, 6.4, 640)))[:2]
    assert (
        "None of 3 learning rates reached val_loss < 0.1 at batch size 64; the best of them, 0.1, came to 0.5" in said
    )
    assert "Raise 'budget'" in said and not held.startswith("Not resolved")


def test_a_workload_whose_noise_cannot_be_measured_gets_a_study_without_a_hint() -> None:
    found = pilot(around=Hint(None, 6.4, 640), no_noise="The noise of 'toy' cannot be measured", temperature=None)
    [first, *others] = sentences(found)
    assert first.startswith("The noise of 'toy' cannot be measured. Without a hint b_crit is")
    assert "Study 11 batch sizes" in others[0] and not any("temperature" in said for said in others)


@pytest.mark.parametrize("more", [{}, {"steps": None}, {"seconds": None}], ids=str)
def test_a_pilot_is_json(more: dict[str, Any]) -> None:
    found = json.loads(json.dumps(pilot(**more).to_json(), allow_nan=False))
    assert set(found) == {"run", "measured", "hint", "grid", "proposal", "spent"}
    assert (found["proposal"] is None) is ("steps" in more)
    if found["proposal"]:
        assert found["proposal"]["data"]["batch_sizes"] == found["grid"]["batch_sizes"]
