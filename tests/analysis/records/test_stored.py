"""Results in the run folder: read, or refused where they are damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.records.stored import read_stored, restored, write_stored
from bcrit.search_spaces.problems import InputError

NAME = "analysis/thing.json"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


@dataclass(frozen=True)
class Part:
    ends: tuple[int | None, ...]


@dataclass(frozen=True)
class Thing:
    size: int
    parts: tuple[Part, ...] = ()
    one: Part | None = None


THING = Thing(7, (Part((1, None)), Part(())), Part((2,)))


def test_what_is_written_is_read_again_and_nothing_where_nothing_was(folder: RunFolder) -> None:
    assert read_stored(folder, NAME, Thing) is None
    write_stored(folder, NAME, THING)
    assert read_stored(folder, NAME, Thing) == THING == restored(Thing, plain(THING))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"format": 1, "si', "Unterminated string"),
        ("[3]", "object cannot be interpreted"),
        ('{"size": 7}', "'format'"),
        ('{"format": 1}', "'size'"),
        ('{"format": 1, "size": 7, "sort": 2}', "'sort'"),
        ('{"format": 1, "size": 7, "one": {}}', "'ends'"),
        ('{"format": 2, "size": 7}', "its format is 2, not 1"),
    ],
)
def test_a_file_that_is_no_result_is_refused_with_the_remedy(folder: RunFolder, text: str, why: str) -> None:
    folder.write_bytes(NAME, text.encode())
    with pytest.raises(InputError, match=f"cannot be read: .*{why}.*`bcrit thing` makes it again"):
        read_stored(folder, NAME, Thing)
