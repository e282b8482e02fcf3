"""What `bcrit landscape` measured, as it is stored in the run folder and read again for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bcrit.analysis.landscape.warm_start import WarmStarts, warm_starts_from
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import LANDSCAPE, RunFolder
from bcrit.analysis.stored import read_stored

_FORMAT = 1


@dataclass(frozen=True)
class Rise:
    """A sharpness (Keskar et al. 2016, Metric 2.1): how far the loss rises within a box around the weights.

    Attributes:
        eps: size of the box.
        directions: of the random subspace; None = the full space.
        value: 100 (f_max - f) / (1 + f), in per cent.
        f_max: the highest training loss found in the box.
        iterations: budget of L-BFGS-B in each search.
        searches: how many searches there were.
        converged: whether the search that found f_max ended by itself rather than by its budget.
    """

    eps: float
    directions: int | None
    value: float
    f_max: float
    iterations: int
    searches: int
    converged: bool


@dataclass(frozen=True)
class Network:
    """One trained network and the landscape around it; losses, eigenvalue and trace are of the workload's own loss.

    Attributes:
        batch_size: that it was trained at.
        tuned: whether with the hyperparameters of its own study's winner; otherwise those of the smallest batch size.
        number: which of the seeds, from 0; the same number has the same seed at every batch size.
        seed: of initialisation and data order.
        trial_id: the confirmation run that it repeats; None where it is no run of the study.
        point: the search trial whose hyperparameters it has.
        checkpoint: its weights, a file of the run folder.
        outcome: how its training ended.
        steps: optimizer updates made.
        n_weights: weights that train.
        metric: the target's metric at the end; None where it was never a number.
        same_curve: whether its learning curve is the recorded one to the bit; None where nothing was recorded.
        curve_difference: largest relative difference of the metric from the record; None likewise.
        recorded_steps: optimizer updates that the recorded run made; None likewise.
        train_loss: f, on the examples of the training set that everything here is measured on.
        validation_loss: the same loss on examples of the validation set.
        weight_distance: |w - w_0|, from the weights at initialisation.
        weight_norm: |w|.
        rises: sharpnesses.
        top_eigenvalue: the algebraically largest of the Hessian.
        top_residual: |H v - value v|: an eigenvalue lies within that distance.
        trace: of the Hessian.
        trace_error: its standard error.
        problem: why numbers are missing; None where none is.
        metrics: of the whole validation set, all that the workload has; None where one is not finite.
    """

    batch_size: int
    tuned: bool
    number: int
    seed: int
    trial_id: str | None
    point: str
    checkpoint: str
    outcome: str
    steps: int
    n_weights: int
    metric: float | None
    same_curve: bool | None
    curve_difference: float | None
    recorded_steps: int | None
    train_loss: float | None = None
    validation_loss: float | None = None
    weight_distance: float | None = None
    weight_norm: float | None = None
    rises: tuple[Rise, ...] = ()
    top_eigenvalue: float | None = None
    top_residual: float | None = None
    trace: float | None = None
    trace_error: float | None = None
    problem: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    def rise(self, eps: float, directions: int | None) -> float | None:
        """The sharpness of this box; None where it is missing."""
        return next((r.value for r in self.rises if r.eps == eps and r.directions == directions), None)


@dataclass(frozen=True)
class LossPath:
    """The losses between the tuned network of the smallest batch size and a network of the largest.

    Attributes:
        kind: `line`: (1 - alpha) x_0 + alpha x_1. `curve`: cos(alpha pi/2) x_0 + sin(alpha pi/2) x_1.
        tuned: whether the network of the largest batch size is the tuned one.
        first: batch size at alpha = 0.
        second: batch size at alpha = 1.
        number: which of the seeds both have.
        distance: |x_1 - x_0|.
        alphas: where.
        train_loss: at each alpha; None where it is not finite.
        validation_loss: likewise.
    """

    kind: Literal["line", "curve"]
    tuned: bool
    first: int
    second: int
    number: int
    distance: float
    alphas: tuple[float, ...]
    train_loss: tuple[float | None, ...]
    validation_loss: tuple[float | None, ...]


@dataclass(frozen=True)
class Landscape:
    """All that was measured.

    Attributes:
        target: that the runs were trained to.
        unit: what a batch counts.
        n_examples: rows of the training set that f is the mean of.
        n_training_set: rows of the training set.
        n_validation: rows of the validation set that the validation loss is the mean of.
        seed: that all randomness of the measurements comes from.
        device: that trained and measured.
        torch: version of PyTorch.
        networks: in order of batch size, tuned before un-tuned, then seed.
        paths: empty where there is only one batch size.
        notes: what is left out and why, a sentence each.
        metric: that networks are compared by beside their losses; None in results of before it was there.
        warm_starts: the large batch from iterates of the small one; None where none were asked for.
    """

    target: str
    unit: str
    n_examples: int
    n_training_set: int
    n_validation: int
    seed: int
    device: str
    torch: str
    networks: tuple[Network, ...]
    paths: tuple[LossPath, ...]
    notes: tuple[str, ...]
    metric: str | None = None
    warm_starts: WarmStarts | None = None

    @property
    def boxes(self) -> list[tuple[float, int | None]]:
        """The (eps, directions) that sharpness was measured in: full space first, larger boxes first."""
        found = {(rise.eps, rise.directions) for network in self.networks for rise in network.rises}
        return sorted(found, key=lambda box: (box[1] is not None, -box[0]))

    def of(self, batch_size: int, tuned: bool) -> list[Network]:
        """The networks of one batch size, by seed."""
        return [n for n in self.networks if n.batch_size == batch_size and n.tuned is tuned]

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit landscape --json`, less its sentences."""
        found: dict[str, Any] = plain(self)
        return found


def write_landscape(folder: RunFolder, found: Landscape) -> None:
    """Store it in the run folder."""
    folder.write_json(LANDSCAPE, {"format": _FORMAT, **found.to_json()})


def read_landscape(folder: RunFolder) -> Landscape | None:
    """What was stored; None where nothing was, an InputError where it is damaged or of another version."""
    return read_stored(folder, LANDSCAPE, _FORMAT, _parsed, "bcrit landscape")


def _parsed(facts: dict[str, Any]) -> Landscape:
    networks = tuple(
        Network(**{**network, "rises": tuple(Rise(**rise) for rise in network["rises"])})
        for network in facts.pop("networks")
    )
    lists = ("alphas", "train_loss", "validation_loss")
    paths = tuple(LossPath(**{**path, **{name: tuple(path[name]) for name in lists}}) for path in facts.pop("paths"))
    warm, notes = warm_starts_from(facts.pop("warm_starts", None)), tuple(facts.pop("notes"))
    return Landscape(**facts, networks=networks, paths=paths, notes=notes, warm_starts=warm)


__all__ = ["Landscape", "LossPath", "Network", "Rise", "read_landscape", "write_landscape"]
