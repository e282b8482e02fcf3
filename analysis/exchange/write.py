"""Writing an imported run as a run folder: everything is checked, and a place that fails is left as it was found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from bcrit.analysis.exchange.run import ImportedRun
from bcrit.analysis.records.arrow_tables import column_violations, decoded, violations
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.one_pass import Chunk
from bcrit.analysis.records.parted_tables import part_name
from bcrit.analysis.records.run_folder import ENVIRONMENT, EXPERIMENT, RunFolder, fingerprint
from bcrit.analysis.targets.crossings import Crossings
from bcrit.search_spaces.load import dump_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table
from bcrit.search_spaces.target import Direction, Target

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
# Rows of a part, of which a reader holds one at a time. Chosen, not studied.
PART_ROWS = 1_000_000


@dataclass(frozen=True)
class Census:
    """What an import wrote."""

    run: str  # the run folder
    format: str
    source: str
    target: str  # what "reached" means in the run
    batch_sizes: tuple[int, ...]  # one study for each
    trials: int
    measurements: int
    outcomes: Mapping[str, int]  # trials by how they ended
    reached_by_study: Mapping[int, int]  # by batch size
    notes: tuple[str, ...]  # what was assumed or left out, a sentence each

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit import --json`."""
        found: dict[str, Any] = plain(self)
        return found


def write_run(run: ImportedRun, folder: RunFolder) -> Census:
    """Write one imported run; see `write_runs`."""
    return write_runs([(run, folder)])[0]


def write_runs(runs: Iterable[tuple[ImportedRun, RunFolder]]) -> list[Census]:
    """Write imported runs, all or none; `experiment.yaml`, which makes a folder a run folder, comes last in each.

    When a place is taken or what was imported breaks the schema (`InputError`), nothing is left behind.
    """
    begun: list[tuple[RunFolder, str, bool]] = []
    written = []
    try:
        for run, folder in runs:
            refuse_occupied(folder)
            existed = bool(folder.filesystem.get_file_info(folder.root).type == fs.FileType.Directory)
            begun.append((folder, _missing(folder), existed))
            written.append(_write(run, folder))
    except BaseException:
        for place in begun:
            _remove(*place)
        raise
    return written


def refuse_occupied(folder: RunFolder) -> None:
    """Refuse a place where something lies, or where nothing can be made."""
    if folder.occupied():
        raise InputError(str(folder), ["something lies there already; give another place with --out"])
    if not folder.creatable():
        raise InputError(str(folder), ["a folder cannot be made there; give another place with --out"])


def _missing(folder: RunFolder) -> str:
    """The outermost folder that writing would make; the run folder itself where its parents are there."""
    if not folder.is_local:
        return folder.root
    made = [str(path) for path in (Path(folder.root), *Path(folder.root).parents) if not path.exists()]
    return made[-1] if made else folder.root


def _remove(folder: RunFolder, made: str, existed: bool) -> None:
    """Take away what a failed import wrote; an empty folder that was there stays."""
    if folder.filesystem.get_file_info(made).type == fs.FileType.NotFound:
        return
    if existed:
        folder.filesystem.delete_dir_contents(made)
    else:
        folder.filesystem.delete_dir(made)


