"""How a trial ended and what it was for: values, not exceptions."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a trial ended. `sentence` is what tables and reports print."""

    REACHED = "reached"
    EXHAUSTED = "exhausted"
    PRUNED = "pruned"
    CAPPED = "capped"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"

    @property
    def sentence(self) -> str:
        """One sentence that a newcomer understands."""
        return _SENTENCES[self]

    @property
    def feasible(self) -> bool:
        """Whether the trial counts against the study's allowance (Shallue et al. 2018: COMPLETE, not INFEASIBLE)."""
        return self is not Outcome.DIVERGED and not self.broken

    @property
    def broken(self) -> bool:
        """Whether it did not run: it says nothing of the steps that its point needs, as one that diverged does."""
        return self in (Outcome.OUT_OF_MEMORY, Outcome.FAILED)


_SENTENCES = {
    Outcome.REACHED: "The target was reached.",
    Outcome.EXHAUSTED: "The step budget ended before the target was reached.",
    Outcome.PRUNED: "Stopped at a rung: not among the best of its study there.",
    Outcome.CAPPED: "Stopped: already slower than the best trial of its study.",
    Outcome.DIVERGED: "The loss became infinite, NaN, or far worse than at the start.",
    Outcome.OUT_OF_MEMORY: "The batch did not fit into memory.",
    Outcome.FAILED: "The training code failed; the message says how.",
}


class Stage(StrEnum):
    """What a trial is for: `search` picks the point, `confirm` (fresh seeds, nothing pruned) makes the number."""

    SEARCH = "search"
    CONFIRM = "confirm"
