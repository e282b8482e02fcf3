"""The sides of a comparison: the facts of each run or table, a name that no two share, and what qualifies them all."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pandas as pd

from bcrit.analysis.curve import FittedStudy, HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.notes import SPAN
from bcrit.analysis.curve.table import read_table
from bcrit.analysis.numbers import Estimate, enumeration, readable
from bcrit.analysis.recommendation import Recommendation, recommend
from bcrit.analysis.recommendation.hardware import StepTimes, known_step_times
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.run import Run
from bcrit.analysis.studies import median_interval
from bcrit.search_spaces.problems import InputError

NUMBERS: Final = ("s_min", "e_min", "b_crit")
"""What is compared, in the order of tables."""
ASSUMED: Final = (
    "Each run is a measurement of its own: its studies scatter about its curve independently of the other runs.",
    "Each run was tuned afresh at every batch size. Ratios then compare ways of training, tuning and its effort "
    "included; b_crit belongs to the target and to that way of training.",
    "A larger b_crit is not better by itself: it is also had by wasting examples at small batch sizes. What counts are "
    "the steps, or hours, at the batch size that is going to be used.",
    "Intervals hold for one ratio each and come from the scatter of the studies about the curves, with Welch's degrees "
    "of freedom. 'Differs' needs a p-value below 5 % after Holm's correction over all ratios of this comparison; at "
    "single batch sizes, over the batch sizes of the two runs.",
    "'No difference seen' is not 'the same': the interval says how large a difference could be.",
)
"""What every comparison takes for granted."""
_STUDY: Final = ["batch_size", "steps", "steps_low", "steps_high", "steps_level", "max_steps"]
_EFFORT: Final = (
    1.2  # runs whose trials a batch size differ by more than this factor are warned of; chosen, not studied
)


@dataclass(frozen=True, eq=False)
class StepsTable:
    """A table of steps to target that belongs to no run."""

    location: str  # where it was read
    table: pd.DataFrame  # as `bcrit.analysis.curve.table.read_table` gives it
    unit: str | None = None  # what its batch sizes count, where that is known


@dataclass(frozen=True)
class Side:
    """One side of the comparison."""

    label: str  # its name in the comparison, unique there; "" until `named` gave it one
    location: str
    unit: str  # what its batch sizes count
    target: str | None  # what was reached, in words; None for a table, which does not say it
    run: Run | None  # None for a table
    fit: HyperbolaFit | None
    no_fit: str | None  # why there is no fit, in a sentence; None where there is one
    studies: pd.DataFrame  # one row a batch size, columns `_STUDY`; steps are NaN where the target was not reached
    step_times: StepTimes | None  # None where they are not known at two batch sizes

    @property
    def reached(self) -> pd.DataFrame:
        """The studies that reached the target, by batch size."""
        found: pd.DataFrame = self.studies[self.studies["steps"].notna()].set_index("batch_size", drop=False)
        return found

    @property
    def range(self) -> tuple[float, float] | None:
        """Smallest and largest batch size that reached the target; None where none did."""
        sizes = self.reached["batch_size"]
        return (float(sizes.min()), float(sizes.max())) if len(sizes) else None

    @cached_property
    def recommendation(self) -> Recommendation | None:
        """What it advises: a run on its own terms, a table by its step times; None without a curve or such times."""
        if self.run is not None:
            return self.run.recommendation
        return recommend(self.fit, self.step_times) if self.fit and self.step_times else None

    @property
    def stem(self) -> str:
        """The last part of its location, without the ending of a table's file."""
        name = PurePosixPath(self.location.partition("?")[0].rstrip("/")).name or self.location
        return name.removesuffix(".csv") or self.location

    @property
    def effort(self) -> Mapping[str, int] | None:
        """What was spent: `trials`, `steps`, and search trials a batch size (`fewest`, `most`); None for a table."""
        if self.run is None:
            return None
        trials, searched = self.run.trials, self.run.studies["n_trials"]
        each = {"fewest": int(searched.min()), "most": int(searched.max())} if len(searched) else {}
        return {"trials": len(trials), "steps": int(trials["steps"].sum()), **each}

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The three numbers with their intervals and why one is not identified; empty without a fit."""
        fit = self.fit
        if fit is None:
            return {}
        numbers = {name: Estimate.at_limits(getattr(fit, name), *fit.interval(name), fit.level) for name in NUMBERS}
        return {n: each if fit.identified[n] else each.because("not identified") for n, each in numbers.items()}

    def to_json(self) -> dict[str, Any]:
        """The run as `bcrit compare --json` has it."""
        fit, declared = self.fit, self.run.experiment if self.run else None
        fitted = ("definition", "level", "rms_log_residual", "lack_of_fit")
        numbers = {name: {**each.json(), "identified": not each.why} for name, each in self.estimates.items()}
        found: dict[str, Any] = plain(
            {
                **{name: getattr(self, name) for name in ("label", "location", "target", "unit", "effort", "no_fit")},
                "name": declared.name if declared else None,
                "workload": declared.workload.name if declared else None,
                "optimizer": declared.optimizer if declared else None,
                **(numbers or dict.fromkeys(NUMBERS)),
                **{name: getattr(fit, name) if fit else None for name in fitted},
                "batch_sizes": self.range,
                "n_studies": len(self.studies),
                "n_reached": len(self.reached),
            }
        )
        return found


def side_of(source: Run | Path | StepsTable, unit: str = "examples") -> Side:
    """The facts of a run or a table, still without a label; without a fit where fewer than two batch sizes reached."""
    if isinstance(source, Path):
        source = StepsTable(str(source), read_table(source))
    if isinstance(source, Run):
        declared, studies = source.experiment, source.studies[~source.studies["batch_size"].isin(source.early)]
        of_run = (declared.unit, str(declared.target), source, source.fit, source.no_fit)
        return Side("", source.location, *of_run, studies[_STUDY], known_step_times(studies))
    fit, no_fit, unit = None, None, source.unit or unit
    try:
        fit = fit_hyperbola(source.table, unit=unit)
    except InputError as error:
        no_fit = error.problems[0]
    rows = [_table_row(source.table, study) for study in fit.studies] if fit else []
    studies = pd.DataFrame(rows, columns=_STUDY, dtype=float)
    return Side("", source.location, unit, None, None, fit, no_fit, studies, known_step_times(source.table))


def _table_row(table: pd.DataFrame, study: FittedStudy) -> list[float]:
    """A study of a table; its repeats give the median's interval."""
    steps = table.loc[table["batch_size"] == study.batch_size, "steps"].fillna(math.inf)
    low, high, level = median_interval(steps[steps > 0].tolist())
    median, bound = (math.nan if end is None else end for end in (study.steps, study.max_steps))
    return [study.batch_size, median, low, high if math.isfinite(high) else math.nan, level, bound]


