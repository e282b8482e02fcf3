"""What a source yields: a run that was made elsewhere, in our words, with nothing dropped in silence.

Every import passes the same stages. Its reader finds the records; their settings get names of ours, one type a column
and a space; `trial_row` makes the rows and `foreign_run` the experiment around them; the measurements stay a stream,
off which `write` reads what the rows lack, checks and counts, with `experiment.yaml` last in a free folder.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.number_table import usual
from bcrit.search_spaces.dimensions import Box, Choice, Fixed, Linear, Value
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.presets import STEPS_OF, tried_scale
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.tables import MEASUREMENTS, STEPS_TO_TARGET, TRIALS

Row = dict[str, Any]
Axis = Box | Choice | Fixed

# What tables and trees from elsewhere say of how they were searched: nothing that we would repeat.
RANDOM_SEARCH: Mapping[str, Any] = {
    "search": {"protocol": "random", "stopping": "none"},
    "confirm": {"seeds": 0},
    "boundary": {"max_rounds": 0},
}
# Spellings of what we call lr and momentum. `learning_rate` is the word of Shallue et al. 2018; the others are those of
# PyTorch, Optax and Hugging Face. Chosen, not studied.
KNOWN = {
    "lr": ("lr", "learning_rate", "learningrate", "base_lr", "init_lr", "peak_lr", "max_lr"),
    "momentum": ("momentum", "mu", "sgd_momentum"),
}
SPELLINGS = frozenset(spelling for spellings in KNOWN.values() for spelling in spellings)
# No columns of the tables are `decay_steps` and the like, but the analysis reads them as lengths of our schedules.
_RESERVED = {name for table in (TRIALS, MEASUREMENTS, STEPS_TO_TARGET) for name in table.known} | set(STEPS_OF.values())
_SUFFIX = "_in_source"
# A configuration may hold hundreds of settings that no run ever changed; a table of so many columns shows nothing.
# Chosen, not studied.
_MOST_UNCHANGED = 20
_SHOWN = 40  # names listed in a message; chosen


@dataclass
class Notes:
    """What was assumed or left out, with counts. Grows while the source is read."""

    counts: dict[str, int | None] = field(default_factory=dict)  # by sentence
    examples: dict[str, str] = field(default_factory=dict)  # the first, by sentence

    def add(self, what: str, count: int | None = None, example: str | None = None) -> None:
        """Note a sentence without its full stop; counts of the same thing add up, and its first example is kept.

        A count of 0 notes nothing; None is for what cannot be counted.
        """
        if count == 0:
            return
        before = self.counts.get(what)
        self.counts[what] = before if count is None else (before or 0) + count
        if example is not None:
            self.examples.setdefault(what, example)

    def among(self, what: str, names: Sequence[str]) -> None:
        """Note something of so many names, the first of which is shown."""
        self.add(what, len(names), names[0] if names else None)

    def sentences(self) -> list[str]:
        """One sentence a note."""
        found = []
        for what, count in self.counts.items():
            example = self.examples.get(what)
            facts = [] if count is None else [f"{count:,}"]
            facts += [] if example is None else [example if count in (None, 1) else f"the first: {example}"]
            found.append(f"{what} ({'; '.join(facts)})" if facts else what)
        return found


@dataclass(frozen=True)
class ImportedRun:
    """A run from elsewhere, ready to be written as a run folder."""

    format: str  # what was read, such as `batch_science`
    source: str  # its place, as the user named it
    experiment: Experiment  # what was searched, with `imported` set
    # Asked for after the last measurements, because reading those may change what is known of a trial. Columns of
    # `TRIALS`, then hyperparameters. A row may leave empty what follows from its curve: `outcome` (reached or
    # exhausted, as the curve says), `steps`, `examples`, `max_steps`, `steps_to_target`, `best_value`.
    trials: Callable[[], pa.Table]
    # Tables with the columns `trial_id`, `step`, `examples`, `train_seconds` and the metrics. Each holds whole trials;
    # order and repeated steps are put right by `write_run`. Those of a recorded run hold any rows, each once.
    measurements: Callable[[], Iterable[pa.Table]]
    notes: Notes  # what was assumed or left out
    recorded: bool = False  # complete as it is (a run of ours that comes back): nothing is read off the curves
    sessions: Sequence[Mapping[str, Any]] = ()  # of the sessions that made it, for `environment.json`


def foreign_run(
    format_name: str,
    source: str,
    notes: Notes,
    rows: Sequence[Row],
    measurements: Callable[[], Iterable[pa.Table]],
    names: Mapping[str, str],
    *,
    spaces: Mapping[int, Any] | None = None,
    **experiment: Any,
) -> ImportedRun:
    """Put a run of others together; `names` are ours by theirs, and the budget is the most steps of a row.

    `spaces` are those of the studies, where they are known. Reading the measurements may still change the rows.
    """
    # Name there by name here, of those that differ.
    other = {here: there for there, here in names.items() if here != there}
    imported: Row = {"format": format_name, "source": source, "names": other}
    batch_sizes = sorted({row["batch_size"] for row in rows})
    if spaces is not None:
        imported["spaces"], batch_sizes = spaces, list(spaces)
    steps = max([1, *(row[name] or 0 for row in rows for name in ("steps", "max_steps"))])
    known = {"imported": imported, "batch_sizes": batch_sizes, "budget": {"steps": steps}, **experiment}
    told = parse_experiment(known, source)
    return ImportedRun(format_name, source, told, lambda: uniform(rows), measurements, notes)


# Rows of trials.


def trial_row(trial_id: str, batch_size: int, **known: Any) -> Row:
    """A row of the trials table in which everything that a source may lack has its neutral value.

    `known` holds further columns and the hyperparameters. Its `number` is given by `uniform`.
    """
    row: Row = dict.fromkeys(TRIALS.names)
    row |= {"trial_id": trial_id, "batch_size": batch_size, "stage": "search", "round": 0, "number": 0, "seed": 0}
    row |= dict.fromkeys(("train_seconds", "evaluate_seconds", "started_at", "ended_at"), 0.0)
    return row | known


def uniform(rows: Sequence[Row]) -> pa.Table:
    """Rows of the trials table as Arrow; a hyperparameter that is a number here and a word there is a word.

    A row's number is its place among those of its study and stage: equal steps to target go to the smaller one. It is
    also the seed where none is known.
    """
    counted = Counter[tuple[int, str]]()
    kinds: dict[str, set[type]] = {}
    for row in rows:
        study = row["batch_size"], row["stage"]
        row["number"] = counted[study]
        row["seed"] = counted[study] if row["seed"] is None else row["seed"]
        counted[study] += 1
        for name, value in row.items():
            if value is not None and name not in TRIALS.known:
                kinds.setdefault(name, set()).add(type(value))
    for name in [name for name, types in kinds.items() if len(types) > 1 and not types <= {int, float}]:
        for row in rows:
            value = row.get(name)
            row[name] = value if value is None or isinstance(value, str) else json.dumps(value)
    return to_arrow(TRIALS, rows)


# Names.


def last_word(name: str) -> str:
    """The last word of a nested name: `lr` of `optimizer/lr` and of `optim.lr`."""
    return name.replace(".", "/").rpartition("/")[2].lower()


def listed(names: Iterable[str]) -> str:
    """Names for a message; of very many the first. One that holds a comma is quoted."""
    short = (name if len(name) <= 80 else name[:77] + "..." for name in names)
    every = [f"'{name}'" if "," in name else name for name in short]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return (", ".join(every[:_SHOWN]) + more) if every else "nothing"


def experiment_name(source: str, otherwise: str) -> str:
    """A name for the folder from the last part of a source's place: letters, digits, '-', '_' and '.' only."""
    stem = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    stem = re.sub(r"\.(csv|db|json|jsonl|journal|log|parquet|sqlite3?)$", "", stem)
    plain = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9_.-]+", "-", stem)).strip("-._")
    return plain[:100].rstrip("-._") or otherwise


