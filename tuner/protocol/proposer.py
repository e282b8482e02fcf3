"""Where the next trial of a joint search lies, and which point of a study would be confirmed: by one model of all."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from bcrit.search_spaces.dimensions import Box, Choice, Fixed, Log
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.presets import has_effective_lr
from bcrit.search_spaces.space import Point, SearchSpace, hyperparameter
from bcrit.tuner.protocol.proposal import Proposal, TrialRecord, in_updates, warmup_share
from bcrit.tuner.protocol.surrogate import ONCE, Floats, Inputs, Surrogate, distance

# Chosen on the noisy quadratic model (`benchmarks.search_cost`), where most of them are flat.
_NEAR = 0.3  # a trial of a distance below this may be the best of its study at a longer horizon
# Where a decay that is searched ends, as a share of the trial's horizon: each trial has its own. On the noisy quadratic
# model the best decays end at .75 of it to 1.2, early at most batch sizes and late at the largest. |log S / S_true| is
# .036 in place of .081 with .93 for all (16 and 8 studies); on digits four studies are as good with either.
_ENDS = Log(low=0.75, high=1.2)
# Near 0 end factors are as good as one another; steps from them begin here. Chosen, not studied.
_FLAT_END = 0.002
# Where a trial tells a second time, as a share of its updates: there it is one whose schedule has not ended. Without it
# and `_LONGER` a small network on Fashion-MNIST needed 43 to 80 steps at its largest batch size, with them 39 to 52
# (three studies).
_BEFORE = 0.7
_SHORTER = np.exp(-np.linspace(0.0, 0.3, 7))  # horizons that a trial may be tied to, as shares of the best known
_AROUND = np.exp(np.linspace(-0.6, 0.5, 23))  # horizons, as shares of a trial's own, among which its best is sought
# A schedule that ends later, times the horizon at which most fresh seeds reach the target, may reach it first: the rate
# has not fallen as far. It is taken where it is so much sooner, at one of the shares of its horizon.
_LONGER, _SOONER, _BY = np.array([1.0, 1.08, 1.17, 1.27, 1.37]), 0.98, np.array([0.6, 0.68, 0.76, 0.84, 0.92, 1.0])
_LOOSE = 1.08  # a neighbour's bound on the horizon is taken so much longer
_CANDIDATES, _REFINED, _LOCAL = 140, 50, 0.9  # candidates, steps around their best, share that starts from a good point
_REACH = math.log(9.0)  # how far in log batch size good points are carried
# What is confirmed: the horizon at which the mean lies this many standard deviations of the mean, and of a trial's own
# noise, below the target, so that most fresh seeds reach it. A schedule that has ended is no help to the others.
_MARGIN, _NOISES = 0.2, 0.5
# Where no trial promises that much of the log of the best horizon, the best known point is run again there: the model
# may be wrong of it, and all else it would try is corners of the box of which it knows nothing. On the noisy quadratic
# model 90 % of the errors of b_crit are below .15 for .24 before with 16 workers (20 studies, 18 before), .15 for .12
# with 8 (24, 21); on digits it happened in none of four studies.
_WORTH = 0.001
_REFIT = 8  # trials after which the process is fitted anew, three times as many beyond 48
_SAME = 1e-9  # between two logs of learning rates
_LR_APART = 0.3  # by which log rate a trial tells less of the stability of others. Chosen, not studied.
_SWITCH = 0.15  # how often a step takes another option of a choice. Chosen, not studied.


@dataclass
class Proposer:
    """What the model says at one batch size, by the trials that have ended."""

    experiment: Experiment
    size: int
    space: SearchSpace  # the study's, as it is now, by the horizon
    known: Sequence[TrialRecord]
    thetas: dict[tuple[str, ...], Floats]
    rows: dict[str, Floats]  # inputs of finished trials, computed once

    def __post_init__(self) -> None:
        """Fit, or take what was fitted to the same trials before."""
        self.inputs = Inputs(by_horizon(self.experiment.space), self.experiment.optimizer)
        self.seen = [record for record in self.known if _told(record)]
        self.distances = [self._distance(record, record.curve[-1][1]) for record in self.seen]
        rows = [
            (math.log(float(r.point["lr"])), _inertia(r.point), math.log(r.batch_size), r.outcome is Outcome.DIVERGED)
            for r in self.known
            if "lr" in r.point and abs(math.log(r.batch_size / self.size)) < 1.5
            if r.outcome is Outcome.DIVERGED or _told(r)
        ]
        self._near = np.array(rows, dtype=float).reshape(-1, 4)
        self.model = self._model()

    def _model(self) -> Surrogate | None:
        n = len(self.seen)
        if n < 4:
            return None
        told = [_tells(record) for record in self.seen]
        x = np.concatenate(
            [self._rows(record, [step for step, _ in at]) for record, at in zip(self.seen, told, strict=True)]
        )
        y, variance = Surrogate.seen(
            [self._distance(record, value) for record, at in zip(self.seen, told, strict=True) for _, value in at]
        )
        every = _REFIT if n <= 6 * _REFIT else 3 * _REFIT
        n_fitted = max(4, n // every * every)
        key = tuple(r.trial_id for r in self.seen[:n_fitted])
        if key not in self.thetas:
            first = slice(sum(len(at) for at in told[:n_fitted]))
            self.thetas[key] = Surrogate.fitted(x[first], y[first], variance[first])
        return Surrogate(x, y, variance, self.thetas[key])

    def _distance(self, record: TrialRecord, value: float) -> float:
        return distance(self.experiment.target, record.curve[0][1], value)

    def _rows(self, record: TrialRecord, steps: Sequence[int]) -> Floats:
        """The inputs of a trial as if it had ended after so many updates; (n_steps, d)."""
        if record.trial_id not in self.rows:
            rows = [self._inputs(record.batch_size, record.point, step) for step in steps]
            self.rows[record.trial_id] = np.concatenate(rows)
        return self.rows[record.trial_id]

    def _inputs(self, size: int, point: Point, steps: float, over: Floats = ONCE) -> Floats:
        return self.inputs.of(size, point, in_updates(point, self.experiment.budget.max_steps(size)), steps, over)

    def _at(self, size: int, point: Point, horizons: Floats) -> Floats:
        """The inputs of a point at several horizons, which its schedule follows; (n_horizons, d)."""
        steps = float(horizons[0])
        budget = self.experiment.budget.max_steps(size)
        return self._inputs(size, tied(point, self.space, steps, budget), steps, horizons / steps)

    def _own(self, size: int) -> list[tuple[TrialRecord, float]]:
        """A study's trials that came near the target, with their distance; but for points that have diverged, too."""
        mine = [record for record in self.known if record.batch_size == size]
        lost = {self._key(record) for record in mine if record.outcome is Outcome.DIVERGED}
        pairs = zip(self.seen, self.distances, strict=True)
        near = ((r, far) for r, far in pairs if r.batch_size == size and far < _NEAR and r.stage is Stage.SEARCH)
        return [(record, far) for record, far in near if self._key(record) not in lost]

    def _untied(self, record: TrialRecord) -> Point:
        """A trial's point by its horizon, as `tied` takes it."""
        budget, point = self.experiment.budget.max_steps(record.batch_size), dict(record.point)
        if isinstance(_active(self.space, point).get("decay_fraction"), Box):
            ends = (float(point["decay_fraction"]) + warmup_share(point, budget)) * budget / record.max_steps
            point["decay_fraction"] = _ENDS.clip(ends)
        return point

    def _key(self, record: TrialRecord) -> tuple[tuple[str, object], ...]:
        """The same for all trials of one point by the horizon, which is known but for rounding."""
        point = self._untied(record)
        if "decay_fraction" in point:
            point["decay_fraction"] = round(float(point["decay_fraction"]), 6)
        return tuple(sorted(point.items()))

    def _roots(self, size: int, sds: float = 0.0, below: float = 0.0) -> list[tuple[float, str, Point]]:
        """Good trials of a study with the horizon at which the model reaches the target, the shortest first."""
        if self.model is None:
            return []
        latest: dict[tuple[object, ...], TrialRecord] = {}
        for record, _ in self._own(size):
            latest[self._key(record)] = record
        found = []
        for record in latest.values():
            rows = self._inputs(size, record.point, record.curve[-1][0], _AROUND)
            if sds:
                mean, sd = self.model.predict(rows)
                left = mean + sds * sd - below
            else:
                left = self.model.mean(rows) - below
            if len(under := np.flatnonzero(left <= 0)):
                steps = record.curve[-1][0] * _crossing(_AROUND, left, int(under[0]))
                found.append((steps, record.trial_id, self._untied(record)))
        return sorted(found, key=lambda root: root[:2])

    def recommended(self, without: Collection[str] = ()) -> tuple[str, Point, float] | None:
        """The trial whose point would be confirmed, that point, and its horizon; None where none came near."""
        noise = 0.0 if self.model is None else math.exp(float(self.model.theta[-1]))
        firm = self._roots(self.size, _MARGIN, -_NOISES * noise)
        first = sorted((*self._soonest(point, steps), name, point) for steps, name, point in firm)
        for steps, name, point in [*(each[1:] for each in first), *self._roots(self.size)]:
            if name not in without:
                return name, point, steps
        near = [(far, r.number, r) for r, far in self._own(self.size) if r.trial_id not in without]
        if not near:
            return None
        record = min(near, key=lambda each: each[:2])[2]
        return record.trial_id, self._untied(record), 1.1 * record.curve[-1][0]

    def _soonest(self, point: Point, steps: float) -> tuple[float, float]:
        """After how many updates the target is reached, of a horizon or a longer one, and that horizon."""
        assert self.model is not None, "it has found the horizon"
        budget, best = self.experiment.budget.max_steps(self.size), (math.inf, steps)
        for horizon in steps * _LONGER:
            schedule = tied(point, self.space, horizon, budget)
            left = self.model.mean(np.concatenate([self._inputs(self.size, schedule, horizon * by) for by in _BY]))
            under = np.flatnonzero(left <= 0)
            soon = horizon * (_crossing(_BY, left, int(under[0])) if len(under) else 1.0)
            if soon < _SOONER * best[0]:
                best = float(soon), float(horizon)
        return best

    def next(self, ahead: Sequence[TrialRecord | Proposal], rng: np.random.Generator) -> tuple[Point, float]:
        """The point and horizon that promise most, P(reached at T) x log(T_ref / T), or the best known once more."""
        budget = self.experiment.budget.max_steps(self.size)
        best = {b: roots for b in self.experiment.batch_sizes if (roots := self._roots(b))}
        bounds = [_LOOSE * roots[0][0] * max(1.0, b / self.size) for b, roots in best.items() if b != self.size]
        bound = min([*bounds, float(budget)])
        good = self._good(best)
        drawn = [self._drawn(good, rng) for _ in range(_CANDIDATES)] + good[:30]
        if self.model is None:
            return drawn[0], bound
        model = self._with(ahead)
        if self.size in best:
            reference = best[self.size][0][0]
            horizons = reference * _SHORTER
        else:
            reference, horizons = 1.3 * bound, bound * np.array([1.0, 0.86])

        def rated(points: Sequence[Point]) -> tuple[list[Point], Floats, Floats]:
            kept = [point for point in points if not self._diverges(point)] or list(points)
            mean, sd = model.predict(np.concatenate([self._at(self.size, point, horizons) for point in kept]))
            worth = ndtr(-mean / sd).reshape(len(kept), -1) * np.log(reference / horizons)
            worth *= self._stability(kept)[:, None]
            place = worth.argmax(axis=1)
            return kept, worth[np.arange(len(kept)), place], horizons[place]

        kept, worth, _ = rated(drawn)
        top = [kept[i] for i in np.argsort(-worth, kind="stable")[:4]]
        steps = (0.03, 0.08, 0.15)
        closer = [self._moved(top[i % len(top)], steps[rng.integers(3)], rng) for i in range(_REFINED)]
        kept, worth, chosen = rated([*top, *closer])
        if self.size in best and worth.max() < _WORTH:
            return best[self.size][0][2], reference
        return kept[int(worth.argmax())], float(chosen[int(worth.argmax())])

    def _with(self, ahead: Sequence[TrialRecord | Proposal]) -> Surrogate:
        """The model as if the trials that run had ended where it expects them."""
        assert self.model is not None
        if not ahead:
            return self.model
        x = np.concatenate([self._inputs(p.batch_size, p.point, p.max_steps) for p in ahead])
        model, y = self.model, self.model.predict(x)[0]
        variance = np.r_[model.variance, np.ones(len(y))]
        return Surrogate(np.vstack([model.x, x]), np.r_[model.y, y], variance, model.theta)

    def _good(self, best: Mapping[int, Sequence[tuple[float, str, Point]]]) -> list[Point]:
        """Good points of near batch sizes, as they are and with the learning rate that the ratio of sizes suggests."""
        good = []
        for size, roots in best.items():
            ratio = math.log(self.size / size)
            if abs(ratio) > _REACH:
                continue
            for _, _, point in roots[:4]:
                for share in (0.0,) if size == self.size else (0.0, 0.5, 1.0):
                    good.append(self._shifted(point, "lr", share * ratio))
                    if share:
                        good.append(self._shifted(point, "momentum", -share * ratio))
        if not good:
            order = sorted(zip(self.distances, self.seen, strict=True), key=lambda each: (each[0], each[1].trial_id))
            good = [self._untied(record) for _, record in order[:5]]
        return good

    def _shifted(self, point: Point, name: str, by: float) -> Point:
        box = _active(self.space, point).get(name)
        if not isinstance(box, Box) or by == 0:
            return point
        value = box.unscaled(box.scaled(float(point[name])) + by)
        return self.space.clip({**point, name: value})

    def _drawn(self, good: Sequence[Point], rng: np.random.Generator) -> Point:
        if good and rng.random() < _LOCAL:
            return self._moved(good[int(rng.integers(len(good)))], (0.05, 0.12, 0.25, 0.5)[rng.integers(4)], rng)
        return self.space.sample(rng)

    def _moved(self, point: Point, width: float, rng: np.random.Generator) -> Point:
        """A Gaussian step of so many length scales; half of the time lr follows momentum, as lr/(1 - momentum)."""
        point = self._switched(point, rng)
        moved, coupled = dict(point), rng.random() < 0.5
        for address, box in self.space.active(point).items():
            name = hyperparameter(address)
            if not isinstance(box, Box):
                continue
            step = rng.normal() * width
            if name == "end_factor":  # small factors differ by their logs, whatever the scale of their box
                moved[name] = (float(point[name]) + _FLAT_END) * math.exp(3 * step) - _FLAT_END
            else:
                moved[name] = box.unscaled(box.scaled(float(point[name])) + step * self.inputs.unit(name))
        moved = self.space.clip(moved)
        searched = {name for name, dimension in _active(self.space, point).items() if isinstance(dimension, Box)}
        if coupled and {"lr", "momentum"} <= searched and has_effective_lr(self.experiment.optimizer):
            shift = math.log1p(-float(moved["momentum"])) - math.log1p(-float(point["momentum"]))
            moved = self.space.clip({**moved, "lr": float(moved["lr"]) * math.exp(shift)})
        return moved

    def _switched(self, point: Point, rng: np.random.Generator) -> Point:
        """The point, now and then with another option of a choice; hyperparameters of one name keep their value."""
        choices = {n: d for n, d in self.space.root.items() if isinstance(d, Choice) and len(d.options) > 1}
        if not choices or rng.random() >= _SWITCH:
            return point
        name = sorted(choices)[rng.integers(len(choices))]
        others = sorted(option for option in choices[name].options if option != point[name])
        fresh = self.space.sample(rng)
        switched = {**point, name: others[rng.integers(len(others))]}
        found: Point = {}
        for leaf, dimension in _active(self.space, switched).items():
            if isinstance(dimension, Fixed):
                found[leaf] = dimension.value
            elif isinstance(dimension, Box):
                old = switched.get(leaf)
                number = old if isinstance(old, int | float) else fresh.get(leaf, dimension.from_unit(0.5))
                found[leaf] = dimension.clip(float(number))
            else:
                found[leaf] = switched[leaf]
        return found

    def _diverges(self, point: Point) -> bool:
        """Whether a trial nearby diverged at no higher a learning rate, and none that was stable had as high a one."""
        if "lr" not in point:
            return False
        near = self._near[np.abs(self._near[:, 1] - _inertia(point)) < 1.0]
        lr, diverged, stable = math.log(float(point["lr"])), near[near[:, 3] == 1, 0], near[near[:, 3] == 0, 0]
        return bool((diverged <= lr + _SAME).any() and not (stable + _SAME >= lr).any())

    def _stability(self, points: Sequence[Point]) -> Floats:
        """How probable it is that points do not diverge, by their neighbours in momentum and batch size; (n_points,).

        A diverged trial speaks against all higher learning rates, and less against lower ones; a stable one the other
        way round.
        """
        if not all("lr" in point for point in points):
            return np.ones(len(points))
        lr = np.log([float(point["lr"]) for point in points])[:, None]
        inertia = np.array([_inertia(point) for point in points])[:, None]
        of_lr, of_inertia, of_size, diverged = self._near.T
        towards = np.where(diverged == 1, of_lr - lr, lr - of_lr)  # how far the trial is from telling
        apart = np.maximum(towards, 0) ** 2 / _LR_APART**2 + (of_inertia - inertia) ** 2
        weight = np.exp(-0.5 * (apart + (of_size - math.log(self.size)) ** 2))
        against, total = (weight * (diverged == 1)).sum(axis=1), weight.sum(axis=1)
        found: Floats = (1 + total - against) / (1 + total)
        return found


