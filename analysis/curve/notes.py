"""What a fit says of itself: what was assumed, what uneven tuning does, what is doubtful, what to measure next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bcrit.analysis.curve.landmarks import place
from bcrit.analysis.curve.likelihood import EXACT, Profile, Valley, minimise
from bcrit.analysis.curve.other_curves import U_FORMULA, clearly_better, fit_u_shape
from bcrit.analysis.curve.table import fewest_below
from bcrit.analysis.numbers import Estimate, readable

if TYPE_CHECKING:
    from bcrit.analysis.curve import HyperbolaFit

CLOSE = 1.01
"""A b_crit within this factor of an interval agrees with it, since the points may be exact. Chosen, not studied."""


@dataclass(frozen=True)
class Boxes:
    """Studies whose best setting lies at an edge of its search box, and what they do to the fit."""

    batch_sizes: tuple[float, ...]  # theirs, those that did not reach among them
    edges: tuple[str, ...]  # "lr high"
    b_crit: Estimate  # of the other studies alone
    # Whether they decide: the other studies identify less, see no U, or b_crit lies outside of the interval they give.
    decide: bool


def boxes_that_bind(
    fit: HyperbolaFit, identified: Mapping[str, bool], at_edge: Mapping[float, str], inside: HyperbolaFit | None
) -> Boxes:
    """Judge a fit by that to the studies inside their boxes, which is None where they are too few."""
    low, high = (0.0, math.inf) if inside is None else inside.interval("b_crit")
    known = inside.b_crit if inside is not None and inside.identified["b_crit"] else None
    decide = inside is None or any(to_all > inside.identified[name] for name, to_all in identified.items())
    decide = decide or (known is not None and not low / CLOSE <= fit.b_crit <= high * CLOSE)
    decide = decide or (inside is not None and fit.trough is not None and inside.trough is None)
    edges = tuple(dict.fromkeys(", ".join(at_edge.values()).split(", ")))
    return Boxes(tuple(at_edge), edges, place(known, low, high), decide)


BETTER = 0.1
"""What `better_tuned` supposes. With tuning 10 % behind at 8 b_crit, 95 % intervals held the truth in 70 % of simulated
studies with five batch sizes and in a quarter of those with ten (3 % noise)."""


def better_tuned(profile: Profile, b_crit: float) -> float | None:
    """b_crit if the largest batch size took a share `BETTER` fewer steps, with log B less, and none at b_crit.

    None where none lies above. `profile` is that of the curve which is used.
    """
    largest = float(profile.log_batch[profile.reached].max())
    beyond = profile.log_batch - math.log(b_crit)
    if largest <= math.log(b_crit):
        return None
    share = np.clip(beyond / (largest - math.log(b_crit)), 0, 1)
    better = replace(profile, log_steps=profile.log_steps + np.log1p(-BETTER * share))
    if isinstance(profile.shape, Valley):
        u_shape = fit_u_shape(better)
        return None if u_shape is None else u_shape.curve.b_crit
    found = better.curve(minimise(better)).b_crit
    return found if 0 < found < math.inf else None


SCATTER = 0.1
"""Standard deviation of log S from which scatter is told. Seeds and searches leave 3 to 10 % (search-cost study)."""

SPAN = (1 / 16, 2.5)
"""Batch sizes should reach from b_crit / 16 to 2.5 b_crit: fits within a factor 4 of a knee that is sharper than the
hyperbola's came out 10 to 45 % low (search-cost study, section 1)."""


