"""Runs with a planted evaluations, as three trackers would log them: S(B) = 20 (1 + 64 / B), all whole numbers."""

from __future__ import annotations

from pathlib import Path

from bcrit.analysis.exchange.logged import Reading
from bcrit.analysis.exchange.run import ImportedRun
from bcrit.analysis.exchange.write import Census, write_run
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.target import Target

SIZES = (16, 32, 64, 128, 256)
B_CRIT, S_MIN = 64.0, 20.0
TARGET = Target.model_validate("val_loss < 0.1")
READING = Reading(TARGET)
EVIL = "</script><b>'quoted'\nname" + "x" * 300


def steps(batch_size: int) -> int:
    return 20 + 1280 // batch_size


def evaluations(batch_size: int, slower: int = 1) -> list[tuple[int, float]]:
    """Five evaluations of a falling loss, the last of which crosses the target."""
    step = slower * steps(batch_size) // 5
    return [(step * k, 1 - k / 5) for k in range(1, 6)]


def written(run: ImportedRun, place: Path) -> tuple[Census, Run]:
    census = write_run(run, RunFolder.at(place))
    return census, Run(RunFolder.at(place))
