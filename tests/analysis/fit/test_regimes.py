from __future__ import annotations

import math
from dataclasses import astuple

import pandas as pd
import pytest

from bcrit.analysis.fit.estimate import fit_hyperbola
from bcrit.analysis.fit.hyperbola import Hyperbola
from bcrit.analysis.fit.landmarks import Knee, Place
from bcrit.analysis.fit.p_norm import PNorm
from bcrit.analysis.fit.regimes import Regime, regimes, sentence

SIZES = (4.0, 18.0, 64.0, 380.0, 1000.0)


def test_every_batch_size_gets_its_regime_and_those_within_an_interval_none() -> None:
    found = regimes(Knee(Place(100, 80, 125)), SIZES)
    assert astuple(found.perfect_scaling_ends) == pytest.approx((20, 16, 25))
    assert astuple(found.plateau_begins) == pytest.approx((400, 320, 500))
    assert [regime for _, regime in found.studies] == [
        Regime.PERFECT_SCALING,
        Regime.UNCERTAIN,
        Regime.DIMINISHING_RETURNS,
        Regime.UNCERTAIN,
        Regime.PLATEAU,
    ]


def test_the_boundaries_are_what_they_say() -> None:
    found = regimes(Knee(Place(100, 80, 125)), ())
    curve = Hyperbola(10, 1000)
    assert curve.examples(found.perfect_scaling_ends.batch_size or 0) == pytest.approx(1.2 * 1000)
    begins = found.plateau_begins.batch_size or 0
    assert curve.steps(2 * begins) == pytest.approx(0.9 * float(curve.steps(begins)))


def test_a_sharper_knee_has_a_narrower_middle() -> None:
    soft, sharp = (regimes(PNorm(70, 100, p, 0).knee(0.95), ()) for p in (1.0, 3.0))
    assert (sharp.perfect_scaling_ends.batch_size or 0) > (soft.perfect_scaling_ends.batch_size or 0)
    assert (sharp.plateau_begins.batch_size or 0) < (soft.plateau_begins.batch_size or 0)


def test_a_bound_on_one_side_classifies_only_that_side() -> None:
    above = regimes(Knee(Place(None, 1000, math.inf)), (100.0, 300.0, 10_000.0))
    assert [regime for _, regime in above.studies] == [Regime.PERFECT_SCALING, Regime.UNCERTAIN, Regime.UNCERTAIN]
    below = regimes(Knee(Place(None, 0, 1000)), (1.0, 3000.0, 10_000.0))
    assert [regime for _, regime in below.studies] == [Regime.UNCERTAIN, Regime.UNCERTAIN, Regime.PLATEAU]
    assert above.perfect_scaling_ends.batch_size is None


def test_a_plateau_that_begins_below_all_that_was_measured_is_said_of_what_was_measured() -> None:
    for steps in ([100.0] * 6, [100.0, 101, 99, 100, 101, 98]):
        rows = pd.DataFrame({"batch_size": [8, 16, 32, 64, 128, 256], "steps": steps})
        found = fit_hyperbola(rows).regimes()
        assert sentence(found) == "All batch sizes lie on the plateau, from the smallest, 8, on."
