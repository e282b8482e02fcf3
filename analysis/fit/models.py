"""Other curves than the hyperbola through the same points, and how well each does for its number of parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize

from bcrit.analysis.fit.p_norm import PNorm
from bcrit.analysis.fit.profile import Profile

Floats = npt.NDArray[np.float64]

CLEARLY = 6.0
"""Difference of AICc from which another model is called clearly better: it is then exp(3) = 20 times as likely to be
the closer one (Burnham and Anderson 2002, section 2.6, who call 4 to 7 "considerably less support")."""


@dataclass(frozen=True)
class Model:
    """A candidate curve, fitted as the hyperbola is.

    Attributes:
        name: `perfect_scaling`, `flat`, `hyperbola`, `p_norm` or `two_asymptotes`.
        formula: S as a function of B.
        parameters: by name.
        n_parameters: how many were fitted, with the scatter sigma.
        rms_log_residual: over the reached studies.
        aicc: -2 log likelihood + 2 k + 2 k (k + 1) / (m - k - 1) up to a constant, with k parameters and m reached
            studies (Hurvich and Tsai 1989); None where m < k + 2, too few to correct for.
        weight: Akaike weight among the models that have an AICc: exp(-difference / 2), scaled to a sum of 1.
    """

    name: str
    formula: str
    parameters: Mapping[str, float]
    n_parameters: int
    rms_log_residual: float
    aicc: float | None
    weight: float | None


def models(profile: Profile, best: float, p_norm: PNorm | None) -> tuple[Model, ...]:
    """Fit all candidates to the studies of the hyperbola's fit, unreached ones as bounds.

    They are shown beside the hyperbola and never used in its place: with fewer than a dozen points the criterion often
    cannot tell them apart, and a number that changes its meaning with the noise is no number.

    Args:
        profile: the hyperbola's likelihood.
        best: its log b_crit.
        p_norm: its fit; None where no knee is seen.

    Returns:
        The candidates, those with the fewest parameters first.
    """
    corner = replace(profile, p=math.inf)
    u = _corner(corner)
    curve, lines = profile.curve(best), corner.curve(u)
    found = [
        _model("perfect_scaling", "a / B", {"a": profile.curve(math.inf).e_min}, profile, math.inf),
        _model("flat", "c", {"c": profile.curve(-math.inf).s_min}, profile, -math.inf),
        _model("hyperbola", "s_min + e_min / B", {"s_min": curve.s_min, "e_min": curve.e_min}, profile, best),
        _model("two_asymptotes", "max(s_min, e_min / B)", {"s_min": lines.s_min, "e_min": lines.e_min}, corner, u),
    ]
    if p_norm is not None:
        numbers = {"s_min": p_norm.s_min, "e_min": p_norm.s_min * p_norm.b_crit, "p": p_norm.p}
        bent = replace(profile, p=p_norm.p)
        formula = "(s_min^p + (e_min / B)^p)^(1/p)"
        found.append(_model("p_norm", formula, numbers, bent, math.log(p_norm.b_crit)))
    return _weighted(found)


def clearly_better(candidates: Sequence[Model]) -> tuple[Model, float] | None:
    """The best model and its difference of AICc to the hyperbola; None unless that is more than `CLEARLY`."""
    known = {model.name: model.aicc for model in candidates if model.aicc is not None}
    if "hyperbola" not in known:
        return None
    best = min((model for model in candidates if model.aicc is not None), key=lambda model: known[model.name])
    difference = known["hyperbola"] - known[best.name]
    return (best, difference) if difference > CLEARLY else None


def _corner(profile: Profile) -> float:
    """The best u of the two straight lines: a scan, then a bounded search, because the likelihood has kinks in u."""
    grid, deviance = profile.scan
    i = int(np.clip(np.argmin(deviance), 1, len(grid) - 2))
    found = optimize.minimize_scalar(
        lambda u: float(profile.deviance(u)),
        bounds=(grid[i - 1], grid[i + 1]),
        method="bounded",
        options={"xatol": 1e-9},
    )
    candidates = [float(found.x), float(grid[i]), -math.inf, math.inf]
    return candidates[int(np.argmin(profile.deviance(candidates)))]


def _model(name: str, formula: str, parameters: Mapping[str, float], profile: Profile, u: float) -> Model:
    m, k = int(profile.reached.sum()), len(parameters) + 1
    residuals = (profile.log_steps - profile.offset(u) - profile.solve(u)[0])[profile.reached]
    aicc = float(profile.deviance(u)) + 2 * k + 2 * k * (k + 1) / (m - k - 1) if m > k + 1 else None
    return Model(name, formula, dict(parameters), k, float(np.sqrt((residuals**2).mean())), aicc, None)


def _weighted(candidates: Sequence[Model]) -> tuple[Model, ...]:
    least = min((model.aicc for model in candidates if model.aicc is not None), default=0.0)
    shares = [0.0 if model.aicc is None else math.exp((least - model.aicc) / 2) for model in candidates]
    return tuple(
        replace(model, weight=None if model.aicc is None else share / sum(shares))
        for model, share in zip(candidates, shares, strict=True)
    )
