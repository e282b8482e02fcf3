"""Images with classes, in any of the forms that data sets hold them in, as memory-mapped arrays of unsigned bytes."""

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bcrit.tuner.workloads import data as sources
from bcrit.tuner.workloads.cache import Writer, converted
from bcrit.tuner.workloads.data import HubName, ImageChoice, LocalFiles, Rows

# The idx format of the original MNIST (LeCun et al.), plain or gzipped: images and labels of unsigned bytes.
_NAME = re.compile(r"^(?:.*[-_])?(?P<split>train|t10k|test|validation)-(?P<part>images|labels)[-.]idx\d-ubyte(\.gz)?$")
_UNSIGNED_BYTES = b"\0\0\x08"  # two zero bytes and the code of the type, then the number of dimensions

_MODES = {1: "L", 3: "RGB"}
_PIECE = 1024  # images converted at a time; chosen, not studied

Pieces = Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""Images, shape (k, channels, height, width), and their labels, shape (k,), some at a time."""

SHARE: Final = 1 / 12
"""5,000 of 60,000, as Shallue et al. 2018 hold out of MNIST and Fashion-MNIST."""


@dataclass(frozen=True)
class ImageSet:
    """A training and a validation set of images, mapped into memory."""

    train_images: NDArray[np.uint8]  # (n, channels, height, width), unsigned bytes
    train_labels: NDArray[np.int64]  # (n,)
    validation_images: NDArray[np.uint8]
    validation_labels: NDArray[np.int64]
    n_classes: int
    mean: tuple[float, ...]  # of all pixels of a channel in the training set, on the scale 0 to 255
    deviation: tuple[float, ...]  # standard deviation, likewise

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width


def load_images(choice: ImageChoice, labelled: bool = True) -> ImageSet:
    """The images that a choice names; converted at the first use on a machine, mapped into memory ever after.

    Labels are of two classes at least; where they are not wanted, none are looked for and all are 0. Where images are
    missing, broken or not what the choice says, a ValueError says what to do.
    """
    source = sources.find_source(choice)
    key = {"kind": "images", "source": source.key, **choice.model_dump(exclude={"source", "cache", "streaming"})}
    if not labelled:
        key["labelled"] = False
    data = converted(choice.cache, key, lambda writer: _convert(source, choice, writer, labelled))
    facts = data.facts
    return ImageSet(
        **data.arrays, n_classes=facts["n_classes"], mean=tuple(facts["mean"]), deviation=tuple(facts["deviation"])
    )


def _convert(source: LocalFiles | HubName, choice: ImageChoice, writer: Writer, labelled: bool) -> dict[str, Any]:
    files = idx_splits(source.path, labelled) if isinstance(source, LocalFiles) and source.path.is_dir() else {}
    splits: Mapping[str, IdxPair | Rows] = files or sources.open_splits(source, choice)
    wanted = sources.chosen(splits, choice)
    where = {"train": "train", "validation": "validation"} if "validation" in wanted else {"train": "whole"}
    n_classes = 0
    for part, name in where.items():
        limit = choice.examples if part == "train" else None
        pieces = _pieces(wanted[part], choice, limit, labelled)
        n_classes = max(n_classes, _write(writer, name, pieces, f"'{choice.source}'", part))
        if labelled and part == "train":
            _refuse_one_class(writer.written(f"{name}_labels"), choice)
    if "validation" not in wanted:
        assert not isinstance(choice.validation, str)
        _hold_out(writer, choice.validation, choice.source)
    shapes = {writer.written(f"{part}_images").shape[1:] for part in ("train", "validation")}
    if len(shapes) > 1:
        raise ValueError(
            f"'{choice.source}' has images of the shapes {sorted(shapes)}; set 'image_size' and 'channels'"
        )
    if labelled and isinstance(train := wanted["train"], Rows):  # the data may declare classes that no image here has
        names = [choice.columns["label"]] if "label" in choice.columns else sources.USUAL["label"]
        n_classes = max(n_classes, next((train.classes[name] for name in names if name in train.classes), 0))
    mean, deviation = _moments(writer.written("train_images"))
    return {"n_classes": n_classes, "mean": mean, "deviation": deviation, "source": choice.source}


def _write(writer: Writer, name: str, pieces: Pieces, source: str, part: str) -> int:
    """Write `{name}_images` and `{name}_labels`; returns the number of classes, from the largest label."""
    n_classes = 0
    for images, labels in pieces:
        if labels.size and labels.min() < 0:
            raise ValueError(f"{source} has labels below 0, which say that the class is unknown ('{part}')")
        writer.append(f"{name}_images", images)
        writer.append(f"{name}_labels", labels)
        n_classes = max(n_classes, int(labels.max(initial=-1)) + 1)
    if n_classes == 0:
        raise ValueError(f"{source} has no images for the part '{part}'")
    return n_classes


def _refuse_one_class(labels: NDArray[np.int64], choice: ImageChoice) -> None:
    if labels.min() == labels.max():
        why = ", perhaps because 'examples' takes the first ones of data in order" if choice.examples else ""
        raise ValueError(
            f"a classifier needs images of two classes or more, but all {len(labels)} training labels of "
            f"'{choice.source}' are {labels[0]}{why}; choose other data, or the right column with 'columns'"
        )


def held_out(n_examples: int, wanted: int | float | None, name: str) -> int:
    """How many examples are held out, where so many or such a share is wanted (None = `SHARE`).

    At least one must be left on both sides; otherwise a ValueError names the data set.
    """
    count = wanted if isinstance(wanted, int) else round(n_examples * (SHARE if wanted is None else wanted))
    if not 1 <= count < n_examples:
        raise ValueError(
            f"some examples must be left to train on and some to validate on, but 'validation' holds {count} of the "
            f"{n_examples} of '{name}' out; choose another number"
        )
    return count


def split_at_random(n_examples: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the examples that train and of the `count` that validate, each in ascending order.

    The division belongs to the data and is the same for every seed of a run.
    """
    order = np.random.default_rng(0).permutation(n_examples)
    return np.sort(order[count:]), np.sort(order[:count])


