"""One trial: train to the next evaluation, look, decide whether to go on. Neither Ray nor files."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Crossing, Direction, Target
from bcrit.tuner.training.device import is_out_of_memory
from bcrit.tuner.training.evaluation import is_near, next_coarse_evaluation, next_evaluation
from bcrit.tuner.training.settings import Run
from bcrit.tuner.training.supervised import SupervisedRun

# A metric to be minimised that is this many times its value at the start counts as diverged. Chosen, not studied.
_DIVERGED_FACTOR = 10.0


class Ended(Exception):
    """The training ended before its trial could; an outcome with its message."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome, self.message = outcome, message


class Returned(Exception):
    """The training function returned."""


@dataclass(frozen=True)
class Report:
    """A measurement of a training loop that is not ours and decides itself when it evaluates."""

    step: int  # optimizer updates made
    examples: int | None  # training items used by then; None = step x batch_size
    train_seconds: float  # in training by then
    evaluate_seconds: float  # in evaluation by then, as far as it is known
    metrics: Mapping[str, float]


class Reports(Protocol):
    """Where reports come from. The training stands still from a report until the next one is asked for."""

    def next(self, seconds: float) -> Report | None:
        """Let the training go on to its next report; None where none came within this time, so ask again.

        `Returned` and `Ended` are raised instead where the training is over.
        """
        ...

    def close(self) -> None:
        """Stop the training, however far it is."""
        ...


class Reported:
    """Reports that make one curve: steps rise, the target's metric is always there, and nothing counts after the end.

    A report beyond the horizon is left out: of where the target was crossed it says only that it was not before the
    report that came last, which is what the curve without it says too. A function that returns is at its horizon if
    another of its own intervals would pass it; otherwise it has failed, because nobody knows what it would have done.
    """

    def __init__(self, reports: Reports, metric: str, max_steps: int, at_horizon: Outcome) -> None:
        self._reports, self._metric = reports, metric
        self._max_steps, self._at_horizon = max_steps, at_horizon
        self._last: int | None = None
        self._interval = 0

    def next(self, seconds: float) -> Report | None:
        """The next report, checked, if one comes within this time; else None.

        Raises:
            Ended: the function returned, raised, died, fell silent, passed its horizon or made a report that cannot be.
        """
        try:
            report = self._reports.next(seconds)
        except Returned:
            raise self._returned() from None
        if report is None:
            return None
        if self._last is not None and report.step <= self._last:
            problem = f"steps must rise, but step {report.step} was reported after step {self._last}"
            raise Ended(Outcome.FAILED, f"{problem}; report each step once, counted in optimizer updates")
        if report.step > self._max_steps:
            late = f"the report at step {report.step} came after max_steps = {self._max_steps} and does not count"
            raise Ended(self._at_horizon, late)
        if self._metric not in report.metrics:
            names = ", ".join(sorted(report.metrics)) or "no metric at all"
            lacking = f"the report at step {report.step} lacks the target's metric '{self._metric}': it has {names}"
            raise Ended(Outcome.FAILED, lacking)
        self._interval = report.step - (self._last or 0)
        self._last = report.step
        return report

    def close(self) -> None:
        """Stop the training."""
        self._reports.close()

    def _returned(self) -> Ended:
        if self._last is None:
            return Ended(Outcome.FAILED, "the function returned without a single report")
        message = f"the function returned after its report at step {self._last} of {self._max_steps}"
        if self._last + self._interval > self._max_steps:
            return Ended(self._at_horizon, message)
        return Ended(Outcome.FAILED, f"{message}; it must train and report until it is stopped, or up to max_steps")


@dataclass(frozen=True)
class Measurement:
    """One evaluation."""

    step: int  # optimizer updates
    train_seconds: float  # in updates by then
    metrics: Mapping[str, float]
    examples: int | None = None  # what a training function counted itself; None = step x batch_size
    probes: Mapping[str, float | None] = field(default_factory=dict)  # columns beside the metrics; they decide nothing


