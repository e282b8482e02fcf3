"""Finding workloads and studies in a tree of the batch_science layout: `dataset/model/optimizer/batch_size/trial`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bcrit.search_spaces.problems import InputError

STUDY = "study.json"
METADATA = "metadata.json"
MEASUREMENTS_CSV = "measurements.csv"
KEY = "bcrit"
"""Under it an export of ours keeps in both JSON files what the layout has no place for."""
_DEPTH = 3  # dataset, model, optimizer
_DEEPEST = 12  # the archive has 5 levels below its root, 6 in its special folders; a loop of links ends here


@dataclass(frozen=True)
class WorkloadFolder:
    """A folder of studies.

    Attributes:
        label: `dataset/model/optimizer`, with the folders above it where the source has them.
        path: the folder.
        studies: its study folders in order of batch size.
    """

    label: str
    path: Path
    studies: tuple[Path, ...]


def find_workloads(source: Path, pattern: str | None) -> list[WorkloadFolder]:
    """Find every workload in a tree.

    A study is a folder with `study.json`, or one whose folders hold trials; a workload is the folder of its studies.

    Args:
        source: the tree's root, or any folder in it down to a study.
        pattern: only workloads whose label, or its last three parts, fits it (`mnist/*/sgd`); None = all.

    Returns:
        The workloads in order of their labels.

    Raises:
        InputError: there is nothing of the layout, or nothing that fits.
    """
    if not source.is_dir():
        raise InputError(str(source), ["there is no such folder; give the root of the tree, or a workload's folder"])
    studies = _studies(source, 0)
    if not studies:
        raise InputError(
            str(source), [f"no {STUDY} lies in it; the layout is dataset/model/optimizer/batch_size/{STUDY}"]
        )
    by_workload: dict[Path, list[Path]] = {}
    for study in sorted(studies, key=number_first):
        by_workload.setdefault(study.absolute().parent, []).append(study)
    depth = len(source.absolute().parts)
    found = []
    for folder in sorted(by_workload):
        label = "/".join(folder.parts[-max(_DEPTH, len(folder.parts) - depth) :]).lstrip("/")
        if pattern is None or fnmatchcase(label, pattern) or fnmatchcase("/".join(folder.parts[-_DEPTH:]), pattern):
            found.append(WorkloadFolder(label, folder, tuple(by_workload[folder])))
    if not found:
        raise InputError(str(source), [f"no workload fits '{pattern}'; {len(by_workload)} are there, such as {label}"])
    return found


def _studies(folder: Path, depth: int) -> set[Path]:
    with os.scandir(folder) as entries:
        names = {entry.name: entry.is_dir() for entry in entries}
    if STUDY in names:
        return {folder}
    if METADATA in names or MEASUREMENTS_CSV in names:
        return {folder.parent}
    found = set[Path]()
    for name, is_folder in names.items():
        if is_folder and not name.startswith(".") and depth < _DEEPEST:
            found |= _studies(folder / name, depth + 1)
    return found


def trial_folders(study: Path) -> list[str]:
    """Names of the folders in a study, numbers first and in their order, as the published loader takes them."""
    with os.scandir(study) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    return sorted(names, key=lambda name: number_first(Path(name)))


def number_first(path: Path) -> tuple[int, int, str]:
    """Sorts folders by the number that is their name, others after them by name."""
    return (0, int(path.name), path.name) if path.name.isdecimal() else (1, 0, path.name)


__all__ = ["MEASUREMENTS_CSV", "METADATA", "STUDY", "WorkloadFolder", "find_workloads", "number_first", "trial_folders"]
