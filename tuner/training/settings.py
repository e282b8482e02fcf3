"""What one training run is: all that decides it, the learning rate of every update, and when it is evaluated."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.options import Execution, Probes
from bcrit.search_spaces.target import Target

if TYPE_CHECKING:
    from torch import Tensor

    from bcrit.tuner.training.batch_schedule import BatchPlan
    from bcrit.tuner.training.parallel import Parallel


@dataclass(frozen=True)
class Settings:
    """What one training run is: nothing else may influence its curve."""

    batch_size: int  # training items an optimizer update
    seed: int  # of initialisation and data order; the same seed gives the same ones at every batch size
    optimizer: str  # a name from `bcrit.search_spaces.presets.OPTIMIZERS`
    # `lr`, `momentum` (where the optimizer has it), `schedule`, `end_factor`, `decay_steps` (optimizer updates; the
    # last two only where the schedule has them), and the workload's own
    hyperparameters: Mapping[str, Value]
    execution: Execution = Execution()  # how an update is computed
    # the GPUs that the run was given, or its share of one; 0 keeps it on the CPU whatever the machine has
    gpus: float = 0.0
    probes: Probes = Probes()  # what is measured on the side; it does not influence the curve
    # weights (and buffers, a whole state of the model) to begin at; None = those that the model is initialised with.
    # All else begins as it would there: the optimizer's state, the schedule, the order of the data, the random numbers
    start: Mapping[str, Tensor] | None = field(default=None, repr=False)
    # this process among those that make each update together; None = it is alone
    parallel: Parallel | None = field(default=None, repr=False, compare=False)
    # batch sizes that change along the run, and their learning rates; None = `batch_size` throughout
    batches: BatchPlan | None = None

    def number(self, name: str, default: float = 0.0) -> float:
        """A numeric hyperparameter, or the default where it is not set."""
        return float(self.hyperparameters.get(name, default))


@runtime_checkable
class Run(Protocol):
    """One training run in progress. Everything is derived from its `Settings`; nothing outlives it."""

    def train(self, steps: int) -> None:
        """Make this many optimizer updates, and return when they are done: the time taken is their time."""

    def evaluate(self) -> Mapping[str, float]:
        """The workload's metrics at the current step, without changing what training does next."""


@runtime_checkable
class Resumable(Run, Protocol):
    """A run that can go on in another process; how its updates are divided into calls of `train` must not matter."""

    def state(self) -> Mapping[str, Any] | None:
        """All that decides how it goes on (`RunState`); None where that cannot be said."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there: of a run that has just begun, with the same settings."""


Parameters = Mapping[str, Value]


def _time(steps: float, decay_steps: float) -> float:
    """The share of the decay that is over, in [0, 1]."""
    return 1.0 if steps >= decay_steps else steps / decay_steps


def _towards(parameters: Parameters, done: float) -> float:
    return 1.0 - (1.0 - float(parameters["end_factor"])) * done


def _linear(steps: float, decay_steps: float, parameters: Parameters) -> float:
    """1 - (1 - end_factor) t, with t = steps / decay_steps (Shallue et al. 2018)."""
    return _towards(parameters, _time(steps, decay_steps))


def _cosine(steps: float, decay_steps: float, parameters: Parameters) -> float:
    """1 - (1 - end_factor) (1 - cos(pi t)) / 2 (Loshchilov and Hutter 2016, SGDR, without restarts)."""
    return _towards(parameters, (1.0 - math.cos(math.pi * _time(steps, decay_steps))) / 2.0)


def _wsd(steps: float, decay_steps: float, parameters: Parameters) -> float:
    """1 until t = stable_share, then on a straight line to end_factor at t = 1 (Haegele et al. 2024, "linear")."""
    stable = float(parameters["stable_share"])
    return _towards(parameters, max(0.0, (_time(steps, decay_steps) - stable) / (1.0 - stable)))


def _step(steps: float, decay_steps: float, parameters: Parameters) -> float:
    """drop_factor^k after k of `drops` drops: the first at first_drop decay_steps, the last at decay_steps.

    The others lie evenly between, each at the nearest whole update; a single drop is the last. With first_drop 1/2,
    three of them stand at 1/2, 3/4 and 1 (the boundaries of He et al. 2015 and, nearly, of Hoffer et al. 2017).
    """
    drops, first = int(parameters["drops"]), float(parameters["first_drop"])
    shares = (1.0 - (1.0 - first) * (drops - k) / max(1, drops - 1) for k in range(1, drops + 1))
    made = sum(steps >= round(share * decay_steps) for share in shares)
    return float(parameters["drop_factor"]) ** made


