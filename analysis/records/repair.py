"""Mending the tables of a run that older versions, or a process that had lost the run, tore.

What is wrong is set aside under `repaired/`, where no reader looks, and nothing is deleted:

- files that are no readable parts, half-written ones among them;
- rows that are there twice, as two drivers of one run left them: the trial that finished first stays, and before that
  one whose file says that it is of this run, for a file of older versions may be of another run with the same names;
- measurements beyond the end of their trial, which the other driver's trial went on to;
- finished trials that lack the evaluations which their own row names: these are run again by `bcrit resume`, but only
  where `bcrit` trained them itself, since an import cannot be run again.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import fs

from bcrit.analysis.records.arrow_tables import arrow_schema, column_violations, joined
from bcrit.analysis.records.parted_tables import EXPERIMENT_OF, replacing, whole_part
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.records.storage import HALF_WRITTEN, is_object_store
from bcrit.search_spaces.outcome import STUDY, Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

REPAIRED = "repaired"
# How these end is an evaluation, at the step that the trial's row names.
ENDS_MEASURED = {Outcome.EXHAUSTED.value, Outcome.PRUNED.value, Outcome.CAPPED.value, Outcome.DIVERGED.value}

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Mended:
    """What was set aside."""

    place: str | None = None  # the folder where it lies now; None where nothing was wrong
    files: Mapping[str, str] = field(default_factory=dict)  # what was wrong with which file
    doubled: Mapping[str, int] = field(default_factory=dict)  # rows that were there twice, by table
    unmarked: bool = False  # whether a doubled row stood in a file without the run's mark and gave way to one with it
    beyond: int = 0  # measurements after the end of their trial
    torn: tuple[str, ...] = ()  # finished trials that lack evaluations

    def sentences(self, run: str) -> list[str]:
        """What was done, for the terminal."""
        if self.place is None:
            return ["nothing to mend"]
        found = [f"{name} was set aside: {problem}" for name, problem in self.files.items()]
        for table, count in self.doubled.items():
            kept = "the trial that finished first stays" if table == TRIALS.name else "the first of each stays"
            kept += ", one whose file is marked as this run's before all" if self.unmarked else ""
            found.append(f"{count} doubled {_rows(count)} set aside in '{table}'; {kept}")
        if self.beyond:
            found.append(
                f"{self.beyond} {_rows(self.beyond)} set aside in 'measurements', after the end of their trial"
            )
        if self.torn:
            names = ", ".join(self.torn[:5]) + (", ..." if len(self.torn) > 5 else "")
            which = f"{len(self.torn)} trials that lack" if len(self.torn) > 1 else "1 trial that lacks"
            found.append(f"{which} evaluations set aside ({names}); `bcrit resume {run}` runs what is missing")
        return [*found, f"what was set aside lies in {self.place}"]


def repair(folder: RunFolder, can_run_again: bool) -> Mended:
    """Set aside what keeps the tables from being read, or from being right; nobody else must be at work in the run.

    Trials without their evaluations may go where `bcrit resume` makes them again.
    """
    place = f"{REPAIRED}/{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    files = {}
    for table in (MEASUREMENTS, TRIALS):
        for name, problem in _damaged(folder, table).items():
            _set_aside(folder, name, place)
            files[name] = problem
    trials, measurements = _all_rows(folder, TRIALS), _all_rows(folder, MEASUREMENTS)
    _refuse_two_runs(folder, trials)
    second = _second(trials, TRIALS, "ended_at")
    finished = trials[~second].set_index("trial_id")
    again = _second(measurements, MEASUREMENTS)
    # Where a file without a mark doubles rows of one with it, what else it has of that trial is of the other run too.
    others = measurements.loc[again & ~measurements["marked"], "trial_id"]
    ours = measurements.loc[measurements["marked"], "trial_id"]
    again = again | (~measurements["marked"] & measurements["trial_id"].isin(set(others) & set(ours))).to_numpy()
    ends = measurements["trial_id"].map(finished["steps"]).astype(float)  # NaN for a trial that goes on
    beyond = ~again & (measurements["step"] > ends).to_numpy()
    torn = _torn(finished, measurements[~again & ~beyond]) if can_run_again else []
    lost, theirs = trials["trial_id"].isin(torn).to_numpy(), measurements["trial_id"].isin(torn).to_numpy()
    for table, gone in ((MEASUREMENTS, again | beyond | theirs), (TRIALS, second | lost)):
        if gone.any():
            _rewrite(folder, table, gone, place)
    doubled = {TRIALS.name: int(second.sum()), MEASUREMENTS.name: int(again.sum())}
    doubled = {name: count for name, count in doubled.items() if count}
    wrong = bool(files or doubled or beyond.any() or torn)
    told = ((trials, second), (measurements, again))
    unmarked = any((gone & ~of["marked"]).any() and of["marked"].any() for of, gone in told)
    return Mended(folder.address(place) if wrong else None, files, doubled, unmarked, int(beyond.sum()), tuple(torn))


def set_trials_aside(folder: RunFolder, failed: bool, batch_sizes: Collection[int]) -> int:
    """Set trials aside under `repaired/` with their measurements, so that `bcrit resume` runs them again; how many.

    Those that failed or ran out of memory, and all of the studies at these batch sizes. What was trained beside a study
    stays: other commands run that again. Nobody else must be at work in the run, whose log was delivered.
    """
    trials = _joined(folder, TRIALS).select(["trial_id", "batch_size", "outcome", "stage"]).to_pandas()
    trials = trials[trials["stage"].isin(STUDY)]
    broken = [outcome.value for outcome in Outcome if outcome.broken]
    gone = (trials["outcome"].isin(broken) & failed) | trials["batch_size"].isin(list(batch_sizes))
    return set_aside(folder, trials.loc[gone, "trial_id"])


def set_aside(folder: RunFolder, names: Collection[str]) -> int:
    """The same of the trials of these names."""
    place = f"{REPAIRED}/{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    # The trials' rows go first: one without its measurements would count, the other way round nothing does.
    for table in (TRIALS, MEASUREMENTS):
        gone = _joined(folder, table)["trial_id"].to_pandas().isin(names).to_numpy(dtype=bool)
        if gone.any():
            _rewrite(folder, table, gone, place)
    return len(names)


def _damaged(folder: RunFolder, table: Table) -> dict[str, str]:
    """Files of a table that are no parts which can be read, and why."""
    found = {}
    selector = fs.FileSelector(folder.path(table.name), allow_not_found=True)
    for info in folder.filesystem.get_file_info(selector):
        if HALF_WRITTEN.match(info.base_name):
            found[f"{table.name}/{info.base_name}"] = "it was half written when the process ended"
    for part in folder.listed(table):
        try:
            problems = column_violations(table, folder.rows_of(part.name))
        except InputError as error:
            problems = [error.problems[0].partition(";")[0].replace(part.name, "it")]
        if problems:
            found[part.name] = "; ".join(problems)
    return found


def _all_rows(folder: RunFolder, table: Table) -> pd.DataFrame:
    """What the rows of a table are judged by, in the order in which the parts hold them.

    With the part of each, whether that is marked as one of this run, and for trials the hyperparameters that it has.
    """
    wanted = {
        TRIALS.name: [*TRIALS.key, *_ASKED, "outcome", "steps", "steps_to_target", "steps_to_target_low", "ended_at"],
        MEASUREMENTS.name: [*MEASUREMENTS.key],
    }
    none = arrow_schema(table).empty_table()
    pieces = [none.select(wanted[table.name]).to_pandas().assign(part="", marked=False, settings="")]
    for name in folder.parts(table):
        rows = folder.rows_of(name)
        marked = EXPERIMENT_OF in (rows.schema.metadata or {})  # of another experiment it would be damaged
        judged = joined([none, rows]).select(wanted[table.name]).to_pandas()
        judged = judged.assign(part=name, marked=marked, settings="")
        if table is TRIALS:
            other = ["trial_id", *sorted(set(rows.column_names) - set(table.names))]
            has = rows.select(other).to_pandas().notna().to_numpy()
            judged["settings"] = [" ".join(compress(other, of)) for of in has]
        pieces.append(judged)
    frame: pd.DataFrame = pd.concat(pieces, ignore_index=True)
    return frame


# What the experiment and a trial's name decide, whichever process ran it.
_ASKED = ("batch_size", "stage", "seed")


def _refuse_two_runs(folder: RunFolder, trials: pd.DataFrame) -> None:
    """Refuse trials of one name that no run has both of, where no mark says which of their files is this run's."""
    for trial_id, rows in trials[trials.duplicated("trial_id", keep=False)].groupby("trial_id", sort=True):
        apart = rows.drop_duplicates([*_ASKED, "settings"])
        if len(apart) > 1 and rows["marked"].all() | ~rows["marked"].any():
            first, other = apart["part"].iloc[:2]
            rule = f"trial '{trial_id}' stands in {first} and, with another seed or other settings, in {other}"
            remedy = "neither says of which run it is; move the file of the other run away"
            raise InputError(str(folder), [f"{rule}; {remedy}"])


