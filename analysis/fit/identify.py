"""Whether the data determine s_min, e_min and b_crit, or only bound them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bcrit.analysis.fit.hyperbola import Hyperbola

WIDEST = 10.0
"""A number whose interval is wider than this ratio is not identified: its decade is unknown. Chosen, not studied."""

REACH = 1.5
"""The batch sizes must come within this factor of b_crit from the side that a number is read from, so that at least two
fifths of S (for s_min) or of E (for e_min) is the number itself and not extrapolation. Chosen by simulation (6 and 8
batch sizes a factor 2 apart, 3 and 10 % noise): of true hyperbolas whose largest batch size is b_crit, 82 to 100 % are
identified; where it is b_crit / 2, 0 to 17 % (28 to 51 % at a factor 2, which is a coin's toss there); where it is
b_crit / 4, 0 to 2 %; where it is b_crit / 8 or less, at most 1.5 % even at 20 % noise."""


def identify(
    curve: Hyperbola,
    b_crit_interval: tuple[float, float],
    log_half_widths: tuple[float, float],
    reached: tuple[float, float],
) -> Mapping[str, bool]:
    """Apply the two rules: an interval closed on the side that matters and not too wide, and batch sizes that reach.

    s_min lies beyond the largest batch sizes, e_min beyond the smallest. If b_crit's interval is open above, then
    s_min = 0 (perfect scaling) fits as well; if it is open below, e_min = 0 (flat) does. b_crit = e_min / s_min needs
    both.

    Args:
        curve: the estimate.
        b_crit_interval: (low, high) in examples; 0 and inf are open ends.
        log_half_widths: half the interval's width of (log s_min, log e_min); inf where unknown.
        reached: smallest and largest batch size with a reached study.

    Returns:
        `s_min`, `e_min`, `b_crit` -> whether it is identified.
    """
    low, high = b_crit_interval
    smallest, largest = reached
    widest = math.log(WIDEST)
    s_min = high < math.inf and 2 * log_half_widths[0] < widest and largest * REACH >= curve.b_crit
    e_min = low > 0 and 2 * log_half_widths[1] < widest and smallest <= REACH * curve.b_crit
    return {"s_min": s_min, "e_min": e_min, "b_crit": s_min and e_min and high < WIDEST * low}
