"""The idx format of the original MNIST (LeCun et al.), plain or gzipped: images and labels of unsigned bytes."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_NAME = re.compile(r"^(?:.*[-_])?(?P<split>train|t10k|test|validation)-(?P<part>images|labels)[-.]idx\d-ubyte(\.gz)?$")
_UNSIGNED_BYTES = b"\0\0\x08"  # two zero bytes and the code of the type, then the number of dimensions


@dataclass(frozen=True)
class IdxPair:
    """One split: the file of its images and that of its labels, where those are wanted."""

    images: Path
    labels: Path | None


def idx_splits(folder: Path, labelled: bool = True) -> Mapping[str, IdxPair]:
    """The splits in a folder, by name; `t10k` is `test`. Empty where there are no idx files.

    Args:
        folder: where to look.
        labelled: whether labels are wanted.

    Returns:
        Images and labels of each split.

    Raises:
        ValueError: a split has images without labels that are wanted, or labels without images.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := _NAME.match(path.name):
            split = {"t10k": "test"}.get(match["split"], match["split"])
            found.setdefault(split, {})[match["part"]] = path
    for split, parts in found.items():
        if "images" not in parts or (labelled and "labels" not in parts):
            path = next(iter(parts.values()))
            other = "labels" if "images" in parts else "images"
            raise ValueError(f"'{path}' needs the {other} of the split '{split}' beside it; put the file there")
    return {split: IdxPair(parts["images"], parts["labels"] if labelled else None) for split, parts in found.items()}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one file.

    Args:
        path: of a file that is gzipped if its name ends with `.gz`.

    Returns:
        The array, in the shape that the file's header gives.

    Raises:
        ValueError: it cannot be read, is not idx of unsigned bytes, or is shorter or longer than its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.read(4)
            if len(header) < 4 or header[:3] != _UNSIGNED_BYTES:
                raise ValueError(f"it begins with the bytes {header.hex()}, which is not idx of unsigned bytes")
            sizes = file.read(4 * header[3])
            shape = tuple(int(size) for size in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
            if len(shape) < header[3]:
                raise ValueError("it ends within its header")
            expected = math.prod(shape)
            data = bytearray()
            # In pieces: a broken header may promise more than there is memory for.
            while piece := file.read(min(1 << 24, expected + 1 - len(data))):
                data += piece
            if len(data) != expected:
                more = "more" if len(data) > expected else f"only {len(data)}"
                raise ValueError(f"its header promises {expected} bytes of data, but there are {more}")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"the idx file '{path}' is broken: {error}; fetch it again") from error
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_pair(pair: IdxPair) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images, shape (n, 1, height, width), and labels, shape (n,), of one split; 0 where none are wanted.

    Args:
        pair: their files.

    Returns:
        Images and labels.

    Raises:
        ValueError: a file is broken, or the two do not belong together.
    """
    images = read_idx(pair.images)
    labels = np.zeros(images.shape[:1], np.uint8) if pair.labels is None else read_idx(pair.labels)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            f"'{pair.images}' must hold n images and '{pair.labels}' n labels, but they hold arrays of the shapes "
            f"{images.shape} and {labels.shape}; fetch both again"
        )
    return images[:, None], labels.astype(np.int64)
