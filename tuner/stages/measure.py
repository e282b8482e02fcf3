"""The landscape around one network, and between two: losses, sharpness, curvature, paths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bcrit.analysis.questions.landscape.result import LossPath, Network, Rise
from bcrit.analysis.records.run_folder import RunFolder, checkpoint
from bcrit.search_spaces.experiment import Experiment
from bcrit.tuner.checkpoints import kept
from bcrit.tuner.dispatch import settings_of
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.landscape import LossSurface, eigenvalues, keskar, trace
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.workloads.protocol import OpenWorkload

CHUNK = 512
"""Examples at a time, as in `LossSurface`; it bounds memory."""


@dataclass(frozen=True)
class Options:
    """How the landscape is measured; a value that is impossible is a ValueError."""

    seeds: int = 3  # confirmation runs of each study; chosen: the smallest number that has a median and a range
    eps: tuple[float, ...] = (keskar.EPS, keskar.EPS / 2)  # sizes of the box of sharpness; Keskar et al.'s two
    subspace: int = 100  # directions of the random subspace, the paper's number; 0 = the full space only
    # rows of the training set that the loss is the mean of; the paper takes all of them. Chosen, not studied
    examples: int = 4096
    iterations: int = keskar.ITERATIONS  # of L-BFGS-B in each search, the paper's 10
    warm_starts: int = 0  # iterates of the small batch from which the large one goes on; 0 = no warm starts

    def __post_init__(self) -> None:
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
class Bench:
    """What all networks of a run are trained and measured with."""

    workload: OpenWorkload
    experiment: Experiment
    folder: RunFolder
    options: Options
    gpus: float  # that a network is given here
    train: Examples  # of the training set, on the device of the models: what it is measured on
    validation: Examples  # of the validation set, likewise


def loaded(bench: Bench, proposal: Proposal, message: str | None) -> tuple[SupervisedRun, torch.Tensor]:
    """A run with the weights of a trial that has ended with this message, and its weights at initialisation.

    It is never trained, so nothing is compiled for it. A ValueError says why there are no such weights.
    """
    weights = kept(bench.folder, proposal.trial_id)
    if weights is None:
        raise ValueError(f"the training run cannot be begun here: {message}")
    settings = settings_of(proposal, bench.experiment, bench.gpus)
    run = bench.workload.begin(replace(settings, execution=settings.execution.model_copy(update={"compile": False})))
    start = flat(run.model)
    try:
        run.model.load_state_dict(weights)
    except RuntimeError as error:
        path = bench.folder.address(checkpoint(proposal.trial_id))
        raise ValueError(f"the model is another than it was: {path} does not fit it; remove that file") from error
    return run, start


def flat(model: nn.Module) -> torch.Tensor:
    """The weights that train, end to end, float64 on the host."""
    return torch.cat([p.detach().cpu().double().reshape(-1) for p in model.parameters() if p.requires_grad])


def measure(model: nn.Module, bench: Bench) -> dict[str, Any]:
    """Measure a network in evaluation mode, which is not changed, by the workload's own loss.

    Directions, starts and random vectors are of the experiment's seed, and so the same for all networks. Gives fields
    of `Network`; only a `problem` where f is not finite. A loss that is random in evaluation mode is a ValueError.
    """
    surface, f, seed = *_surface(model, bench), bench.experiment.seed
    if not math.isfinite(f):
        return {"problem": _NO_LOSS}
    losses = {"train_loss": f, "validation_loss": finite(mean_loss(model, bench.workload, bench.validation))}
    rises, problem = _rises(surface, bench.options, seed)
    top, whole = eigenvalues(surface, seed=seed), trace(surface, seed=seed)
    found = {"rises": rises, "problem": problem, "trace": whole.value, "trace_error": whole.standard_error}
    if not top.values:
        return {**losses, **found, "problem": problem or "its top eigenvalue did not converge"}
    return {**losses, **found, "top_eigenvalue": top.values[0], "top_residual": top.residuals[0]}


def sharpness_alone(model: nn.Module, bench: Bench) -> dict[str, Any]:
    """As `measure`, the loss and the sharpness in the largest box of the full space alone.

    Gives `train_loss` and `sharpness`, as far as there are, and a `problem` where they are missing.
    """
    surface, f = _surface(model, bench)
    if not math.isfinite(f):
        return {"problem": _NO_LOSS}
    options = replace(bench.options, eps=(max(bench.options.eps),), subspace=0)
    rises, problem = _rises(surface, options, bench.experiment.seed)
    return {"train_loss": f, "sharpness": rises[0].value if rises else None, "problem": problem}


_NO_LOSS = "its training loss is not finite"


def _surface(model: nn.Module, bench: Bench) -> tuple[LossSurface, float]:
    """The surface around a network, and its loss, finite or not; one that is random in evaluation is a ValueError."""
    surface = LossSurface(model, bench.workload.loss, bench.train, chunk=_chunk(bench.workload, bench.train))
    f, again = surface.value(), surface.value()
    if math.isfinite(f) and f != again:
        raise ValueError(
            f"the loss must be the same when it is computed again, but it was {f:.6g} and then {again:.6g}: the model "
            "is random in evaluation mode too, and a random loss has no landscape"
        )
    return surface, f


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
        spaces.append(keskar.random_directions(surface.weights.size, options.subspace, seed))  # type: ignore[arg-type]
    rises, problem = [], None
    for directions in spaces:
        for eps in sorted(set(options.eps), reverse=True):
            try:
                found = keskar.sharpness(
                    surface, directions=directions, eps=eps, max_iterations=options.iterations, seed=seed
                )
            except ValueError as error:  # a loss that is not finite in the box, or f <= -1
                problem = str(error)
                continue
            rises.append(
                Rise(
                    eps=eps,
                    directions=None if directions is None else options.subspace,
                    value=found.value,
                    f_max=found.f_max,
                    iterations=options.iterations,
                    searches=keskar.STARTS,
                    converged=found.converged,
                )
            )
    return tuple(rises), problem


_KINDS: tuple[keskar.Kind, ...] = ("line", "curve")

End = tuple[Network, nn.Module]


def first_and_largest(ends: Sequence[End]) -> list[End]:
    """The first network and those of the last one's batch size: no others need to stay in memory."""
    last = ends[-1][0].batch_size
    return [*ends[:1], *(end for end in ends[1:] if end[0].batch_size == last)]