def hyperparameter_names(source: Iterable[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name hyperparameters as ours: known ones by our word, none like a column of ours, no dots, all different.

    `given` holds names here by names there that are decided already; so does what is returned.
    """
    names = list(dict.fromkeys(source))
    found = {name: here for name, here in (given or {}).items() if name in names}
    for ours, spellings in KNOWN.items():
        free = [name for name in names if name not in found]
        whole = [name for name in free if usual(name) in spellings]
        there = [n for n in free if n == ours] or whole or [n for n in free if last_word(n) in spellings]
        if there and ours not in found.values():
            found[there[0]] = ours
    for name in names:
        own = name.replace(".", "_")
        while name not in found and (own in _RESERVED or own in found.values()):
            own += _SUFFIX
        found.setdefault(name, own)
    return {name: found[name] for name in names}


def our_names(source: Iterable[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """`hyperparameter_names`, and another name for `schedule`.

    An experiment file takes that word for one of our own schedules, and would give it parameters that no run had.
    """
    names = list(source)
    other = {"schedule": "lr_schedule"} if "lr_schedule" not in names else {}
    return hyperparameter_names(names, {**other, **(given or {})})


def metric_names(source: Iterable[str]) -> dict[str, str]:
    """Name here by name there: as it is, unless a column of the measurements table has that name."""
    return {name: name + _SUFFIX if name in MEASUREMENTS.names else name for name in source}


# Settings and spaces.


def setting_columns(settings: Sequence[Mapping[str, Any]], notes: Notes) -> dict[str, list[Any]]:
    """One column for each setting that tells runs apart, and for the unchanged ones where they are few.

    Values by name in the source, one for each run and of one type a column, None where a run has none.
    """
    names = dict.fromkeys(name for of in settings for name in of)
    columns = {name: one_type([of.get(name) for of in settings]) for name in names}
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    unchanged = [name for name, values in columns.items() if len(set(values)) == 1]
    if len(settings) > 1 and len(unchanged) > _MOST_UNCHANGED:
        spoken = [name for name in unchanged if last_word(name) not in SPELLINGS]
        notes.among("Settings that are the same in every run were left out", spoken)
        columns = {name: values for name, values in columns.items() if name not in set(spoken)}
    return columns


def one_type(values: Sequence[Any]) -> list[Any]:
    """Bring the values of a column to one type, as a table needs: whole numbers, numbers or texts.

    >>> one_type([1, 2.5, None]), one_type(["none", 1.0]), one_type([True, False])
    ([1.0, 2.5, None], ['none', '1.0'], ['true', 'false'])
    """
    given = [_scalar(value) for value in values]
    kinds = {type(value) for value in given if value is not None}
    kind = int if kinds <= {int} else float if kinds <= {int, float} else str
    return [None if value is None else kind(value) for value in given]


def _scalar(value: Any) -> Any:
    """A value as int, float, text or None; a NaN is none, and what tables cannot hold as a number is a text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    fits = abs(value) < 2**63 if isinstance(value, int) else isinstance(value, float) and math.isfinite(value)
    return value if fits else str(value)


def interval(scale: str, low: float, high: float, where: str, notes: Notes) -> Axis:
    """A numeric dimension; a scale that its ends do not allow becomes linear, and equal ends a fixed value."""
    if low == high:
        return Fixed(value=low)
    low, high = min(low, high), max(low, high)
    if (scale == "log" and low <= 0) or (scale == "reverse_log" and high >= 1):
        notes.add(f"Boxes whose ends a scale does not allow, taken as linear: '{scale}'", 1, where)
        scale = "linear"
    return SearchSpace.model_validate({"x": {"scale": scale, "low": low, "high": high}}).root["x"]


def choice_of(options: Iterable[str]) -> Choice:
    """A choice among options, each once."""
    return Choice.model_validate({"scale": "choice", "options": list(dict.fromkeys(options))})


def fitted(
    axes: Mapping[str, Axis], points: Sequence[Mapping[str, Value | None]], study: str, notes: Notes
) -> SearchSpace:
    """Make a study's space hold for the points that count: each has every dimension, and a coordinate in it.

    `axes` are the dimensions as the source tells them, by our names; `points` the hyperparameters of the study's
    trials, diverged ones too.
    """
    kept: dict[str, Any] = {}
    for name, axis in axes.items():
        values = [point.get(name) for point in points]
        if any(value is None for value in values):
            notes.add(f"Dimension '{name}' is left out of the search space where trials lack it", 1, study)
            continue
        if isinstance(axis, Choice):
            new = [str(value) for value in dict.fromkeys(values) if str(value) not in axis.options]
            notes.add(f"Values of '{name}' that are not among its options are taken as options", len(new), study)
            axis = choice_of([*axis.options, *new]) if new else axis
        elif isinstance(axis, Box):
            try:
                for value in values:
                    axis.to_unit(value)  # type: ignore[arg-type]
            except (ValueError, TypeError):
                if not all(isinstance(value, int | float) for value in values):
                    what = f"Dimension '{name}' is left out of the search space where values are no numbers"
                    notes.add(what, 1, study)
                    continue
                notes.add(f"Dimension '{name}' is taken as linear where its scale does not allow all values", 1, study)
                axis = Linear(low=axis.low, high=axis.high)
        kept[name] = axis
    return SearchSpace.model_construct(root=kept)


def common_space(spaces: Sequence[SearchSpace]) -> SearchSpace:
    """The dimensions that all studies have on the same scale, as wide as the widest of them; empty without any study.

    It stands in `Experiment.space`, for what is drawn alike for all studies; each study keeps its own.
    """
    found: dict[str, Any] = {}
    for name, first in spaces[0].root.items() if spaces else ():
        axes: list[Any] = [space.root.get(name) for space in spaces]
        if any(type(axis) is not type(first) for axis in axes):
            continue
        if isinstance(first, Box):
            found[name] = type(first)(low=min(b.low for b in axes), high=max(b.high for b in axes))
        elif isinstance(first, Choice):
            found[name] = choice_of(option for axis in axes for option in axis.options)
        elif all(axis == first for axis in axes):
            found[name] = first
    return SearchSpace.model_construct(root=found)


def tried_space(columns: Mapping[str, Sequence[Any]], whole: SearchSpace | None = None) -> SearchSpace:
    """The smallest box around what was tried, for runs whose tracker kept no space.

    An optimum on the edge of such a box lies at the smallest or largest value that anybody tried, which is what the
    boundary rule is to report; the middle of the box means as much as the values between. What not every trial has is
    left out, because whether it exists depends on the others in a way that the tracker does not tell.

    `columns` holds one value for each trial, all of one type, None where a trial has none. A study's own space is on
    the scales of `whole`, that of all studies.
    """
    found: dict[str, Any] = {}
    for name, values in columns.items():
        if not values or None in values:
            continue
        different, of_all = set(values), None if whole is None else whole.root.get(name)
        if len(different) == 1:
            found[name] = {"scale": "fixed", "value": values[0]}
        elif isinstance(values[0], str):
            found[name] = {"scale": "choice", "options": sorted(different)}
        else:
            scale = box_scale(name, values) if not isinstance(of_all, Box) else of_all.model_dump()["scale"]
            found[name] = {"scale": scale, "low": min(different), "high": max(different)}
    return SearchSpace.model_validate(found)


def box_scale(name: str, values: Sequence[float]) -> str:
    """The scale of a box around tried values: `tried_scale`, or `integer` for whole numbers on a linear one."""
    scale = tried_scale(name, min(values), max(values))
    return "integer" if scale == "linear" and all(isinstance(value, int) for value in values) else scale
