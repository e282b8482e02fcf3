"""Writing an imported run as a run folder: everything is checked, and a place that fails is left as it was found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from bcrit.analysis.exchange.run import ImportedRun
from bcrit.analysis.exchange.steps import Ints, in_order
from bcrit.analysis.records.arrow_tables import column_violations, decoded, violations
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.one_pass import Chunk
from bcrit.analysis.records.run_folder import ENVIRONMENT, EXPERIMENT, RunFolder, fingerprint
from bcrit.analysis.targets.crossings import Crossings
from bcrit.search_spaces.load import dump_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.search_spaces.target import Target

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
            # The outermost folder that writing will make; the run folder itself where its parents are there.
            local = [Path(folder.root), *Path(folder.root).parents] if folder.is_local else []
            made = [str(path) for path in local if not path.exists()]
            begun.append((folder, made[-1] if made else folder.root, existed))
            written.append(_write(run, folder))
    except BaseException:
        for folder, outermost, existed in begun:
            if folder.filesystem.get_file_info(outermost).type != fs.FileType.NotFound:
                # An empty folder that was there stays.
                remove = folder.filesystem.delete_dir_contents if existed else folder.filesystem.delete_dir
                remove(outermost)
        raise
    return written


def refuse_occupied(folder: RunFolder) -> None:
    """Refuse a place where something lies, or where nothing can be made."""
    if folder.occupied():
        raise InputError(str(folder), ["something lies there already; give another place with --out"])
    if not folder.creatable():
        raise InputError(str(folder), ["a folder cannot be made there; give another place with --out"])


def _write(run: ImportedRun, folder: RunFolder) -> Census:
    target, problems, text = run.experiment.target, [], dump_experiment(run.experiment)
    folder = replace(folder, experiment_sha256=fingerprint(text))
    if run.recorded:
        order = Order()
        metrics, n_rows = _append(folder, _as_they_are(run, order))
        trials, measured = run.trials(), set(order.last)
        if order.broken:
            doubled = violations(MEASUREMENTS, folder.select(MEASUREMENTS, MEASUREMENTS.names, order.broken))
            problems += [*doubled, f"one of these trials is '{min(order.broken)}'"] if doubled else []
    else:
        summaries = [SUMMARY.empty_table()]
        metrics, n_rows = _append(folder, _whole_trials(run, summaries))
        summary = pa.concat_tables(summaries)
        beyond = pc.sum(summary["beyond"]).as_py() or 0
        run.notes.add("Trials beyond the target before any update: only later evaluations count", beyond)
        trials, measured = complete(run.trials(), summary), set(summary["trial_id"].to_pylist())
        if len(measured) < summary.num_rows:
            rule = "the measurements of a trial stand in several tables"
            problems.append(f"{rule}; an importer must hand over whole trials")
    if n_rows and target.metric not in metrics:
        known = ", ".join(sorted(metrics)) or "none"
        problems.append(f"the target's metric '{target.metric}' is not measured; the metrics are {known}")
    problems += violations(TRIALS, trials)
    if not trials.num_rows and not run.recorded:  # ours may have been stopped before any had ended
        problems.append("there is no trial in it")
    if without := measured - set(trials["trial_id"].to_pylist()):
        problems.append(f"{len(without)} trials have measurements and no row in the trials, such as '{min(without)}'")
    if problems:
        raise InputError(run.source, problems)
    folder.append_table(TRIALS, trials, 0)
    # Earlier sessions froze the experiment as another file; from here on this one counts.
    earlier = [{k: v for k, v in told.items() if k != "experiment_sha256"} for told in run.sessions]
    # The import did not train, so it names no device.
    session = {
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "imported": {"format": run.format, "source": run.source},
        "seed": run.experiment.seed,
        "packages": {name: version(name) for name in ("bcrit", "pandas", "pyarrow")},
        "devices": [],
        "experiment_sha256": folder.experiment_sha256,
    }
    folder.write_bytes(ENVIRONMENT, (json.dumps({"sessions": [*earlier, session]}, indent=2) + "\n").encode())
    folder.write_bytes(EXPERIMENT, text.encode())
    outcomes = trials["outcome"].to_pylist()
    reached = pc.filter(trials["batch_size"], pc.equal(trials["outcome"], Outcome.REACHED.value)).to_pylist()
    return Census(
        run=str(folder),
        format=run.format,
        source=run.source,
        target=str(target),
        batch_sizes=run.experiment.batch_sizes,
        trials=trials.num_rows,
        measurements=n_rows,
        outcomes={outcome.value: outcomes.count(outcome.value) for outcome in Outcome},
        reached_by_study={b: reached.count(b) for b in run.experiment.batch_sizes},
        notes=tuple(run.notes.sentences()),
    )


def _append(folder: RunFolder, tables: Iterable[pa.Table]) -> tuple[set[str], int]:
    """Write measurements in parts of `PART_ROWS` rows or a little more: their metrics, and the rows written.

    Where the columns change another part begins.
    """
    metrics, n_rows, numbers = set[str](), 0, count()
    held: list[pa.Table] = []
    for data in tables:
        metrics |= set(data.column_names) - set(MEASUREMENTS.names)
        if held and (data.schema != held[0].schema or sum(part.num_rows for part in held) >= PART_ROWS):
            folder.append_table(MEASUREMENTS, pa.concat_tables(held), next(numbers))
            held = []
        held += [data] if data.num_rows else []
        n_rows += data.num_rows
    if held:
        folder.append_table(MEASUREMENTS, pa.concat_tables(held), next(numbers))
    return metrics, n_rows


def _whole_trials(run: ImportedRun, summaries: list[pa.Table]) -> Iterator[pa.Table]:
    """The measurements of whole trials in order of step; `summaries` grow by what their curves say."""
    target = run.experiment.target
    for part in run.measurements():
        data, starts, replaced = in_order(part)
        run.notes.add("Rows that a later one at the same or an earlier step replaces", replaced)
        run.notes.add("Rows of one step that were joined", part.num_rows - replaced - data.num_rows)
        summaries.append(summarize(data, starts, target))
        yield data


def _as_they_are(run: ImportedRun, order: Order) -> Iterator[pa.Table]:
    """The measurements of a run of ours that comes back, checked on the way, in the order in which the run had them."""
    for part in run.measurements():
        data = decoded(part)
        if problems := column_violations(MEASUREMENTS, data):
            raise InputError(run.source, problems)
        order.take(data)
        yield data


class Order:
    """Notices trials whose steps do not rise from row to row, over tables that are seen once, one after the other."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.broken: set[str] = set()

    def take(self, data: pa.Table) -> None:
        """See the next rows; those of different trials may interleave."""
        rows = data.select(["trial_id", "step"]).to_pandas()
        steps = rows.groupby("trial_id", sort=False)["step"]
        before = steps.shift().fillna(rows["trial_id"].map(self.last)).fillna(-1)
        self.broken |= set(rows["trial_id"][rows["step"] <= before])
        self.last |= steps.last().to_dict()


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
