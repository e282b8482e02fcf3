"""Results in the run folder: read, or refused where they are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.stored import read_stored
from bcrit.search_spaces.problems import InputError

NAME = "analysis/thing.json"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


def read(folder: RunFolder) -> int | None:
    return read_stored(folder, NAME, 3, lambda facts: int(facts["size"]), "bcrit thing")


def test_what_is_written_is_read_again_and_nothing_where_nothing_was(folder: RunFolder) -> None:
    assert read(folder) is None
    folder.write_json(NAME, {"format": 3, "size": 7})
    assert read(folder) == 7


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"format": 3, "si', "Unterminated string"),
        ("[3]", "object cannot be interpreted"),
        ('{"size": 7}', "'format'"),
        ('{"format": 3}', "'size'"),
        ('{"format": 2, "size": 7}', "its format is 2, not 3"),
    ],
)
def test_a_file_that_is_no_result_is_refused_with_the_remedy(folder: RunFolder, text: str, why: str) -> None:
    folder.write_bytes(NAME, text.encode())
    with pytest.raises(InputError, match=f"cannot be read: .*{why}.*`bcrit thing` makes it again"):
        read(folder)
