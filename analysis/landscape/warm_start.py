"""Large-batch training that starts where the small batch has come to (Keskar et al. 2016, section 4, Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["small", "tuned", "un-tuned"]


@dataclass(frozen=True)
class WarmState:
    """One set of weights: an iterate of the small batch, or the end of a large-batch run that started at it.

    Attributes:
        kind: `small`: the iterate itself. `tuned`: after the large batch with its own winner's hyperparameters.
            `un-tuned`: after the large batch with those of the small one.
        number: which of the seeds, from 0.
        small_steps: optimizer updates of the small batch before the iterate.
        large_steps: updates of the large batch after it; 0 for the iterate itself.
        last: all metrics at the end, of the whole validation set; None where one is not finite.
        best: the best of each metric along the large-batch run, its start included; of the iterate itself, its own.
        train_loss: f, on the examples of the training set that the landscape is measured on.
        sharpness: in the box of `WarmStarts`, in per cent.
        weight_distance: |w - w_0|, from the weights at initialisation.
        problem: why numbers are missing; None where none is.
    """

    kind: Kind
    number: int
    small_steps: int
    large_steps: int
    last: Mapping[str, float | None]
    best: Mapping[str, float | None]
    train_loss: float | None
    sharpness: float | None
    weight_distance: float | None
    problem: str | None


@dataclass(frozen=True)
class WarmStarts:
    """All that was trained.

    Attributes:
        small: the batch size that begins.
        large: the batch size that goes on.
        small_examples_a_step: rows of the training set in an update of the small batch.
        large_epochs: passes over the training set of every large-batch run.
        n_training_set: rows of the training set.
        eps: size of the box of sharpness, in the full space.
        metric: that states are compared by.
        states: by seed, then by `small_steps`.
    """

    small: int
    large: int
    small_examples_a_step: int
    large_epochs: float
    n_training_set: int
    eps: float
    metric: str
    states: tuple[WarmState, ...]

    def epochs(self, state: WarmState) -> float:
        """Passes over the training set that the small batch had made."""
        return state.small_steps * self.small_examples_a_step / self.n_training_set

    def of(self, kind: Kind, small_steps: int) -> list[WarmState]:
        """Those of one kind and one iterate, by seed."""
        return [state for state in self.states if state.kind == kind and state.small_steps == small_steps]

    @property
    def starts(self) -> list[int]:
        """Updates of the small batch before each iterate, rising."""
        return sorted({state.small_steps for state in self.states})


def warm_starts_from(stored: Mapping[str, Any] | None) -> WarmStarts | None:
    """As it was stored in JSON; a missing part of it is a KeyError or a TypeError."""
    if stored is None:
        return None
    return WarmStarts(**{**stored, "states": tuple(WarmState(**state) for state in stored["states"])})


__all__ = ["Kind", "WarmState", "WarmStarts", "warm_starts_from"]
