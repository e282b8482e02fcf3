"""Whether the points bend away from the hyperbola by more than their own scatter."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

FALSE_ALARM_RATE = 0.05
"""Share of true hyperbolas that are flagged; measured 3 to 7 % for 5 to 8 studies and 3 or 10 % noise."""

NEGLIGIBLE = 0.005
"""A curve that misses the points by less than this (rms of log S) is never flagged: steps to target are known to about
1 % at best (evaluation interval), so the bend would be real but without consequence. Chosen, not studied."""


def lack_of_fit(log_batch: Floats, residuals: Floats, u: float) -> tuple[bool, float | None]:
    """Test the hyperbola against a sharper or softer knee: does the p-norm's next parameter explain the residuals?

    The added-variable F test of p = 1 in S = s_min (1 + (b_crit / B)^p)^(1/p): the derivative of log S with respect to
    p, q = z w - log(1 + e^z) with z = u - log B and w = 1 / (1 + e^-z), is freed of the derivatives with respect to
    (log s_min, log e_min), and F(1, n - 3) compares what it explains with what it leaves. Fitting p and comparing the
    two sums of squares has the same power (0.81 against 0.80 for p = 1.4, six studies, 3 % noise), but this form needs
    no second search and keeps the F distribution where p is hardly determined. At the limits of the curve (flat, or
    perfect scaling) the added variable is log B: it finds steps that rise with B, or fall faster than 1/B.

    Args:
        log_batch: log batch size of the reached studies; (n,).
        residuals: log(steps / curve); (n,).
        u: log b_crit of the curve; -inf and inf are its limits.

    Returns:
        (flag, p-value). (False, None) with too few studies: four, or three at a limit.
    """
    z = u - log_batch
    if math.isfinite(u):
        share = special.expit(z)
        model, added = np.stack([1 - share, share], axis=-1), z * share - np.logaddexp(0, z)
    else:
        model, added = np.ones((len(log_batch), 1)), log_batch
    freedom = len(log_batch) - model.shape[1] - 1
    if freedom < 1:
        return False, None
    basis, _ = np.linalg.qr(model / np.linalg.norm(model, axis=0))
    added, rest = (vector - basis @ (basis.T @ vector) for vector in (added, residuals))
    total, length = float(rest @ rest), float(added @ added)
    share_left = 1 - float(added @ rest) ** 2 / (total * length) if total * length > 0 else 1.0
    # The upper tail of F(1, f) at F = f (1 - s) / s, s being the share left, without a division by s.
    p_value = float(special.betainc(freedom / 2, 0.5, max(share_left, 0.0)))
    rms = math.sqrt(float((residuals**2).mean()))
    return p_value < FALSE_ALARM_RATE and rms > NEGLIGIBLE, p_value