DECAYS: Final[dict[str, Callable[[float, float, Parameters], float]]] = {
    "linear": _linear,
    "cosine": _cosine,
    "step": _step,
    "wsd": _wsd,
}
"""By schedule, the rate's factor after `steps` of the `decay_steps` updates; all but `constant`."""


def learning_rate(hyperparameters: Parameters, step: int) -> float:
    """The learning rate of the update that follows `step` updates; the first update has step 0.

        lr(t) = lr (t + 1) / (warmup_steps + 1)              for t < warmup_steps
        lr(t) = lr f(t - warmup_steps, decay_steps)          from then on

    with f from `DECAYS`, which is 1 at 0 and stays where it is at decay_steps; `constant` never falls. A warm-up is
    thus `warmup_steps` updates below lr, the first of which already moves the weights (Goyal et al. 2017 begin above 0
    too), and a decay takes its full length after it.
    """
    lr = float(hyperparameters["lr"])
    warmup = float(hyperparameters.get("warmup_steps", 0))
    schedule = str(hyperparameters.get("schedule", "constant"))
    if schedule != "constant" and schedule not in DECAYS:
        raise ValueError(f"there is no schedule {schedule!r}; choose one of constant, {', '.join(DECAYS)}")
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if schedule == "constant":
        return lr
    return lr * DECAYS[schedule](step - warmup, float(hyperparameters["decay_steps"]), hyperparameters)


_COARSE: Final = 0.2
"""Largest interval of the coarse grid as a share of the step. On the curves of examples/digits.yaml 0.1 keeps 68 % of
the search's evaluations, 0.2 56 % and 0.3 49 %. A trial's limits stand on this grid: the wider it is, the later they
come."""

_NEAR: Final = 0.1
"""Share of the way from the start to the target that is still to go where the fine grid begins. On 171 curves of that
example no crossing moved with 0.1, and two did, by at most 12 % of their steps, with 0.05."""


def next_evaluation(step: int, resolution: float, coarse: bool = False) -> int:
    """The evaluation after the one at `step`, on the grid that all trials of an experiment share.

    Intervals grow with the step: `max(1, floor(resolution x step))`. A crossing at S is then known to one step or to
    the share `resolution` of S, whichever is larger, at every batch size and before anything is known of S. A fixed
    interval for all batch sizes would bias s_min, and with it b_crit.

    The coarse grid is for a search trial far from its target. It keeps some of these points, the same for all trials:
    the next one is the first that lies 1/5 of `step`, and at least one update, ahead. Up to step 50 or so the grid has
    every step, and small models then take longer to be evaluated than to be trained, which buys nothing there.
    """
    if not coarse:
        return step + max(1, int(resolution * step))
    wanted = next_evaluation(step, _COARSE)
    while step < wanted:
        step = next_evaluation(step, resolution)
    return step


def evaluation_steps(max_steps: int, resolution: float) -> Iterator[int]:
    """The grid from 0 up to `max_steps`, which is always its last point."""
    step = 0
    while step < max_steps:
        yield step
        step = next_evaluation(step, resolution)
    yield max_steps


def at_or_after(step: float, resolution: float, coarse: bool = False) -> int:
    """The first point of the grid at or after `step`; every trial that comes so far is evaluated at a coarse one."""
    points = _points(resolution, coarse)
    while points[-1] < step:
        points.append(next_evaluation(points[-1], resolution, coarse))
    return points[bisect_left(points, step)]


@lru_cache(maxsize=8)
def _points(resolution: float, coarse: bool) -> list[int]:
    """The grid as far as somebody asked for it."""
    return [0]


def is_near(target: Target, first: float, best: float) -> bool:
    """Whether a curve has come so near its target that each point of the grid counts: for the rest of the trial.

    `first` is the metric at the start, `best` its best value so far, the start included. This depends on the curve
    alone, neither on the clock nor on the trial's limits. A recorded curve therefore shows all that the trial would
    have done under other limits, as long as these are points of the coarse grid.
    """
    ahead = target.direction.better(target.threshold, best)
    return not ahead or abs(best - target.threshold) <= _NEAR * abs(first - target.threshold)