@dataclass(frozen=True)
class Limits:
    """How far a trial may go."""

    max_steps: int  # horizon in optimizer updates
    capped: bool  # whether the horizon is the incumbent's: then passing it is `capped` and not `exhausted`
    # (step, cutoff) pairs in order; not being at least as good as the cutoff by then is `pruned`
    rungs: tuple[tuple[int, float], ...]
    resolution: float  # of the evaluation grid
    # whether reaching the target ends the trial; else it goes on to its horizon and has reached it however that ends
    stop_at_target: bool = True
    # whether the coarse grid will do until the metric is near the target; runs that report choose their steps
    # themselves
    coarse: bool = False

    @property
    def at_horizon(self) -> Outcome:
        """The outcome of a trial that reaches its horizon."""
        return Outcome.CAPPED if self.capped else Outcome.EXHAUSTED


@dataclass(frozen=True)
class Ending:
    """How a trial ended."""

    outcome: Outcome
    message: str | None  # why, where the outcome alone does not say it
    steps: int  # optimizer updates
    crossing: Crossing | None  # where the target was crossed, if it was
    best_value: float | None  # of the target's metric; None if there is none
    train_seconds: float  # in optimizer updates
    evaluate_seconds: float
    started_at: float  # seconds since 1970
    ended_at: float  # seconds since 1970
    # gradients of each example that an update takes; None where the run does not say
    gradients_per_example: int | None = None
    # rows computed at a time where a batch was divided; None where it was whole or the run does not say
    micro_batch: int | None = None
    # time in probes, which is in neither of the others; None where nothing was probed
    probe_seconds: float | None = None


