"""What a run can be taken up again from; and training that is not our loop and reports.

A state is plain data and tensors: taken from one run, and put into one that has just begun. A class lists in `changes`
the attributes that change along a run. All else a run has again when it is begun with the same settings, so a run that
goes on from a state makes the same bits as one that was never cut off.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bcrit.search_spaces.outcome import Outcome

RunState = Mapping[str, Any]
"""Numbers, words, None, tensors, and lists and mappings of them: what `torch.load(weights_only=True)` reads."""


def state_of(thing: Any) -> dict[str, Any]:
    """The state of an object; its tensors may be the object's own, so write them down before it goes on."""
    return {name: _taken(getattr(thing, name)) for name in thing.changes}


def load_state(thing: Any, state: RunState) -> None:
    """Put a state into an object that is as it was at the beginning."""
    for name, saved in state.items():
        if (kept := _put(getattr(thing, name), saved)) is not None:
            setattr(thing, name, kept)


def tensors(model: nn.Module) -> list[Tensor]:
    """All that a model holds, buffers too that its `state_dict` leaves out."""
    return [*model.parameters(), *model.buffers()]


def _taken(value: Any) -> Any:
    if hasattr(value, "changes"):
        return state_of(value)
    if isinstance(value, nn.Module):
        return [tensor.detach() for tensor in tensors(value)]
    if isinstance(value, torch.optim.Optimizer):
        return value.state_dict()
    if isinstance(value, torch.Generator):
        return value.get_state()
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


@torch.no_grad()
def _put(value: Any, saved: Any) -> Any:
    """Put it into what is there; where that is a plain value, what is to take its place."""
    if hasattr(value, "changes"):
        load_state(value, saved)
    elif isinstance(value, nn.Module):
        for tensor, old in zip(tensors(value), saved, strict=True):
            tensor.copy_(old)
    elif isinstance(value, torch.optim.Optimizer):
        value.load_state_dict(saved)
    elif isinstance(value, torch.Generator):
        value.set_state(saved)
    elif isinstance(value, np.ndarray):
        value[...] = saved.numpy()
    else:
        return saved
    return None


class Ended(Exception):
    """The training ended before its trial could; an outcome with its message."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome, self.message = outcome, message


class Returned(Exception):
    """The training function returned."""


class Died(Exception):
    """The process of a training function ended without a word before its first report: of the trial that says nothing.

    It may have been killed, or not even have come up.
    """


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

    def state(self) -> RunState | None:
        """What the training left to go on from; None where it left nothing."""

    def load(self, state: RunState, last: Report) -> None:
        """Have it go on from there, after a report that was its last: before it is asked for the next one."""

    def close(self) -> None:
        """Stop the training, however far it is."""


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
        self._report: Report | None = None
        self._interval = 0

    def next(self, seconds: float) -> Report | None:
        """The next report, checked, if one comes within this time; else None.

        `Ended` is raised where the function returned, raised, died, fell silent, passed its horizon or made a report
        that cannot be.
        """
        try:
            report = self._reports.next(seconds)
        except Returned:
            message = f"it returned after its report at step {self._last} of {self._max_steps}"
            if self._last is None:
                raise Ended(Outcome.FAILED, "it returned without a single report") from None
            if self._last + self._interval > self._max_steps:
                raise Ended(self._at_horizon, message) from None
            must = "it must train and report until it is stopped, or up to max_steps"
            raise Ended(Outcome.FAILED, f"{message}; {must}") from None
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
        self._last, self._report = report.step, report
        return report

    def state(self) -> RunState | None:
        """What the training left to go on from, after the last report."""
        left = None if self._report is None else self._reports.state()
        if left is None or self._report is None:
            return None
        return {"left": left, "report": asdict(self._report), "interval": self._interval}

    def load(self, state: RunState) -> None:
        """Go on from there."""
        self._report = Report(**state["report"])
        self._last, self._interval = self._report.step, state["interval"]
        self._reports.load(state["left"], self._report)

    def close(self) -> None:
        """Stop the training."""
        self._reports.close()

    @property
    def memory(self) -> int | None:
        """Bytes that it held at most; None where that was not seen."""
        return getattr(self._reports, "memory", None) or None
