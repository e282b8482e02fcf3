"""Measurements that come by report: from a training loop that is not ours and decides itself when it evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from bcrit.search_spaces.outcome import Outcome


class Ended(Exception):
    """The training ended before its trial could; an outcome with its message.

    Attributes:
        outcome: how.
        message: why.
    """

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome, self.message = outcome, message


class Returned(Exception):
    """The training function returned."""


@dataclass(frozen=True)
class Report:
    """One report.

    Attributes:
        step: optimizer updates made.
        examples: training items used by then; None = step x batch_size.
        train_seconds: time in training by then.
        evaluate_seconds: time in evaluation by then, as far as it is known.
        metrics: what was measured.
    """

    step: int
    examples: int | None
    train_seconds: float
    evaluate_seconds: float
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
        """Expect the first report.

        Args:
            reports: where they come from.
            metric: the target's.
            max_steps: the horizon in optimizer updates.
            at_horizon: what it is called to come to it (exhausted or capped).
        """
        self._reports, self._metric = reports, metric
        self._max_steps, self._at_horizon = max_steps, at_horizon
        self._last: int | None = None
        self._interval = 0

    def next(self, seconds: float) -> Report | None:
        """The next report if one comes within this time; else None.

        Args:
            seconds: how long to wait.

        Returns:
            The report, checked.

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
