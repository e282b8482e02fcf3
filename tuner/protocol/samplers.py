"""Where the next trial of one study lies: each sampler is a pure function of the finished trials it may know of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from bcrit.search_spaces.space import Point, SearchSpace
from bcrit.tuner.protocol.coordinates import couples
from bcrit.tuner.protocol.known import Known
from bcrit.tuner.protocol.local import Incumbent, local_point

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """What a sampler is asked.

    Attributes:
        space: the study's search space as it is now.
        optimizer: what makes the updates.
        known: the finished search trials of the study that the proposal may depend on.
        number: place of the new trial in its study.
        batch_size: the study.
        seed: the experiment's seed.
        start: length of the Sobol start.
        trials: feasible trials of the search.
        budget_steps: the study's step budget.
    """

    space: SearchSpace
    optimizer: str
    known: Known
    number: int
    batch_size: int
    seed: int
    start: int
    trials: int
    budget_steps: int


def sobol(question: Question) -> Point:
    """The next point of a scrambled Sobol sequence, the same sequence at every batch size (Shallue et al. 2018)."""
    axes = list(question.space.axes)
    if not axes:
        return question.space.from_unit({})
    points = _sobol_points(len(axes), question.seed, (question.number + 1).bit_length())
    return question.space.from_unit(dict(zip(axes, points[question.number].tolist(), strict=True)))


@lru_cache(maxsize=4)
def _sobol_points(axes: int, seed: int, doublings: int) -> Floats:
    """The first 2^doublings points: to jump to one of them costs more than to draw them all."""
    points: Floats = qmc.Sobol(axes, scramble=True, rng=np.random.default_rng(seed)).random_base2(doublings)
    return points  # (2^doublings, axes)


def random(question: Question) -> Point:
    """A uniform draw in the scaled coordinates, independent at every batch size."""
    return question.space.sample(np.random.default_rng([question.seed, question.batch_size, question.number]))


def tpe(question: Question) -> Point:
    """The Sobol start; then multivariate TPE and, once a trial reached, a step around the best point by turns."""
    best = question.known.best
    if question.number < question.start or best is None or not question.space.axes:
        return sobol(question)
    rng = np.random.default_rng([question.seed, question.batch_size, question.number])
    if best.steps_to_target is not None and question.number % 2:
        progress = min(1.0, (question.number - question.start) / max(1, question.trials - question.start))
        incumbent = Incumbent(question.space.clip(best.point), best.steps_to_target, question.budget_steps)
        coupled = couples(question.space, question.optimizer)
        return local_point(question.space, incumbent, coupled, progress, rng)
    seed = int(rng.integers(2**31))
    return question.known.tpe(question.space, question.optimizer).point(seed)


SAMPLERS: dict[str, Callable[[Question], Point]] = {"tpe": tpe, "sobol": sobol, "random": random}

__all__ = ["SAMPLERS", "Question"]
