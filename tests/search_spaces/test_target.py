"""The one rule for "reached"."""

import math

import numpy as np
import pytest
from pydantic import TypeAdapter

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Crossing, Direction, Smoothed, Target

LOSS = Target(metric="loss", threshold=1.0, direction=Direction.MINIMIZE)


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        *(("val_loss < 0.15", "val_loss"), ("accuracy > 0.9", "accuracy"), ("loss<1e-3", "loss"), ("x > -2", "x")),
        *(('"mAP@50(B)" > 0.6', "mAP@50(B)"), ("metrics/mAP50-95(B) > 0.6", "metrics/mAP50-95(B)")),
        *(("val loss < 1", "val loss"), ("  1st:top[5] % < 3 ", "1st:top[5] %"), ("损失 < 1", "损失")),
        *(("'a < b' < 1", "a < b"), ('"it\'s" > 1', "it's"), ("`p <= \"q\" 's'` < 2", "p <= \"q\" 's'")),
    ],
)
def test_a_sentence_is_read_and_written_back(text: str, metric: str) -> None:
    target = TypeAdapter(Target).validate_python(text)
    assert target.metric == metric and TypeAdapter(Target).validate_python(str(target)) == target
    smoothed = TypeAdapter(Target).validate_python(f"{text} (smoothed)")
    assert smoothed == target.model_copy(update={"rule": "smoothed"}) and str(smoothed) == f"{target} (smoothed)"


@pytest.mark.parametrize(
    "text",
    [
        "loss < 1 (first)",
        "loss <= 1",
        "loss << 1",
        "a < 1, b < 2",
        "'loss < 1",
        "< 1",
        "loss 1",
        "'' < 1",
        "0.3 > loss",
    ],
)
def test_what_is_no_sentence_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a target reads 'METRIC < NUMBER'"):
        TypeAdapter(Target).validate_python(text)


def test_reached_is_strictly_better() -> None:
    assert LOSS.reached(0.999) and not LOSS.reached(1.0) and not LOSS.reached(math.nan)
    high = Target(metric="accuracy", threshold=0.5, direction=Direction.MAXIMIZE)
    assert high.reached(0.51) and not high.reached(0.5)


def test_the_first_crossing_counts_and_is_bounded_by_the_evaluation_before() -> None:
    evaluations = [(0, 5.0), (10, 1.0), (20, math.nan), (30, 0.9), (40, 2.0), (50, 0.1)]
    assert LOSS.first_crossing(evaluations) == Crossing(steps=30, steps_low=20)
    assert LOSS.first_crossing(evaluations[:3]) is None


def test_the_smoothed_rule_judges_the_end_of_a_line_through_the_last_evaluations() -> None:
    smooth = Target.model_validate({**LOSS.model_dump(), "rule": "smoothed"})
    assert Target.model_validate({**LOSS.model_dump(), "rule": "first"}) == LOSS and LOSS.rule is None
    steps = range(100, 200, 5)
    falling = [(step, 6 - math.log(step)) for step in steps]  # below 1 after step e^5 = 148.4
    assert smooth.first_crossing(falling) == LOSS.first_crossing(falling) == Crossing(steps=150, steps_low=145)
    low = [(step, value - 3 * (step == 120)) for step, value in falling]  # one evaluation that is far too low
    assert LOSS.first_crossing(low) == Crossing(steps=120, steps_low=115)
    window = [pair for pair in low if 80 <= pair[0] <= 120]
    slope, end = np.polyfit([math.log(step / 120) for step, _ in window], [value for _, value in window], 1)
    judged = Smoothed()
    assert [judged(*pair) for pair in window][-1] == pytest.approx(end) and slope < 0
    assert judged(*window[-1]) == pytest.approx(end)  # asked again, it is no other evaluation
    assert [judged(step, 5.0) for step in (0, 1000, 1001)] == [5.0] * 3  # too few since
    assert math.isnan(judged(1002, math.nan))


@pytest.mark.parametrize(("power", "first", "smoothed"), [(1.0, 0.029, 0.015), (0.6, 0.066, 0.01), (0.3, 0.172, 0.015)])
def test_noise_makes_a_first_crossing_early_and_the_smoothed_rule_takes_most_of_it(
    power: float, first: float, smoothed: float
) -> None:
    rng, early = np.random.default_rng(0), {"first": list[float](), "smoothed": list[float]()}
    for _ in range(150):
        grid = 300 * 1.02 ** (np.arange(120) + rng.random())
        loss = (grid / 1000) ** -power * np.exp(0.05 * rng.standard_normal(len(grid)))
        for rule, found in early.items():
            target = Target.model_validate({**LOSS.model_dump(), "rule": rule})
            crossing = target.first_crossing(zip(grid, loss, strict=True))
            assert crossing is not None
            found.append(math.log(crossing.steps / 1000) - 0.01)  # half an evaluation's interval late without noise
    assert 1 - math.exp(np.mean(early["first"])) == pytest.approx(first, abs=0.02)
    assert 1 - math.exp(np.mean(early["smoothed"])) == pytest.approx(smoothed, abs=0.02)


@pytest.mark.parametrize("outcome", Outcome, ids=str)
def test_every_outcome_has_a_sentence(outcome: Outcome) -> None:
    assert outcome.sentence.endswith(".")


def test_a_row_without_the_metric_is_no_evaluation_and_a_nan_that_was_reported_is_one() -> None:
    assert LOSS.first_crossing([(180, 2.0), (198, None), (200, 0.9)]) == Crossing(steps=200, steps_low=180)
    assert LOSS.first_crossing([(180, 2.0), (198, math.nan), (200, 0.9)]) == Crossing(steps=200, steps_low=198)


def test_the_best_value_is_finite_and_after_the_start() -> None:
    evaluations = [(0, 0.1), (1, 3.0), (2, None), (3, math.nan), (4, -math.inf), (5, 2.0)]
    assert LOSS.best(evaluations) == 2.0
    assert LOSS.best(evaluations[:1]) is None
    assert Target(metric="accuracy", threshold=0.5, direction=Direction.MAXIMIZE).best(evaluations) == 3.0


def test_a_trial_that_broke_or_diverged_is_infeasible_and_only_the_former_says_nothing() -> None:
    infeasible = {outcome for outcome in Outcome if not outcome.feasible}
    assert infeasible == {Outcome.DIVERGED, Outcome.OUT_OF_MEMORY, Outcome.FAILED}
    assert {outcome for outcome in Outcome if outcome.broken} == infeasible - {Outcome.DIVERGED}


@pytest.mark.parametrize("threshold", [True, "0.1", None, math.nan, math.inf], ids=str)
def test_a_threshold_is_a_number_and_nothing_that_could_be_read_as_one(threshold: object) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Target.model_validate({"metric": "loss", "threshold": threshold, "direction": "minimize"})


def test_a_whole_threshold_is_a_number_and_a_number_with_two_dots_is_none() -> None:
    assert Target.model_validate({"metric": "loss", "threshold": 1, "direction": "minimize"}) == LOSS
    with pytest.raises(ValueError, match="threshold"):
        Target.model_validate("loss < 1.2.3")
