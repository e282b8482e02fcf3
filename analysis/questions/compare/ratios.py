"""The ratios of s_min, e_min and b_crit of every two runs, which of them are more than chance, and what they mean."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, Final, Literal

import numpy as np
from scipy import optimize

from bcrit.analysis.curve import HyperbolaFit
from bcrit.analysis.curve.interval import Squared, bend, grid_spread
from bcrit.analysis.curve.likelihood import EXACT, REACH, likelihood
from bcrit.analysis.curve.table import lower_ends
from bcrit.analysis.numbers import LEVEL, Estimate, Floats, enumeration, freedom, holm, readable, tail, welch
from bcrit.analysis.questions.compare.sides import NUMBERS, Side
from bcrit.analysis.report import Answer, Rows, table_of

Form = tuple[Callable[[Floats], Floats], float]
Verdict = Literal["differs", "no difference seen", "not comparable"]

ALPHA: Final = 0.05
"""Chance of any "differs" among all ratios of a comparison if none were real."""
_LONG: Final = 12  # a table with more rows is folded; chosen, not studied
_POINTS: Final = 65  # of one scan for the least sum; a second scan around its best point is 32 times finer
_FARTHEST: Final = 2 * math.log(REACH)  # log ratios beyond this are not told from infinite ones


@dataclass(frozen=True)
class Ratio:
    """One number of a run divided by that of another."""

    quantity: str  # `s_min`, `e_min` or `b_crit`
    run: str  # label of the numerator
    baseline: str  # label of the denominator; of two runs the one that was named first
    # Knows nothing of the other ratios; no value where one of the two numbers is not identified, so that only bounds
    # are known, and no ends where it is not comparable.
    size: Estimate
    p_value: float | None  # of "the ratio is 1"; None where not comparable
    verdict: Verdict = "no difference seen"  # `differs` where `p_adjusted` is below 5 %
    reason: str = ""  # why it is not comparable, or what qualifies the verdict
    p_adjusted: float | None = None  # by Holm's method over all ratios of the comparison

    @property
    def excludes_one(self) -> bool:
        """Whether its own interval, without regard to the other ratios, leaves out 1."""
        return not self.size.holds(1)

    @property
    def direction(self) -> int | None:
        """1 larger than the baseline's, -1 smaller, 0 no difference seen, None not comparable."""
        if self.verdict != "differs":
            return 0 if self.verdict == "no difference seen" else None
        return 1 if (self.size.value or self.size.low or 0.0) > 1 else -1

    def to_json(self) -> dict[str, Any]:
        """As `bcrit compare --json` has it."""
        own = {name: value for name, value in vars(self).items() if name != "size"}
        ends = {"ratio": self.size.value, "low": self.size.low, "high": self.size.high, "level": self.size.level}
        return {**own, **ends}


def obstacle(run: Side, baseline: Side, across_targets: bool = False) -> str | None:
    """Why nothing of two runs can be divided by each other; None where it can."""
    if run.unit != baseline.unit:
        return f"their batch sizes count different things ({run.unit}, {baseline.unit})"
    targets = {target for target in (run.target, baseline.target) if target is not None}
    if len(targets) > 1 and not across_targets:
        return f"their targets differ ({run.target}, {baseline.target})"
    ends = run.range, baseline.range
    if ends[0] is None or ends[1] is None:
        return f"{(run if ends[0] is None else baseline).label} reached the target at no batch size"
    if max(ends[0][0], ends[1][0]) > min(ends[0][1], ends[1][1]):
        return "their batch sizes do not overlap"
    for one in (run, baseline):
        if one.fit is None:
            return f"{one.label} has no fit: {one.no_fit}"
        if one.fit.sigma is None:
            return f"{one.label} reached the target at two batch sizes only, which gives no interval"
    return None


