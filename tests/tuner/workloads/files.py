"""Tiny data sets in the formats of the large ones."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


def pictures(n: int, size: int = 8, channels: int = 1, seed: int = 0, n_classes: int = 3) -> tuple[Images, Labels]:
    """Noise with a bright row whose place is the class: shapes (n, channels, size, size) and (n,)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 100, (n, channels, size, size), np.uint8)
    labels = np.arange(n) % n_classes
    images[np.arange(n), :, labels] = 255
    return images, labels.astype(np.int64)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, n: int = 60, size: int = 8, prefix: str = "train", seed: int = 0) -> tuple[Images, Labels]:
    """Fashion-MNIST's files, gzipped; returns what is in them."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = pictures(n, size, seed=seed)
    for name, array in (("images-idx3", images[:, 0]), ("labels-idx1", labels.astype(np.uint8))):
        with gzip.open(folder / f"{prefix}-{name}-ubyte.gz", "wb") as file:
            file.write(idx_bytes(array))
    return images, labels


def write_text(path: Path, lines: int = 100) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{'to be or not to be, '[: 5 + i % 16]}{i % 7}\n" for i in range(lines))
    path.write_text(text)
    return text
