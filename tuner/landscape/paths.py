"""The losses between the winner of the smallest batch size and the networks of the largest."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bcrit.analysis.questions.landscape.result import LossPath, Network
from bcrit.tuner.landscape.measure import Rows, finite, mean_loss
from bcrit.tuner.training.landscape import interpolate
from bcrit.tuner.training.landscape.path import Kind
from bcrit.tuner.workloads.protocol import OpenWorkload

_KINDS: tuple[Kind, ...] = ("line", "curve")

End = tuple[Network, nn.Module]


def kept(ends: Sequence[End]) -> list[End]:
    """The first network and those of the last one's batch size: no others need to stay in memory."""
    last = ends[-1][0].batch_size
    return [*ends[:1], *(end for end in ends[1:] if end[0].batch_size == last)]


def between(ends: Sequence[End], workload: OpenWorkload, rows: Rows) -> tuple[tuple[LossPath, ...], list[str]]:
    """Follow the line and the curve from the first network to each of the others.

    Both ends have one seed, so they began at the same weights and read the same order of the data.

    Args:
        ends: as `kept` leaves them.
        workload: its loss is used.
        rows: what on.

    Returns:
        The paths, and why some are missing.
    """
    if not ends or ends[0][0].batch_size == ends[-1][0].batch_size:
        return (), ["there are no paths: they need networks of two batch sizes"]
    found, problems = [], []

    def losses(model: nn.Module) -> dict[str, float]:
        return {
            "train": mean_loss(model, workload, rows.train),
            "validation": mean_loss(model, workload, rows.validation),
        }

    (first, start), *others = ends
    for second, model in others:
        for kind in _KINDS:
            try:
                path = interpolate(start, model, losses, kind=kind, train_inputs=rows.train[0])
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
                    alphas=tuple(point.alpha for point in path.points),
                    train_loss=tuple(finite(point.metrics["train"]) for point in path.points),
                    validation_loss=tuple(finite(point.metrics["validation"]) for point in path.points),
                )
            )
    return tuple(found), problems


__all__ = ["End", "between", "kept"]
