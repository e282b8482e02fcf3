"""Runs that obey the theory exactly, made up: N grows like the square root of progress."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from bcrit.analysis.questions.adaptive.measure import Measured, measure
from bcrit.analysis.questions.adaptive.result import Adaptive, ScheduleResult, Trained

S_MIN, E_MIN, GAMMA = 40.0, 40.0 * 64.0, 24 / 25
SIZES = (8, 16, 32, 64, 128, 256, 512)
SCHEDULES = (
    *(ScheduleResult(f"B = {b:,}", "fixed", b, None, 0, 0, None, None) for b in SIZES),
    *(ScheduleResult(f"r = {r:g}", "noise", None, r, 0, 0, None, None) for r in (16.0, 64.0, 256.0)),
    ScheduleResult("ramp 0:8", "ramp", None, None, 0, 0, None, None),
)


def noise(s: float) -> float:
    """N(s), of which the mean over progress is 64."""
    return 64.0 * 1.5 * math.sqrt(s / S_MIN)


def run(one: ScheduleResult, number: int, log_error: float = 0.0) -> Trained:
    """A run that follows the theory, its steps and examples times the same error."""
    grid = np.geomspace(1e-4, 1.0, 60) * S_MIN
    scales = [noise(float(s)) for s in grid]
    if one.kind == "noise":
        sizes = [math.sqrt((one.exchange_rate or 1.0) * n) for n in scales]
    else:
        sizes = [float(one.batch_size or 8)] * len(scales)
    rates = [1 + n / b for n, b in zip(scales, sizes, strict=True)]
    parts = np.diff(grid) * (np.array(rates[1:]) + np.array(rates[:-1])) / 2
    at = grid[0] * rates[0] + np.concatenate([[0.0], np.cumsum(parts)])
    if one.kind == "noise":
        q, r = math.sqrt(GAMMA * S_MIN * E_MIN), one.exchange_rate or 1.0
        steps, examples = S_MIN + q / math.sqrt(r), E_MIN + q * math.sqrt(r)
    else:
        steps, examples = S_MIN + E_MIN / sizes[0], E_MIN + S_MIN * sizes[0]
    off = math.exp(log_error)
    return Trained(
        schedule=one.schedule,
        number=number,
        seed=11 + number,
        outcome="reached",
        message=None,
        steps=round(1e6 * steps * off),
        examples=round(1e6 * examples * off),
        at_steps=tuple(round(1e6 * t) for t in at),
        at_examples=tuple(round(1e6 * t * sizes[0]) for t in at),
        batch_sizes=tuple(round(1e3 * b) for b in sizes),
        noise_scales=tuple(1e3 * n / 2 for n in scales),  # half of what it should be: the factor is 2
    )


def runs(n_seeds: int = 5, spread: float = 0.03) -> list[Trained]:
    stream = np.random.default_rng(0)
    return [run(one, n, spread * stream.standard_normal()) for one in SCHEDULES for n in range(n_seeds)]


def measured(n_seeds: int = 5, spread: float = 0.03) -> Measured:
    found = measure(SCHEDULES, runs(n_seeds, spread), 2.0)
    assert found is not None
    return found


def adaptive(n_seeds: int = 5, spread: float = 0.03, **more: Any) -> Adaptive:
    made = measured(n_seeds, spread)
    along = made.frontier.curve()
    found = Adaptive(
        target="loss < 1",
        unit="examples",
        optimizer="sgd",
        tuned_at=SIZES,
        rates=tuple(0.01 * b for b in SIZES),
        kept={"momentum": 0.9},
        kept_from=64,
        low=8,
        high=512,
        micro_batch=4,
        noise="b_simple",
        factor=2.0,
        n_seeds=n_seeds,
        deterministic=False,
        s_min=made.frontier.hyperbola.s_min,
        e_min=made.frontier.hyperbola.e_min,
        scatter=made.frontier.scatter,
        misfit=made.misfit,
        resolution=1e-6,
        frontier_steps=along[0],
        frontier_examples=along[1],
        **made.pooled,
        answers=made.answers,
        runs=tuple(runs(n_seeds, spread)),
        seed=0,
        device="cpu",
        torch="2.0",
        notes=("one note",),
    )
    return replace(found, **more)
