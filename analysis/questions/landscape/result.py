"""What `bcrit landscape` measured, as it is stored in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["small", "tuned", "un-tuned"]


@dataclass(frozen=True)
class Rise:
    """A sharpness (Keskar et al. 2016, Metric 2.1): how far the loss rises within a box around the weights."""

    eps: float  # size of the box
    directions: int | None  # of the random subspace; None = the full space
    value: float  # 100 (f_max - f) / (1 + f), in per cent
    f_max: float  # the highest training loss found in the box
    iterations: int  # budget of L-BFGS-B in each search
    searches: int
    converged: bool  # whether the search that found f_max ended by itself rather than by its budget


@dataclass(frozen=True)
class Network:
    """One trained network and the landscape around it; losses, eigenvalue and trace are of the workload's own loss."""

    batch_size: int  # that it was trained at
    tuned: bool  # with the hyperparameters of its own study's winner; otherwise those of the smallest batch size
    number: int  # which of the seeds, from 0; the same number has the same seed at every batch size
    seed: int  # of initialisation and data order
    trial_id: str | None  # the confirmation run that it repeats; None where it is no run of the study
    point: str  # the search trial whose hyperparameters it has
    checkpoint: str  # its weights, a file of the run folder
    outcome: str  # how its training ended
    steps: int  # optimizer updates made
    n_weights: int  # weights that train
    metric: float | None  # the target's metric at the end; None where it was never a number
    same_curve: bool | None  # whether its learning curve is the recorded one to the bit; None: nothing was recorded
    curve_difference: float | None  # largest relative difference of the metric from the record; None likewise
    recorded_steps: int | None  # optimizer updates that the recorded run made; None likewise
    train_loss: float | None = None  # f, on the examples of the training set that everything here is measured on
    validation_loss: float | None = None  # the same loss on examples of the validation set
    weight_distance: float | None = None  # |w - w_0|, from the weights at initialisation
    weight_norm: float | None = None  # |w|
    rises: tuple[Rise, ...] = ()  # sharpnesses
    top_eigenvalue: float | None = None  # the algebraically largest of the Hessian
    top_residual: float | None = None  # |H v - value v|: an eigenvalue lies within that distance
    trace: float | None = None  # of the Hessian
    trace_error: float | None = None  # its standard error
    problem: str | None = None  # why numbers are missing; None where none is
    # of the whole validation set, all that the workload has; None where one is not finite
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    def rise(self, eps: float, directions: int | None) -> float | None:
        """The sharpness of this box; None where it is missing."""
        return next((r.value for r in self.rises if r.eps == eps and r.directions == directions), None)


@dataclass(frozen=True)
class LossPath:
    """The losses between the tuned network of the smallest batch size and a network of the largest."""

    kind: Literal["line", "curve"]  # (1 - alpha) x_0 + alpha x_1, or cos(alpha pi/2) x_0 + sin(alpha pi/2) x_1
    tuned: bool  # whether the network of the largest batch size is the tuned one
    first: int  # batch size at alpha = 0
    second: int  # batch size at alpha = 1
    number: int  # which of the seeds both have
    distance: float  # |x_1 - x_0|
    alphas: tuple[float, ...]  # where
    train_loss: tuple[float | None, ...]  # at each alpha; None where it is not finite
    validation_loss: tuple[float | None, ...]


@dataclass(frozen=True)
class WarmState:
    """One set of weights: an iterate of the small batch, or the end of a large-batch run that started at it.

    `kind` is `small` for the iterate itself, `tuned` after the large batch with its own winner's hyperparameters,
    `un-tuned` after the large batch with those of the small one.
    """

    kind: Kind
    number: int  # which of the seeds, from 0
    small_steps: int  # optimizer updates of the small batch before the iterate
    large_steps: int  # updates of the large batch after it; 0 for the iterate itself
    last: Mapping[str, float | None]  # all metrics at the end, of the whole validation set; None: not finite
    best: Mapping[str, float | None]  # of each metric along the large-batch run, its start included
    train_loss: float | None  # f, on the examples of the training set that the landscape is measured on
    sharpness: float | None  # in the box of `WarmStarts`, in per cent
    weight_distance: float | None  # |w - w_0|, from the weights at initialisation
    problem: str | None  # why numbers are missing; None where none is


@dataclass(frozen=True)
class WarmStarts:
    """Large-batch training that starts where the small batch has come to (Keskar et al. 2016, section 4, Figure 5)."""

    small: int  # the batch size that begins
    large: int  # the batch size that goes on
    small_examples_a_step: int  # rows of the training set in an update of the small batch
    large_epochs: float  # passes over the training set of every large-batch run
    n_training_set: int  # rows of the training set
    eps: float  # size of the box of sharpness, in the full space
    metric: str  # that states are compared by
    states: tuple[WarmState, ...]  # by seed, then by `small_steps`

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


@dataclass(frozen=True)
class Landscape:
    """All that was measured."""

    target: str  # that the runs were trained to
    unit: str  # what a batch counts
    n_examples: int  # rows of the training set that f is the mean of
    n_training_set: int  # rows of the training set
    n_validation: int  # rows of the validation set that the validation loss is the mean of
    seed: int  # that all randomness of the measurements comes from
    device: str  # that trained and measured
    torch: str  # version of PyTorch
    networks: tuple[Network, ...]  # in order of batch size, tuned before un-tuned, then seed
    paths: tuple[LossPath, ...]  # empty where there is only one batch size
    notes: tuple[str, ...]  # what is left out and why, a sentence each
    metric: str | None = None  # that networks are compared by beside their losses; None in results of before it
    warm_starts: WarmStarts | None = None  # None where none were asked for

    @property
    def boxes(self) -> list[tuple[float, int | None]]:
        """The (eps, directions) that sharpness was measured in: full space first, larger boxes first."""
        found = {(rise.eps, rise.directions) for network in self.networks for rise in network.rises}
        return sorted(found, key=lambda box: (box[1] is not None, -box[0]))

    @property
    def batch_sizes(self) -> list[int]:
        """Those of the networks, rising."""
        return sorted({network.batch_size for network in self.networks})

    def of(self, batch_size: int, tuned: bool) -> list[Network]:
        """The networks of one batch size, by seed."""
        return [n for n in self.networks if n.batch_size == batch_size and n.tuned is tuned]
