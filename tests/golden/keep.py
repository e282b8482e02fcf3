"""Takes what analysis reads of a run folder into `tests/golden/runs`, without names of the machine it was made on.

python -m tests.golden.keep RUN...
"""

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bcrit.analysis.records.arrow_tables import sealed

RUNS = Path(__file__).parent / "runs"
KEPT = (
    "experiment.yaml",
    "environment.json",
    "trials",
    "measurements",
    "analysis/landscape.json",
    "analysis/adaptive.json",
    "checkpoints",
)
MACHINE = {"host": "golden", "node": "golden", "system": "Linux", "git_commit": None}
"""What is written in the place of what tells the machine and its state."""


def keep(run: Path, kept: Path) -> None:
    """Replace a stored folder; a pilot's second run folder goes with it."""
    shutil.rmtree(kept, ignore_errors=True)
    for name in KEPT:
        if (run / name).is_dir():
            shutil.copytree(run / name, kept / name)
        elif (run / name).exists():
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / name, kept / name)
    for part in kept.rglob("*.parquet"):
        rows = _neutral(pq.read_table(part))
        part.write_bytes(sealed(rows.schema, [rows]))
    environment = json.loads((kept / "environment.json").read_text())
    for session in environment["sessions"]:
        session |= {name: value for name, value in MACHINE.items() if name in session}
    (kept / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")
    if (run / "timing").is_dir():
        keep(run / "timing", kept / "timing")


def _neutral(table: pa.Table) -> pa.Table:
    for name in {"host", "node"} & set(table.column_names):
        place, cells = table.column_names.index(name), table[name].to_pylist()
        neutral = [None if cell is None else MACHINE[name] for cell in cells]
        table = table.set_column(place, table.schema.field(name), pa.array(neutral, table.schema.field(name).type))
    return table


if __name__ == "__main__":
    for each in sys.argv[1:]:
        keep(Path(each), RUNS / Path(each).name)