def named(sides: Sequence[Side]) -> tuple[Side, ...]:
    """Give each side its label: workload, optimizer and target where they differ, else the name, else the place.

    Two runs of one workload to one target, one with SGD and one with momentum, are called `sgd` and `momentum`.
    """
    facts = []  # workload, optimizer, target, name; empty where a table does not say them
    for side in sides:
        if side.run is None:
            facts.append(("", "", "", side.stem))
            continue
        declared = side.run.experiment
        options = [f"{name} {value}" for name, value in declared.workload.options.items()]
        workload = " ".join([declared.workload.name, *options])
        facts.append((workload, declared.optimizer, str(side.target), declared.name))
    differing = [place for place in range(3) if len({fact[place] for fact in facts if fact[place]}) > 1]
    words = [[", ".join(fact[place] for place in differing if fact[place])] for fact in facts]
    for more in ([fact[3] for fact in facts], [side.stem for side in sides], [side.location for side in sides]):
        count = Counter(map(_called, words))
        for own, other in zip(words, more, strict=True):
            if other not in own and (not own[0] or count[_called(own)] > 1):
                own[:] = [*filter(None, own), other]
    labels = [_called(own) for own in words]
    again = [labels[:place].count(label) for place, label in enumerate(labels)]
    return tuple(
        replace(side, label=f"{label} #{before + 1}" if before else label)
        for side, label, before in zip(sides, labels, again, strict=True)
    )


