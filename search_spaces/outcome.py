"""How a trial ended and what it was for: values, not exceptions."""

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
    """What a trial is for. The order is that of seeds (`bcrit.tuner.protocol.protocol.trial_seed`)."""

    SEARCH = "search"  # picks the point
    CONFIRM = "confirm"  # makes the number: fresh seeds, nothing pruned
    # What other commands train beside the study; it decides no step count.
    LANDSCAPE = "landscape"  # a winner again, or its un-tuned twin, for its weights
    WARM_START = "warm_start"  # an iterate of the small batch, or the large batch from one
    ADAPTIVE = "adaptive"  # with batch sizes that change along the run, or as their control


STUDY = (Stage.SEARCH, Stage.CONFIRM)
"""The stages of a study: what its step counts, its curve and its cost are made of."""
