"""Whether the points bend away from the hyperbola by more than their own scatter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

FALSE_ALARM_RATE = 0.05
"""Share of true hyperbolas that are flagged; measured 3 to 7 % for 5 to 11 studies and 3 or 10 % noise."""

NEGLIGIBLE = 0.005
"""A curve that misses the points by less than this (rms of log S) is never flagged: steps to target are known to about
1 % at best (evaluation interval), so the bend would be real but without consequence. Chosen, not studied."""


@dataclass(frozen=True)
class Bend:
    """The points' departure from the hyperbola in the direction in which its knee sharpens.

    Attributes:
        coefficient: estimate of p - 1 by the linearised p-norm; at a limit of the curve the slope left in log B.
        share_left: residual sum of squares with the bend over that without, in [0, 1].
        freedom: degrees of freedom with the bend, at least one.
    """

    coefficient: float
    share_left: float
    freedom: int

    @property
    def p_value(self) -> float:
        """Upper tail of F(1, f) at F = f (1 - s) / s, s being the share left, without a division by s."""
        return float(special.betainc(self.freedom / 2, 0.5, self.share_left))


def directions(log_batch: Floats, u: float) -> tuple[Floats, Floats]:
    """Derivatives of log S at the hyperbola: with respect to (log s_min, log e_min), and to p.

    In S = s_min (1 + (b_crit / B)^p)^(1/p) with z = u - log B and w = 1 / (1 + e^-z), d log S / d log s_min = 1 - w,
    d log S / d log e_min = w, and at p = 1 d log S / d p = z w - log(1 + e^z).

    Args:
        log_batch: log batch size; (n,).
        u: log b_crit, finite.

    Returns:
        (n, 2) and (n,).
    """
    z = u - log_batch
    share = special.expit(z)
    return np.stack([1 - share, share], axis=-1), z * share - np.logaddexp(0, z)


def bend(log_batch: Floats, residuals: Floats, u: float) -> Bend | None:
    """Regress the residuals on the p-norm's next parameter.

    The derivative of log S with respect to p is freed of those with respect to (log s_min, log e_min). At the limits of
    the curve (flat, or perfect scaling) the added variable is log B: it finds steps that rise with B, or fall faster
    than 1/B.

    Args:
        log_batch: log batch size of the reached studies; (n,).
        residuals: log(steps / curve); (n,).
        u: log b_crit of the curve; -inf and inf are its limits.

    Returns:
        The bend; None with too few studies: fewer than four, or than three at a limit.
    """
    model, added = directions(log_batch, u) if math.isfinite(u) else (np.ones((len(log_batch), 1)), log_batch)
    freedom = len(log_batch) - model.shape[1] - 1
    if freedom < 1:
        return None
    # Columns of very different length are one direction only; scaled, they are two.
    basis, _ = np.linalg.qr(model / np.linalg.norm(model, axis=0))
    added, rest = (vector - basis @ (basis.T @ vector) for vector in (added, residuals))
    total, length, along = float(rest @ rest), float(added @ added), float(added @ rest)
    if total * length == 0:
        return Bend(0.0, 1.0, freedom)
    return Bend(along / length, max(1 - along**2 / (total * length), 0.0), freedom)


def lack_of_fit(found: Bend | None, rms_log_residual: float) -> bool:
    """The flag: an added-variable F test of p = 1, at `FALSE_ALARM_RATE`, and a misfit that is not `NEGLIGIBLE`.

    F(1, n - 3) compares what the bend explains with what it leaves. Fitting p and comparing the two sums of squares has
    the same power (0.81 against 0.80 for p = 1.4, six studies, 3 % noise), but this form needs no second search and
    keeps the F distribution where p is hardly determined. Share of 250 simulated curves that is flagged, on 5, 8 and 11
    batch sizes from b_crit / 16 to 8 b_crit:

        truth                                3 % noise          10 % noise
        hyperbola (false alarms)             .06  .06  .04      .07  .06  .05
        p = 1.4                              .55  .97  1.0      .10  .20  .26
        p = 2                                .87  1.0  1.0      .24  .59  .78
        p = 0.6                              .77  1.0  1.0      .16  .36  .56
        steps fall as B^-1.2 at small B      .20  1.0  1.0      .22  .48  .68
        steps rise as B^0.1 at large B       .25  .71  .86      .07  .14  .16

    Unreached studies do not join: their bounds lie far below the curve, which says nothing about its bend.

    Args:
        found: from `bend`.
        rms_log_residual: of the curve.
    """
    return found is not None and found.p_value < FALSE_ALARM_RATE and rms_log_residual > NEGLIGIBLE
