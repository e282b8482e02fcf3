"""A short and unique name for every run of a comparison, made from what differs between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bcrit.analysis.comparison.source import Side


def named(runs: Sequence[Side]) -> tuple[Side, ...]:
    """Give each run its label: workload, optimizer and target where they differ, else the name, else the place.

    Args:
        runs: without labels.

    Returns:
        The same runs with labels that no two share.

    Example:
        Two runs of one workload to one target, one with SGD and one with momentum, are called `sgd` and `momentum`.
    """
    facts = [_facts(run) for run in runs]
    differing = [place for place in range(3) if len({fact[place] for fact in facts if fact[place]}) > 1]
    labels = [", ".join(fact[place] for place in differing if fact[place]) for fact in facts]
    for more in ([fact[3] for fact in facts], [run.stem for run in runs], [run.location for run in runs]):
        count = Counter(labels)
        labels = [
            label if label and count[label] == 1 else ", ".join(dict.fromkeys(filter(None, (label, other))))
            for label, other in zip(labels, more, strict=True)
        ]
    seen: Counter[str] = Counter()
    found = []
    for run, label in zip(runs, labels, strict=True):
        seen[label] += 1
        found.append(replace(run, label=label if seen[label] == 1 else f"{label} #{seen[label]}"))
    return tuple(found)


def _facts(run: Side) -> tuple[str, str, str, str]:
    """Workload, optimizer, target, name; empty where a table does not say them."""
    if run.analysis is None:
        return "", "", "", run.stem
    experiment = run.analysis.experiment
    options = [f"{name} {value}" for name, value in experiment.workload.options.items()]
    return " ".join([experiment.workload.name, *options]), experiment.optimizer, str(run.target), experiment.name


__all__ = ["named"]