def between(ends: Sequence[End], bench: Bench) -> tuple[tuple[LossPath, ...], list[str]]:
    """Follow the line and the curve from the first network to each of the others.

    Both ends have one seed, so they began at the same weights and read the same order of the data.
    Gives the paths, and why some are missing.
    """
    if not ends or ends[0][0].batch_size == ends[-1][0].batch_size:
        return (), ["there are no paths: they need networks of two batch sizes"]
    found, problems = [], []

    def losses(model: nn.Module) -> dict[str, float]:
        parts = {"train": bench.train, "validation": bench.validation}
        return {name: mean_loss(model, bench.workload, part) for name, part in parts.items()}

    (first, start), *others = ends
    for second, model in others:
        for kind in _KINDS:
            try:
                path = keskar.interpolate(start, model, losses, kind=kind, train_inputs=bench.train[0])
            except ValueError as error:  # a model whose size is searched
                problems.append(f"there is no {kind} to batch size {second.batch_size:,}: {error}")
                continue
            found.append(
                LossPath(
                    kind=kind,
                    tuned=second.tuned,
                    first=first.batch_size,
                    second=second.batch_size,
                    number=second.number,
                    distance=path.distance,
                    alphas=tuple(path.points),
                    train_loss=tuple(finite(at["train"]) for at in path.points.values()),
                    validation_loss=tuple(finite(at["validation"]) for at in path.points.values()),
                )
            )
    return tuple(found), problems
