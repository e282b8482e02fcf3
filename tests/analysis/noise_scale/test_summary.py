"""What a run says on gradient noise, from measurements with known scales."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.measured import measured, refuse_unmeasured
from bcrit.analysis.noise_scale.pooled import PooledScale
from bcrit.analysis.noise_scale.sentences import noise_sentences
from bcrit.analysis.noise_scale.summary import noise_scales
from bcrit.analysis.probed import probed
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TRIALS
from bcrit.search_spaces.target import Target
from tests.analysis.probed_runs import B_CRIT, SEEDS, SIZES, probed_run

MEASURED = ["tr_sigma", "g_sq", "tr_h_sigma", "g_h_g"]


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(probed_run(tmp_path_factory.mktemp("run") / "run"))


def test_scales_at_the_target_are_what_was_put_in(analysis: Run) -> None:
    scales = analysis.noise_scale
    assert scales is not None and scales.at_target is not None
    at = scales.at_target
    assert at.simple.n_runs == len(SIZES) * SEEDS
    assert at.simple.low is not None and at.simple.high is not None and at.noise.value is not None
    assert at.simple.low < 100.0 < at.simple.high < 1.2 * at.simple.low
    assert at.noise.value == pytest.approx(0.5 * (at.simple.value or 0.0), rel=1e-9)


def test_they_stand_beside_b_crit(analysis: Run) -> None:
    scales = analysis.noise_scale
    assert scales is not None and scales.simple_over_b_crit is not None
    ratio, low, high = scales.simple_over_b_crit
    assert low < 100 / B_CRIT < high and low < ratio < high


def test_the_temperature_is_that_of_the_pooled_averages(analysis: Run) -> None:
    scales = analysis.noise_scale
    assert scales is not None
    for point in scales.studies:
        assert point.batch_size is not None and point.noise.value is not None
        assert point.temperature == pytest.approx((1 + point.noise.value / point.batch_size) / 4.0)
    assert scales.at_target is not None and scales.at_target.temperature is None


def test_runs_of_one_seed_are_one_measurement_before_the_first_update(analysis: Run, tmp_path: Path) -> None:
    folder = probed_run(tmp_path / "run")
    rows = probed(folder, analysis.trials, analysis.studies, analysis.experiment)
    assert rows is not None
    start = rows[rows["step"] == 0].copy()
    one = start[start["batch_size"] == SIZES[0]]
    for batch_size in SIZES[1:]:  # all batch sizes start at one network
        start.loc[start["batch_size"] == batch_size, MEASURED] = one[MEASURED].to_numpy()
    found = [noise_scales(part, analysis.experiment, None) for part in (start, one)]
    every, alone = (scales.at_start for scales in found if scales is not None)
    assert every is not None and alone is not None
    assert every.simple == alone.simple and every.simple.n_runs == SEEDS


def test_scales_grow_along_training_with_the_loss_and_the_step(analysis: Run) -> None:
    scales = analysis.noise_scale
    assert scales is not None and scales.at_start is not None
    assert scales.at_start.simple.value == pytest.approx(10.0, rel=0.2)
    by_value = sorted((point.value, point.simple.value or 0.0) for point in scales.along_value)
    assert by_value[0][1] > 3 * by_value[-1][1]
    assert all(value * scale == pytest.approx(100.0, rel=0.35) for value, scale in by_value)
    sizes = {point.batch_size for point in scales.along_steps}
    assert sizes == set(SIZES)
    assert all(point.simple.n_runs == SEEDS for point in scales.along_steps)


def test_sentences_have_the_numbers_and_the_caution(analysis: Run) -> None:
    assert analysis.noise_scale is not None
    first, grown, heat, caution = noise_sentences(analysis.noise_scale, analysis.fit)
    assert first.startswith("At the target B_simple is ") and " times b_crit (" in first
    assert "Pooled over 16 runs of 4 batch sizes." in first
    assert grown.startswith("B_simple was ") and "times that at the target." in grown
    assert heat.startswith("The temperature of the tuned settings at the target (lr / (1 - momentum) over ")
    assert "at the 4 of 4 batch sizes where B_noise is resolved." in heat
    assert caution.startswith("Noise scales are a hint at the order of magnitude of b_crit")


def test_what_is_not_resolved_is_said_with_the_reason(analysis: Run) -> None:
    scales = analysis.noise_scale
    assert scales is not None and scales.at_target is not None
    at = replace(scales.at_target, simple=PooledScale(None, None, None, 16, "noise hides it"))
    first = noise_sentences(replace(scales, at_target=at, simple_over_b_crit=None), None)[0]
    assert first.startswith("At the target B_simple is not resolved: noise hides it; B_noise is ")
    assert first.endswith("There is no identified b_crit to compare with.")


def test_a_temperature_that_is_not_known_is_said(analysis: Run) -> None:
    scales = analysis.noise_scale
    assert scales is not None
    cold = tuple(replace(point, temperature=None) for point in scales.studies)
    heat = noise_sentences(replace(scales, studies=cold), analysis.fit)[2]
    assert "is not known, because it takes a resolved B_noise" in heat


def test_the_json_object_is_complete_and_plain(analysis: Run) -> None:
    found = json.loads(json.dumps(analysis.to_json(), allow_nan=False))
    scales = found["noise_scale"]
    assert set(scales["at_target"]["b_simple"]) == {"value", "low", "high", "n_runs", "reason"}
    assert set(scales["simple_over_b_crit"]) == {"ratio", "low", "high"}
    assert [point["batch_size"] for point in scales["studies"]] == list(SIZES)
    assert len(found["weight_distance"]["movements"]) == len(SIZES)


def test_another_target_takes_the_last_measurement_before_it(tmp_path: Path) -> None:
    folder = probed_run(tmp_path / "run")
    other = Run(folder, Target(metric="loss", threshold=5.0, direction=folder.read_experiment().target.direction))
    assert other.noise_scale is not None and other.noise_scale.at_target is not None
    assert 5.0 < other.noise_scale.at_target.value < 9.0


def test_a_run_without_probes_has_none_and_one_with_distances_has_no_noise(tmp_path: Path) -> None:
    without, distances = (
        Run(probed_run(tmp_path / name, measure)) for name, measure in (("a", ()), ("b", ("weight_distance",)))
    )
    assert (without.noise_scale, without.weight_distance) == (None, None)
    assert distances.noise_scale is None and distances.weight_distance is not None
    assert without.to_json()["noise_scale"] is None


def test_probes_are_no_metrics(tmp_path: Path) -> None:
    folder = probed_run(tmp_path / "run")
    missing = Target(metric="accuracy", threshold=0.5, direction=folder.read_experiment().target.direction)
    crossings, _ = measured(folder, folder.read(TRIALS).to_pandas(), missing, [missing])
    with pytest.raises(InputError, match=r"the run's metrics are loss$"):
        refuse_unmeasured(folder, crossings)
