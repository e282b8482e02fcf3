"""What is read from a pilot's runs; the mean of a noise scale along them is the critical batch size of the theory."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.numbers import Estimate
from bcrit.analysis.questions.pilot import Measured
from bcrit.analysis.questions.pilot.runs import measured, run_mean, spent, timings
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from tests.analysis.folders import SECONDS, Made, experiment, write_run


def runs(steps: list[float], scale: list[float], factors: tuple[float, ...] = (1.0,)) -> pd.DataFrame:
    """One run for each factor on its scale; |G|^2 falls along the runs."""
    return pd.DataFrame(
        [
            {"trial_id": f"r{r}", "step": s, "n": n * factor / (1 + s), "d": 1 / (1 + s)}
            for r, factor in enumerate(factors)
            for s, n in zip(steps, scale, strict=True)
        ]
    )


def mean(frame: pd.DataFrame, batch_size: float = 64) -> Estimate:
    return run_mean(frame, "n", "d", batch_size)


@pytest.mark.parametrize("batch_size", [1, 64, 10_000])
def test_a_constant_scale_is_its_own_mean_at_any_batch_size(batch_size: float) -> None:
    found = mean(runs([0, 1, 3, 40], [80.0] * 4), batch_size)
    assert found.value == pytest.approx(80) and found.n == 1
    assert (found.low, found.high, found.why) == (None, None, "one run has no interval")


@pytest.mark.parametrize("batch_size", [8, 64, 1024])
def test_a_growing_scale_gives_e_min_over_s_min_whatever_the_batch_size(batch_size: float) -> None:
    s = np.linspace(0, 100, 20_001)  # progress; s_min = 100, e_min = int (10 + 2 s) ds = 11,000
    scale = 10 + 2 * s
    steps = np.concatenate([[0], np.cumsum(np.diff(s) * (1 + (scale[1:] + scale[:-1]) / 2 / batch_size))])
    kept = slice(None, None, 100)
    found = mean(runs(list(steps[kept]), list(scale[kept])), batch_size)
    assert found.value == pytest.approx(110, rel=1e-3)


def test_it_is_a_ratio_of_averages() -> None:
    frame = runs([0, 10], [50.0, 50.0], (1.0, 1.0))
    frame.loc[frame["trial_id"] == "r1", ["n", "d"]] *= 3.0  # a run whose gradient is larger counts for more
    frame.loc[frame["trial_id"] == "r0", "n"] *= 2.0
    assert mean(frame).value == pytest.approx((100 * 1 + 50 * 3) / 4)


def test_the_interval_is_the_jackknife_s_over_runs() -> None:
    found = mean(runs([0, 10], [50.0, 50.0], (0.8, 1.0, 1.2)))
    left_out = np.log([50 * 1.1, 50 * 1.0, 50 * 0.9])
    half = 4.302653 * math.sqrt(2 / 3 * np.sum((left_out - left_out.mean()) ** 2))
    assert found.value == pytest.approx(50)
    assert found.low == pytest.approx(50 * math.exp(-half)) and found.high == pytest.approx(50 * math.exp(half))


def test_runs_that_end_at_different_steps_share_their_end() -> None:
    frame = pd.concat([runs([0, 10, 30], [40.0, 40.0, 40.0]), runs([0, 10, 50], [40.0, 40.0, 40.0], (1.0,))])
    frame["trial_id"] = ["a"] * 3 + ["b"] * 3
    assert mean(frame).value == pytest.approx(40)


def test_a_place_without_a_positive_gradient_is_passed_over() -> None:
    frame = runs([0, 5, 10], [50.0, 50.0, 50.0])
    frame.loc[frame["step"] == 5, "d"] = -1.0
    assert mean(frame).value == pytest.approx(50)


def test_an_end_without_a_positive_gradient_is_not_resolved() -> None:
    frame = runs([0, 5, 10], [50.0, 50.0, 50.0])
    frame.loc[frame["step"] == 10, "d"] = -1.0
    found = mean(frame)
    assert found.value is None and "noise hides the gradient" in found.why


def test_what_hangs_on_one_run_has_no_interval() -> None:
    frame = runs([0, 10], [50.0, 50.0], (1.0, 1.0))
    frame.loc[(frame["trial_id"] == "r1") & (frame["step"] == 10), "d"] = -0.01
    found = mean(frame)
    assert found.value is not None and found.low is None and found.why == "it hangs on a single run"


def probed_rows(last_g_h_g: float = 0.01) -> list[dict[str, Any]]:
    """Two runs with B_simple 40 and 80, B_noise 20 and 60, lr_max = |G|^2 / G'HG = 2 and then more."""
    found = []
    for name, factor in (("a", 1.0), ("b", 1.1)):
        for step, n, g, hn, gh in ((0, 40, 1.0, 10, 0.5), (10, 40, 1.0, 10, 0.5), (20, 8, 0.1, 0.6, last_g_h_g)):
            found.append(
                {
                    **{"trial_id": name, "batch_size": 64, "step": step, "crossing": 20, "value": 1.0 - step / 40},
                    **{"tr_sigma": n * factor, "g_sq": g, "tr_h_sigma": hn * factor, "g_h_g": gh, "lr_effective": 1.0},
                }
            )
    return found