def notes(fit: HyperbolaFit) -> tuple[str, ...]:
    """What was assumed, what is doubtful, what to measure next: sentences, the most serious first."""
    clauses = (_scatter, of_boxes, _rise, _identification, _bend, _range, _rows, _tuning)
    of_steps = "twice the fewest steps and " if fit.trough is None else "beyond b_opt, "
    return (
        *(sentence for clause in clauses for sentence in clause(fit)),
        f"b_crit counts {fit.unit} and is the 2x point: {of_steps}twice the fewest {fit.unit}. It "
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
    elif fit.sigma >= SCATTER and not fit.lack_of_fit:
        yield (
            f"The points scatter about the curve by {readable(100 * fit.sigma)} %. That they do not bend away from it "
            "says nothing against that: repeat with more seeds, or search longer."
        )


def of_boxes(fit: HyperbolaFit) -> Iterator[str]:
    """What boxes that bind do to b_crit."""
    boxes = fit.boxes
    if boxes is None:
        return
    sizes = ", ".join(map(readable, boxes.batch_sizes))
    where = f"At batch size {sizes} the best setting lies at the edge of its search box ({', '.join(boxes.edges)})"
    others = "the other batch sizes do not determine it"
    if boxes.b_crit.known or boxes.b_crit.interval() != "no interval":
        others = f"by the other batch sizes alone it is {boxes.b_crit.text()}"
    if boxes.decide:
        yield f"b_crit is not identified, since the search boxes decide it. {where}; {others}. Widen them."
    else:
        yield f"{where}, so that fewer steps may be possible there. b_crit hardly hangs on that: {others}."


def _rise(fit: HyperbolaFit) -> Iterator[str]:
    if fit.trough is None:
        return
    least, largest = min(fit.reached), max(fit.reached)
    fewest, at_least = fit.curve.efficiency([min(fit.curve.b_opt, largest), least]).tolist()
    more = readable(100 * (fewest / at_least - 1))
    rise = f"Below b_opt = {readable(fit.curve.b_opt)} the {fit.unit} to the target rise again: train no smaller"
    causes = (
        " Usual causes are beta2, eps, weight decay or warm-up that are not tuned at small batch sizes; tune them "
        "there and see whether the rise remains."
    )
    if fit.boxes is not None and fit.boxes.decide:
        rise = f"The {fit.unit} to the target rise again at small batch sizes, from where is up to the search boxes"
        causes = ""
    elif fit.b_opt is None:
        rise = f"The {fit.unit} to the target still fall at batch size {readable(largest)}, so b_opt is not identified"
    yield (
        f"{rise}. At batch size {readable(least)} they are {more} % more. The curve used is S = {U_FORMULA}, not the "
        f"hyperbola.{causes}"
    )


def _identification(fit: HyperbolaFit) -> Iterator[str]:
    if fit.sigma is None or fit.identified["b_crit"] or (fit.boxes is not None and fit.boxes.decide):
        return
    if not fit.identified["s_min"]:
        bound = f" b_crit is above {readable(fit.b_crit_low)} {fit.unit}." if 0 < fit.b_crit_low < math.inf else ""
        yield (
            f"s_min is not identified: batch sizes up to {readable(max(fit.reached))} do not show where the steps "
            f"stop falling.{bound} Measure larger ones."
        )
    if not fit.identified["e_min"] and fit.trough is None:
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
    if fit.lack_of_fit and (fit.p_norm is None or fit.s_doubles_at is None or fit.e_doubles_at is None):
        yield "The points bend away from the curve by more than their scatter; look at the residuals first."
    elif fit.lack_of_fit and fit.p_norm and fit.s_doubles_at and fit.e_doubles_at:
        yield (
            f"The knee is {'sharper' if fit.p_norm.p > 1 else 'softer'} than the hyperbola's by more than the scatter "
            f"(p = {fit.p_norm.p:.2g} instead of 1), so that b_crit depends on its definition: steps are twice their "
            f"minimum at {readable(fit.s_doubles_at)} {fit.unit}, examples at {readable(fit.e_doubles_at)}, and the "
            f"asymptotes cross at {readable(fit.p_norm.b_crit)}."
        )
    better = clearly_better(fit.models) if fit.trough is None else None
    # The bend is named already, and a U that does not rise is a sharp knee.
    if better is not None and not (fit.lack_of_fit and better[0].name in ("p_norm", "u_shape")):
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
    if fit.identified["b_crit"] and missing and fit.trough is None:
        yield (
            "On this range b_crit comes out 10 to 45 % too low if the true knee is sharper than the hyperbola's; batch "
            f"sizes {' and '.join(missing)} would guard against that."
        )


def _rows(fit: HyperbolaFit) -> Iterator[str]:
    censored = [readable(study.batch_size) for study in fit.studies if study.steps is None]
    if censored:
        use = "entered as bounds, steps > max_steps" if fit.degrees_of_freedom > 0 else "did not enter"
        yield f"Batch sizes that did not reach the target {use}: {', '.join(censored)}."
    for study, best in zip(fit.studies, fewest_below(fit.studies), strict=True):
        if study.max_steps is not None and best is not None and (best.steps or 0.0) < study.max_steps:
            yield (
                f"Batch size {readable(study.batch_size)} did not reach the target in {readable(study.max_steps)} "
                f"steps, though {readable(best.batch_size)} did in {readable(best.steps or 0.0)}: a larger batch that "
                "is tuned as well needs no more, so look at its search before you trust the curve, which it pulls up."
            )
    if fit.rows_set_aside:
        count = len(fit.rows_set_aside)
        yield f"{count} row{'s were' if count > 1 else ' was'} set aside; `rows_set_aside` gives the reasons."


def _tuning(fit: HyperbolaFit) -> Iterator[str]:
    if fit.b_crit_if_better_tuned is not None:
        less = f"{readable(100 * BETTER)} % fewer steps at {readable(max(fit.reached))}, less down to b_crit"
        yield (
            f"If the largest batch sizes were {readable(100 * BETTER)} % better tuned ({less}), b_crit would be "
            f"{readable(fit.b_crit_if_better_tuned)}; its interval assumes that all are tuned alike."
        )
