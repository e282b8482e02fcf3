"""What a fit says about itself in sentences: what was assumed, what is doubtful, what to measure next."""

from __future__ import annotations

import math

from bcrit.analysis.fit.models import clearly_better
from bcrit.analysis.fit.profile import EXACT
from bcrit.analysis.fit.result import HyperbolaFit
from bcrit.analysis.wording import readable

SPAN = (1 / 16, 2.5)
"""Batch sizes should reach from b_crit / 16 to 2.5 b_crit: fits within a factor 4 of a knee that is sharper than the
hyperbola's came out 10 to 45 % low (search-cost study, section 1)."""


def notes(fit: HyperbolaFit) -> tuple[str, ...]:
    """The sentences, the most serious first."""
    return tuple([*_scatter(fit), *_identification(fit), *_shape(fit), *_range(fit), *_rows(fit), _definition(fit)])


def _scatter(fit: HyperbolaFit) -> list[str]:
    if fit.sigma is None:
        return [
            "Two batch sizes that reached the target determine a curve but not how far to trust it, so there is no "
            "interval and nothing is called identified; measure at least one batch size more, better four."
        ]
    if fit.sigma < EXACT:
        return ["The points lie on the curve to rounding, so intervals have no width: computed numbers, not measured."]
    if fit.degrees_of_freedom == 1:
        return ["Three batch sizes leave one degree of freedom, so the interval is very wide; measure six or more."]
    return []


def _identification(fit: HyperbolaFit) -> list[str]:
    if fit.sigma is None or fit.identified["b_crit"]:
        return []
    found = []
    if not fit.identified["s_min"]:
        bound = f" b_crit is above {readable(fit.b_crit_low)} {fit.unit}." if 0 < fit.b_crit_low < math.inf else ""
        found.append(
            f"s_min is not identified: batch sizes up to {readable(max(fit.reached))} do not show where the steps "
            f"stop falling.{bound} Measure larger ones."
        )
    if not fit.identified["e_min"]:
        bound = f" b_crit is below {readable(fit.b_crit_high)} {fit.unit}." if 0 < fit.b_crit_high < math.inf else ""
        least = min(fit.reached)
        remedy = " Measure smaller ones." if least > 1 else f" There are no smaller ones: single {fit.unit} do as well."
        found.append(
            f"e_min is not identified: batch sizes down to {readable(least)} do not show where the steps fall as "
            f"1/B.{bound}{remedy}"
        )
    if not found:
        factor = readable(fit.b_crit_high / fit.b_crit_low)
        found.append(f"b_crit is not identified: its interval spans a factor {factor}. Measure more batch sizes.")
    if fit.e_min == 0:
        found.append(
            "The steps do not fall as the batch size grows: either all batch sizes lie on the plateau, or the larger "
            "ones were tuned less well than the small ones."
        )
    return found


def _shape(fit: HyperbolaFit) -> list[str]:
    return [*_bend(fit), *_better(fit), *_unreached_and_bent(fit)]


def _better(fit: HyperbolaFit) -> list[str]:
    better = clearly_better(fit.models)
    if better is None or (fit.lack_of_fit and better[0].name == "p_norm"):
        return []  # the bend is named already
    model, difference = better
    return [
        f"By the information criterion the points lie closer to S = {model.formula} ({model.name.replace('_', ' ')}; "
        f"AICc lower by {readable(difference)}). The numbers here remain those of the hyperbola."
    ]


def _unreached_and_bent(fit: HyperbolaFit) -> list[str]:
    if not (fit.lack_of_fit and fit.n_censored):
        return []
    return [
        "With a knee of another shape, b_crit also depends on which batch sizes reached the target (8 to 16 % lower "
        "where a sharp knee lacks its small ones); its interval is extended for that."
    ]


def _bend(fit: HyperbolaFit) -> list[str]:
    if not fit.lack_of_fit:
        return []
    if fit.p_norm is None or fit.s_doubles_at is None or fit.e_doubles_at is None:
        return ["The points bend away from the curve by more than their scatter; look at the residuals first."]
    knee = "sharper" if fit.p_norm.p > 1 else "softer"
    return [
        f"The knee is {knee} than the hyperbola's by more than the scatter (p = {fit.p_norm.p:.2g} instead of 1), so "
        f"that b_crit depends on its definition: steps are twice their minimum at {readable(fit.s_doubles_at)} "
        f"{fit.unit}, examples at {readable(fit.e_doubles_at)}, and the asymptotes cross at "
        f"{readable(fit.p_norm.b_crit)}."
    ]


def _range(fit: HyperbolaFit) -> list[str]:
    if not fit.identified["b_crit"]:
        return []
    low, high = SPAN[0] * fit.b_crit, SPAN[1] * fit.b_crit
    missing = []
    if min(fit.reached) > low:
        missing.append(f"down to {readable(low)}")
    if max(fit.reached) < high:
        missing.append(f"up to {readable(high)}")
    if not missing:
        return []
    return [
        "On this range b_crit comes out 10 to 45 % too low if the true knee is sharper than the hyperbola's; batch "
        f"sizes {' and '.join(missing)} would guard against that."
    ]


def _rows(fit: HyperbolaFit) -> list[str]:
    found = []
    censored = [readable(study.batch_size) for study in fit.studies if study.steps is None]
    if censored:
        use = "entered as bounds, steps > max_steps" if fit.degrees_of_freedom > 0 else "did not enter"
        found.append(f"Batch sizes that did not reach the target {use}: {', '.join(censored)}.")
    if fit.rows_set_aside:
        count = len(fit.rows_set_aside)
        found.append(f"{count} row{'s were' if count > 1 else ' was'} set aside; `rows_set_aside` gives the reasons.")
    return found


def _definition(fit: HyperbolaFit) -> str:
    return (
        f"b_crit counts {fit.unit} and is the 2x point: twice the fewest steps and twice the fewest {fit.unit}. It "
        "belongs to this target and to this way of tuning."
    )
