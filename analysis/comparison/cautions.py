"""What speaks against a comparison: runs that differ in more than what is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bcrit.analysis.comparison.source import Side
from bcrit.analysis.curve.notes import SPAN
from bcrit.analysis.run import Run
from bcrit.analysis.wording import enumeration, readable

_EFFORT = 1.2  # runs whose trials a batch size differ by more than this factor are warned of; chosen, not studied


def cautions(runs: Sequence[Side], across_targets: bool = False) -> tuple[str, ...]:
    """Everything that may make a difference look real, or hide one, in sentences; the most serious first.

    Args:
        runs: with labels.
        across_targets: whether numbers to different targets were compared.
    """
    return (
        *_targets(runs, across_targets),
        *_workloads(runs),
        *_effort(runs),
        *_confirmation(runs),
        *_declared(runs),
        *_gradients(runs),
        *_boxes(runs),
        *_edges(runs),
        *_shapes(runs),
        *_machines(runs),
    )


def _analyses(runs: Sequence[Side]) -> dict[str, Run]:
    return {run.label: run.analysis for run in runs if run.analysis is not None}


def _each(values: Mapping[str, Any]) -> str:
    """`sgd: loss < 1; adam, tuned: loss < 0.5`: labels and values hold spaces and commas."""
    return "; ".join(f"{label}: {value}" for label, value in values.items())


def _targets(runs: Sequence[Side], across_targets: bool) -> list[str]:
    found = []
    silent = [run.label for run in runs if run.target is None]
    targets = {run.label: run.target for run in runs if run.target is not None}
    if silent:
        found.append(
            f"A table does not say which target its steps are to; {_are(silent)} compared as if it were the same."
        )
    if across_targets and len(set(targets.values())) > 1:
        found.append(
            f"The targets differ ({_each(targets)}) and are compared because that was asked for: ratios then show what "
            "the target costs as well as what the way of training does."
        )
    return found


def _workloads(runs: Sequence[Side]) -> list[str]:
    workloads = {label: a.experiment.workload for label, a in _analyses(runs).items()}
    if len({workload.name for workload in workloads.values()}) > 1:
        names = _each({label: workload.name for label, workload in workloads.items()})
        return [
            f"The workloads differ ({names}). The same target means the same only on the same validation data and with "
            "the same loss; compare models on one data set."
        ]
    if len({repr(sorted(w.options.items(), key=repr)) for w in workloads.values()}) > 1:
        return ["The runs give their workload different options, so that they may train on different data or models."]
    return []


def _effort(runs: Sequence[Side]) -> list[str]:
    trials = {label: a.studies["n_trials"] for label, a in _analyses(runs).items()}
    means = {label: float(counts.mean()) for label, counts in trials.items() if len(counts)}
    if not means or max(means.values()) <= _EFFORT * max(1.0, min(means.values())):
        return []
    each = _each({label: f"{mean:.0f}" for label, mean in means.items()})
    return [
        f"The runs were not searched equally hard (search trials a batch size: {each}). More trials find fewer steps, "
        "so part of a difference may be effort."
    ]


def _confirmation(runs: Sequence[Side]) -> list[str]:
    searched: list[str] = []
    confirmed: list[str] = []
    for label, analysis in _analyses(runs).items():
        sources = analysis.studies.loc[analysis.studies["steps"].notna(), "source"]
        if len(sources):  # a run that reached nothing is neither
            (confirmed if (sources == "confirm").all() else searched).append(label)
    if not searched:
        return []
    others = f"; those of {enumeration(confirmed)} are medians over fresh seeds" if confirmed else ""
    return [
        f"Steps of {enumeration(searched)} are partly those of the search's best trial, too few by the luck of the "
        f"search{others}."
    ]


def _declared(runs: Sequence[Side]) -> list[str]:
    """Rules of the search and the measurement that are not the same."""
    questions: dict[str, Callable[[Run], Any]] = {
        "search.protocol": lambda a: a.experiment.search.protocol,
        "search.stopping": lambda a: a.experiment.search.stopping.rule,
        "budget": lambda a: a.experiment.budget,
        "centre": lambda a: a.experiment.centre,
        "boundary": lambda a: a.experiment.boundary,
        "resolution": lambda a: a.experiment.resolution,
        "imported": lambda a: a.experiment.imported is not None,
    }
    analyses = list(_analyses(runs).values())
    differing = [name for name, ask in questions.items() if len({repr(ask(a)) for a in analyses}) > 1]
    return [f"The experiments differ in {enumeration(differing)} too."] if differing else []


def _gradients(runs: Sequence[Side]) -> list[str]:
    """Runs whose updates take different numbers of gradients: steps and examples are then not the work."""
    counts = {label: _gradients_per_example(a) for label, a in _analyses(runs).items()}
    if len(set(counts.values())) < 2:
        return []
    each = _each({label: f"{count:g}" for label, count in counts.items()})
    return [
        f"The runs take different numbers of gradients of each example in an update ({each}): steps and examples count "
        "that work once. Hours count all of it."
    ]


def _gradients_per_example(analysis: Run) -> float:
    """The most of any of its trials; 1 where they do not say."""
    if "gradients_per_example" not in analysis.trials:
        return 1.0
    most = analysis.trials["gradients_per_example"].astype(float).max()
    return float(most) if most > 0 else 1.0


def _boxes(runs: Sequence[Side]) -> list[str]:
    """Dimensions that two runs share but searched in different boxes, and those that only some searched."""
    spaces = {}
    for label, a in _analyses(runs).items():
        first = a.experiment.batch_sizes[0] if a.experiment.batch_sizes else 1
        spaces[label] = {name: dimension.model_dump() for name, dimension in a.experiment.space_at(first).root.items()}
    names = list(dict.fromkeys(name for space in spaces.values() for name in space))
    kinds = {name: [space[name] for space in spaces.values() if name in space] for name in names}
    different = [name for name, dimensions in kinds.items() if any(d != dimensions[0] for d in dimensions)]
    partial = {name: [label for label in spaces if name in spaces[label]] for name in names}
    found = []
    if different:
        found.append(
            f"The search spaces differ in {enumeration(different)}; a box that cuts off the best point costs steps."
        )
    found += [
        f"Only {enumeration(having)} {'has' if len(having) == 1 else 'have'} the hyperparameter {name}."
        for name, having in partial.items()
        if len(having) < len(spaces)
    ]
    return found


def _edges(runs: Sequence[Side]) -> list[str]:
    found = {}
    for label, a in _analyses(runs).items():
        sizes = [
            readable(size)
            for size in a.studies["batch_size"]
            if (edges := a.last_edges(size))["kind"].eq("box").any() and len(edges)
        ]
        if sizes:
            found[label] = f"at batch size {', '.join(sizes)}"
    if not found:
        return []
    return [f"Some best points lie on the edge of their box, so fewer steps may be possible there: {_each(found)}."]


def _shapes(runs: Sequence[Side]) -> list[str]:
    fits = {run.label: (run, run.fit) for run in runs if run.fit is not None}
    bent = [label for label, (_, fit) in fits.items() if fit.lack_of_fit]
    found = []
    if bent:
        found.append(
            f"The points of {enumeration(bent)} bend away from the hyperbola, so b_crit there depends on its "
            "definition and on the batch sizes that were measured; look at the steps at each batch size first."
        )
    short = []
    for label, (run, fit) in fits.items():
        if fit.identified["b_crit"] and run.range is not None:
            low, high = SPAN[0] * fit.b_crit, SPAN[1] * fit.b_crit
            if run.range[0] > low or run.range[1] < high:
                short.append(label)
    if short:
        found.append(
            f"The batch sizes of {enumeration(short)} do not reach from b_crit / 16 to 2.5 b_crit, where a knee "
            "sharper than the hyperbola's makes b_crit come out 10 to 45 % too low; smaller differences of b_crit are "
            "in doubt."
        )
    return found


def _machines(runs: Sequence[Side]) -> list[str]:
    """Where hours are compared although they were measured on different machines."""
    machines = {}
    for label, a in _analyses(runs).items():
        sessions = [(session.get("host"), repr(session.get("devices"))) for session in a.environment]
        if sessions:
            machines[label] = frozenset(sessions)
    if len(set(machines.values())) > 1:
        return ["The runs were made on different machines, so hours compare the machines too; steps do not."]
    return []


def _are(names: Sequence[str]) -> str:
    return f"{enumeration(names)} {'is' if len(names) == 1 else 'are'}"


__all__ = ["cautions"]
