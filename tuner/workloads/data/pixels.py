"""Images in any of the forms that data sets hold them in, as unsigned bytes: idx files, and rows of a table."""

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bcrit.tuner.workloads.data.library import Rows
from bcrit.tuner.workloads.data.source import ImageChoice, find_column

# The idx format of the original MNIST (LeCun et al.), plain or gzipped: images and labels of unsigned bytes.
_NAME = re.compile(r"^(?:.*[-_])?(?P<split>train|t10k|test|validation)-(?P<part>images|labels)[-.]idx\d-ubyte(\.gz)?$")
_UNSIGNED_BYTES = b"\0\0\x08"  # two zero bytes and the code of the type, then the number of dimensions

_MODES = {1: "L", 3: "RGB"}

Pieces = Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""Images, shape (k, channels, height, width), and their labels, shape (k,), some at a time."""

PIECE: Final = 1024
"""Images converted at a time; chosen, not studied."""


@dataclass(frozen=True)
class IdxPair:
    """One split: the file of its images and that of its labels, where those are wanted."""

    images: Path
    labels: Path | None


def idx_splits(folder: Path, labelled: bool = True) -> Mapping[str, IdxPair]:
    """The splits in a folder, by name; `t10k` is `test`. Empty where there are no idx files.

    A split with images but no labels that are wanted, or with labels but no images, is a ValueError.
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
    """The array of one file, in the shape that its header gives; gzipped if its name ends with `.gz`."""
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
    """The images, shape (n, 1, height, width), and labels, shape (n,), of one split; 0 where none are wanted."""
    images = read_idx(pair.images)
    labels = np.zeros(images.shape[:1], np.uint8) if pair.labels is None else read_idx(pair.labels)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            f"'{pair.images}' must hold n images and '{pair.labels}' n labels, but they hold arrays of the shapes "
            f"{images.shape} and {labels.shape}; fetch both again"
        )
    return images[:, None], labels.astype(np.int64)


def image_pieces(split: Rows, choice: ImageChoice, labelled: bool) -> Pieces:
    """The images, of one shape, and labels of a split, checked one by one; labels that are not wanted are all 0."""
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    shape, name = None, split.name
    for number, row in enumerate(split):
        image = row[find_column("image", row, choice.columns, name)]
        label = row[find_column("label", row, choice.columns, name)] if labelled else 0
        try:
            pixels = to_pixels(image, shape[0] if shape else choice.channels, choice)
        except ValueError as error:
            raise ValueError(f"image {number} of '{name}' cannot be used: {error}") from error
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise ValueError(
                f"image {number} of '{name}' has {pixels.shape[1]} x {pixels.shape[2]} pixels, those before it "
                f"{shape[1]} x {shape[2]}; set 'image_size' in 'data' to bring them to one size"
            )
        if isinstance(label, bool) or not isinstance(label, int):
            raise ValueError(f"label {number} of '{name}' is {label!r}, but labels must be whole numbers from 0")
        images.append(pixels)
        labels.append(label)
        if len(images) == PIECE:
            yield np.stack(images), np.array(labels, np.int64)
            images, labels = [], []
    if images:
        yield np.stack(images), np.array(labels, np.int64)


def to_pixels(image: Any, channels: int | None, choice: ImageChoice) -> NDArray[np.uint8]:
    """Decode an image and bring it to the size and channels wanted (None = those it has): (channels, height, width).

    An image is one of Pillow's, an encoded one (bytes, or a mapping with `bytes` or `path`), or an array of unsigned
    bytes, shape (height, width) or (height, width, channels). Grey images become colour without loss; the reverse is
    refused.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ValueError(
            "images are decoded with 'pillow', which is not installed; pip install 'bcrit[data]'"
        ) from error
    if isinstance(image, Mapping):
        image = image.get("bytes") or image.get("path")
    try:
        if isinstance(image, bytes | str):
            image = Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
        elif not isinstance(image, Image.Image):
            image = Image.fromarray(_unsigned_bytes(image))
        own = 1 if image.mode in ("1", "L") else 3
        if channels is not None and channels < own:
            raise ValueError("it has colours, but the images before it, or 'channels', are grey; set 'channels: 3'")
        image = image.convert(_MODES[channels or own])
        if choice.image_size is not None:
            image = _middle_square(image, choice.image_size)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except (OSError, SyntaxError, TypeError) as error:  # what Pillow raises for broken files
        raise ValueError(f"it cannot be decoded: {error}") from error
    pixels = np.asarray(image, dtype=np.uint8)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1))


def _unsigned_bytes(image: Any) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype.kind not in "ui" or pixels.ndim not in (2, 3) or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(
            f"it is an array of {pixels.dtype} with the shape {pixels.shape}, but must be whole numbers from 0 to 255 "
            "with the shape (height, width) or (height, width, 3)"
        )
    return pixels.astype(np.uint8)


def _middle_square(image: Any, size: int) -> Any:
    from PIL import Image

    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
