"""Where the next trial of one study lies: each sampler is a pure function of the finished trials it may know of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from search_spaces.space import Point, SearchSpace
from search_spaces.target import Target
from tuner.protocol.coordinates import couples
from tuner.protocol.local import Incumbent, local_point
from tuner.protocol.proposal import TrialRecord
from tuner.protocol.response import merit
from tuner.protocol.tpe import tpe_point


@dataclass(frozen=True)
class Question:
    """What a sampler is asked.

    Attributes:
        space: the study's search space as it is now.
        optimizer: what makes the updates.
        known: finished search trials of the study that the proposal may depend on.
        number: place of the new trial in its study.
        batch_size: the study.
        seed: the experiment's seed.
        start: length of the Sobol start.
        trials: feasible trials of the search.
        budget_steps: the study's step budget.
        target: what trials should reach.
    """

    space: SearchSpace
    optimizer: str
    known: Sequence[TrialRecord]
    number: int
    batch_size: int
    seed: int
    start: int
    trials: int
    budget_steps: int
    target: Target


def sobol(question: Question) -> Point:
    """The next point of a scrambled Sobol sequence, the same sequence at every batch size (Shallue et al. 2018)."""
    axes = list(question.space.axes)
    if not axes:
        return question.space.from_unit({})
    sequence = qmc.Sobol(len(axes), scramble=True, rng=np.random.default_rng(question.seed))
    if question.number:
        sequence.fast_forward(question.number)  # scipy overflows at 0
    return question.space.from_unit(dict(zip(axes, sequence.random(1)[0].tolist(), strict=True)))


def random(question: Question) -> Point:
    """A uniform draw in the scaled coordinates, independent at every batch size."""
    return question.space.sample(np.random.default_rng([question.seed, question.batch_size, question.number]))


def tpe(question: Question) -> Point:
    """The Sobol start; then multivariate TPE and, once a trial reached, a step around the best point by turns."""
    if question.number < question.start or not question.known or not question.space.axes:
        return sobol(question)
    rng = np.random.default_rng([question.seed, question.batch_size, question.number])
    best = min(question.known, key=lambda record: merit(record, question.target))
    if best.steps_to_target is not None and question.number % 2:
        progress = min(1.0, (question.number - question.start) / max(1, question.trials - question.start))
        incumbent = Incumbent(question.space.clip(best.point), best.steps_to_target, question.budget_steps)
        coupled = couples(question.space, question.optimizer)
        return local_point(question.space, incumbent, coupled, progress, rng)
    seed = int(rng.integers(2**31))
    return tpe_point(question.space, question.optimizer, question.known, question.target, seed)


SAMPLERS: dict[str, Callable[[Question], Point]] = {"tpe": tpe, "sobol": sobol, "random": random}

__all__ = ["SAMPLERS", "Question"]
