"""One image, in any of the forms that data sets hold them in, as unsigned bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcrit.tuner.workloads.data.choice import ImageChoice

_MODES = {1: "L", 3: "RGB"}


def to_pixels(image: Any, channels: int | None, choice: ImageChoice) -> NDArray[np.uint8]:
    """Decode an image and bring it to the size and channels wanted.

    Args:
        image: one of Pillow's, an encoded one (bytes, or a mapping with `bytes` or `path`), or an array of unsigned
            bytes, shape (height, width) or (height, width, channels).
        channels: 1 or 3; None = those it has.
        choice: `image_size`.

    Returns:
        The pixels, shape (channels, height, width). Grey images become colour without loss; the reverse is refused.

    Raises:
        ValueError: it cannot be decoded, is colour where grey is wanted, or Pillow is missing.
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