def ratios(runs: Sequence[Side], across_targets: bool = False) -> tuple[Ratio, ...]:
    """Every pair of runs, each number; the earlier run of a pair is the baseline.

    Fits are independent studies. log s_min and log e_min are compared by Welch's t on the fits' variances, which come
    from the scatter of the studies about each curve and so include what is left of tuning regret; log b_crit by the
    profile form of the same statistic (`b_crit_ratio`), which also gives one-sided answers.

    Simulated with two true hyperbolas, 3 % and 10 % noise (the same or one of each) and 5 or 8 studies from b_crit / 16
    to 16 b_crit, 95 % intervals cover 94.2 to 96.0 % for s_min and e_min (4000 draws a cell). Where the true knee is
    sharper than the hyperbola's, the scatter of these two holds the misfit and they cover more. That of b_crit leaves
    out what a bend explains, as the fits' own intervals do; with b_crit of 100 and 140 they cover (1000 draws a cell,
    standard error 0.7 %; noise 3 and 3, 10 and 10, 3 and 10 %):

        truth              5 studies             8 studies
        hyperbola          96.9  97.1  93.8      93.9  93.8  93.9
        p-norm, p = 1.4    97.3  97.6  94.2      94.6  94.3  94.8
        p-norm, p = 2      98.2  97.9  96.1      96.8  94.6  95.1

    Equal numbers are called different as often as is missing to 100 %, before Holm's correction.
    `tests/analysis/questions/compare/test_ratios.py` draws a part of it again.
    """
    found = [_ratio(name, b, a, across_targets) for a, b in combinations(runs, 2) for name in NUMBERS]
    tested = [place for place, ratio in enumerate(found) if ratio.p_value is not None]
    for place, p in zip(tested, holm([found[place].p_value or 0.0 for place in tested]), strict=True):
        ratio = found[place]
        found[place] = judged = replace(ratio, p_adjusted=p, verdict="differs" if p < ALPHA else "no difference seen")
        if judged.verdict != "differs" and ratio.excludes_one:  # the correction alone changed it
            chance = f"its own interval excludes 1, but among {len(tested)} ratios that is not beyond chance"
            found[place] = replace(judged, reason=f"{ratio.reason}; {chance}" if ratio.reason else chance)
    return tuple(found)


def _ratio(quantity: str, run: Side, baseline: Side, across_targets: bool) -> Ratio:
    reason, unknown = obstacle(run, baseline, across_targets), []
    names, level = (quantity, run.label, baseline.label), LEVEL
    if reason is None:
        a, b = run.fit, baseline.fit
        assert a is not None and b is not None
        unknown = [one.label for one in (run, baseline) if one.estimates[quantity].why]
        # Where boxes decide no bound comes from the likelihood, and that of a U is not the one of `squared`.
        plain = not any(fit.trough or (fit.boxes is not None and fit.boxes.decide) for fit in (a, b))
        if len(unknown) < 2 and (not unknown or (quantity == "b_crit" and plain)):
            level = min(a.level, b.level)
            if quantity == "b_crit" and plain:
                log_ratio, p = b_crit_ratio(a, b, level)
            else:
                value = math.log(getattr(a, quantity) / getattr(b, quantity))
                variances = [_log_variance(fit, quantity) for fit in (a, b)]
                degrees = (a.degrees_of_freedom, b.degrees_of_freedom)
                log_ratio, p = welch(value, (variances[0], variances[1]), degrees, level)
            size = unlogged(log_ratio)
            if not unknown:
                return Ratio(*names, size, p)
            if size.low is not None or size.high is not None:
                reason = f"{quantity} of {unknown[0]} is not identified; only bounds are known"
                return Ratio(*names, replace(size, value=None), p, reason=reason)
        reason = f"{quantity} of {' and '.join(unknown)} is not identified"
    return Ratio(*names, Estimate(None, level=level), None, "not comparable", reason)


def _log_variance(fit: HyperbolaFit, quantity: str) -> float:
    """Of the logarithm of one of the three numbers, by the covariance of the curve's parameters."""
    if fit.covariance is None:
        return math.inf
    covariance, contrast = np.array(fit.covariance), fit.curve.of_b_crit
    if quantity != "b_crit":
        contrast = np.eye(len(covariance))[NUMBERS.index(quantity)]
    return float(contrast @ covariance @ contrast)


def unlogged(log_ratio: Estimate) -> Estimate:
    """The ratio itself; what is too large or too small for a number is not known."""
    value, low, high = (
        math.exp(end) if end is not None and abs(end) < 300 else None
        for end in (log_ratio.value, log_ratio.low, log_ratio.high)
    )
    return replace(log_ratio, value=value, low=low, high=high)


# The ratio of two critical batch sizes by profile likelihood: it has an end where the data give one, and else none.


