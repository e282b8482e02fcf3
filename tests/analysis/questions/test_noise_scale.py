"""Gradient noise: pooling is a ratio of averages, and what a run says on measurements with known scales."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bcrit.analysis.numbers import Estimate
from bcrit.analysis.questions.noise_scale import NoiseScales, ask, noise_scales, noise_sentences, over, pool
from bcrit.analysis.report import Plot
from bcrit.analysis.run import Run
from bcrit.analysis.targets import measured, refuse_unmeasured
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TRIALS
from bcrit.search_spaces.target import Target
from tests.analysis.probed_runs import B_CRIT, SEEDS, SIZES, probed_run
from tests.analysis.report.runs import answered

MEASURED = ["tr_sigma", "g_sq", "tr_h_sigma", "g_h_g"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(probed_run(tmp_path_factory.mktemp("run") / "run"))


@pytest.fixture(scope="module")
def scales(run: Run) -> NoiseScales:
    return found_in(run)


def found_in(run: Run) -> NoiseScales:
    assert run.probed is not None
    found = noise_scales(run.probed, run.experiment, run.fit)
    assert found is not None
    return found


def test_scales_at_the_target_are_what_was_put_in(scales: NoiseScales) -> None:
    assert scales.at_target is not None
    at = scales.at_target
    assert at.simple.n == len(SIZES) * SEEDS
    assert at.simple.low is not None and at.simple.high is not None and at.noise.value is not None
    assert at.simple.low < 100.0 < at.simple.high < 1.2 * at.simple.low
    assert at.noise.value == pytest.approx(0.5 * (at.simple.value or 0.0), rel=1e-9)


def test_they_stand_beside_b_crit(scales: NoiseScales) -> None:
    assert scales.simple_over_b_crit is not None
    ratio = scales.simple_over_b_crit
    assert ratio.holds(100 / B_CRIT) and ratio.holds(ratio.value or 0.0)


def test_the_temperature_is_that_of_the_pooled_averages(scales: NoiseScales) -> None:
    for point in scales.studies:
        assert point.batch_size is not None and point.noise.value is not None
        assert point.temperature == pytest.approx((1 + point.noise.value / point.batch_size) / 4.0)
    assert scales.at_target is not None and scales.at_target.temperature is None


def test_runs_of_one_seed_are_one_measurement_before_the_first_update(run: Run) -> None:
    rows = run.probed
    assert rows is not None
    start = rows[rows["step"] == 0].copy()
    one = start[start["batch_size"] == SIZES[0]]
    for batch_size in SIZES[1:]:  # all batch sizes start at one network
        start.loc[start["batch_size"] == batch_size, MEASURED] = one[MEASURED].to_numpy()
    found = [noise_scales(part, run.experiment, None) for part in (start, one)]
    every, alone = (scales.at_start for scales in found if scales is not None)
    assert every is not None and alone is not None
    assert every.simple == alone.simple and every.simple.n == SEEDS


def test_scales_grow_along_training_with_the_loss_and_the_step(scales: NoiseScales) -> None:
    assert scales.at_start is not None
    assert scales.at_start.simple.value == pytest.approx(10.0, rel=0.2)
    by_value = sorted((point.value, point.simple.value or 0.0) for point in scales.along_value)
    assert by_value[0][1] > 3 * by_value[-1][1]
    assert all(value * scale == pytest.approx(100.0, rel=0.35) for value, scale in by_value)
    sizes = {point.batch_size for point in scales.along_steps}
    assert sizes == set(SIZES)
    assert all(point.simple.n == SEEDS for point in scales.along_steps)


def test_what_is_not_resolved_is_said_with_the_reason(scales: NoiseScales) -> None:
    assert scales.at_target is not None
    at = replace(scales.at_target, simple=Estimate(None, n=16, why="noise hides it"))
    first = noise_sentences(replace(scales, at_target=at, simple_over_b_crit=None), None)[0]
    assert first.startswith("At the target B_simple is not resolved: noise hides it; B_noise is ")
    assert first.endswith("There is no identified b_crit to compare with.")


def test_a_temperature_that_is_not_known_is_said(scales: NoiseScales) -> None:
    cold = tuple(replace(point, temperature=None) for point in scales.studies)
    heat = noise_sentences(replace(scales, studies=cold), None)[2]
    assert "is not known, because it takes a resolved B_noise" in heat


def test_another_target_takes_the_last_measurement_before_it(tmp_path: Path) -> None:
    folder = probed_run(tmp_path / "run")
    other = Run(folder, Target(metric="loss", threshold=5.0, direction=folder.read_experiment().target.direction))
    at = found_in(other).at_target
    assert at is not None and 5.0 < at.value < 9.0


def test_a_run_without_probes_has_none_and_one_with_distances_has_no_noise(tmp_path: Path) -> None:
    without, distances = (
        Run(probed_run(tmp_path / name, measure)) for name, measure in (("a", ()), ("b", ("weight_distance",)))
    )
    assert without.probed is None and without.to_json()["noise_scale"] is None
    for unprobed in (without, distances):
        assert "it takes 'noise_scale' in 'probes.measure'" in str(ask(unprobed))
    found = distances.to_json()
    assert found["noise_scale"] is None and found["weight_distance"] is not None


def test_probes_are_no_metrics(tmp_path: Path) -> None:
    folder = probed_run(tmp_path / "run")
    missing = Target(metric="accuracy", threshold=0.5, direction=folder.read_experiment().target.direction)
    crossings, _ = measured(folder, folder.read(TRIALS).to_pandas(), missing, [missing])
    with pytest.raises(InputError, match=r"the run's metrics are loss$"):
        refuse_unmeasured(folder, crossings)


def test_it_is_the_ratio_of_averages_and_not_the_average_of_ratios() -> None:
    found = pool([10.0, 12.0, 4.0], [1.0, 1.0, 0.5], ["a", "b", "c"])
    assert found.value == pytest.approx(26 / 2.5)


def test_measurements_of_one_run_are_one_independent_number() -> None:
    once = pool([10.0, 12.0, 9.0], [1.0, 1.1, 0.8], ["a", "b", "c"])
    twice = pool([5.0, 5.0, 6.0, 6.0, 4.5, 4.5], [0.5, 0.5, 0.55, 0.55, 0.4, 0.4], list("aabbcc"))
    assert twice.value == pytest.approx(once.value)
    assert [twice.low, twice.high] == pytest.approx([once.low, once.high])
    assert twice.n == 3


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator, inside = np.random.default_rng(0), 0
    for _ in range(400):
        above, below = 50 + 10 * generator.standard_normal(5), 1 + 0.15 * generator.standard_normal(5)
        found = pool(above, below, np.arange(5))
        assert found.low is not None and found.high is not None
        inside += found.low <= 50 <= found.high
    assert inside / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("above", "below", "why"),
    [
        ([], [], "it was not measured"),
        ([math.nan], [1.0], "it was not measured"),
        ([5.0, 5.0], [1.0, -2.0], "its mean denominator came out negative"),
        ([-5.0, 4.0], [1.0, 1.0], "its mean numerator came out negative"),
        ([5.0, 5.0, 5.0], [1.0, -0.9, 0.1], "over 3 runs its error is as large as itself"),
    ],
    ids=["nothing", "nan", "negative below", "negative above", "noise"],
)
def test_what_is_not_resolved_says_why(above: list[float], below: list[float], why: str) -> None:
    found = pool(above, below, np.arange(len(above)))
    assert (found.value, found.low, found.high) == (None, None, None)
    assert why in found.why


def test_one_run_has_a_value_and_no_interval() -> None:
    assert pool([10.0], [2.0], ["a"]) == Estimate(5.0, n=1, why="one run has no interval")


def test_the_interval_over_b_crit_holds_both_errors() -> None:
    found = over(Estimate(100.0, 50.0, 200.0), Estimate(50.0, 25.0, 100.0))
    assert found is not None and found.value == 2.0 and found.low is not None
    assert found.high == pytest.approx(2.0 * 2 ** math.sqrt(2)) == pytest.approx(4.0 / found.low)


def test_open_ends_stay_open() -> None:
    b_crit = Estimate(50.0, 25.0, 100.0)
    assert over(Estimate(100.0, 50.0, 200.0), Estimate(50.0)) == over(Estimate(100.0), b_crit) == Estimate(2.0)
    assert over(Estimate(None, n=3, why="noise"), b_crit) is None


def test_the_band_is_the_fitted_b_crit_and_goes_with_it(run: Run) -> None:
    assert run.fit is not None

    def bands(shown: Run) -> list[tuple[float, float]]:
        plots = [part for part in answered(ask, shown).parts if isinstance(part, Plot)]
        assert all(("Band: the fitted" in plot.caption) == bool(shown.fit) for plot in plots)
        return [(s["y0"], s["y1"]) for p in plots for s in p.figure["layout"]["shapes"] if s["type"] == "rect"]

    assert bands(run) == [(run.fit.b_crit_low, run.fit.b_crit_high)] * 2
    assert bands(run.but(fit=None)) == []
