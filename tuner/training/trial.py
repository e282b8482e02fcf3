"""One trial: train to the next evaluation, look, decide whether to go on. Neither Ray nor files."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Crossing, Direction, Target
from bcrit.tuner.training.batch_schedule import Progress
from bcrit.tuner.training.data import is_out_of_memory
from bcrit.tuner.training.reported import Died, Ended, Reported, RunState
from bcrit.tuner.training.settings import Resumable, Run, is_near, next_evaluation
from bcrit.tuner.training.supervised import SupervisedRun

# A metric to be minimised that is this many times its value at the start counts as diverged. Chosen, not studied.
_DIVERGED_FACTOR = 10.0


class Preempted(Exception):
    """The trial was asked to leave its place, and what it had made is kept as far as that can be."""


@dataclass(frozen=True)
class Measurement:
    """One evaluation."""

    step: int  # optimizer updates
    train_seconds: float  # in updates by then
    metrics: Mapping[str, float]
    # what a training function, or a run whose batch sizes change, counted itself; None = step x batch_size
    examples: int | None = None
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
class Keeping:
    """How the checkpoints of a trial are kept."""

    every: float  # seconds between two of them, at least
    write: Callable[[RunState], None]  # keeps one in the place of that before it
    asked: Callable[[], bool] = lambda: False  # whether the trial must leave its place


# A run whose updates can be divided is asked for about so many seconds of them at a time, so that a checkpoint comes
# when it is due and a notice is heard; shorter where checkpoints are closer. Chosen: it costs one wait for the device.
_SLICE_SECONDS = 1.0


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
    # time in making and writing checkpoints, which is in none of the others; None where there was none
    checkpoint_seconds: float | None = None
    examples: int | None = None  # used, where batch sizes changed; None = steps x batch_size
    memory: int | None = None  # bytes that it held at most; None where that is not known


@dataclass
class Trial:
    """A trial in progress; `advance` moves it on and returns what it measured."""

    # starts the training run, ours or one that reports (its errors are outcomes too)
    begin: Callable[[], Run | Reported]
    target: Target
    limits: Limits
    ending: Ending | None = None  # how it ended; None while it goes on
    keeping: Keeping | None = None  # None = no checkpoint is made
    checkpoint: Callable[[], RunState | None] = lambda: None  # reads what was kept to go on from, if anything was
    resumed_at: int = 0  # updates that it had made when it went on from a checkpoint
    _run: Run | Reported | None = None
    _step: int = 0  # of the last evaluation
    _beyond: int = 0  # updates made since then
    _step_seconds: float | None = None  # of one update, lately
    _made: list[Measurement] = field(default_factory=list)  # to be kept with a checkpoint
    _last_step: int = 0
    _first: float | None = None
    _best: float | None = None
    _crossing: Crossing | None = None
    _train_seconds: float = 0.0
    _evaluate_seconds: float = 0.0
    _probe_seconds: float | None = None
    _checkpoint_seconds: float | None = None
    _examples: int | None = None
    _started_at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._judged = self.target.judge()
        self._kept_at = time.monotonic()

    def advance(self, seconds: float) -> list[Measurement]:
        """Go on for at least this long, or to the end.

        Returns the evaluations made, in order of steps, which may be none; first those of the checkpoint that it goes
        on from. Errors of the training code become the ending, but for a KeyboardInterrupt, a SystemExit, `Died` and
        `Preempted`, which are none.
        """
        until, made = time.perf_counter() + seconds, list[Measurement]()
        while self.ending is None:
            try:
                if self._run is None:
                    made += self._begun()
                    continue
                measurement = self._next_measurement(self._run, until - time.perf_counter())
                if measurement is not None:
                    made.append(measurement)
                    self._made.append(measurement)
                    self._judge(measurement)
                if self.ending is None and (measurement is not None or not isinstance(self._run, Reported)):
                    self._keep(self._run)
            except (KeyboardInterrupt, SystemExit, Died, Preempted):
                raise
            except Ended as ended:
                self._end(ended.outcome, ended.message)
                break
            except BaseException as error:  # a user's code may raise anything, and it is an outcome
                self._end(*blame(error))
                break
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

    def _begun(self) -> list[Measurement]:
        """Begin the run, or go on from the checkpoint; gives the evaluations that were made by then.

        They are judged again, by the limits of now. So all that follows from them need not be kept, and a horizon that
        has fallen meanwhile ends the trial where it would have ended.
        """
        self._run = run = self.begin()
        made, kept = list[Measurement](), self.checkpoint() if isinstance(run, Resumable | Reported) else None
        if kept is None or not isinstance(run, Resumable | Reported):
            return made
        run.load(kept["run"])
        self._evaluate_seconds, self._probe_seconds = kept["evaluate_seconds"], kept["probe_seconds"]
        self._checkpoint_seconds, self._started_at = kept["checkpoint_seconds"], kept["started_at"]
        for facts in kept["made"]:
            measurement = Measurement(**facts)
            self._step, self._train_seconds = measurement.step, measurement.train_seconds
            self._examples = None if isinstance(run, Reported) else measurement.examples
            made.append(measurement)
            self._judge(measurement)
            if self.ending is not None:
                break
        else:
            self._made, self._beyond, self._train_seconds = list(made), kept["beyond"], kept["train_seconds"]
        self.resumed_at = self._step + self._beyond
        return made

    def _keep(self, run: Run | Reported) -> None:
        """Make a checkpoint where one is due, and leave the place where that is asked for."""
        if self.keeping is None:
            return
        asked = self.keeping.asked()
        if not asked and time.monotonic() - self._kept_at < self.keeping.every:
            return
        begun = time.perf_counter()
        state = run.state() if isinstance(run, Resumable | Reported) else None
        if state is not None:
            self.keeping.write(
                {
                    "run": state,
                    "made": [asdict(measurement) for measurement in self._made],
                    "beyond": self._beyond,
                    "train_seconds": self._train_seconds,
                    "evaluate_seconds": self._evaluate_seconds,
                    "probe_seconds": self._probe_seconds,
                    "checkpoint_seconds": self._checkpoint_seconds,
                    "started_at": self._started_at,
                }
            )
            self._checkpoint_seconds = (self._checkpoint_seconds or 0.0) + time.perf_counter() - begun
        self._kept_at = time.monotonic()
        if asked:
            raise Preempted

    def _next_measurement(self, run: Run | Reported, seconds: float) -> Measurement | None:
        """The next evaluation; None where there is none within this time."""
        if not isinstance(run, Reported):
            return self._next_evaluation(run)
        report = run.next(seconds)
        if report is None:
            return None
        self._step, self._train_seconds = report.step, report.train_seconds
        self._evaluate_seconds = report.evaluate_seconds
        return Measurement(report.step, report.train_seconds, report.metrics, report.examples)

    def _next_evaluation(self, run: Run) -> Measurement | None:
        if self._made:
            near = self._first is None or self._best is None or is_near(self.target, self._first, self._best)
            step = next_evaluation(self._step, self.limits.resolution, coarse=self.limits.coarse and not near)
            left = min(step, self.limits.max_steps) - self._step - self._beyond
            steps = min(left, self._slice(run))
            begun = time.perf_counter()
            run.train(steps)
            seconds = time.perf_counter() - begun
            self._train_seconds += seconds
            self._step_seconds = seconds / max(1, steps)
            self._beyond += steps
            if steps < left:
                return None
            self._step, self._beyond = self._step + self._beyond, 0
        begun = time.perf_counter()
        metrics = {str(name): float(value) for name, value in run.evaluate().items()}
        self._evaluate_seconds += time.perf_counter() - begun
        if self.target.metric not in metrics:
            raise KeyError(f"the workload's evaluation has no metric '{self.target.metric}', only {sorted(metrics)}")
        probes, progress = self._probed(run, metrics), getattr(run, "progress", None)
        if not isinstance(progress, Progress):
            return Measurement(self._step, self._train_seconds, metrics, probes=probes)
        self._examples = progress.examples
        followed = {"update_batch_size": progress.batch_size, "running_noise_scale": progress.noise_scale}
        return Measurement(self._step, self._train_seconds, metrics, progress.examples, {**probes, **followed})

    def _slice(self, run: Run) -> int:
        """How many updates to make before a checkpoint may be due."""
        if self.keeping is None or not isinstance(run, Resumable):
            return self.limits.max_steps
        seconds = min(_SLICE_SECONDS, self.keeping.every / 4)
        return 1 if self._step_seconds is None else max(1, int(seconds / max(self._step_seconds, 1e-9)))

    def _probed(self, run: Run, metrics: Mapping[str, float]) -> Mapping[str, float | None]:
        """What our own loop measures on the side; nothing of weights that an evaluation found broken."""
        if not isinstance(run, SupervisedRun) or any(math.isnan(value) for value in metrics.values()):
            return {}
        judged = self._judged(self._step, metrics[self.target.metric])
        crosses = self._crossing is None and self.target.crosses(self._step, judged)
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
        if self._crossing is None and target.crosses(step, self._judged(step, value)):
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
            checkpoint_seconds=self._checkpoint_seconds,
            examples=self._examples,
            memory=_count(self._run, "memory"),
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
    name = type(error).__name__
    memory = is_out_of_memory(error) or name == "OutOfMemoryError"
    return Outcome.OUT_OF_MEMORY if memory else Outcome.FAILED, f"{name}: {error}"[:500]


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
