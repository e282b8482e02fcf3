"""What was measured as it is stored: written, read, refused where it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.adaptive.result import read_adaptive, write_adaptive
from analysis.run_folder import ADAPTIVE, RunFolder
from search_spaces.problems import InputError
from tests.analysis.adaptive.made_up import adaptive


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


def test_what_is_written_is_read_again(folder: RunFolder) -> None:
    write_adaptive(folder, adaptive())
    assert read_adaptive(folder) == adaptive()


def test_nothing_is_read_where_nothing_was_measured(folder: RunFolder) -> None:
    assert read_adaptive(folder) is None


@pytest.mark.parametrize("spoil", [lambda text: text[:99], lambda text: text.replace('"answers"', '"replies"')])
def test_a_damaged_file_is_refused_with_the_remedy(folder: RunFolder, spoil: Callable[[str], str]) -> None:
    write_adaptive(folder, adaptive())
    folder.write_bytes(ADAPTIVE, spoil(folder.read_text(ADAPTIVE)).encode())
    with pytest.raises(InputError, match="cannot be read.*`bcrit adaptive` makes it again"):
        read_adaptive(folder)


def test_a_file_of_another_version_is_refused(folder: RunFolder) -> None:
    folder.write_json(ADAPTIVE, {**adaptive().to_json(), "format": 99})
    with pytest.raises(InputError, match="its format is 99, not 1"):
        read_adaptive(folder)