def _active(space: SearchSpace, point: Point) -> dict[str, Box | Choice | Fixed]:
    """The dimensions that exist at a point, by hyperparameter."""
    return {hyperparameter(address): dimension for address, dimension in space.active(point).items()}


def _inertia(point: Point) -> float:
    return math.log1p(-float(point.get("momentum", 0.0)))


def _told(record: TrialRecord) -> bool:
    """Whether a trial tells the model something: it trained, and its last metric is a number."""
    return record.outcome.feasible and len(record.curve) > 1 and math.isfinite(record.curve[-1][1])


def _tells(record: TrialRecord) -> list[tuple[int, float]]:
    """Where on a trial's curve the model is told of it: at its end, and before where it was evaluated about there."""
    end = record.curve[-1][0]
    before = [(step, value) for step, value in record.curve[1:-1] if 0.5 <= step / end <= 0.9 and math.isfinite(value)]
    return [record.curve[-1], *sorted(before, key=lambda at: abs(math.log(at[0] / end / _BEFORE)))[:1]]


def by_horizon(space: SearchSpace) -> SearchSpace:
    """The space with the end of a searched decay as a share of a trial's horizon, whatever its box is."""
    for address, dimension in space.axes.items():
        if hyperparameter(address) == "decay_fraction" and isinstance(dimension, Box):
            space = space.replace(address, _ENDS)
    return space


def tied(point: Point, space: SearchSpace, steps: float, budget_steps: int) -> Point:
    """A point of a space by the horizon with its decay, where one is searched, tied to so many updates."""
    if not isinstance(_active(space, point).get("decay_fraction"), Box):
        return point
    decay = float(point["decay_fraction"]) * steps / budget_steps - warmup_share(point, budget_steps)
    return {**point, "decay_fraction": max(decay, 1 / budget_steps)}


def _crossing(grid: Floats, value: Floats, place: int) -> float:
    """Where a curve that is first at or below 0 at `place` comes there, on a straight line in log steps."""
    if place == 0:
        return float(grid[0])
    share = value[place - 1] / (value[place - 1] - value[place])
    return float(np.exp(np.log(grid[place - 1]) * (1 - share) + np.log(grid[place]) * share))
