"""What is trained beside a study, as trials of the same session: pilots, landscapes, adaptive batch sizes."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

Watch = Callable[[str], None]
"""Called with a line whenever something is done."""


def trials_of(folder: RunFolder, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """The rows of these trials, by their names."""
    return {row["trial_id"]: row for row in folder.read(TRIALS).to_pylist() if row["trial_id"] in names}


def curves_of(folder: RunFolder, columns: Sequence[str], names: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """The measurements of these trials, by their names and in order of steps: `step` and these columns."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    rows = folder.select(MEASUREMENTS, ["trial_id", "step", *columns], names).to_pylist()
    for row in sorted(rows, key=lambda row: row["step"]):
        found[row["trial_id"]].append(row)
    return found
