"""The landscape as it is stored: written, read, refused where it is damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.landscape.result import read_landscape, write_landscape
from bcrit.analysis.records.run_folder import LANDSCAPE, RunFolder
from bcrit.search_spaces.problems import InputError
from tests.analysis.landscape.made_up import landscape, warm_starts


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "run")


def test_what_is_written_is_read_again(folder: RunFolder) -> None:
    write_landscape(folder, landscape())
    assert read_landscape(folder) == landscape()


def test_warm_starts_and_metrics_come_back_too(folder: RunFolder) -> None:
    networks = tuple(replace(n, metrics={"val_accuracy": 0.9, "val_loss": None}) for n in landscape().networks)
    found = landscape(networks=networks, metric="val_accuracy", warm_starts=warm_starts())
    write_landscape(folder, found)
    assert read_landscape(folder) == found


def test_a_result_of_before_there_were_warm_starts_is_read(folder: RunFolder) -> None:
    stored = {"format": 1, **landscape().to_json()}
    for name in ("metric", "warm_starts"):
        del stored[name]
    for network in stored["networks"]:
        del network["metrics"]
    folder.write_json(LANDSCAPE, stored)
    assert read_landscape(folder) == landscape()


def test_a_result_that_lacks_a_part_is_refused_with_the_remedy(folder: RunFolder) -> None:
    stored = {"format": 1, **landscape().to_json()}
    del stored["networks"]
    folder.write_json(LANDSCAPE, stored)
    with pytest.raises(InputError, match="cannot be read: 'networks'.*`bcrit landscape` makes it again"):
        read_landscape(folder)


def test_boxes_are_the_full_space_first_and_larger_ones_first() -> None:
    assert landscape().boxes == [(1e-3, None), (5e-4, None), (1e-3, 100), (5e-4, 100)]


def test_a_sharpness_is_found_by_its_box() -> None:
    first = landscape().of(8, True)[0]
    assert first.rise(5e-4, None) == 0.5 and first.rise(2e-3, None) is None
    assert [n.number for n in landscape().of(256, False)] == [0, 1] and landscape().of(8, False) == []
