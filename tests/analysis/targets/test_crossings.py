"""Targets that users may write, the default grid, crossings by the one rule, and how early noise makes them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.records.one_pass import Chunk
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.targets import measured
from bcrit.analysis.targets.crossings import (
    N_TARGETS,
    Crossings,
    Curve,
    Noise,
    default_targets,
    how_early,
    noise,
    noise_notes,
    read_targets,
)
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Direction, Target
from tests.analysis.folders import Made, experiment, measurement, write_run

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
        (["loss < 1 (smoothed)", "loss < 0.5"], "by one rule"),
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


VALUES = st.one_of(st.integers(0, 6).map(float), st.sampled_from([None, math.nan, math.inf, -math.inf]))
CURVES = st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=5)


def crossings(folder: RunFolder, trials: Sequence[str], wanted: Sequence[Target]) -> Crossings:
    return measured(folder, pd.DataFrame({"trial_id": trials, "batch_size": 8}), wanted[0], wanted, budgets={})[0]


def targets(direction: Direction, *thresholds: float) -> list[Target]:
    return [Target(metric="loss", threshold=threshold, direction=direction) for threshold in thresholds]


def chunks(curves: list[list[float | None]], first_step: int, cut: int) -> list[Chunk]:
    """Every curve's first `cut` rows, then the rest; rows without a value are in no chunk."""
    found = []
    for part in (slice(0, cut), slice(cut, None)):
        rows = []
        for trial, curve in enumerate(curves):
            known = [first_step + 3 * place for place, value in enumerate(curve) if value is not None]
            for place, value in list(enumerate(curve))[part]:
                step = first_step + 3 * place
                if value is not None:
                    rows.append((trial, step, max((other for other in known if other < step), default=0), value))
        if rows:
            trials, steps, before, values = (np.array(column) for column in zip(*rows, strict=True))
            starts = np.concatenate([[0], np.flatnonzero(np.diff(trials)) + 1])
            found.append(Chunk(trials, starts, steps, before, values.astype(float), None))
    return found


@settings(max_examples=300)
@given(CURVES, st.sampled_from(list(Direction)), st.sampled_from([0, 3]), st.integers(0, 12))
def test_the_one_rule_is_the_naive_twin(
    curves: list[list[float | None]], direction: Direction, first_step: int, cut: int
) -> None:
    found = Crossings.of(targets(direction, 2.0, 3.0, 3.5, 5.0), len(curves))
    for chunk in chunks(curves, first_step, cut):
        found.take(chunk)
    for trial, curve in enumerate(curves):
        evaluations = [(first_step + 3 * place, value) for place, value in enumerate(curve)]
        for column, target in enumerate(found.targets):
            twin = target.first_crossing(evaluations)
            expected = (math.nan, math.nan) if twin is None else (twin.steps, twin.steps_low)
            assert (found.steps[trial, column], found.steps_low[trial, column]) == pytest.approx(expected, nan_ok=True)
        best = found.targets[0].best(evaluations)
        assert found.best[trial] == pytest.approx(math.nan if best is None else best, nan_ok=True)


def test_a_trial_may_straddle_parts_and_jump_over_several_targets(tmp_path: Path) -> None:
    runs = {"a": Made(8, [(0, 5.0), (2, 4.0), (4, 0.5)]), "b": Made(8, [(0, 0.1), (1, 9.0), (5, 2.5), (6, 1.5)])}
    folder = write_run(tmp_path / "run", experiment([8]), runs, parts=3)
    found = crossings(folder, ["a", "b"], targets(Direction.MINIMIZE, 3.0, 2.0, 1.0))
    assert found.steps.tolist() == [[4, 4, 4], [5, 6, pytest.approx(math.nan, nan_ok=True)]]
    assert found.steps_low.tolist() == [[2, 2, 2], [1, 5, pytest.approx(math.nan, nan_ok=True)]]
    assert found.best.tolist() == [0.5, 1.5]
    assert found.at(targets(Direction.MINIMIZE, 2.0)[0]) == 1


def test_smoothed_crossings_are_those_of_the_target_also_where_a_window_straddles_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    made = {f"t{n}": [(s, float(30 / s + 0.3 * rng.random())) for s in range(0 + 1, 120, 1 + n)] for n in range(4)}
    smooth = targets(Direction.MINIMIZE, 1.0)[0].model_copy(update={"rule": "smoothed"})
    spec = experiment([8]).model_copy(update={"target": smooth})
    folder = write_run(tmp_path / "run", spec, {name: Made(8, curve) for name, curve in made.items()}, parts=5)
    wanted = tuple(spec.target.model_copy(update={"threshold": t}) for t in (2.0, 1.0, 0.6))
    found = crossings(folder, list(made), wanted)
    for row, curve in enumerate(made.values()):
        for column, target in enumerate(wanted):
            own = target.first_crossing(curve)
            assert own is not None
            assert (found.steps[row, column], found.steps_low[row, column]) == (own.steps, own.steps_low)
    plain = crossings(folder, list(made), targets(Direction.MINIMIZE, 2.0, 1.0, 0.6))
    assert (plain.steps != found.steps).any() and read_targets(["loss < 0.6"], spec.target) == wanted[2:]


