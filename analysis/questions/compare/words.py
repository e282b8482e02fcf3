"""What a comparison says: what differs, what does not, who needs fewer steps where, and what speaks against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bcrit.analysis.curve.notes import SPAN
from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.questions.compare.ratios import Ratio
from bcrit.analysis.questions.compare.sides import Side
from bcrit.analysis.questions.compare.steps import Advantage, Fastest, Stretch
from bcrit.analysis.run import Run
from bcrit.analysis.wording import duration, enumeration, readable

_EFFORT: Final = 1.2
"""Runs whose trials a batch size differ by more than this factor are warned of; chosen, not studied."""
MOST_OTHERS: Final = 3
"""So many pairs without the first run are put into words; more would hide the answer. Chosen, not studied."""


def sentences(
    ratios: Sequence[Ratio], advantages: Sequence[Advantage], fastest: Sequence[Fastest], baseline: str
) -> tuple[str, ...]:
    """The answer: every run against the first one (`baseline`), then what else differs, then the fastest trainings."""
    found: list[str] = []
    pairs: dict[tuple[str, str], list[Ratio]] = {}
    for ratio in ratios:
        pairs.setdefault((ratio.run, ratio.baseline), []).append(ratio)
    between = {(advantage.run, advantage.baseline): advantage for advantage in advantages}
    for names, rows in pairs.items():
        if names[1] == baseline:
            found.append(" ".join([_numbers(rows), *_meaning(rows)]))
            found += [_where(between[names])] if names in between else []
    others = [rows for names, rows in pairs.items() if names[1] != baseline and _differs(rows)]
    if len(others) <= MOST_OTHERS:
        found += [" ".join([_numbers(rows), *_meaning(rows)]) for rows in others]
    else:
        found.append(f"Of the other pairs, {len(others)} differ in at least one number; the table of ratios has them.")
    if len(fastest) > 1:
        each = "; ".join(
            f"{f.run} at batch size {readable(f.batch_size)}, {duration(f.hours)} ({readable(f.steps)} steps)"
            for f in sorted(fastest, key=lambda f: f.hours)
        )
        found.append(f"Shortest training within what was measured, on each run's own machine: {each}.")
    return tuple(found)


def _differs(rows: Sequence[Ratio]) -> bool:
    return any(row.verdict == "differs" for row in rows)


def _numbers(rows: Sequence[Ratio]) -> str:
    """One sentence on two runs: `momentum against sgd: b_crit is 4.1 times as large (2.9 to 5.8); ...`."""
    run, baseline = rows[0].run, rows[0].baseline
    differ = [f"{row.quantity} {_times(row.size)}" for row in rows if row.verdict == "differs"]
    same = [f"{row.quantity} ({_measured(row)})" for row in rows if row.verdict == "no difference seen"]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict == "not comparable":
            reasons.setdefault(row.reason, []).append(row.quantity)
    parts = differ
    if same:
        parts.append(f"no difference is seen in {enumeration(same)}")
    if len(reasons) == 1 and not parts:
        return f"{run} and {baseline} cannot be compared: {next(iter(reasons))}."
    parts += [f"{enumeration(names)} cannot be compared, because {reason}" for reason, names in reasons.items()]
    return f"{run} against {baseline}: {'; '.join(parts)}."


def _times(size: Estimate) -> str:
    if size.value is not None:
        return f"is {readable(size.value)} times as large ({size.interval()})"
    if size.low is not None and size.low > 1:
        return f"is at least {readable(size.low)} times as large"
    return f"is at most {readable(size.high or math.inf)} times as large"


def _measured(row: Ratio) -> str:
    size = row.size
    found = f"ratio {size}" if size.value is None else f"ratio {readable(size.value)}, {size.interval()}"
    return f"{found}; not beyond chance among so many ratios" if row.excludes_one else found


def _meaning(rows: Sequence[Ratio]) -> list[str]:
    """What the pattern of the three verdicts means, where it has a name.

    Shallue et al. 2018 found the first (momentum against SGD), the search-cost study the second (a learning-rate
    schedule: e_min a fifth, s_min the same, hence b_crit a fifth).
    """
    run, baseline = rows[0].run, rows[0].baseline
    s, e, b = (_direction(row) for row in rows)
    if e == 0 and b in (1, -1) and s in (-b, None):
        far, near = (run, baseline) if b == 1 else (baseline, run)
        return [
            f"So no difference is seen at very small batch sizes, and {far} extends perfect scaling: it still profits "
            f"from batch sizes at which {near} no longer does."
        ]
    if s == 0 and e in (1, -1) and b in (e, 0):
        fewer, more = (run, baseline) if e == -1 else (baseline, run)
        smaller = f" Its b_crit is smaller for that reason, not because it scales worse than {more}." if b == e else ""
        return [f"So {fewer} saves at small batch sizes, and no difference is seen at very large ones.{smaller}"]
    if s is not None and s == e != 0 and b == 0:
        return [f"So {run if s == -1 else baseline} needs fewer steps at every batch size, by about the same factor."]
    if (s, e, b) == (0, 0, 0):
        return ["So none of the three numbers tells them apart; the intervals say how large a difference may still be."]
    return []


def _direction(row: Ratio) -> int | None:
    """1 larger than the baseline's, -1 smaller, 0 no difference seen, None not comparable."""
    if row.verdict == "not comparable":
        return None
    if row.verdict == "no difference seen":
        return 0
    return 1 if (row.size.value or row.size.low or 0.0) > 1 else -1


def _where(advantage: Advantage) -> str:
    """Who needs fewer steps from where to where."""
    run, baseline = advantage.run, advantage.baseline
    parts = [_stretch(stretch, run, baseline) for stretch in advantage.stretches]
    meet = "" if advantage.crossing is None else f" The curves meet at {readable(advantage.crossing)}."
    head = f"{run} and {baseline}, fewer steps by the curves, each batch size for itself"
    return f"{head}: {'; '.join(parts)}.{meet}{_hours(advantage)}"


def _stretch(stretch: Stretch, run: str, baseline: str) -> str:
    low, high = readable(stretch.low), readable(stretch.high)
    sizes = f"at batch size {low}" if low == high else f"at batch sizes {low} to {high}"
    if stretch.fewer is None:
        return f"{sizes} the two are not told apart"
    ratio, other = stretch.strongest, baseline
    if stretch.fewer == baseline:
        value, least, most = (end and 1 / end for end in (ratio.value, ratio.low, ratio.high))
        ratio, other = Estimate(value, most, least), run
    at = readable(stretch.strongest_at)
    size = f"{readable(ratio.value or math.nan)} times the steps of {other}, {ratio.interval()}"
    return f"{sizes} {stretch.fewer} (at {at} it takes {size})"


def _hours(advantage: Advantage) -> str:
    """Who needs fewer hours; nothing where the two are told apart nowhere."""
    if all(name is None for name, _, _ in advantage.faster):
        return ""
    parts = [
        f"at batch sizes {readable(a)} to {readable(b)} {name or 'not told apart'}" for name, a, b in advantage.faster
    ]
    if len(advantage.faster) == 1:
        parts = [f"{advantage.faster[0][0]} throughout"]
    return f" Fewer hours, with each run's own step times taken as exact: {'; '.join(parts)}."


def cautions(runs: Sequence[Side], across_targets: bool = False) -> tuple[str, ...]:
    """Everything that may make a difference look real, or hide one, in sentences; the most serious first."""
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
