"""Tables of measurements are read piece by piece, and no trial is torn apart."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.run import Notes, trial_row
from bcrit.analysis.exchange.tables import Mapped, TableCurves, trial_names
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target

TARGET = Target.model_validate("loss < 1")
ROWS = [trial_row(name, 4, number=i) for i, name in enumerate("abcde")]
Measured = list[tuple[str, int, float]]


def curves(path: Path) -> TableCurves:
    return TableCurves(str(path), ROWS, Mapped(), TARGET, Notes())


def table(path: Path, rows: Measured) -> Path:
    names, steps, values = zip(*rows, strict=True)
    columns = pa.table({"trial_id": list(names), "step": list(steps), "loss": list(values)})
    if path.suffix == ".parquet":
        pq.write_table(columns, path)
    else:
        path.write_text("trial_id,step,loss\n" + "".join(f"{n},{s},{v!r}\n" for n, s, v in rows))
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=5, max_size=5).filter(any),
    piece=st.integers(1, 20),
    scattered=st.booleans(),
)
def test_every_piece_holds_whole_trials(
    tmp_path: Path, ending: str, lengths: list[int], piece: int, scattered: bool
) -> None:
    rows = [(name, step, step / 7) for name, length in zip("abcde", lengths, strict=True) for step in range(length)]
    if scattered:
        rows.sort(key=lambda row: row[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bcrit.analysis.exchange.files.ROWS", piece)
        patch.setattr("bcrit.analysis.exchange.files.BLOCK", 30 + 10 * piece)
        pieces = [part.to_pylist() for part in curves(table(tmp_path / f"m.{ending}", rows))]
    found = [(row["trial_id"], row["step"], row["loss"]) for part in pieces for row in part]
    assert found == rows
    assert all(row["examples"] == 4 * row["step"] for part in pieces for row in part)
    owners = [{row["trial_id"] for row in part} for part in pieces]
    assert sum(map(len, owners)) == len({name for name, _, _ in rows})


def test_trials_that_stand_together_are_not_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.files.BLOCK", 1 << 12)
    rows = [(name, step, 0.5) for name in "abcde" for step in range(1000)]
    assert max(part.num_rows for part in curves(table(tmp_path / "m.csv", rows))) <= 2000


def test_a_word_among_numbers_further_down_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcrit.analysis.exchange.files.BLOCK", 1 << 12)
    path = table(tmp_path / "m.csv", [("a", step, 0.5) for step in range(1000)])
    with path.open("a") as file:
        file.write("a,1000,diverged\n")
    with pytest.raises(InputError, match=r"the table cannot be read: (.|\n)*invalid value 'diverged'"):
        curves(path)


def test_a_column_that_the_user_names_holds_names_whatever_its_case(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('Case,"Run",step\n007,1,2\n')
    assert trial_names(str(tmp_path / "t.csv"), Mapped({"trial_id": "Case"})) == ["Case", "Run"]
