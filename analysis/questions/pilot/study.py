"""The study that a pilot proposes: batch sizes around a hint at b_crit, the box of lr, the budget and the cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from bcrit.analysis.curve import HyperbolaFit
from bcrit.analysis.numbers import Estimate
from bcrit.search_spaces.dimensions import Box
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Budget, Centre, Confirm, Search
from bcrit.search_spaces.presets import has_effective_lr


@dataclass(frozen=True)
class Amount:
    """A number that is not known exactly, and the ends to be reckoned with."""

    value: float
    low: float
    high: float

    def __iter__(self) -> Iterator[float]:
        return iter((self.value, self.low, self.high))

    def times(self, factor: float) -> Amount:
        """In another unit."""
        return Amount(*(end * factor for end in self))


# A fit needs batch sizes from b_crit / 16 to 2.5 b_crit; within a factor 4 of the knee it reads 10 to 45 % too low
# (simulated on the noisy quadratic model).
BELOW: Final = 16.0
ABOVE: Final = 2.5
_MOST_OFF: Final = 10.0  # McCandlish et al. 2018, section 5: how far noise scales were off from b_crit, at worst
_CURVE_OFF: Final = 4.0  # as `hint_of_steps` says, and what tuning changes
_HALF_A_STEP: Final = math.sqrt(2.0)  # batch sizes are a factor 2 apart, so rounding is at most this
_TUNING: Final = 2.0
# How far b_crit itself moves with what is tuned: on digits it is 39 with momentum 0.9 and 84 where momentum and
# schedule are searched too; on Fashion-MNIST 46 with SGD and 93 with momentum.


@dataclass(frozen=True)
class Hint:
    """Where b_crit may lie."""

    value: float | None  # the hint; None where no noise scale is resolved
    low: float  # b_crit is hardly below
    high: float  # b_crit is hardly above

    @property
    def middle(self) -> float:
        """The hint; where there is none, the geometric middle of the ends."""
        return self.value or math.sqrt(self.low * self.high)


@dataclass(frozen=True)
class Grid:
    """The batch sizes to study."""

    batch_sizes: tuple[int, ...]  # rising
    wanted: tuple[float, float]  # what the hint asks for, (lowest, highest)
    clipped_low: bool  # whether it begins higher than wanted, because batches cannot be smaller
    clipped_high: bool  # whether it would have ended beyond the training set
    left_out: tuple[int, ...]  # powers of two in between that the workload cannot make


def hint(simple: Estimate, noise: Estimate, batch_size: int) -> Hint:
    """Where b_crit may lie by the means of both noise scales along runs at a batch size.

    The value is the geometric mean of those resolved: B_noise is what the theory means, and B_simple is known better.
    The ends leave room for B_simple's interval, for B_noise as a second opinion (its own interval is several times as
    wide), and beyond both for what tuning changes; they are at most a factor 10 from the value. Where neither is
    resolved, they stand around the batch size.
    """
    known = [scale for scale in (simple, noise) if scale.known]
    values = [scale.value for scale in known if scale.value is not None]
    if not values:
        return Hint(None, batch_size / _MOST_OFF, batch_size * _MOST_OFF)
    value = math.exp(math.fsum(math.log(v) for v in values) / len(values))
    low, high = known[0].low, known[0].high
    if low is None or high is None:  # then it is trusted as little as the literature found it worth
        return Hint(value, value / _MOST_OFF, value * _MOST_OFF)
    low, high = min(low, *values) / _TUNING, max(high, *values) * _TUNING
    return Hint(value, max(low, value / _MOST_OFF), min(high, value * _MOST_OFF))


def hint_of_steps(fit: HyperbolaFit | None, batch_sizes: Sequence[int], at: int) -> Hint:
    """Where b_crit may lie by the curve through the steps at a few batch sizes, `at` and others; None = there is none.

    Of three batch sizes a factor 8 apart, with steps known to 25 %, the curve's b_crit is within a factor 2.7 of the
    truth in 95 % of simulations where it lies between them, and within 8 at their ends; so beyond them it is trusted no
    more than a noise scale.
    """
    low, high = min(batch_sizes), max(batch_sizes)
    if fit is None or low == high:
        return Hint(None, at / _MOST_OFF, at * _MOST_OFF)
    if fit.b_crit <= 0:  # steps do not fall
        return Hint(None, low / _MOST_OFF, low)
    if math.isinf(fit.b_crit):  # they fall as 1/B throughout
        return Hint(None, high, high * _MOST_OFF)
    value = fit.b_crit
    down, up = (_CURVE_OFF if inside else _MOST_OFF for inside in (value >= low, value <= high))
    return Hint(value, value / down, value * up)


def grid(around: Hint, n_examples: int | None, fits: Callable[[int], bool], base: int = 1) -> Grid:
    """Powers of two from low / 16 to 2.5 high, within the training set (None = unlimited); at least one.

    Where the workload can make none of them (`fits`), they are doublings of the smallest batch that halving `base`, a
    batch size that it can make, leads to.
    """
    low, high = around.low / BELOW, around.high * ABOVE
    largest = math.inf if n_examples is None else n_examples
    inside = _doublings(low, min(high, largest), 1, largest)
    made = tuple(b for b in inside if fits(b))
    if not made:
        while base % 2 == 0 and fits(base // 2):
            base //= 2
        inside = _doublings(low, min(high, largest), base, largest)
        made = tuple(b for b in inside if fits(b)) or (base,)
    most = largest if not inside else inside[-1]  # the powers of two may end before the training set does
    return Grid(made, (low, high), low < made[0] / _HALF_A_STEP, high > most, tuple(b for b in inside if b not in made))


def _doublings(low: float, high: float, base: int, largest: float) -> list[int]:
    """All base 2^k, k >= 0, from the one nearest to `low` to the first at or above `high`, none above `largest`.

    Nearest and not below, because the smallest batch size takes as many steps as all others together.
    """
    first, last = round(math.log2(low / base)), math.ceil(math.log2(high / base))
    return [base * 2**k for k in range(max(0, first), last + 1) if base * 2**k <= largest]


Rule = Literal["none", "linear", "sqrt"]
_SIDE: Final = 10.0  # a decade on each side of the centre; chosen, not studied
_BESIDE_MOMENTUM: Final = math.sqrt(10.0)  # beyond what momentum takes; chosen, not studied
_DIRECT: Final = {"sgd", "momentum", "nesterov", "lars", "extrap_sgd", "extrap_momentum"}


@dataclass(frozen=True)
class LrBox:
    """The box to write, and the law behind it."""

    low: float  # at the batch size where `rule` leaves the box as it is
    high: float
    rule: Rule  # of `centre` in the experiment; the one of three that needs the narrowest box
    batch_size: int  # where the box is as written
    alpha: float  # exponent of the law
    scale: float  # B* of the law

    def at(self, batch_size: int) -> tuple[float, float]:
        """The box at a batch size."""
        factor = Centre(rule=self.rule, batch_size=self.batch_size).factor(batch_size)
        return self.low * factor, self.high * factor


def alpha_of(optimizer: str) -> float:
    """Exponent of the law: 1 for SGD's relatives, 0.75 (between 0.5 and 1) for those that normalise by a second moment.

    Source: McCandlish et al. 2018, app. E.2.
    """
    return 1.0 if optimizer in _DIRECT else 0.75


def lr_at(batch_size: float, lr: float, measured_at: float, scale: float, alpha: float) -> float:
    """The law lr*(B) = lr_max / (1 + B*/B)^alpha (McCandlish et al. 2018, eq. A.3) through one measured point.

    Example:
        >>> round(lr_at(192, lr=0.1, measured_at=64, scale=64, alpha=1.0), 12)
        0.15
    """
    return lr * math.pow((1.0 + scale / measured_at) / (1.0 + scale / batch_size), alpha)


def lr_box(
    lr: float,
    measured_at: int,
    scale: float,
    optimizer: str,
    batch_sizes: Sequence[int],
    space_lr: Box,
    momentum: Slack,
) -> LrBox:
    """One box for all batch sizes: around the law's centre at each, with the rule that makes it narrowest.

    `lr` is the best one at the pilot's batch size `measured_at`, where the box holds it; `space_lr` the experiment's
    box, whose hard limits hold.
    """
    alpha = alpha_of(optimizer)
    found: list[LrBox] = []
    for rule in ("none", "sqrt", "linear"):
        centre = Centre(rule=rule, batch_size=measured_at)
        moved = [lr_at(b, lr, measured_at, scale, alpha) / centre.factor(b) for b in batch_sizes]
        low, high = min(moved) / max(_SIDE, momentum.down), max(moved) * max(_SIDE, momentum.up)
        found.append(LrBox(float(f"{low:.2g}"), float(f"{high:.2g}"), rule, measured_at, alpha, scale))
    least, most = space_lr.hard_low or 0.0, space_lr.hard_high or math.inf
    # Cut to the limits at every batch size, a box that moves may lose its own centre: then one that stays is cut.
    inside = [box for box in found if all(least <= box.at(b)[0] and box.at(b)[1] <= most for b in batch_sizes)]
    if inside:
        return min(inside, key=lambda box: box.high / box.low)
    return replace(found[0], low=max(found[0].low, least), high=min(found[0].high, most))


@dataclass(frozen=True)
class Slack:
    """By which factors lr must reach down and up because momentum is searched: lr / (1 - momentum) is what matters."""

    down: float = 1.0
    up: float = 1.0


def momentum_slack(optimizer: str, momentum: object, used: float) -> Slack:
    """What a searched momentum asks of the box: lr / (1 - momentum) kept at both of its ends, and half a decade.

    `momentum` is its dimension, `used` the pilot's.
    """
    if not isinstance(momentum, Box) or not has_effective_lr(optimizer):
        return Slack()
    down, up = (1.0 - used) / (1.0 - momentum.high), (1.0 - momentum.low) / (1.0 - used)
    return Slack(down * _BESIDE_MOMENTUM, up * _BESIDE_MOMENTUM)


BUDGET_OVER_STEPS: Final = 4.0
# The budget over the steps that the curve needs at its dearest; the search simulated on the noisy quadratic model had 4
# times the best steps at every batch size, and lost nothing by it.
OVERHEAD_SECONDS: Final = 0.071  # a trial's beside its training (`benchmarks.trial_overhead`)


@dataclass(frozen=True)
class Taken:
    """What trials took, as multiples of the tuned steps-to-target."""

    search: Amount  # steps of a search trial, stopped early or not
    confirm: Amount  # steps of a confirming run, of slower points too
    draws: Amount  # search trials for each that is wanted: the others diverged
    start: Amount = Amount(0, 0, 0)  # steps of a trial of a joint search's start


# From trials tables. The value is the mean over 19 studies on digits with default settings (examples/digits.yaml, and
# what its pilot proposed; 1135 trials); the ends are the extremes of those, 8 studies on Fashion-MNIST (20 trials,
# momentum searched) and 8 on digits with momentum 0.9 (16).
_ALONE: Final = Taken(Amount(1.34, 0.34, 1.98), Amount(1.45, 0.76, 2.86), Amount(1.13, 1.0, 1.25))
# Of joint searches: the mean over two on digits (18 studies), with the extremes of those and of six on the noisy
# quadratic model (48).
_JOINT: Final = Taken(Amount(1.12, 0.56, 1.34), Amount(1.05, 0.59, 1.27), Amount(1, 1, 1), Amount(2.4, 1.36, 2.41))
CAP_ALONE: Final = 2.3  # steps with `cap` over those with `asha`: on the noisy quadratic model, decay searched


@dataclass(frozen=True)
class Curve:
    """The hyperbola s_min + e_min / B through one measured point, with b_crit anywhere in the hint's interval.

    Example:
        >>> Curve(30, 64, Hint(64, 32, 128)).at(128)  # s_min = 15 and e_min = 960, if b_crit is 64
        Amount(value=22.5, low=20.0, high=25.0)
    """

    steps: float  # to the target at `batch_size`
    batch_size: int  # the pilot's
    around: Hint

    def at(self, batch_size: float) -> Amount:
        """Steps to the target at a batch size."""
        low, high = sorted(self._steps(batch_size, b_crit) for b_crit in (self.around.low, self.around.high))
        return Amount(self._steps(batch_size, self.around.middle), low, high)

    def _steps(self, batch_size: float, b_crit: float) -> float:
        return self.steps * (1.0 + b_crit / batch_size) / (1.0 + b_crit / self.batch_size)

    def budget(self) -> Budget:
        """What leaves every batch size enough, wherever in the hint's interval b_crit lies.

        s_min is highest at the interval's low end and e_min at its high end; both times `BUDGET_OVER_STEPS`.
        """
        s_min = self.steps / (1.0 + self.around.low / self.batch_size)
        e_min = self.steps / (1.0 + self.around.high / self.batch_size) * self.around.high
        return Budget(steps=_rounded_up(BUDGET_OVER_STEPS * s_min), examples=_rounded_up(BUDGET_OVER_STEPS * e_min))


def _rounded_up(number: float) -> int:
    """To two digits."""
    digits = int(10 ** max(0, math.floor(math.log10(max(number, 1.0))) - 1))
    return max(1, math.ceil(number / digits) * digits)


@dataclass(frozen=True)
class Timing:
    """What was timed at one batch size."""

    batch_size: int
    step_seconds: float | None  # of an update; None where none was made
    problem: str  # why not; empty where it was
    memory: int | None = None  # bytes that its trial held at most


@dataclass(frozen=True)
class Clock:
    """What time things take."""

    timings: Mapping[int, Timing]  # of updates, by batch size
    evaluate_seconds: float  # of one evaluation
    evaluations: Callable[[float], int]  # how many of them a run of so many steps has
    workers: int  # trials at once
    beside_seconds: float = OVERHEAD_SECONDS  # of each trial


@dataclass(frozen=True)
class StudyCost:
    """One study to come."""

    batch_size: int
    steps: Amount  # to the target at its tuned settings, as the hyperbola through the pilot predicts
    budget_steps: int  # of a search trial in the proposed budget
    trial_steps: Amount  # optimizer updates of all trials
    # time of all trials, evaluation included, one after the other; None where a step was not timed
    trial_seconds: Amount | None


@dataclass(frozen=True)
class Cost:
    """The whole study."""

    studies: tuple[StudyCost, ...]  # by batch size
    steps: Amount  # optimizer updates
    examples: Amount  # in the unit of a batch
    hours: Amount | None  # at this many workers; None where a batch size was not timed
    workers: int  # trials at once
    n_trials: int  # expected


def taken(proposed: Experiment) -> Taken:
    """What trials of such a search took before."""
    return _JOINT if proposed.search.protocol == "joint" else _ALONE


def cost(proposed: Experiment, curve: Curve, clock: Clock) -> Cost:
    """Predict what the proposed experiment takes; widened boxes are not counted.

    The low and high ends multiply the hint's interval with the range of what trials took before.
    """
    studies = tuple(_study(proposed, b, curve.at(b), clock) for b in proposed.batch_sizes)
    seconds = [study.trial_seconds for study in studies if study.trial_seconds is not None]
    timed, of, reruns = len(seconds) == len(studies), taken(proposed), _reruns(proposed.confirm)
    return Cost(
        studies=studies,
        steps=_total([study.trial_steps for study in studies]),
        examples=_total([study.trial_steps.times(study.batch_size) for study in studies]),
        hours=_total(seconds).times(1.0 / clock.workers / 3600.0) if timed else None,
        workers=clock.workers,
        n_trials=round(sum(proposed.trials_at(b) * of.draws.value + reruns for b in proposed.batch_sizes)),
    )


def _study(proposed: Experiment, batch_size: int, needed: Amount, clock: Clock) -> StudyCost:
    search, budget = proposed.search, proposed.budget.max_steps(batch_size)
    step_seconds, reruns = clock.timings[batch_size].step_seconds, _reruns(proposed.confirm)
    of, started = taken(proposed), proposed.start_at(batch_size)
    steps, seconds = [], []
    for s, draws, of_search, of_start, of_rerun in zip(needed, of.draws, of.search, of.start, of.confirm, strict=True):
        runs = (
            ((proposed.trials_at(batch_size) - started) * draws, _trial_steps(s, of_search, budget, search)),
            (started, min(s * of_start, proposed.start_steps)),
            (reruns, _rerun_steps(s, of_rerun, budget, proposed.confirm)),
        )
        steps.append(sum(n * each for n, each in runs))
        evaluations = sum(n * clock.evaluations(each) for n, each in runs)
        beside = evaluations * clock.evaluate_seconds + sum(n for n, _ in runs) * clock.beside_seconds
        seconds.append(steps[-1] * (step_seconds or 0.0) + beside)
    return StudyCost(batch_size, needed, budget, Amount(*steps), None if step_seconds is None else Amount(*seconds))


def _reruns(confirm: Confirm) -> int:
    return confirm.points * confirm.seeds


def _trial_steps(steps: float, factor: float, budget: int, search: Search) -> float:
    """Mean steps of a search trial; where nothing but the target stops it, nearly all take the whole budget."""
    rule = "tied" if search.protocol == "joint" else search.stopping.rule  # to a horizon, whatever the rule
    if rule in ("none", "full"):
        return float(budget)
    return min(float(budget), steps * factor * (CAP_ALONE if rule == "cap" else 1.0))


def _rerun_steps(steps: float, factor: float, budget: int, confirm: Confirm) -> float:
    """Mean steps of a re-run, which may be told to go on to its horizon."""
    return max(float(budget), confirm.horizon * steps) if confirm.beyond_target else factor * steps


def _total(amounts: Sequence[Amount]) -> Amount:
    return Amount(*map(math.fsum, zip(*amounts, strict=True)))


def proposed_data(
    given: Mapping[str, Any], batch_sizes: Sequence[int], box: LrBox | None, budget: Budget
) -> dict[str, Any]:
    """The plain data of the user's experiment with what the pilot proposes; everything else stays as the user wrote it.

    Without a box that of the learning rate stays as it is.
    """
    found = {**given, "batch_sizes": list(batch_sizes), "budget": {"steps": budget.steps, "examples": budget.examples}}
    found["name"] = f"{given.get('name', 'experiment')}_study"  # its run does not go where the user's own went
    if box is None:
        return found
    lr, space = given["space"]["lr"], dict(given["space"])
    space["lr"] = f"log from {box.low:g} to {box.high:g}"
    hard = {k: v for k, v in lr.items() if k.startswith("hard_") and v is not None} if isinstance(lr, Mapping) else {}
    if hard:
        space["lr"] = {"scale": "log", "low": box.low, "high": box.high, **hard}
    found["space"] = space
    found.pop("centre", None)
    if box.rule != "none":
        found["centre"] = {"rule": box.rule, "batch_size": box.batch_size}
    return found
