"""One row a step, in order of step: the one rule for repeated and falling steps, whatever the rows come from."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bcrit.search_spaces.tables import MEASUREMENTS

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def in_order(data: pa.Table) -> tuple[pa.Table, Ints, int]:
    """Put the rows of every trial together and in order of step, one row a step.

    Rows of one step are one measurement: loggers write one row a metric, or training and validation in two. A value of
    a metric stands unless one that comes later has its step or an earlier one: a run that was resumed goes back, and
    what it measures then stands for what came before (`standing`). An empty cell is no value; a NaN is one.

    Returns:
        The rows, trials in order of appearance; each trial's first row; how many rows were replaced by later ones.
        Rows that are in order already are not copied.
    """
    ids = data["trial_id"].combine_chunks()
    names = ids if pa.types.is_dictionary(ids.type) else pc.dictionary_encode(ids)
    code = pd.factorize(names.indices.to_numpy(zero_copy_only=False))[0].astype(np.int64)  # numbers them as they appear
    step = data["step"].to_numpy()
    begins = np.flatnonzero(np.diff(code, prepend=-1))
    later = np.diff(step, prepend=-1) > 0
    later[begins] = True
    if later.all() and len(begins) == len(np.unique(code)):
        return data, begins, 0
    metrics = [name for name in data.column_names if name not in MEASUREMENTS.names]
    given = {name: data[name].is_valid().to_numpy(zero_copy_only=False) for name in metrics}
    stand = {name: standing(code, step, flags) for name, flags in given.items()}
    empty = ~np.any([*given.values(), np.zeros(len(step), bool)], axis=0)
    kept = np.any([*stand.values(), empty], axis=0)
    rows = np.flatnonzero(kept)
    order = rows[np.lexsort((rows, step[rows], code[rows]))]
    first = (np.diff(code[order], prepend=-1) != 0) | (np.diff(step[order], prepend=-1) != 0)
    place = np.full(len(step), -1)  # of a row's measurement among those that stay
    place[order] = np.cumsum(first) - 1
    last = order[np.append(np.flatnonzero(first)[1:], len(order)) - 1] if len(order) else order
    columns = {}
    for name in data.column_names:
        if name in stand:
            of = np.full(len(last), -1)
            of[place[stand[name]]] = np.flatnonzero(stand[name])
            columns[name] = data[name].take(pa.array(of, mask=of < 0))
        else:
            columns[name] = data[name].take(pa.array(last))
    starts = np.flatnonzero(np.diff(code[last], prepend=-1))
    return pa.table(columns, schema=data.schema), starts, int((~kept).sum())


def standing(code: Ints, step: Ints, given: Flags) -> Flags:
    """Which values of a metric stand, of rows in the order in which they come; all arrays are (n_rows,).

    Where none of a trial's steps comes twice (its number is `code`) and a quarter of them or more fall, its rows are no
    record of a run that goes back, but out of order, and all stand. A run that is resumed evaluates at the steps at
    which it did before, or goes back a few times; of shuffled rows half fall. The quarter is chosen, not studied.
    """
    rows = np.flatnonzero(given)[::-1]  # from the last to the first
    frame = pd.DataFrame({"code": code[rows], "step": step[rows]})
    trials = frame.groupby("code", sort=False)
    after = trials["step"].cummin().groupby(frame["code"], sort=False).shift()
    stands = (frame["step"] < after) | after.isna()
    if not stands.all():
        twice = frame.duplicated(["code", "step"], keep=False).groupby(frame["code"], sort=False).transform("any")
        rises = trials["step"].diff()  # towards the first row
        back = (rises > 0).groupby(frame["code"], sort=False).transform("sum")
        on = (rises < 0).groupby(frame["code"], sort=False).transform("sum")
        stands |= ~twice & (3 * back >= on)
    found = np.zeros(len(given), dtype=bool)
    found[rows[stands.to_numpy()]] = True
    return found
