"""The intervals of the three numbers have one owner, which the report and the comparison both ask."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.comparison import StepsTable
from bcrit.analysis.comparison.source import run_of
from bcrit.analysis.fit.estimate import fit_hyperbola
from bcrit.analysis.fit.result import WIDEST
from bcrit.analysis.questions.fit import key_numbers
from bcrit.analysis.wording import readable

SIZES = 8 * 2.0 ** np.arange(8)
TABLE = pd.DataFrame({"batch_size": SIZES, "steps": (50 + 6000 / SIZES) * np.exp(0.05 * np.sin(9 * SIZES))})


@pytest.mark.parametrize(("place", "name"), [(0, "s_min"), (1, "e_min")])
def test_an_interval_is_students_t_around_the_logarithm(place: int, name: str) -> None:
    fit = fit_hyperbola(TABLE)
    assert fit.covariance is not None
    low, high = fit.interval(name)
    assert math.log(high / low) / 2 == pytest.approx(fit.t * math.sqrt(fit.covariance[place][place]))
    assert math.sqrt(low * high) == pytest.approx(getattr(fit, name))


def test_report_and_comparison_show_the_same_ends() -> None:
    fit, run = fit_hyperbola(TABLE), run_of(StepsTable("steps.csv", TABLE))
    for number in key_numbers(fit, "loss < 1"):
        low, high = fit.interval(number.symbol)
        assert number.interval == f"95 % interval: {readable(low)} to {readable(high)}"
        assert (run.estimates[number.symbol].low, run.estimates[number.symbol].high) == (low, high)


def test_an_interval_that_is_too_wide_or_around_a_limit_is_open() -> None:
    scaling = fit_hyperbola(TABLE.assign(steps=6000 / SIZES))
    assert scaling.s_min == 0 and scaling.interval("s_min") == (0, math.inf)
    three = fit_hyperbola(TABLE.iloc[[0, 1, 3]].assign(steps=[800.0, 600.0, 150.0]))
    assert three.covariance is not None
    assert 2 * three.t * math.sqrt(three.covariance[0][0]) > math.log(WIDEST)
    assert three.interval("s_min") == (0, math.inf)


def test_without_degrees_of_freedom_there_is_no_interval() -> None:
    assert fit_hyperbola(TABLE.iloc[:2]).interval("e_min") == (0, math.inf)