def _write(run: ImportedRun, folder: RunFolder) -> Census:
    if run.recorded:
        measured, metrics, n_rows = write_recorded(run, folder)
        trials = run.trials()
        problems = _problems(trials, measured)
    else:
        summary, metrics, n_rows = _write_curves(run, folder)
        trials = complete(run.trials(), summary)
        measured = set(summary["trial_id"].to_pylist())
        problems = _problems(trials, measured)
        if len(measured) < summary.num_rows:
            rule = "the measurements of a trial stand in several tables"
            problems.append(f"{rule}; an importer must hand over whole trials")
    metric = run.experiment.target.metric
    if n_rows and metric not in metrics:
        known = ", ".join(sorted(metrics)) or "none"
        problems.insert(0, f"the target's metric '{metric}' is not measured; the metrics are {known}")
    if problems:
        raise InputError(run.source, problems)
    folder.append_table(TRIALS, trials, 0)
    text = dump_experiment(run.experiment)
    # Earlier sessions froze the experiment as another file; from here on this one counts.
    earlier = [{k: v for k, v in told.items() if k != "experiment_sha256"} for told in run.sessions]
    # The import did not train, so it names no device.
    session = {
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "imported": {"format": run.format, "source": run.source},
        "seed": run.experiment.seed,
        "packages": {name: version(name) for name in ("bcrit", "pandas", "pyarrow")},
        "devices": [],
        "experiment_sha256": fingerprint(text),
    }
    folder.write_bytes(ENVIRONMENT, (json.dumps({"sessions": [*earlier, session]}, indent=2) + "\n").encode())
    folder.write_bytes(EXPERIMENT, text.encode())
    outcomes = trials["outcome"].to_pylist()
    reached = pc.filter(trials["batch_size"], pc.equal(trials["outcome"], Outcome.REACHED.value)).to_pylist()
    return Census(
        run=str(folder),
        format=run.format,
        source=run.source,
        target=str(run.experiment.target),
        batch_sizes=run.experiment.batch_sizes,
        trials=trials.num_rows,
        measurements=n_rows,
        outcomes={outcome.value: outcomes.count(outcome.value) for outcome in Outcome},
        reached_by_study={b: reached.count(b) for b in run.experiment.batch_sizes},
        notes=tuple(run.notes.sentences()),
    )


def _problems(trials: pa.Table, measured: set[str]) -> list[str]:
    """Every way in which the trials break their schema, or do not fit the names of the measured ones."""
    problems = violations(TRIALS, trials)
    if not trials.num_rows:
        problems.append("there is no trial in it")
    without = measured - set(trials["trial_id"].to_pylist())
    if without:
        problems.append(f"{len(without)} trials have measurements and no row in the trials, such as '{min(without)}'")
    return problems


def _write_curves(run: ImportedRun, folder: RunFolder) -> tuple[pa.Table, set[str], int]:
    """Write whole trials in order of step: what their curves say, the metrics, and the rows written."""
    target, notes = run.experiment.target, run.notes
    repeated = "Repeated steps of a trial: the row with the best value of the target's metric stays"
    summaries, metrics, n_rows = [SUMMARY.empty_table()], set[str](), 0
    with PartWriter(folder, MEASUREMENTS) as writer:
        for part in run.measurements:
            data, starts = in_order(part, target)
            notes.add(repeated, part.num_rows - data.num_rows)
            metrics |= set(part.column_names) - set(MEASUREMENTS.names)
            summaries.append(summarize(data, starts, target))
            writer.write(data)
            n_rows += data.num_rows
    summary = pa.concat_tables(summaries)
    beyond = pc.sum(summary["beyond"]).as_py() or 0
    notes.add("Trials beyond the target before any update: only later evaluations count", beyond)
    return summary, metrics, n_rows


def write_recorded(run: ImportedRun, folder: RunFolder) -> tuple[set[str], set[str], int]:
    """Write the measurements of a run of ours that comes back as they are, in bounded memory, checked on the way.

    Its tables may hold any rows of any trials, in the order in which the run had them. Given back are the names of the
    measured trials, those of the metrics, and the rows written.
    """
    order, metrics, n_rows = Order(), set[str](), 0
    with PartWriter(folder, MEASUREMENTS) as writer:
        for part in run.measurements:
            data = decoded(part)
            if problems := column_violations(MEASUREMENTS, data):
                raise InputError(run.source, problems)
            metrics |= set(data.column_names) - set(MEASUREMENTS.names)
            if data.num_rows:
                order.take(data)
                writer.write(data)
            n_rows += data.num_rows
    if order.broken:
        doubtful = folder.select(MEASUREMENTS, MEASUREMENTS.names, order.broken)
        if problems := violations(MEASUREMENTS, doubtful):
            raise InputError(run.source, [*problems, f"one of these trials is '{min(order.broken)}'"])
    return set(order.last), metrics, n_rows