def test_rows_that_come_in_the_wrong_order_make_no_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    curves = {f"t{n}": [(s, float(rng.random())) for s in range(1, 40)] for n in range(5)}
    wanted = targets(Direction.MINIMIZE, 0.5, 0.1, 0.02)
    good = write_run(tmp_path / "good", experiment([8]), {name: Made(8, curve) for name, curve in curves.items()})
    spec = experiment([8])
    bad = write_run(tmp_path / "bad", spec, {name: Made(8, curve[20:]) for name, curve in curves.items()})
    rows = [measurement(n, Made(8, c), s, v, spec) | {"loss": v} for n, c in curves.items() for s, v in c[:20]]
    bad.append(MEASUREMENTS, rows, 1)
    one, two = crossings(good, list(curves), wanted), crossings(bad, list(curves), wanted)
    np.testing.assert_array_equal(one.steps, two.steps)
    np.testing.assert_array_equal(one.steps_low, two.steps_low)
    np.testing.assert_array_equal(one.best, two.best)


def test_a_metric_that_is_measured_more_rarely_than_another_is_bounded_by_its_own_evaluations(tmp_path: Path) -> None:
    """train_loss every 2 steps, loss every 20: the loss crosses at 220 after 200, not after 218."""
    spec = experiment([8])
    folder = write_run(tmp_path / "run", spec, {"a": Made(8, [(1, 9.0)])})
    rows = [
        {"trial_id": "a", "step": s, "examples": 8 * s, "train_seconds": 0.0, "train_loss": 1.0}
        | ({"loss": 0.5 if s > 200 else 2.0} if s % 20 == 0 else {})
        for s in range(2, 302, 2)
    ]
    folder.append(MEASUREMENTS, rows, 1)
    found = crossings(folder, ["a"], targets(Direction.MINIMIZE, 1.0))
    assert (found.steps.item(), found.steps_low.item()) == (220, 200)


# --- how early noise makes a crossing ---

LOSS, ACCURACY = Target.model_validate("loss < 1"), Target.model_validate("accuracy > 0.5")


def crossed(rng: np.random.Generator, power: float, scatter: float) -> tuple[np.ndarray, np.ndarray]:
    """Evaluations 2 % of the step apart of a loss that is 1 at step 1,000, up to the first one below."""
    steps = np.unique((100 * 1.02 ** (np.arange(250) + rng.random())).astype(np.int64))
    loss = (steps / 1000) ** -power * np.exp(scatter * rng.standard_normal(len(steps)))
    end = int(np.argmax(loss < 1)) + 1
    return steps[:end], loss[:end]


@pytest.mark.parametrize("power", [1.0, 0.6, 0.3])
def test_what_is_estimated_before_a_crossing_is_how_early_it_was(power: float) -> None:
    rng = np.random.default_rng(0)
    runs = [crossed(rng, power, 0.05) for _ in range(200)]
    found = [each for run in runs if (each := noise(*run, LOSS)) is not None]
    assert len(found) == 200
    truly = 1 - math.exp(np.mean([math.log(steps[-1] / 1000) - 0.01 for steps, _ in runs]))
    assert np.median([each.scatter for each in found]) == pytest.approx(0.05, rel=0.1)
    assert np.median([each.early for each in found]) == pytest.approx(truly, abs=0.025)


def test_the_formula_has_its_limits() -> None:
    assert how_early(0.0, 0.02) == 0 and how_early(1e-9, 0.02) == pytest.approx(0, abs=1e-12)
    assert how_early(0.05, 0.005) > how_early(0.05, 0.02) > how_early(0.05, 0.1)  # a finer grid is worse
    assert [round(how_early(0.05 / power, math.log(1.02)), 3) for power in (1, 0.6, 0.3)] == [0.029, 0.066, 0.172]


def test_a_metric_that_rises_is_read_upside_down_and_too_little_says_nothing() -> None:
    steps = np.arange(50, 150)
    rising = 0.5 + 0.3 * np.log(steps / 120)
    found = noise(steps, rising + 0.01 * np.random.default_rng(0).standard_normal(100), ACCURACY)
    assert found is not None and found.scatter == pytest.approx(0.02, rel=0.3) and found.early > 0.01  # of 0.5
    exact = noise(steps, rising, ACCURACY)
    assert exact is not None and max(exact.scatter, exact.early) < 1e-3
    assert noise(steps[:4], rising[:4], ACCURACY) is None
    assert noise(steps, rising[::-1], ACCURACY) is None  # gets worse
    assert noise(steps, np.full(100, np.nan), ACCURACY) is None


def test_only_what_matters_is_said() -> None:
    assert list(noise_notes([None, Noise(0.01, 0.01)], ACCURACY)) == [] == list(noise_notes([], ACCURACY))
    (said,) = noise_notes([Noise(0.05, 0.18), None, Noise(0.07, 0.1)], ACCURACY)
    assert "scatter by 6 % about" in said and "too few by about 14 %" in said and f"'{ACCURACY} (smoothed)'" in said
