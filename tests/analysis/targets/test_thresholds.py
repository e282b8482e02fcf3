"""Targets: what users may write, and the default grid."""

from __future__ import annotations

import numpy as np
import pytest

from bcrit.analysis.targets.thresholds import N_TARGETS, Curve, default_targets, read_targets
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target

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


def test_a_target_in_the_wrong_direction_is_refused() -> None:
    own = Target.model_validate("loss < 1")
    with pytest.raises(
        InputError, match="'loss' improves by minimizing, but the target is 'loss > 0.5'; write 'loss < 0.5'"
    ):
        read_targets(["loss > 0.5"], own)


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


@pytest.mark.parametrize("sentence", ["err < 0.1", "err < 0.0001"])
def test_an_error_that_falls_to_zero_gives_no_target_below_it(sentence: str) -> None:
    own, at = Target.model_validate(sentence), np.arange(1, 61)
    curves: dict[int, Curve] = {b: (at, np.maximum(0.0, 1 - at / last)) for b, last in ((8, 50), (64, 40))}
    found = thresholds(default_targets(own, curves, stops=False))
    assert min(found) > 0 and len(found) > 3
    assert all((values < min(found)).any() for _, values in curves.values())


def test_an_error_that_is_zero_throughout_leaves_the_own_target() -> None:
    at = np.arange(1, 9)
    found = thresholds(default_targets(Target.model_validate("err < 0.1"), {8: (at, np.zeros(8))}, stops=False))
    assert found == [0.1]


def test_two_targets_are_crossed_with_different_evaluations_by_most_studies() -> None:
    """Losses that jump to a plateau: thresholds on the jump are all crossed at once."""
    curves: dict[int, Curve] = {}
    for b in (8, 16, 32):
        values = np.concatenate([np.full(4, 0.51), [0.4805, 0.4802, 0.4799]])
        curves[b] = np.arange(1, 8), values
    own = Target.model_validate("loss < 0.48")
    found = thresholds(default_targets(own, curves, stops=True))
    counts = [[int(np.argmax(values < t)) for _, values in curves.values()] for t in found]
    assert found[-1] == 0.48 and len(set(map(tuple, counts))) == len(found)


def test_values_before_the_first_finite_one_choose_nothing() -> None:
    at = np.arange(1, 41)
    values = np.where(at < 10, np.inf, 10.0 / at)
    assert np.isfinite(thresholds(default_targets(OWN, {8: (at, values), 16: (at, values)}, stops=True))).all()
