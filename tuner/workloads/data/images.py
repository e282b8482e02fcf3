"""Images with classes: any source brought into two memory-mapped arrays, one to train and one to validate."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bcrit.tuner.workloads.data.cache import Writer, converted
from bcrit.tuner.workloads.data.library import Rows, open_splits
from bcrit.tuner.workloads.data.pixels import PIECE, IdxPair, Pieces, idx_splits, image_pieces, read_pair
from bcrit.tuner.workloads.data.source import USUAL, HubName, ImageChoice, LocalFiles, find_source

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
    source = find_source(choice)
    about = source.key if isinstance(source, LocalFiles) else vars(source)
    key = {"kind": "images", "source": about, **choice.model_dump(exclude={"source", "cache", "streaming"})}
    if not labelled:
        key["labelled"] = False
    data = converted(choice.cache, key, lambda writer: _convert(source, choice, writer, labelled))
    facts = data.facts
    return ImageSet(
        **data.arrays, n_classes=facts["n_classes"], mean=tuple(facts["mean"]), deviation=tuple(facts["deviation"])
    )


def _convert(source: LocalFiles | HubName, choice: ImageChoice, writer: Writer, labelled: bool) -> dict[str, Any]:
    pairs = idx_splits(source.path, labelled) if isinstance(source, LocalFiles) and source.path.is_dir() else {}
    splits: Mapping[str, IdxPair | Rows] = pairs or open_splits(source, choice)
    train = _split(splits, choice.train, choice)
    validation, count = _validation(splits, choice)
    n_classes = _write(writer, "train", _pieces(train, choice, choice.examples, labelled), choice)
    if labelled:
        _refuse_one_class(writer.written("train_labels"), choice)
    if validation is None:
        _hold_out(writer, count, choice)
    else:
        n_classes = max(n_classes, _write(writer, "validation", _pieces(validation, choice, None, labelled), choice))
    shapes = {writer.written(f"{part}_images").shape[1:] for part in ("train", "validation")}
    if len(shapes) > 1:
        raise ValueError(
            f"'{choice.source}' has images of the shapes {sorted(shapes)}; set 'image_size' and 'channels'"
        )
    n_classes = max(n_classes, _declared_classes(train, choice) if labelled else 0)
    mean, deviation = _moments(writer.written("train_images"))
    return {"n_classes": n_classes, "mean": mean, "deviation": deviation, "source": choice.source}


def _refuse_one_class(labels: NDArray[np.int64], choice: ImageChoice) -> None:
    if labels.min() == labels.max():
        why = ", perhaps because 'examples' takes the first ones of data in order" if choice.examples else ""
        raise ValueError(
            f"a classifier needs images of two classes or more, but all {len(labels)} training labels of "
            f"'{choice.source}' are {labels[0]}{why}; choose other data, or the right column with 'columns'"
        )


def _declared_classes(split: IdxPair | Rows, choice: ImageChoice) -> int:
    """The number of classes that the data set declares, some of which no image here may have; 0 if it does not."""
    classes = split.classes if isinstance(split, Rows) else {}
    names = [choice.columns["label"]] if "label" in choice.columns else USUAL["label"]
    return next((classes[name] for name in names if name in classes), 0)


def _split(splits: Mapping[str, IdxPair | Rows], name: str, choice: ImageChoice) -> IdxPair | Rows:
    if name not in splits:
        raise ValueError(f"'{choice.source}' has no split '{name}'; its splits are {', '.join(splits)}")
    return splits[name]


def _validation(
    splits: Mapping[str, IdxPair | Rows], choice: ImageChoice
) -> tuple[IdxPair | Rows | None, int | float | None]:
    """The split that validates, or else how many examples are held out."""
    wanted = choice.validation
    if isinstance(wanted, str):
        return _split(splits, wanted, choice), None
    if wanted is None and "validation" in splits:
        return splits["validation"], None
    return None, wanted


def _pieces(split: IdxPair | Rows, choice: ImageChoice, limit: int | None, labelled: bool) -> Pieces:
    if isinstance(split, IdxPair):
        images, labels = read_pair(split)
        images, labels = images[:limit], labels[:limit]
        if choice.image_size is None and choice.channels in (None, 1):
            yield images, labels
            return
        rows = [{"image": image[0], "label": int(label)} for image, label in zip(images, labels, strict=True)]
        split = Rows(str(split.images), rows, {})
    yield from image_pieces(split.limited(limit), choice, labelled)


def _write(writer: Writer, part: str, pieces: Pieces, choice: ImageChoice) -> int:
    """Write `{part}_images` and `{part}_labels`; returns the number of classes, from the largest label."""
    n_classes = 0
    for images, labels in pieces:
        if labels.size and labels.min() < 0:
            raise ValueError(f"'{choice.source}' has labels below 0, which say that the class is unknown ('{part}')")
        writer.append(f"{part}_images", images)
        writer.append(f"{part}_labels", labels)
        n_classes = max(n_classes, int(labels.max(initial=-1)) + 1)
    if n_classes == 0:
        raise ValueError(f"'{choice.source}' has no images for the part '{part}'")
    return n_classes


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


def _hold_out(writer: Writer, wanted: int | float | None, choice: ImageChoice) -> None:
    """Divide what was written as `train`, through copies, because a part of a file cannot be mapped in a new order."""
    n_examples = len(writer.written("train_labels"))
    parts = split_at_random(n_examples, held_out(n_examples, wanted, choice.source))
    for kind in ("images", "labels"):
        whole = writer.written(f"train_{kind}")
        for part, positions in zip(("kept", "validation"), parts, strict=True):
            for piece in _parts_of(positions):
                writer.append(f"{part}_{kind}", whole[piece])
        writer.rename(f"kept_{kind}", f"train_{kind}")


def _parts_of(positions: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(positions), PIECE):
        yield positions[start : start + PIECE]


def _moments(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, from the histogram of its bytes: exact, and in one pass."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for start in range(0, len(images), PIECE):
        for channel, pixels in enumerate(images[start : start + PIECE].swapaxes(0, 1)):
            counts[channel] += np.bincount(pixels.ravel(), minlength=256)
    share, level = counts / counts.sum(axis=1, keepdims=True), np.arange(256.0)
    mean = share @ level
    deviation = np.sqrt(np.maximum(share @ level**2 - mean**2, 0.0))
    return mean.tolist(), np.where(deviation > 0, deviation, 1.0).tolist()  # a channel of one value is left as it is
