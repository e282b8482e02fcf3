"""Measurements of a run of ours that comes back: written as they come, in bounded memory, and checked on the way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bcrit.analysis.exchange.imported_run import ImportedRun
from bcrit.analysis.exchange.part_writer import PartWriter
from bcrit.analysis.records.arrow_tables import column_violations, decoded, violations
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS


class Order:
    """Notices trials whose steps do not rise from row to row, over tables that are seen once, one after the other."""

    def __init__(self) -> None:
        """Begin; nothing was seen yet."""
        self.last: dict[str, int] = {}
        self.broken: set[str] = set()

    def take(self, data: pa.Table) -> None:
        """See the next rows; those of different trials may interleave.

        Args:
            data: columns `trial_id` and `step` without empty cells.
        """
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


def write_recorded(run: ImportedRun, folder: RunFolder) -> tuple[set[str], set[str], int]:
    """Write the measurements of a recorded run as they are.

    Args:
        run: whose tables may hold any rows of any trials, in the order in which the run had them.
        folder: a new run folder.

    Returns:
        (names of the measured trials, names of the metrics, rows written).

    Raises:
        InputError: a table breaks the schema, or a trial has two rows of one step.
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


__all__ = ["Order", "write_recorded"]
