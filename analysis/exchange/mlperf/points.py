"""Reading MLPerf's reference convergence points: the JSON files of mlcommons/logging, or a flat CSV of them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bcrit.analysis.exchange.text_files import read_json, read_text
from bcrit.search_spaces.problems import InputError


@dataclass(frozen=True)
class ReferencePoint:
    """One tuned point: how long each of its seeds took to converge.

    Attributes:
        name: such as `resnet_ref_4096`.
        benchmark: such as `resnet`.
        version: such as `training_4.0.0`; "" where the source does not say.
        batch_size: examples a step.
        lengths: one number a seed, in the unit of the benchmark.
        counts_samples: whether the source itself says that they count samples.
        settings: hyperparameters, lists among them.
    """

    name: str
    benchmark: str
    version: str
    batch_size: int
    lengths: tuple[float, ...]
    counts_samples: bool
    settings: Mapping[str, Any]


def read_points(path: Path) -> list[ReferencePoint]:
    """Read every reference point of a file.

    Args:
        path: `rcps_*.json` of mlcommons/logging, whose folder names the version, or a CSV with the columns benchmark,
            batch_size, epochs_list and perhaps version, ref, hyperparams (lists and mappings as JSON).

    Returns:
        The points in the order of the file; one without a list has no lengths.

    Raises:
        InputError: it is neither, or some of its points are broken; names each.
    """
    points, problems = [], []
    rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
    for where, row in rows:
        try:
            points.append(row())
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"{where}: {what}")
    if problems:
        raise InputError(str(path), problems[:10])
    if not points:
        raise InputError(str(path), ["it holds no reference point"])
    return points


Row = tuple[str, Callable[[], ReferencePoint]]


def _json_rows(path: Path) -> Iterable[Row]:
    content = read_json(path)
    if not isinstance(content, Mapping) or not all(isinstance(point, Mapping) for point in content.values()):
        raise InputError(str(path), ["reference points are a JSON object of objects, one for each point"])
    version = path.parent.name if re.search(r"\d+\.\d+", path.parent.name) else ""
    for name, point in content.items():
        yield f"point '{name}'", partial(_from_json, str(name), point, version)


def _from_json(name: str, point: Mapping[str, Any], version: str) -> ReferencePoint:
    # "Epochs to converge" is the name whatever the unit; some newer files say "samples to converge" instead.
    lists = {key.lower(): value for key, value in point.items()}
    samples = "samples to converge" in lists
    lengths = lists["samples to converge" if samples else "epochs to converge"]
    settings = lists.get("hyperparams") or {}
    return _point(name, str(lists["benchmark"]), version, lists["bs"], lengths, settings, samples)


def _csv_rows(path: Path) -> Iterable[Row]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    if missing := {"benchmark", "batch_size", "epochs_list"} - set(reader.fieldnames or ()):
        have = ", ".join(reader.fieldnames or ()) or "none"
        raise InputError(str(path), [f"columns {', '.join(sorted(missing))} are missing; the columns are {have}"])
    for row in reader:
        yield f"line {reader.line_num}", partial(_from_csv, row)


def _from_csv(row: Mapping[str, str]) -> ReferencePoint:
    name = row.get("ref") or f"{row['benchmark']}_{row['batch_size']}"
    settings = json.loads(row.get("hyperparams") or "{}")
    lengths = json.loads(row["epochs_list"] or "[]")
    return _point(name, row["benchmark"], row.get("version") or "", row["batch_size"], lengths, settings, False)


def _point(
    name: str, benchmark: str, version: str, batch_size: Any, lengths: Any, settings: Any, samples: bool
) -> ReferencePoint:
    """Check the parts.

    Raises:
        ValueError: a part is not what it should be.
    """
    size = float(batch_size)
    if not (size >= 1 and size == int(size)):
        raise ValueError(f"the batch size must be a whole number of at least 1, but it is {batch_size}")
    if not isinstance(lengths, list) or not all(_positive(length) for length in lengths):
        raise ValueError("its list to converge must hold positive numbers only")
    if not isinstance(settings, Mapping):
        raise ValueError("its hyperparameters must be a mapping of names to values")
    return ReferencePoint(name, benchmark, version, int(size), tuple(map(float, lengths)), samples, settings)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