def _hold_out(writer: Writer, wanted: int | float | None, source: str) -> None:
    """Divide what was written as `whole`, through copies, because a part of a file cannot be mapped in a new order."""
    n_examples = len(writer.written("whole_labels"))
    parts = split_at_random(n_examples, held_out(n_examples, wanted, source))
    for kind in ("images", "labels"):
        whole = writer.written(f"whole_{kind}")
        for part, positions in zip(("train", "validation"), parts, strict=True):
            for start in range(0, len(positions), _PIECE):
                writer.append(f"{part}_{kind}", whole[positions[start : start + _PIECE]])
        writer.drop(f"whole_{kind}")


def _moments(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, from the histogram of its bytes: exact, and in one pass."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for start in range(0, len(images), _PIECE):
        for channel, pixels in enumerate(images[start : start + _PIECE].swapaxes(0, 1)):
            counts[channel] += np.bincount(pixels.ravel(), minlength=256)
    share, level = counts / counts.sum(axis=1, keepdims=True), np.arange(256.0)
    mean = share @ level
    deviation = np.sqrt(np.maximum(share @ level**2 - mean**2, 0.0))
    return mean.tolist(), np.where(deviation > 0, deviation, 1.0).tolist()  # a channel of one value is left as it is


@dataclass(frozen=True)
class IdxPair:
    """One split: the file of its images and that of its labels, where those are wanted."""

    images: Path
    labels: Path | None


def idx_splits(folder: Path, labelled: bool = True) -> dict[str, IdxPair]:
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
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if len(content) < 4 or content[:3] != _UNSIGNED_BYTES:
            raise ValueError(f"it begins with the bytes {content[:4].hex()}, which is not idx of unsigned bytes")
        start = 4 + 4 * content[3]  # the number of dimensions, and the size of each
        if len(content) < start:
            raise ValueError("it ends within its header")
        shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
        there, expected = len(content) - start, math.prod(shape)
        if there != expected:
            more = "more" if there > expected else f"only {there}"
            raise ValueError(f"its header promises {expected} bytes of data, but there are {more}")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"the idx file '{path}' is broken: {error}; fetch it again") from error
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


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


def _pieces(split: IdxPair | Rows, choice: ImageChoice, limit: int | None, labelled: bool) -> Pieces:
    """The first images of a split, of one shape, and their labels."""
    if isinstance(split, IdxPair):
        images, labels = read_pair(split)
        images, labels = images[:limit], labels[:limit]
        if choice.image_size is None and choice.channels in (None, 1):
            yield images, labels
            return
        rows = [{"image": image[0], "label": int(label)} for image, label in zip(images, labels, strict=True)]
        split = Rows(str(split.images), rows, {})
    decoded = _decoded(replace(split, limit=limit), choice, labelled)
    while piece := list(islice(decoded, _PIECE)):
        yield np.stack([image for image, _ in piece]), np.array([label for _, label in piece], np.int64)


def _decoded(split: Rows, choice: ImageChoice, labelled: bool) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Images and labels one by one, checked; labels that are not wanted are all 0."""
    shape, name = None, split.name
    for number, row in enumerate(split):
        image = row[sources.find_column("image", row, choice.columns, name)]
        label = row[sources.find_column("label", row, choice.columns, name)] if labelled else 0
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
        yield pixels, label


def to_pixels(image: Any, channels: int | None, choice: ImageChoice) -> NDArray[np.uint8]:
    """Decode an image and bring it to the size and channels wanted (None = those it has): (channels, height, width).

    An image is one of Pillow's, an encoded one (bytes, or a mapping with `bytes` or `path`), or an array of unsigned
    bytes, shape (height, width) or (height, width, channels). Grey images become colour without loss; the reverse is
    refused.
    """
    sources.library("PIL", "images are decoded with 'pillow'")
    from PIL import Image

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
        if (size := choice.image_size) is not None:
            scale = size / min(image.size)
            width, height = (max(size, round(side * scale)) for side in image.size)
            left, top = (width - size) // 2, (height - size) // 2
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            image = image.crop((left, top, left + size, top + size))
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
