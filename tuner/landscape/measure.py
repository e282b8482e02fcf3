"""The landscape around one network: losses, sharpness, curvature."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bcrit.analysis.questions.landscape.result import Rise
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.landscape import LossSurface, eigenvalues, random_directions, sharpness, trace
from bcrit.tuner.training.landscape.sharpness import EPS, ITERATIONS
from bcrit.tuner.workloads.protocol import OpenWorkload

CHUNK = 512
"""Examples at a time, as in `LossSurface`; it bounds memory."""


@dataclass(frozen=True)
class Options:
    """How the landscape is measured.

    Attributes:
        seeds: confirmation runs of each study. 3, chosen: the smallest number that has a median and a range.
        eps: sizes of the box of sharpness; Keskar et al.'s two.
        subspace: directions of the random subspace, the paper's 100; 0 = the full space only.
        examples: rows of the training set that the loss is the mean of; the paper takes all of them. 4096, chosen, not
            studied.
        iterations: of L-BFGS-B in each search, the paper's 10.
        warm_starts: iterates of the small batch from which the large one goes on; 0 = no warm starts.
    """

    seeds: int = 3
    eps: tuple[float, ...] = (EPS, EPS / 2)
    subspace: int = 100
    examples: int = 4096
    iterations: int = ITERATIONS
    warm_starts: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: one is impossible.
        """
        counts = {"seeds": self.seeds, "examples": self.examples, "iterations": self.iterations}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"'{name}' must be at least 1, but it is {count}; leave it out for the default")
        if self.subspace < 0:
            raise ValueError(f"'subspace' must be at least 0, but it is {self.subspace}; 0 leaves the subspace out")
        if self.warm_starts < 0 or self.warm_starts == 1:
            raise ValueError(
                f"'warm_starts' must be 0 or at least 2, but it is {self.warm_starts}: the first iterate is the "
                "initialisation and the last the end of the small batch's run; 0 leaves warm starts out"
            )
        if not self.eps or not all(0 < eps < math.inf for eps in self.eps):
            raise ValueError(f"'eps' must be positive, but it is {', '.join(map(str, self.eps))}; the paper has 0.001")


@dataclass(frozen=True)
class Rows:
    """The examples that all networks of a run are measured on.

    Attributes:
        train: of the training set, on the device of the models.
        validation: of the validation set, likewise.
    """

    train: Examples
    validation: Examples


def measure(model: nn.Module, workload: OpenWorkload, rows: Rows, options: Options, seed: int) -> dict[str, Any]:
    """Measure a network.

    Args:
        model: trained, in evaluation mode; it is not changed.
        workload: its loss is used, not a training loss that differs from it.
        rows: what on.
        options: how.
        seed: of directions, starts and random vectors: the same for all networks, which so share them.

    Returns:
        Fields of `Network` (bcrit.analysis.questions.landscape.result); only the losses and a `problem` where f is not
        finite. A loss that is random in evaluation mode is a ValueError.
    """
    surface = LossSurface(model, workload.loss, rows.train, chunk=_chunk(workload, rows.train))
    f = _steady(surface)
    losses = {"train_loss": f, "validation_loss": finite(mean_loss(model, workload, rows.validation))}
    if not math.isfinite(f):
        return {"problem": _NO_LOSS}
    rises, problem = _rises(surface, options, seed)
    top, whole = eigenvalues(surface, seed=seed), trace(surface, seed=seed)
    found = {"rises": rises, "problem": problem, "trace": whole.value, "trace_error": whole.standard_error}
    if not top.values:
        return {**losses, **found, "problem": problem or "its top eigenvalue did not converge"}
    return {**losses, **found, "top_eigenvalue": top.values[0], "top_residual": top.residuals[0]}


def sharpness_alone(
    model: nn.Module, workload: OpenWorkload, rows: Rows, options: Options, seed: int
) -> dict[str, Any]:
    """The loss and the sharpness in the largest box of the full space; the arguments of `measure`.

    Returns:
        `train_loss` and `sharpness`, as far as there are, and a `problem` where they are missing.
    """
    surface = LossSurface(model, workload.loss, rows.train, chunk=_chunk(workload, rows.train))
    if not math.isfinite(f := _steady(surface)):
        return {"problem": _NO_LOSS}
    rises, problem = _rises(surface, replace(options, eps=(max(options.eps),), subspace=0), seed)
    return {"train_loss": f, "sharpness": rises[0].value if rises else None, "problem": problem}


_NO_LOSS = "its training loss is not finite"


def _steady(surface: LossSurface) -> float:
    """The loss.

    Args:
        surface: of it.

    Returns:
        It, finite or not.

    Raises:
        ValueError: it is random in evaluation mode.
    """
    f, again = surface.value(), surface.value()
    if math.isfinite(f) and f != again:
        raise ValueError(
            f"the loss must be the same when it is computed again, but it was {f:.6g} and then {again:.6g}: the model "
            "is random in evaluation mode too, and a random loss has no landscape"
        )
    return f


def finite(value: float) -> float | None:
    """The number as JSON can hold it."""
    return value if math.isfinite(value) else None


@torch.no_grad()
def mean_loss(model: nn.Module, workload: OpenWorkload, rows: Examples) -> float:
    """The workload's loss over examples, a chunk at a time; the model is in evaluation mode."""
    chunk = _chunk(workload, rows)
    pairs = zip(torch.split(rows[0], chunk), torch.split(rows[1], chunk), strict=True)
    parts = [workload.loss(model(inputs), targets).double() * len(inputs) for inputs, targets in pairs]
    return float(torch.stack(parts).sum()) / len(rows[0])


def _chunk(workload: OpenWorkload, rows: Examples) -> int:
    """All at once where examples influence each other's loss."""
    return CHUNK if workload.divisible else len(rows[0])


def _rises(surface: LossSurface, options: Options, seed: int) -> tuple[tuple[Rise, ...], str | None]:
    """Sharpness in every box, and why some are missing."""
    spaces = [None]
    if options.subspace:
        spaces.append(random_directions(surface.weights.size, options.subspace, seed))  # type: ignore[arg-type]
    rises, problem = [], None
    for directions in spaces:
        for eps in sorted(set(options.eps), reverse=True):
            try:
                found = sharpness(surface, directions=directions, eps=eps, max_iterations=options.iterations, seed=seed)
            except ValueError as error:  # a loss that is not finite in the box, or f <= -1
                problem = str(error)
                continue
            rises.append(
                Rise(
                    eps=eps,
                    directions=found.n_directions,
                    value=found.value,
                    f_max=found.f_max,
                    iterations=found.max_iterations,
                    searches=len(found.searches),
                    converged=found.converged,
                )
            )
    return tuple(rises), problem


__all__ = ["Options", "Rows", "finite", "mean_loss", "measure", "sharpness_alone"]
