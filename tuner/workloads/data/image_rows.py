"""Rows of a table as images and labels, checked one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bcrit.tuner.workloads.data.choice import ImageChoice
from bcrit.tuner.workloads.data.columns import find_column
from bcrit.tuner.workloads.data.library import Rows
from bcrit.tuner.workloads.data.pixels import to_pixels

Pieces = Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""Images, shape (k, channels, height, width), and their labels, shape (k,), some at a time."""

PIECE: Final = 1024
"""Images converted at a time; chosen, not studied."""


def image_pieces(split: Rows, choice: ImageChoice, labelled: bool) -> Pieces:
    """The images and labels of a split.

    Args:
        split: its rows.
        choice: `columns`, `channels` and `image_size`.
        labelled: whether rows have labels that are wanted; else all are 0.

    Yields:
        Images of one shape, and their labels.

    Raises:
        ValueError: an image is broken or of another shape than those before it, or a label is no whole number.
    """
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
