"""Targets: what users may write, and the default grid."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.targets.thresholds import N_TARGETS, Curve, default_targets, read_targets
from search_spaces.problems import InputError
from search_spaces.target import Target

OWN = Target.model_validate("loss < 1")


def falling(steps: int, last: float, first: float = 10.0) -> Curve:
    at = np.arange(1, steps + 1)
    return at, first * (last / first) ** (at / steps)


def thresholds(found: tuple[Target, ...]) -> list[float]:
    return [target.threshold for target in found]


def test_numbers_and_sentences_are_read_the_loosest_first() -> None:
    assert thresholds(read_targets(["0.5", "loss < 2", "1e0"], OWN)) == [2, 1, 0.5]
    (accuracy,) = read_targets(["accuracy > 0.9"], OWN)
    assert (accuracy.metric, accuracy.direction) == ("accuracy", "maximize")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["low"], "a target is a number or reads .* write 'loss < 1', say"),
        (["nan"], "but it is 'nan'"),
        (["0.5", "accuracy > 0.9"], "one metric in one direction"),
        (["loss < 1", "loss > 1"], "one metric in one direction"),
    ],
)
def test_what_cannot_be_read_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_targets(given, OWN)


def test_where_runs_stop_at_their_target_it_is_the_strictest() -> None:
    found = thresholds(default_targets(OWN, {8: falling(400, 0.99), 64: falling(80, 0.9)}, stops=True))
    assert len(found) == N_TARGETS and found[-1] == 1
    assert found[0] < falling(80, 0.9)[1][2]  # the fastest study has made four evaluations
    ratios = np.divide(found[1:], found[:-1])
    assert ratios.max() - ratios.min() < 0.02


def test_where_runs_go_on_the_strictest_is_what_every_study_reached() -> None:
    curves = {8: falling(400, 0.3), 64: falling(400, 0.123456)}
    found = thresholds(default_targets(OWN, curves, stops=False))
    assert found[-1] == pytest.approx(0.3, rel=0.01) and found[-1] > 0.3  # 0.3 itself was never passed
    assert 1.0 in found


def test_a_target_that_some_study_missed_stays() -> None:
    found = thresholds(default_targets(OWN, {8: falling(400, 1.5), 64: falling(80, 0.9)}, stops=True))
    assert found[-1] == 1


def test_a_target_that_nobody_reached_is_left_out() -> None:
    found = thresholds(default_targets(OWN, {8: falling(400, 2.0), 64: falling(80, 1.5)}, stops=False))
    assert min(found) >= 2.0


def test_a_metric_that_grows_and_is_not_positive_is_spaced_evenly() -> None:
    own = Target.model_validate("reward > 3")
    at = np.arange(1, 101, dtype=np.int64)
    up: Curve = at, np.asarray(-5 + 0.1 * at)
    slower: Curve = at, np.asarray(-5 + 0.09 * at)
    found = thresholds(default_targets(own, {8: up, 16: slower}, stops=False))
    assert found == sorted(found) and 3 in found
    assert found[0] < 0 < found[-1] < -5 + 9
    gaps = np.diff([value for value in found if value != 3])
    assert gaps.max() < 1.8 * np.median(gaps)


def test_curves_that_say_nothing_leave_the_own_target() -> None:
    nothing = (np.array([1, 2]), np.array([np.nan, np.inf]))
    assert default_targets(OWN, {}, stops=True) == (OWN,)
    assert default_targets(OWN, {8: nothing}, stops=True) == (OWN,)


def test_a_curve_of_one_evaluation_is_enough() -> None:
    assert thresholds(default_targets(OWN, {8: falling(1, 0.5), 16: falling(1, 0.6)}, stops=True)) == [1]
