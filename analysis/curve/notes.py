"""What a fit says about itself in sentences: what was assumed, what is doubtful, what to measure next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bcrit.analysis.curve.likelihood import EXACT
from bcrit.analysis.curve.other_curves import clearly_better
from bcrit.analysis.wording import readable

if TYPE_CHECKING:
    from bcrit.analysis.curve.fit import HyperbolaFit

SPAN = (1 / 16, 2.5)
"""Batch sizes should reach from b_crit / 16 to 2.5 b_crit: fits within a factor 4 of a knee that is sharper than the
hyperbola's came out 10 to 45 % low (search-cost study, section 1)."""


def notes(fit: HyperbolaFit) -> tuple[str, ...]:
    """The sentences, the most serious first."""
    clauses = (_scatter, _identification, _bend, _better, _range, _rows)
    return (
        *(sentence for clause in clauses for sentence in clause(fit)),
        f"b_crit counts {fit.unit} and is the 2x point: twice the fewest steps and twice the fewest {fit.unit}. It "
        "belongs to this target and to this way of tuning.",
    )


def _scatter(fit: HyperbolaFit) -> Iterator[str]:
    if fit.sigma is None:
        yield (
            "Two batch sizes that reached the target determine a curve but not how far to trust it, so there is no "
            "interval and nothing is called identified; measure at least one batch size more, better four."
        )
    elif fit.sigma < EXACT:
        yield "The points lie on the curve to rounding, so intervals have no width: computed numbers, not measured."
    elif fit.degrees_of_freedom == 1:
        yield "Three batch sizes leave one degree of freedom, so the interval is very wide; measure six or more."


def _identification(fit: HyperbolaFit) -> Iterator[str]:
    if fit.sigma is None or fit.identified["b_crit"]:
        return
    if not fit.identified["s_min"]:
        bound = f" b_crit is above {readable(fit.b_crit_low)} {fit.unit}." if 0 < fit.b_crit_low < math.inf else ""
        yield (
            f"s_min is not identified: batch sizes up to {readable(max(fit.reached))} do not show where the steps "
            f"stop falling.{bound} Measure larger ones."
        )
    if not fit.identified["e_min"]:
        bound = f" b_crit is below {readable(fit.b_crit_high)} {fit.unit}." if 0 < fit.b_crit_high < math.inf else ""
        least = min(fit.reached)
        remedy = " Measure smaller ones." if least > 1 else f" There are no smaller ones: single {fit.unit} do as well."
        yield (
            f"e_min is not identified: batch sizes down to {readable(least)} do not show where the steps fall as "
            f"1/B.{bound}{remedy}"
        )
    if fit.identified["s_min"] and fit.identified["e_min"]:
        factor = readable(fit.b_crit_high / fit.b_crit_low)
        yield f"b_crit is not identified: its interval spans a factor {factor}. Measure more batch sizes."
    if fit.e_min == 0:
        yield (
            "The steps do not fall as the batch size grows: either all batch sizes lie on the plateau, or the larger "
            "ones were tuned less well than the small ones."
        )


def _bend(fit: HyperbolaFit) -> Iterator[str]:
    if not fit.lack_of_fit:
        return
    if fit.p_norm is None or fit.s_doubles_at is None or fit.e_doubles_at is None:
        yield "The points bend away from the curve by more than their scatter; look at the residuals first."
        return
    knee = "sharper" if fit.p_norm.p > 1 else "softer"
    yield (
        f"The knee is {knee} than the hyperbola's by more than the scatter (p = {fit.p_norm.p:.2g} instead of 1), so "
        f"that b_crit depends on its definition: steps are twice their minimum at {readable(fit.s_doubles_at)} "
        f"{fit.unit}, examples at {readable(fit.e_doubles_at)}, and the asymptotes cross at "
        f"{readable(fit.p_norm.b_crit)}."
    )


def _better(fit: HyperbolaFit) -> Iterator[str]:
    better = clearly_better(fit.models)
    if better is not None and not (fit.lack_of_fit and better[0].name == "p_norm"):  # the bend is named already
        model, difference = better
        yield (
            f"By the information criterion the points lie closer to S = {model.formula} "
            f"({model.name.replace('_', ' ')}; AICc lower by {readable(difference)}). The numbers here remain those of "
            "the hyperbola."
        )
    if fit.lack_of_fit and fit.n_censored:
        yield (
            "With a knee of another shape, b_crit also depends on which batch sizes reached the target (8 to 16 % "
            "lower where a sharp knee lacks its small ones); its interval is extended for that."
        )


def _range(fit: HyperbolaFit) -> Iterator[str]:
    low, high = SPAN[0] * fit.b_crit, SPAN[1] * fit.b_crit
    missing = [f"down to {readable(low)}"] if min(fit.reached) > low else []
    missing += [f"up to {readable(high)}"] if max(fit.reached) < high else []
    if fit.identified["b_crit"] and missing:
        yield (
            "On this range b_crit comes out 10 to 45 % too low if the true knee is sharper than the hyperbola's; batch "
            f"sizes {' and '.join(missing)} would guard against that."
        )


def _rows(fit: HyperbolaFit) -> Iterator[str]:
    censored = [readable(study.batch_size) for study in fit.studies if study.steps is None]
    if censored:
        use = "entered as bounds, steps > max_steps" if fit.degrees_of_freedom > 0 else "did not enter"
        yield f"Batch sizes that did not reach the target {use}: {', '.join(censored)}."
    if fit.rows_set_aside:
        count = len(fit.rows_set_aside)
        yield f"{count} row{'s were' if count > 1 else ' was'} set aside; `rows_set_aside` gives the reasons."