def _joined(folder: RunFolder, table: Table) -> pa.Table:
    return joined([arrow_schema(table).empty_table(), *map(folder.rows_of, folder.parts(table))])


def _second(rows: pd.DataFrame, table: Table, order: str | None = None) -> Flags:
    """Which rows have the key of another that comes before: marked ones, then in the given order or in the table's."""
    ordered = rows if order is None else rows.sort_values(order, kind="stable")
    ordered = ordered.sort_values("marked", ascending=False, kind="stable")
    return ordered.duplicated(list(table.key)).reindex(rows.index).to_numpy(dtype=bool)


def _torn(trials: pd.DataFrame, measurements: pd.DataFrame) -> list[str]:
    """Finished trials without an evaluation that their row names: the last one, or those around the crossing."""
    there = pd.MultiIndex.from_frame(measurements[["trial_id", "step"]])
    found: set[str] = set()
    ended = trials[trials["outcome"].isin(ENDS_MEASURED)]
    for steps in (ended["steps"], trials["steps_to_target"], trials["steps_to_target_low"]):
        named = steps[steps.notna() & (steps > 0)].astype("int64")
        found |= set(named.index[~pd.MultiIndex.from_arrays([named.index, named]).isin(there)])
    return sorted(found)


def _rewrite(folder: RunFolder, table: Table, gone: Flags, place: str) -> None:
    """Write a table without some rows as one part, and set aside those rows and the parts that it replaces.

    A kill at any moment leaves a folder that is read as before or as after.
    """
    listed = folder.listed(table)
    data, names = _joined(folder, table), [part.name for part in listed]
    folder.write_table(f"{place}/{table.name}.parquet", data.filter(pa.array(gone)))
    folder.write_table(whole_part(table, listed, "repaired"), replacing(data.filter(pa.array(~gone)), names))
    for name in names:
        _set_aside(folder, name, place)


def _set_aside(folder: RunFolder, name: str, place: str) -> None:
    """Move a file out of the readers' sight."""
    if is_object_store(folder.filesystem):
        folder.write_bytes(f"{place}/{name}", folder.read_bytes(name))
        folder.filesystem.delete_file(folder.path(name))
        return
    target = folder.path(f"{place}/{name}")
    folder.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
    folder.filesystem.move(folder.path(name), target)


def _rows(count: int) -> str:
    return "row was" if count == 1 else "rows were"