def _called(words: Sequence[str]) -> str:
    """What a run is called, with what tells it from others of that name."""
    return f"{words[0]} ({', '.join(words[1:])})" if words[1:] else words[0]


# What may make a difference look real, or hide one. Each clause yields the sentences it has to say, which may be none.


def cautions(sides: Sequence[Side], across_targets: bool = False) -> tuple[str, ...]:
    """Everything that speaks against the comparison, in sentences; the most serious first."""
    runs = {side.label: side.run for side in sides if side.run is not None}
    clauses = (_workloads, _effort, _confirmation, _declared, _gradients, _boxes, _edges)
    about_runs = (sentence for clause in clauses for sentence in clause(runs))
    return (*_targets(sides, across_targets), *about_runs, *_shapes(sides), *_machines(runs))


def _differ(values: Mapping[str, Any]) -> str:
    """`sgd: loss < 1; adam, tuned: loss < 0.5`: labels and values hold spaces and commas; empty where they agree."""
    return _each(values) if len(set(values.values())) > 1 else ""


def _each(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{label}: {value}" for label, value in values.items())


def _targets(sides: Sequence[Side], across_targets: bool) -> Iterator[str]:
    if silent := [side.label for side in sides if side.target is None]:
        are = f"{enumeration(silent)} {'is' if len(silent) == 1 else 'are'}"
        yield f"A table does not say which target its steps are to; {are} compared as if it were the same."
    if across_targets and (each := _differ({side.label: side.target for side in sides if side.target is not None})):
        yield (
            f"The targets differ ({each}) and are compared because that was asked for: ratios then show what the "
            "target costs as well as what the way of training does."
        )


def _workloads(runs: Mapping[str, Run]) -> Iterator[str]:
    workloads = {label: run.experiment.workload for label, run in runs.items()}
    if each := _differ({label: workload.name for label, workload in workloads.items()}):
        yield (
            f"The workloads differ ({each}). The same target means the same only on the same validation data and with "
            "the same loss; compare models on one data set."
        )
    elif _differ({label: repr(sorted(workload.options.items(), key=repr)) for label, workload in workloads.items()}):
        yield "The runs give their workload different options, so that they may train on different data or models."


def _effort(runs: Mapping[str, Run]) -> Iterator[str]:
    counts = {label: run.studies["n_trials"] for label, run in runs.items() if len(run.studies)}
    means = {label: float(trials.mean()) for label, trials in counts.items()}
    if means and max(means.values()) > _EFFORT * max(1.0, min(means.values())):
        each = _each({label: f"{mean:.0f}" for label, mean in means.items()})
        yield (
            f"The runs were not searched equally hard (search trials a batch size: {each}). More trials find fewer "
            "steps, so part of a difference may be effort."
        )


def _confirmation(runs: Mapping[str, Run]) -> Iterator[str]:
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for label, run in runs.items():
        sources = run.studies.loc[run.studies["steps"].notna(), "source"]
        if len(sources):  # a run that reached nothing is neither
            kinds[bool((sources == "confirm").all())].append(label)
    if kinds[False]:
        others = f"; those of {enumeration(kinds[True])} are medians over fresh seeds" if kinds[True] else ""
        luck = "partly those of the search's best trial, too few by the luck of the search"
        yield f"Steps of {enumeration(kinds[False])} are {luck}{others}."


def _declared(runs: Mapping[str, Run]) -> Iterator[str]:
    """Rules of the search and the measurement that are not the same."""
    rules = [
        {
            "search.protocol": declared.search.protocol,
            "search.stopping": declared.search.stopping.rule,
            **{name: getattr(declared, name) for name in ("budget", "centre", "boundary", "resolution")},
            "imported": declared.imported is not None,
        }
        for declared in (run.experiment for run in runs.values())
    ]
    differing = [name for name in (rules[0] if rules else {}) if len({repr(each[name]) for each in rules}) > 1]
    if differing:
        yield f"The experiments differ in {enumeration(differing)} too."


def _gradients(runs: Mapping[str, Run]) -> Iterator[str]:
    """Runs whose updates take different numbers of gradients: steps and examples are then not the work."""
    counts = {}
    for label, run in runs.items():  # the most of any trial; 1 where they do not say
        most = run.trials["gradients_per_example"].astype(float).max() if "gradients_per_example" in run.trials else 1.0
        counts[label] = f"{most if most > 0 else 1.0:g}"
    if each := _differ(counts):
        yield (
            f"The runs take different numbers of gradients of each example in an update ({each}): steps and examples "
            "count that work once. Hours count all of it."
        )


def _boxes(runs: Mapping[str, Run]) -> Iterator[str]:
    """Dimensions that two runs share but searched in different boxes, and those that only some searched."""
    spaces = {}
    for label, run in runs.items():
        axes = run.experiment.space_at(next(iter(run.experiment.batch_sizes), 1)).root
        spaces[label] = {name: dimension.model_dump() for name, dimension in axes.items()}
    names = dict.fromkeys(name for space in spaces.values() for name in space)
    having = {name: [label for label, space in spaces.items() if name in space] for name in names}
    different = [
        name for name, labels in having.items() if any(spaces[one][name] != spaces[labels[0]][name] for one in labels)
    ]
    if different:
        yield f"The search spaces differ in {enumeration(different)}; a box that cuts off the best point costs steps."
    for name, labels in having.items():
        if len(labels) < len(spaces):
            yield f"Only {enumeration(labels)} {'has' if len(labels) == 1 else 'have'} the hyperparameter {name}."


def _edges(runs: Mapping[str, Run]) -> Iterator[str]:
    found = {}
    for label, run in runs.items():
        if run.at_edge:
            found[label] = f"at batch size {', '.join(map(readable, run.at_edge))}"
    if found:
        yield f"Some best points lie on the edge of their box, so fewer steps may be possible there: {_each(found)}."


def _shapes(sides: Sequence[Side]) -> Iterator[str]:
    bent, short = list[str](), list[str]()
    for side in sides:
        if side.fit is not None and side.fit.lack_of_fit:
            bent.append(side.label)
        if side.fit and side.fit.trough is None and side.fit.identified["b_crit"] and side.range is not None:
            low, high = (times * side.fit.b_crit for times in SPAN)
            short += [side.label] if side.range[0] > low or side.range[1] < high else []
    if bent:
        yield (
            f"The points of {enumeration(bent)} bend away from the hyperbola, so b_crit there depends on its "
            "definition and on the batch sizes that were measured; look at the steps at each batch size first."
        )
    if short:
        yield (
            f"The batch sizes of {enumeration(short)} do not reach from b_crit / 16 to 2.5 b_crit, where a knee "
            "sharper than the hyperbola's makes b_crit come out 10 to 45 % too low; smaller differences of b_crit are "
            "in doubt."
        )


def _machines(runs: Mapping[str, Run]) -> Iterator[str]:
    """Where hours are compared although they were measured on different machines."""
    sessions = {
        label: [(each.get("host"), repr(each.get("devices"))) for each in run.environment]
        for label, run in runs.items()
    }
    if _differ({label: frozenset(each) for label, each in sessions.items() if each}):
        yield "The runs were made on different machines, so hours compare the machines too; steps do not."
