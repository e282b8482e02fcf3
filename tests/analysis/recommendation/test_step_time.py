from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.recommendation.step_time import fit_step_times, read_step_times
from search_spaces import InputError

B = np.array([8.0, 16, 32, 64])


def table(batch: object, seconds: object) -> pd.DataFrame:
    return pd.DataFrame({"batch_size": batch, "step_seconds": seconds})


def test_a_linear_step_time_is_recovered_and_extrapolated() -> None:
    times = fit_step_times(table(B, 0.01 + 0.002 * B))
    assert (times.c0, times.c1) == pytest.approx((0.01, 0.002))
    assert times.rms_relative_residual < 1e-12
    assert times.seconds([1, 24, 1000]) == pytest.approx([0.012, 0.058, 2.01])


def test_measured_times_are_kept_and_joined_continuously() -> None:
    seconds = np.array([0.03, 0.03, 0.05, 0.2])
    times = fit_step_times(table(B, seconds))
    assert times.seconds(B) == pytest.approx(seconds)
    assert times.seconds(24) == pytest.approx(0.04)
    assert times.seconds([7.999999, 64.000001]) == pytest.approx([0.03, 0.2], rel=1e-6)
    assert [times.source(b) for b in (8, 24, 7, 65)] == ["measured", "interpolated", "extrapolated", "extrapolated"]


def test_coefficients_are_never_negative() -> None:
    assert fit_step_times(table(B, 0.002 * B - 0.01)).c0 == 0
    assert fit_step_times(table(B, 1 / B)).c1 == 0


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_of_the_batch_size_does_not_matter(unit: float) -> None:
    times = fit_step_times(table(B * unit, [0.03, 0.03, 0.05, 0.2]))
    assert times.c1 * unit == pytest.approx(fit_step_times(table(B, [0.03, 0.03, 0.05, 0.2])).c1)


def test_repeats_enter_as_their_median_and_missing_times_not_at_all() -> None:
    times = fit_step_times(table([8, 8, 8, 16, 32], [1, 2, 9, 3, None]))
    assert times.step_seconds == (2, 3)


def test_wrong_tables_are_refused_with_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    path.write_text("batch_size,step_seconds\n8,0\n-16,1\n")
    with pytest.raises(InputError, match="row 2 has 0") as caught:
        read_step_times(path)
    assert "row 3 has -16" in str(caught.value)
    with pytest.raises(InputError, match="at 2 batch sizes or more are needed, but there are 1"):
        fit_step_times(table([8], [1.0]))