def squared(fit: HyperbolaFit) -> Squared:
    """The statistic whose level sets are the own interval of log b_crit of a fit with three reached studies or more."""
    x = np.log([study.batch_size for study in fit.studies])
    y = np.log([study.steps or study.max_steps or math.nan for study in fit.studies])
    reached = np.array([study.steps is not None for study in fit.studies])
    residuals = np.array([study.log_residual for study in fit.studies if study.log_residual is not None])
    best = math.log(fit.b_crit) if fit.b_crit > 0 else -math.inf
    least = grid_spread(fit.studies, fit.covariance, fit.sigma)
    profile = likelihood(x, y, reached, lower_ends(fit.studies))
    bent = None if profile.lower is not None else bend(x[reached], residuals, best)
    return Squared.of(profile, best, bent, least)


def p_value(run: Squared, baseline: Squared, log_ratio: float) -> float:
    """Test b_crit of the run = exp(log_ratio) x b_crit of the baseline, two-sided.

    T^2 = min over u of t_run^2(u) + t_baseline^2(u - log_ratio). Where both fits are linear, t^2 = (u - best)^2 / v,
    the least sum is (log_ratio - difference)^2 / (v_run + v_baseline): Welch's statistic, and the run's part of it is
    its share of the variance, so that Welch's degrees of freedom follow too. Unlike that limit it remains right where
    a fit says b_crit is above something but not where. A ratio is refused where it is by both the scatter and the
    evaluation grid of each fit, as a fit refuses a value.
    """
    low, high = sorted((_place(run), _place(baseline) + log_ratio))  # both sums rise beyond their minima
    grid = np.linspace(low, high, _POINTS)
    return max(_tested(*forms, log_ratio, grid) for forms in product(run.forms, baseline.forms))


def _tested(run: Form, baseline: Form, log_ratio: float, grid: Floats) -> float:
    """The p-value by one form of each statistic; the minimum is sought on the grid and then on a finer one."""
    for _ in range(2):
        first, second = run[0](grid), baseline[0](grid - log_ratio)
        best = int(np.argmin(first + second))
        found = float(first[best]), float(second[best])
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, _POINTS - 1)], _POINTS)
    total = found[0] + found[1]
    share = found[0] / total if total > 0 else 0.5
    return tail(math.sqrt(total), freedom(share, (run[1], baseline[1])))


def b_crit_ratio(run: HyperbolaFit, baseline: HyperbolaFit, level: float) -> tuple[Estimate, float]:
    """The log ratio of two fits' b_crit, all that `p_value` does not reject, and the p-value of "the ratio is 1"."""
    of_run, of_baseline = squared(run), squared(baseline)
    value = of_run.best - of_baseline.best
    if not (of_run.forms and of_baseline.forms):  # exact points on a limit of the curve
        return Estimate(value, level=level), 1.0
    if all(one.exact and one.least < EXACT for one in (of_run, of_baseline)):
        return Estimate(value, value, value, level), float(abs(value) < EXACT)
    middle = _place(of_run) - _place(of_baseline)

    def excess(log_ratio: float) -> float:
        return p_value(of_run, of_baseline, log_ratio) - (1 - level)

    ends = _end(excess, middle, -1), _end(excess, middle, 1)
    return Estimate(value, *ends, level), p_value(of_run, of_baseline, 0.0)


def _place(one: Squared) -> float:
    """The minimum, moved to where the curve is its limit (`REACH` beyond the data) if it lies further out."""
    batch, reach = one.profile.log_batch, math.log(REACH)
    return min(max(one.best, float(batch.min()) - reach), float(batch.max()) + reach)


def _end(excess: Callable[[float], float], middle: float, sign: int) -> float | None:
    """Where the excess of the p-value over 1 - level changes its sign on one side; open where it never does."""
    inside, step = middle, 0.25
    while step < _FARTHEST:
        outside = middle + sign * step
        if excess(outside) < 0:
            low, high = sorted((inside, outside))
            return float(optimize.brentq(excess, low, high, xtol=1e-9))
        inside, step = outside, 2 * step
    return None


# In words. The rows are those of one pair, in the order of `NUMBERS`.