class Order:
    """Notices trials whose steps do not rise from row to row, over tables that are seen once, one after the other."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.broken: set[str] = set()

    def take(self, data: pa.Table) -> None:
        """See the next rows; those of different trials may interleave."""
        ids = data["trial_id"].combine_chunks().dictionary_encode()
        code, step = ids.indices.to_numpy(), data["step"].to_numpy()
        order = np.argsort(code, kind="stable")
        code, step = code[order], step[order]
        begins = np.flatnonzero(np.diff(code, prepend=-1))
        names = ids.dictionary.to_pylist()
        falls = np.diff(step, prepend=-1) <= 0
        falls[begins] = [step[i] <= self.last.get(names[code[i]], -1) for i in begins]
        self.broken |= {names[c] for c in np.unique(code[falls])}
        ends = np.append(begins[1:], len(code)) - 1
        self.last |= {names[code[i]]: int(step[i]) for i in ends}


class PartWriter(AbstractContextManager["PartWriter"]):
    """Writes a table of any length into parts of `PART_ROWS` rows as they come; another part when the columns change.

    The folder must not be in use: a part that is being written already has its name.
    """

    def __init__(self, folder: RunFolder, table: Table) -> None:
        self._folder, self._table = folder, table
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None
        self._number = self._rows = 0

    def write(self, data: pa.Table) -> None:
        """Add rows: the table's columns, then others; `trial_id` may be a dictionary."""
        if not data.num_rows:
            return
        if self._writer is None or data.schema != self._schema or self._rows >= PART_ROWS:
            self._begin(data.schema)
        assert self._writer is not None
        self._writer.write_table(data)
        self._rows += data.num_rows

    def _begin(self, schema: pa.Schema) -> None:
        self.__exit__()
        self._folder.filesystem.create_dir(self._folder.path(self._table.name), recursive=True)
        # Curves repeat no value but the trial's name, and dictionaries of floats only cost time. Without Arrow's own
        # schema in the file, a column that was written from a dictionary is read back as plain strings.
        self._writer = pq.ParquetWriter(
            self._folder.path(part_name(self._table, self._number)),
            schema,
            filesystem=self._folder.filesystem,
            use_dictionary=["trial_id", "train_seconds"],
            store_schema=False,
        )
        self._schema, self._rows = schema, 0
        self._number += 1

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def in_order(data: pa.Table, target: Target) -> tuple[pa.Table, Ints]:
    """Put the rows of every trial together and in order of step, one row a step; with each trial's first row.

    Of rows with the same trial and step the one with the best value of the target's metric stays, the first of equal
    ones: it alone decides whether the threshold was crossed there, in the published rule too (Shallue et al. 2018 take
    the first row, in order of step, that is strictly better). A row with a value, be it NaN, goes before one without.
    Trials stand in order of appearance; rows in order are not copied.
    """
    ids = data["trial_id"].combine_chunks()
    if not pa.types.is_dictionary(ids.type):
        ids = pc.dictionary_encode(ids)
    code = ids.indices.to_numpy(zero_copy_only=False)
    step = data["step"].to_numpy()
    begins = np.flatnonzero(np.diff(code, prepend=-1) != 0)
    later = np.ones(len(step), dtype=bool)
    later[1:] = np.diff(step) > 0
    later[begins] = True
    if later.all() and len(begins) == len(np.unique(code[begins])):
        return data, begins
    place = np.full(len(ids.dictionary), len(ids.dictionary))
    first = code[begins][::-1]
    place[first] = np.arange(len(first))[::-1]  # the last assignment wins: the first appearance
    badness = empty = np.zeros(len(step))
    if target.metric in data.column_names:
        value, empty = data[target.metric].to_numpy(), data[target.metric].is_null().to_numpy()
        badness = value if target.direction is Direction.MINIMIZE else -value
    order = np.lexsort((empty, badness, step, place[code]))  # stable; NaN comes last
    same = (np.diff(code[order]) == 0) & (np.diff(step[order]) == 0)
    return in_order(data.take(pa.array(order[np.concatenate([[True], ~same])])), target)


# One row a trial. `steps` is the first step after 0 whose value is strictly better than the threshold, `steps_low` the
# evaluation before that (0 where there is none), `best` the best finite value after step 0, `broken` whether the last
# value is NaN or infinite (an empty cell is no value), `beyond` whether the value at step 0 is better already.
SUMMARY = pa.schema(
    [("trial_id", pa.string()), *((name, pa.int64()) for name in ("last_step", "steps", "steps_low"))]
    + [("best", pa.float64()), ("broken", pa.bool_()), ("beyond", pa.bool_())]
)


