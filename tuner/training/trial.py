"""One trial: train to the next evaluation, look, decide whether to go on. Neither Ray nor files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.outcome import Outcome
from search_spaces.target import Crossing, Direction, Target
from tuner.training.evaluation import next_evaluation
from tuner.workloads.protocol import Run

# A metric to be minimised that is this many times its value at the start counts as diverged. Chosen, not studied.
_DIVERGED_FACTOR = 10.0


@dataclass(frozen=True)
class Measurement:
    """One evaluation: step in optimizer updates, seconds in updates by then, the workload's metrics."""

    step: int
    train_seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Limits:
    """How far a trial may go.

    Attributes:
        max_steps: horizon in optimizer updates.
        capped: whether the horizon is the incumbent's: then passing it is `capped` and not `exhausted`.
        rungs: (step, cutoff) pairs in order; not being at least as good as the cutoff by then is `pruned`.
        resolution: of the evaluation grid.
    """

    max_steps: int
    capped: bool
    rungs: tuple[tuple[int, float], ...]
    resolution: float


@dataclass(frozen=True)
class Ending:
    """How a trial ended.

    Attributes:
        outcome: what happened.
        message: why, where the outcome alone does not say it.
        steps: optimizer updates made.
        crossing: where the target was crossed, if it was.
        best_value: best value of the target's metric; None if there is none.
        train_seconds: time in optimizer updates.
        evaluate_seconds: time in evaluation.
        started_at: seconds since 1970.
        ended_at: seconds since 1970.
    """

    outcome: Outcome
    message: str | None
    steps: int
    crossing: Crossing | None
    best_value: float | None
    train_seconds: float
    evaluate_seconds: float
    started_at: float
    ended_at: float


@dataclass
class Trial:
    """A trial in progress; `advance` moves it on and returns what it measured.

    Attributes:
        begin: starts the training run (its errors are outcomes too).
        target: what it should reach.
        limits: how far it may go.
        ending: how it ended; None while it goes on.
    """

    begin: Callable[[], Run]
    target: Target
    limits: Limits
    ending: Ending | None = None
    _run: Run | None = None
    _step: int = 0
    _last_step: int = 0
    _first: float | None = None
    _best: float | None = None
    _train_seconds: float = 0.0
    _evaluate_seconds: float = 0.0
    _started_at: float = field(default_factory=time.time)

    def advance(self, seconds: float) -> list[Measurement]:
        """Go on for at least this long, at least one evaluation, or to the end.

        Args:
            seconds: wall-clock time after which to return.

        Returns:
            The evaluations made, in order of steps. Errors of the training code become the ending.

        Raises:
            KeyboardInterrupt: not an error of the training code; so is SystemExit.
            SystemExit: likewise.
        """
        until, made = time.perf_counter() + seconds, []
        while self.ending is None:
            try:
                made.append(self._next_evaluation())
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a user's code may raise anything, and it is an outcome
                self._end(*_blame(error))
                break
            self._judge(made[-1])
            if time.perf_counter() >= until:
                break
        return made

    def _next_evaluation(self) -> Measurement:
        if self._run is None:
            self._run = self.begin()
        else:
            step = min(next_evaluation(self._step, self.limits.resolution), self.limits.max_steps)
            begun = time.perf_counter()
            self._run.train(step - self._step)
            self._train_seconds += time.perf_counter() - begun
            self._step = step
        begun = time.perf_counter()
        metrics = {name: float(value) for name, value in self._run.evaluate().items()}
        self._evaluate_seconds += time.perf_counter() - begun
        if self.target.metric not in metrics:
            raise KeyError(f"the workload's evaluation has no metric '{self.target.metric}', only {sorted(metrics)}")
        return Measurement(self._step, self._train_seconds, metrics)

    def _judge(self, measurement: Measurement) -> None:
        """Decide what one evaluation means. The evaluation before any step is recorded but decides nothing."""
        value, step, target = measurement.metrics[self.target.metric], measurement.step, self.target
        previous = self._last_step
        self._last_step = step
        # Any NaN is divergence, also of a metric beside the target: with NaN weights an accuracy stays finite. Infinity
        # counts in the target alone: a perplexity may overflow at the start of a healthy run.
        broken = [name for name, v in measurement.metrics.items() if math.isnan(v)]
        if broken or math.isinf(value):
            name = broken[0] if broken else target.metric
            return self._end(Outcome.DIVERGED, f"{name} became {measurement.metrics[name]:g} by step {step}")
        if self._first is None:
            self._first = value
        if self._best is None or target.direction.better(value, self._best):
            self._best = value
        if target.crosses(step, value):
            return self._end(Outcome.REACHED, None, Crossing(steps=step, steps_low=previous))
        if target.direction is Direction.MINIMIZE and 0 < self._first * _DIVERGED_FACTOR < value:
            message = f"{target.metric} was {value:.3g} at step {step}, {self._first:.3g} at the start"
            return self._end(Outcome.DIVERGED, message)
        for rung, cutoff in self.limits.rungs:
            if previous < rung <= step and target.direction.better(cutoff, self._best):
                message = f"at step {rung} the best {target.metric} was {self._best:.4g}; going on needed {cutoff:.4g}"
                return self._end(Outcome.PRUNED, message)
        if step >= self.limits.max_steps:
            return self._end(Outcome.CAPPED if self.limits.capped else Outcome.EXHAUSTED, None)
        return None

    def _end(self, outcome: Outcome, message: str | None, crossing: Crossing | None = None) -> None:
        self.ending = Ending(
            outcome=outcome,
            message=message,
            steps=self._step,
            crossing=crossing,
            best_value=self._best,
            train_seconds=self._train_seconds,
            evaluate_seconds=self._evaluate_seconds,
            started_at=self._started_at,
            ended_at=time.time(),
        )
        self._run = None


def _blame(error: BaseException) -> tuple[Outcome, str]:
    """Tell running out of memory from other errors of the training code."""
    name, text = type(error).__name__, str(error)
    memory = isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in text.lower()
    outcome = Outcome.OUT_OF_MEMORY if memory else Outcome.FAILED
    return outcome, f"{name}: {text}"[:500]


def as_row(measurement: Measurement, trial_id: str, batch_size: int) -> dict[str, Any]:
    """A measurement as a row of the measurements table."""
    return {
        **measurement.metrics,
        "trial_id": trial_id,
        "step": measurement.step,
        "examples": measurement.step * batch_size,
        "train_seconds": measurement.train_seconds,
    }