@dataclass
class Trial:
    """A trial in progress; `advance` moves it on and returns what it measured."""

    # starts the training run, ours or one that reports (its errors are outcomes too)
    begin: Callable[[], Run | Reported]
    target: Target
    limits: Limits
    ending: Ending | None = None  # how it ended; None while it goes on
    _run: Run | Reported | None = None
    _step: int = 0
    _last_step: int = 0
    _first: float | None = None
    _best: float | None = None
    _crossing: Crossing | None = None
    _train_seconds: float = 0.0
    _evaluate_seconds: float = 0.0
    _probe_seconds: float | None = None
    _started_at: float = field(default_factory=time.time)

    def advance(self, seconds: float) -> list[Measurement]:
        """Go on for at least this long, at least one evaluation (of a run that does not report), or to the end.

        Returns the evaluations made, in order of steps. Errors of the training code become the ending.

        Raises:
            KeyboardInterrupt: not an error of the training code; so is SystemExit.
            SystemExit: likewise.
        """
        until, made = time.perf_counter() + seconds, []
        while self.ending is None:
            try:
                measurement = self._next_measurement(until - time.perf_counter())
            except (KeyboardInterrupt, SystemExit):
                raise
            except Ended as ended:
                self._end(ended.outcome, ended.message)
                break
            except BaseException as error:  # a user's code may raise anything, and it is an outcome
                self._end(*blame(error))
                break
            if measurement is not None:
                made.append(measurement)
                self._judge(measurement)
            if time.perf_counter() >= until:
                break
        return made

    def lower(self, max_steps: int) -> None:
        """Give a trial in progress the incumbent's horizon, which is lower than its own; one beyond it ends."""
        self.limits = replace(self.limits, max_steps=max_steps, capped=True)
        if self.ending is None and self._step >= max_steps:
            self._end(Outcome.CAPPED, None)

    def close(self) -> None:
        """Let go of the training run, wherever it is; a training function is stopped."""
        run, self._run = self._run, None
        if isinstance(run, Reported):
            run.close()

    def _next_measurement(self, seconds: float) -> Measurement | None:
        """The next evaluation; None where the training function has none to report within this time."""
        started = self._run is not None
        if self._run is None:
            self._run = self.begin()
        if not isinstance(self._run, Reported):
            return self._next_evaluation(self._run, started)
        report = self._run.next(seconds)
        if report is None:
            return None
        self._step, self._train_seconds = report.step, report.train_seconds
        self._evaluate_seconds = report.evaluate_seconds
        return Measurement(report.step, report.train_seconds, report.metrics, report.examples)

    def _next_evaluation(self, run: Run, started: bool) -> Measurement:
        if started:
            step = min(self._next_step(), self.limits.max_steps)
            begun = time.perf_counter()
            run.train(step - self._step)
            self._train_seconds += time.perf_counter() - begun
            self._step = step
        begun = time.perf_counter()
        metrics = {str(name): float(value) for name, value in run.evaluate().items()}
        self._evaluate_seconds += time.perf_counter() - begun
        if self.target.metric not in metrics:
            raise KeyError(f"the workload's evaluation has no metric '{self.target.metric}', only {sorted(metrics)}")
        return Measurement(self._step, self._train_seconds, metrics, probes=self._probed(run, metrics))

    def _next_step(self) -> int:
        near = self._first is None or self._best is None or is_near(self.target, self._first, self._best)
        following = next_coarse_evaluation if self.limits.coarse and not near else next_evaluation
        return following(self._step, self.limits.resolution)

    def _probed(self, run: Run, metrics: Mapping[str, float]) -> Mapping[str, float | None]:
        """What our own loop measures on the side; nothing of weights that an evaluation found broken."""
        if not isinstance(run, SupervisedRun) or any(math.isnan(value) for value in metrics.values()):
            return {}
        crosses = self._crossing is None and self.target.crosses(self._step, metrics[self.target.metric])
        begun = time.perf_counter()
        found = run.probe(last=crosses or self._step >= self.limits.max_steps)
        if found:
            self._probe_seconds = (self._probe_seconds or 0.0) + time.perf_counter() - begun
        return found

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
        if self._crossing is None and target.crosses(step, value):
            self._crossing = Crossing(steps=step, steps_low=previous)
            if self.limits.stop_at_target:
                return self._end(Outcome.REACHED, None)
        if target.direction is Direction.MINIMIZE and 0 < self._first * _DIVERGED_FACTOR < value:
            message = f"{target.metric} was {value:.3g} at step {step}, {self._first:.3g} at the start"
            return self._end(Outcome.DIVERGED, message)
        for rung, cutoff in self.limits.rungs:
            if previous < rung <= step and target.direction.better(cutoff, self._best):
                message = f"at step {step} the best {target.metric} was {self._best:.4g}; going on needed {cutoff:.4g}"
                return self._end(Outcome.PRUNED, message)
        if step >= self.limits.max_steps:
            return self._end(self.limits.at_horizon, None)
        return None

    def _end(self, outcome: Outcome, message: str | None) -> None:
        self.ending = Ending(
            outcome=outcome if self._crossing is None else Outcome.REACHED,
            # An error may quote a file's name that is no text (`surrogateescape`), which no table could hold.
            message=None if message is None else message.encode(errors="backslashreplace").decode(),
            steps=self._step,
            crossing=self._crossing,
            best_value=self._best,
            train_seconds=self._train_seconds,
            evaluate_seconds=self._evaluate_seconds,
            started_at=self._started_at,
            ended_at=time.time(),
            gradients_per_example=_count(self._run, "gradients_per_example"),
            micro_batch=_count(self._run, "micro_batch"),
            probe_seconds=self._probe_seconds,
        )
        self.close()


def _count(run: Run | Reported | None, name: str) -> int | None:
    """A number that our own loop tells beside the protocol; a user's run may have something else by its name."""
    try:
        value = getattr(run, name, None)
    except Exception:
        return None
    return value if type(value) is int else None


def blame(error: BaseException) -> tuple[Outcome, str]:
    """Tell running out of memory from other errors of the training code."""
    name, text = type(error).__name__, str(error)
    memory = is_out_of_memory(error) or name == "OutOfMemoryError"
    outcome = Outcome.OUT_OF_MEMORY if memory else Outcome.FAILED
    return outcome, f"{name}: {text}"[:500]


def as_row(measurement: Measurement, trial_id: str, batch_size: int) -> dict[str, Any]:
    """A measurement as a row of the measurements table."""
    return {
        **measurement.metrics,
        **measurement.probes,
        "trial_id": trial_id,
        "step": measurement.step,
        "examples": measurement.step * batch_size if measurement.examples is None else measurement.examples,
        "train_seconds": measurement.train_seconds,
    }
