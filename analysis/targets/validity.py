"""What a study can say about a target that its trials did not stop at: the one rule.

A trial is trained until it reaches the run's own target, until a rule stops it, or until its budget ends. For another
target its curve tells the first crossing, or that there was none *by its last step*. So the fewest steps over the
trials of a study are known only if no trial was stopped before them that might have been faster:

- `valid`: none was. Trials that diverged could not have reached it.
- `upper`: some feasible trial ended earlier without reaching it, so the steps are an upper bound of the fewest. If each
  of them was *behind*, that is its best value was no better than that of the fastest trial at the same step, then the
  bound rests on the judgement that a trial which is behind does not overtake. The search makes that judgement at its
  own target every time it stops a trial. If one of them was *ahead*, no such judgement helps: trials that stopped at
  the run's own target are ahead at every stricter one.
- `lower`: no trial reached it. The steps are more than what was trained: by any trial, as for the run's own target, but
  where trials stopped at the run's own target, only more than the earliest of those stops.
- `missing`: no trial that counts was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from bcrit.analysis.records.one_pass import Floats

Flags = npt.NDArray[np.bool_]


class Status(StrEnum):
    """What the steps of a cell are."""

    VALID = "valid"
    UPPER = "upper"
    LOWER = "lower"
    MISSING = "missing"

    @property
    def sentence(self) -> str:
        """One sentence that a newcomer understands."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.VALID: "No trial that might have been faster was stopped before.",
    Status.UPPER: "A trial that was stopped earlier might have been faster: an upper bound.",
    Status.LOWER: "No trial reached the target: more steps than this.",
    Status.MISSING: "No trial that counts was measured.",
}


@dataclass(frozen=True)
class Ended:
    """How the trials of one study ended; all arrays are (n_trials,).

    Attributes:
        steps: optimizer updates made.
        feasible: False where it diverged: it would never have reached anything more.
        stopped: True where it ended because it reached the run's own target.
    """

    steps: Floats
    feasible: Flags
    stopped: Flags


@dataclass(frozen=True)
class Verdict:
    """What a study says about one target.

    Attributes:
        status: what `steps` is.
        steps: fewest steps to the target, or the bound where `lower`; NaN where missing.
        n_cut: feasible trials that ended before `steps` without reaching; 0 unless `upper`.
        n_ahead: those among them that were ahead of the fastest when they ended.
    """

    status: Status
    steps: float
    n_cut: int = 0
    n_ahead: int = 0

    @property
    def fits(self) -> bool:
        """Whether the cell enters a fit: as a point, or where `lower` as a bound. An overtaken upper bound does not."""
        return self.status is not Status.MISSING and self.n_ahead == 0


def cut_before(crossing: Floats, ended: Ended) -> Flags:
    """The feasible trials that ended before the fewest steps without reaching the target.

    Args:
        crossing: steps to the target, NaN where not reached; (n_trials,).
        ended: of the same trials.

    Returns:
        (n_trials,); none where no trial reached it.
    """
    fewest = np.nanmin(crossing, initial=np.inf)
    if not np.isfinite(fewest):
        return np.zeros(len(crossing), dtype=bool)
    cut: Flags = ended.feasible & np.isnan(crossing) & (ended.steps < fewest)
    return cut


def judge(crossing: Floats, ended: Ended, ahead: Flags) -> Verdict:
    """Apply the rule.

    Args:
        crossing: steps to the target, NaN where not reached; (n_trials,).
        ended: of the same trials.
        ahead: whether a trial was ahead of the fastest one when it ended; only read where it was cut before.

    Returns:
        The verdict.
    """
    cut = cut_before(crossing, ended)
    fewest = float(np.nanmin(crossing, initial=np.inf))
    if np.isfinite(fewest):
        n_cut, n_ahead = int(cut.sum()), int((cut & (ahead | ended.stopped)).sum())
        return Verdict(Status.UPPER if n_cut else Status.VALID, fewest, n_cut, n_ahead)
    if not ended.feasible.any():
        return Verdict(Status.MISSING, float("nan"))
    stops = ended.steps[ended.feasible & ended.stopped]
    return Verdict(Status.LOWER, float(stops.min() if len(stops) else ended.steps[ended.feasible].max()))


__all__ = ["Ended", "Flags", "Status", "Verdict", "cut_before", "judge"]