def ratio_sentence(rows: Sequence[Ratio]) -> str:
    """`momentum against sgd: b_crit is 4.1 times as large (2.9 to 5.8); ...`, and what that means, where it has a name.

    Shallue et al. 2018 found the first meaning (momentum against SGD), the search-cost study the second (a
    learning-rate schedule: e_min a fifth, s_min the same, hence b_crit a fifth).
    """
    run, baseline, meaning = rows[0].run, rows[0].baseline, ""
    s, e, b = (row.direction for row in rows)
    if e == 0 and b in (1, -1) and s in (-b, None):
        far, near = (run, baseline) if b == 1 else (baseline, run)
        meaning = (
            f" So no difference is seen at very small batch sizes, and {far} extends perfect scaling: it still profits "
            f"from batch sizes at which {near} no longer does."
        )
    elif s == 0 and e in (1, -1) and b in (e, 0):
        fewer, more = (run, baseline) if e == -1 else (baseline, run)
        meaning = f" So {fewer} saves at small batch sizes, and no difference is seen at very large ones."
        if b == e:
            meaning += f" Its b_crit is smaller for that reason, not because it scales worse than {more}."
    elif s is not None and s == e != 0 and b == 0:
        fewer = run if s == -1 else baseline
        meaning = f" So {fewer} needs fewer steps at every batch size, by about the same factor."
    elif (s, e, b) == (0, 0, 0):
        meaning = (
            " So none of the three numbers tells them apart; the intervals say how large a difference may still be."
        )
    return f"{_findings(rows)}{meaning}"


def _findings(rows: Sequence[Ratio]) -> str:
    run, baseline = rows[0].run, rows[0].baseline
    parts = [f"{row.quantity} {_times(row.size)}" for row in rows if row.verdict == "differs"]
    if same := [f"{row.quantity} ({_measured(row)})" for row in rows if row.verdict == "no difference seen"]:
        parts.append(f"no difference is seen in {enumeration(same)}")
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict == "not comparable":
            reasons.setdefault(row.reason, []).append(row.quantity)
    if len(reasons) == 1 and not parts:
        return f"{run} and {baseline} cannot be compared: {next(iter(reasons))}."
    parts += [f"{enumeration(names)} cannot be compared, because {reason}" for reason, names in reasons.items()]
    return f"{run} against {baseline}: {'; '.join(parts)}."


def _times(size: Estimate) -> str:
    if size.value is not None:
        return f"is {readable(size.value)} times as large ({size.interval()})"
    if size.low is not None and size.low > 1:
        return f"is at least {readable(size.low)} times as large"
    return f"is at most {readable(size.high or math.inf)} times as large"


def _measured(row: Ratio) -> str:
    size = row.size
    found = f"ratio {size}" if size.value is None else f"ratio {readable(size.value)}, {size.interval()}"
    return f"{found}; not beyond chance among so many ratios" if row.excludes_one else found


# As tables.


def ratios_section(divided: Sequence[Ratio]) -> Answer:
    """One row a pair and number."""
    first = divided[0].baseline
    cells: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for ratio in divided:
        cells[ratio.baseline == first].append(
            {
                "run / baseline": f"{ratio.run} / {ratio.baseline}",
                "of": ratio.quantity,
                "ratio (interval)": ratio_text(ratio.size),
                "p": p_text(ratio.p_value),
                "p after Holm": p_text(ratio.p_adjusted),
                "verdict": ratio.verdict,
                "why": ratio.reason,
            }
        )
    others = [table_rows("All other pairs", cells[False])] if cells[False] else []
    tested = sum(ratio.p_value is not None for ratio in divided)
    sentence = (
        f"Each number of a run divided by that of another. 'Differs' is what remains after Holm's correction over "
        f"{tested} ratios; the intervals are those of one ratio alone."
    )
    parts = (Rows(f"Against {first}", table_of(cells[True])), *others)
    return Answer("ratios", "Which differences are real", (sentence,), parts)


def table_rows(heading: str, cells: Sequence[dict[str, Any]]) -> Rows:
    """A table that is folded where it is long."""
    return Rows(heading, table_of(cells), folded=len(cells) > _LONG)


def ratio_text(ratio: Estimate) -> str:
    """`0.25 (0.2 to 0.3)`, a bound, or a dash."""
    return "–" if ratio.low is None and ratio.high is None else str(ratio)


def p_text(p: float | None) -> str:
    """A p-value; very small ones by what they are below."""
    return "–" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.2g}"