def summarize(data: pa.Table, starts: Ints, target: Target) -> pa.Table:
    """Read every trial's first crossing and best value off its curve, as `Crossings` does for the analysis.

    There is no crossing and no best value where the metric is not among the columns.
    """
    n, step = len(starts), data["step"].to_numpy()
    found, broken, beyond = Crossings.of([target], n), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    metric = data[target.metric] if target.metric in data.column_names else pa.nulls(data.num_rows, pa.float64())
    rows = np.flatnonzero(metric.is_valid().to_numpy(zero_copy_only=False))
    if len(rows):
        trial = (np.searchsorted(starts, rows, side="right") - 1).astype(np.int64)
        begins = np.flatnonzero(np.diff(trial, prepend=-1))
        before = np.concatenate([[0], step[rows][:-1]])
        before[begins] = 0
        value = metric.to_numpy()[rows].astype(float)
        found.take(Chunk(trial, begins, step[rows], before, value, None))
        ends = np.append(begins[1:], len(rows)) - 1
        broken[trial[ends]] = ~np.isfinite(value[ends])
        beyond[trial[begins]] = [target.reached(v) for v in value[begins]]
        beyond[trial[begins]] &= step[rows][begins] == 0
    columns = {
        "trial_id": data["trial_id"].combine_chunks().take(pa.array(starts)).cast(pa.string()),
        "last_step": step[np.append(starts[1:], len(step)) - 1] if n else step,
        "steps": pa.array(found.steps[:, 0], from_pandas=True).cast(pa.int64()),
        "steps_low": np.nan_to_num(found.steps_low[:, 0]).astype(np.int64),
        "best": pa.array(found.best, from_pandas=True),
    }
    return pa.table({**columns, "broken": broken, "beyond": beyond}, schema=SUMMARY)


def complete(trials: pa.Table, summary: pa.Table) -> pa.Table:
    """Fill in what follows from the curves and is missing in the rows of trials.

    A trial that ended in a way that says nothing against its numbers (`Outcome.feasible`) has reached the target when
    its curve crosses it. A diverged or failed one has not, whatever it crossed before (Shallue et al. 2018 leave out
    INFEASIBLE trials). Where the source tells the steps to target itself, they stand. Where it does not tell how a
    trial ended, one that did not reach and whose last value is not finite has diverged.
    """
    # Empty cells where it was not measured.
    found = summary.take(pc.index_in(trials["trial_id"], value_set=summary["trial_id"].combine_chunks()))
    infeasible = pa.array([outcome.value for outcome in Outcome if not outcome.feasible])
    given, ended, nothing = trials["steps_to_target"], trials["outcome"], pa.scalar(None, pa.int64())
    crossing = pc.coalesce(given, found["steps"])
    low = pc.if_else(pc.is_valid(given), trials["steps_to_target_low"], found["steps_low"])
    reached = pc.and_(pc.invert(pc.is_in(ended, value_set=infeasible)), pc.is_valid(crossing))
    diverged = pc.and_(pc.is_null(ended), pc.and_not(pc.fill_null(found["broken"], False), reached))
    ended = pc.if_else(diverged, Outcome.DIVERGED.value, pc.fill_null(ended, Outcome.EXHAUSTED.value))
    steps = pc.fill_null(pc.max_element_wise(trials["steps"], found["last_step"], crossing), 0)
    nonfinite = pc.and_(diverged, pc.is_null(trials["message"]))
    changed = {
        "message": pc.if_else(nonfinite, "the last value of the target's metric was not finite", trials["message"]),
        "outcome": pc.if_else(reached, Outcome.REACHED.value, ended),
        "steps": steps,
        "examples": pc.coalesce(trials["examples"], pc.multiply(trials["batch_size"], steps)),
        "max_steps": pc.max_element_wise(trials["max_steps"], steps),
        "steps_to_target": pc.if_else(reached, crossing, nothing),
        "steps_to_target_low": pc.if_else(reached, low, nothing),
        "best_value": pc.coalesce(trials["best_value"], found["best"]),
    }
    for name, values in changed.items():
        trials = trials.set_column(trials.column_names.index(name), trials.schema.field(name), values)
    return trials