def curve(steps: int, end: float = 0.9) -> list[tuple[int, float]]:
    return [(0, 5.0), (steps // 2, 2.0), (steps, end)]


MADE = {
    "a": Made(64, curve(40)),  # lr 0.1, 0.11, 0.12, 0.13
    "b": Made(64, curve(30)),
    "c": Made(64, curve(30)),
    "d": Made(64, [(0, 5.0), (1, math.nan)], outcome="diverged"),
    "e": Made(64, curve(34), repeats="b"),
    "f": Made(64, curve(50, 2.0), repeats="b"),
    "g": Made(64, curve(36), repeats="b"),
}


def read(path: Path, made: dict[str, Made] = MADE, **probed: float) -> Measured:
    spec = experiment([64], probes=["noise_scale"])
    run = Run(write_run(path / "run", spec, made))
    run = run.but(probed=pd.DataFrame(probed_rows(**probed)) if probed else None)
    return measured(run, "x.yaml", 4000, {"momentum": 0.9}, "", 64)


def test_what_was_tried_and_the_reruns_of_the_best_are_read(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert [one.steps_to_target for one in found.tried] == [40, 30, 30, None]
    assert [one.lr for one in found.tried] == pytest.approx([0.1, 0.11, 0.12, 0.13])
    assert found.tried[3].outcome == "diverged" and found.tried[3].steps == 1
    assert (found.lr, found.steps, found.steps_each) == (0.11, 36.0, (34, None, 36))  # the first of equals
    assert (found.batch_size, found.target, found.n_examples) == (64, "loss < 1", 4000)
    assert found.scales is None and found.simple.n == 3 and found.simple.why == "it was not measured"


def test_where_nothing_reaches_the_rate_with_the_best_metric_stands_for_all(tmp_path: Path) -> None:
    ends = {"a": 3.0, "b": 1.5, "c": 2.0}
    found = read(tmp_path, {name: Made(64, curve(30, end)) for name, end in ends.items()})
    assert found.lr == 0.11 and found.steps is None and found.steps_each == ()


def test_a_box_in_which_nothing_trains_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="(?s)x.yaml.*no learning rate from 0.1 to 0.1 trains at batch size 64.*move"):
        read(tmp_path, {"d": MADE["d"]})


def test_means_and_summary_are_those_of_their_functions(tmp_path: Path) -> None:
    found, frame = read(tmp_path, last_g_h_g=0.01), pd.DataFrame(probed_rows())
    assert found.simple == run_mean(frame, "tr_sigma", "g_sq", 64)
    assert found.noise == run_mean(frame, "tr_h_sigma", "g_h_g", 64)
    assert found.scales is not None and found.scales.at_target is not None
    assert found.scales.at_target.simple.value == pytest.approx(80 * 1.05)


@pytest.mark.parametrize(
    ("last_g_h_g", "heat"), [(0.01, (1 + 60 * 1.05 / 64) / 10), (-0.01, (1 + 20 * 1.05 / 64) / 2)], ids=str
)
def test_the_temperature_is_the_latest_known(tmp_path: Path, last_g_h_g: float, heat: float) -> None:
    assert read(tmp_path, last_g_h_g=last_g_h_g).temperature == pytest.approx(heat)


def test_an_update_is_timed_after_those_that_warm_up(tmp_path: Path) -> None:
    run = Run(write_run(tmp_path / "run", experiment([8, 16]), {"a": Made(8, curve(20)), "b": Made(16, [(1, 2.0)])}))
    [long, single] = timings(run)
    assert long.step_seconds == pytest.approx(SECONDS) and (long.batch_size, long.problem) == (8, "")
    assert single.step_seconds is None and single.problem == "The step budget ended before the target was reached."


def test_what_trials_took_is_added_up(tmp_path: Path) -> None:
    found = spent(Run(write_run(tmp_path / "run", experiment([64]), MADE)))
    steps = 40 + 30 + 30 + 1 + 34 + 50 + 36
    assert (found.steps, found.examples, found.probe_seconds) == (steps, 64 * steps, 0.0)
    assert found.seconds == pytest.approx(SECONDS * steps)
    assert found.plus(found).examples == 2 * found.examples
