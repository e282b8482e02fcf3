"""What was measured as it is stored: written, read, refused where it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcrit.analysis.adaptive.result import read_adaptive, write_adaptive
from bcrit.analysis.records.run_folder import ADAPTIVE, RunFolder
from bcrit.search_spaces.problems import InputError
from tests.analysis.adaptive.made_up import adaptive


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


def test_what_is_written_is_read_again(folder: RunFolder) -> None:
    write_adaptive(folder, adaptive())
    assert read_adaptive(folder) == adaptive()


def test_a_result_that_lacks_a_part_is_refused_with_the_remedy(folder: RunFolder) -> None:
    stored = {"format": 1, **adaptive().to_json()}
    del stored["answers"]
    folder.write_json(ADAPTIVE, stored)
    with pytest.raises(InputError, match="cannot be read: 'answers'.*`bcrit adaptive` makes it again"):
        read_adaptive(folder)
