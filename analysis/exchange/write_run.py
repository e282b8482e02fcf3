"""Writing an imported run as a run folder: everything is checked, and a place that fails is left as it was found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from bcrit.analysis.exchange.complete import complete
from bcrit.analysis.exchange.curves import Summary, in_order, joined, summarize
from bcrit.analysis.exchange.imported_run import ImportedRun
from bcrit.analysis.exchange.part_writer import PartWriter
from bcrit.analysis.exchange.recorded import write_recorded
from bcrit.analysis.records.arrow_tables import violations
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import ENVIRONMENT, EXPERIMENT, RunFolder, fingerprint
from bcrit.search_spaces.load import dump_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS


@dataclass(frozen=True)
class Census:
    """What an import wrote.

    Attributes:
        run: the run folder.
        format: what was read.
        source: its place.
        target: what "reached" means in the run.
        batch_sizes: one study for each.
        trials: rows of the trials table.
        measurements: rows of the measurements table.
        outcomes: trials by how they ended.
        reached_by_study: trials that reached, by batch size.
        notes: what was assumed or left out, a sentence each.
    """

    run: str
    format: str
    source: str
    target: str
    batch_sizes: tuple[int, ...]
    trials: int
    measurements: int
    outcomes: Mapping[str, int]
    reached_by_study: Mapping[int, int]
    notes: tuple[str, ...]

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

    Args:
        runs: what was imported, and a free place for it.

    Returns:
        What was written.
    """
    begun: list[tuple[RunFolder, str, bool]] = []
    written = []
    try:
        for run, folder in runs:
            refuse_occupied(folder)
            begun.append((folder, _missing(folder), _exists(folder)))
            written.append(_write(run, folder))
    except BaseException:
        for place in begun:
            _remove(*place)
        raise
    return written


def refuse_occupied(folder: RunFolder) -> None:
    """Refuse a place where something lies.

    Raises:
        InputError: it is taken, or it cannot be made.
    """
    if folder.occupied():
        raise InputError(str(folder), ["something lies there already; give another place with --out"])
    if not folder.creatable():
        raise InputError(str(folder), ["a folder cannot be made there; give another place with --out"])


def _write(run: ImportedRun, folder: RunFolder) -> Census:
    if run.recorded:
        measured, metrics, n_rows = write_recorded(run, folder)
        trials = run.trials()
        problems = _problems(trials, measured)
    else:
        summary, metrics, n_rows = _write_curves(run, folder)
        trials = complete(run.trials(), summary)
        problems = _problems(trials, set(summary.trial_ids))
        if len(set(summary.trial_ids)) < len(summary.trial_ids):
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
    session = _session(run, text)
    # Earlier sessions froze the experiment as another file; from here on this one counts.
    earlier = [{k: v for k, v in told.items() if k != "experiment_sha256"} for told in run.sessions]
    folder.write_bytes(ENVIRONMENT, (json.dumps({"sessions": [*earlier, session]}, indent=2) + "\n").encode())
    folder.write_bytes(EXPERIMENT, text.encode())
    return _census(folder, run, trials, n_rows)


def _write_curves(run: ImportedRun, folder: RunFolder) -> tuple[Summary, set[str], int]:
    """Write whole trials in order of step: what their curves say, the metrics, and the rows written."""
    target, notes = run.experiment.target, run.notes
    summaries, metrics, n_rows = [], set[str](), 0
    with PartWriter(folder, MEASUREMENTS) as writer:
        for part in run.measurements:
            curves = in_order(part, target)
            notes.add(
                "Repeated steps of a trial: the row with the best value of the target's metric stays", curves.repeated
            )
            metrics |= set(part.column_names) - set(MEASUREMENTS.names)
            summaries.append(summarize(curves, target))
            writer.write(curves.data)
            n_rows += curves.data.num_rows
    summary = joined(summaries)
    notes.add("Trials beyond the target before any update: only later evaluations count", summary.beyond_at_start)
    return summary, metrics, n_rows


def _problems(trials: pa.Table, measured: set[str]) -> list[str]:
    """Every way in which the trials break their schema, or do not fit the names of the measured ones."""
    problems = violations(TRIALS, trials)
    if not trials.num_rows:
        problems.append("there is no trial in it")
    without = measured - set(trials["trial_id"].to_pylist())
    if without:
        problems.append(f"{len(without)} trials have measurements and no row in the trials, such as '{min(without)}'")
    return problems


def _session(run: ImportedRun, text: str) -> dict[str, Any]:
    """The import as an entry of `environment.json`: it did not train, so it names no device."""
    return {
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "imported": {"format": run.format, "source": run.source},
        "seed": run.experiment.seed,
        "packages": {name: version(name) for name in ("bcrit", "pandas", "pyarrow")},
        "devices": [],
        "experiment_sha256": fingerprint(text),
    }


def _census(folder: RunFolder, run: ImportedRun, trials: pa.Table, n_rows: int) -> Census:
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


def _missing(folder: RunFolder) -> str:
    """The outermost folder that writing would make; the run folder itself where its parents are there."""
    if not folder.is_local:
        return folder.root
    made = [str(path) for path in (Path(folder.root), *Path(folder.root).parents) if not path.exists()]
    return made[-1] if made else folder.root


def _exists(folder: RunFolder) -> bool:
    return bool(folder.filesystem.get_file_info(folder.root).type == fs.FileType.Directory)


def _remove(folder: RunFolder, made: str, existed: bool) -> None:
    """Take away what a failed import wrote; an empty folder that was there stays."""
    if folder.filesystem.get_file_info(made).type == fs.FileType.NotFound:
        return
    if existed:
        folder.filesystem.delete_dir_contents(made)
    else:
        folder.filesystem.delete_dir(made)


__all__ = ["Census", "refuse_occupied", "write_run", "write_runs"]
