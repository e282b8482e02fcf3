from __future__ import annotations

import gzip
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcrit.tuner.workloads.data.pixels import IdxPair, idx_splits, read_idx, read_pair, to_pixels
from bcrit.tuner.workloads.data.source import ImageChoice
from tests.tuner.workloads.files import idx_bytes, write_idx

if not os.environ.get("REQUIRE_ALL_DEPS"):
    pytest.importorskip("PIL", reason="the extra 'data' is not installed")
from PIL import Image  # noqa: E402

ANY = ImageChoice(source="x")
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def encoded() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "png")
    return file.getvalue()


FORMS: dict[str, Any] = {
    "pillow": Image.fromarray(PIXELS),
    "bytes": encoded(),
    "hub": {"bytes": encoded(), "path": None},
    "array": PIXELS,
    "lists": PIXELS.tolist(),
}


@pytest.mark.parametrize("image", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_pixels_channels_first(image: Any) -> None:
    np.testing.assert_array_equal(to_pixels(image, None, ANY), PIXELS.transpose(2, 0, 1))


def test_grey_images_have_one_channel_and_black_and_white_is_0_and_255() -> None:
    assert to_pixels(PIXELS[:, :, 0], None, ANY).shape == (1, 4, 6)
    assert to_pixels(PIXELS[:, :, :1], None, ANY).shape == (1, 4, 6)
    assert to_pixels(PIXELS[:, :, 0], 3, ANY).shape == (3, 4, 6)
    two = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert to_pixels(two, None, ANY).tolist() == [[[0, 255], [255, 0]]]


def test_the_middle_square_is_cut_out_at_the_size_wanted() -> None:
    image = np.zeros((10, 30), np.uint8)
    image[:, 10:20] = 200  # the middle third
    assert to_pixels(image, None, ImageChoice(source="x", image_size=10)).tolist() == [[[200] * 10] * 10]
    assert to_pixels(image, None, ImageChoice(source="x", image_size=4)).shape == (1, 4, 4)
    assert to_pixels(image.T, None, ImageChoice(source="x", image_size=23)).shape == (1, 23, 23)


BROKEN: dict[str, tuple[Any, str]] = {
    "no image": (b"hello", "it cannot be decoded: cannot identify image file"),
    "half a png": (encoded()[:45], "it cannot be decoded: "),
    "nothing": (None, "it is an array of object"),
    "fractions": (PIXELS / 255, "it is an array of float64 .* must be whole numbers from 0 to 255"),
    "a flat row": (PIXELS.ravel(), r"with the shape \(72,\), but must be"),
    "too bright": (PIXELS.astype(int) + 250, "must be whole numbers from 0 to 255"),
}


@pytest.mark.parametrize(("image", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_image_is_refused(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_pixels(image, None, ANY)


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ValueError, match=r"'pillow', which is not installed; pip install 'bcrit\[data\]'"):
        to_pixels(PIXELS, None, ANY)


ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("name", ["a.gz", "a"])
def test_an_array_is_read_plain_or_gzipped(tmp_path: Path, name: str) -> None:
    data = idx_bytes(ARRAY)
    (tmp_path / name).write_bytes(gzip.compress(data) if name == "a.gz" else data)
    np.testing.assert_array_equal(read_idx(tmp_path / name), ARRAY)


WHOLE = idx_bytes(ARRAY)
BROKEN_IDX = {
    "empty": (b"", "it begins with the bytes , which is not idx"),
    "another format": (b"\x89PNG\r\n", "it begins with the bytes 89504e47, which is not idx of unsigned bytes"),
    "floats": (b"\0\0\x0d" + WHOLE[3:], "not idx of unsigned bytes"),
    "half a header": (WHOLE[:9], "it ends within its header"),
    "truncated": (WHOLE[:-1], "its header promises 24 bytes of data, but there are only 23"),
    "too long": (WHOLE + b"\0", "its header promises 24 bytes of data, but there are more"),
    "a huge promise": (b"\0\0\x08\x03" + b"\xff" * 12 + b"\0", "bytes of data, but there are only 1"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN_IDX.values(), ids=BROKEN_IDX)
def test_a_broken_file_is_one_message(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"the idx file '{path}' is broken: .*{message}.*; fetch it again"):
        read_idx(path)


@pytest.mark.parametrize("cut", [3, 30, -4], ids=["in the header", "in the data", "in the checksum"])
def test_a_truncated_gzip_is_one_message(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "broken.gz"
    path.write_bytes(gzip.compress(WHOLE)[:cut])
    with pytest.raises(ValueError, match=f"the idx file '{path}' is broken: "):
        read_idx(path)


def test_what_is_no_gzip_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "broken.gz"
    path.write_bytes(WHOLE)
    with pytest.raises(ValueError, match="Not a gzipped file"):
        read_idx(path)


def test_splits_are_found_by_the_files_names(tmp_path: Path) -> None:
    write_idx(tmp_path)
    write_idx(tmp_path, prefix="t10k")
    (tmp_path / "README.md").write_text("")
    splits = idx_splits(tmp_path)
    assert sorted(splits) == ["test", "train"]
    assert splits["test"].labels == tmp_path / "t10k-labels-idx1-ubyte.gz"
    assert idx_splits(tmp_path, labelled=False)["test"].labels is None


def test_images_need_labels_beside_them(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz' needs the labels of the split 'train' beside"):
        idx_splits(tmp_path)


def test_a_pair_is_images_with_one_channel_and_whole_numbers(tmp_path: Path) -> None:
    images, labels = write_idx(tmp_path, n=5)
    read = read_pair(idx_splits(tmp_path)["train"])
    np.testing.assert_array_equal(read[0], images)
    np.testing.assert_array_equal(read[1], labels)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", n=5)
    write_idx(tmp_path / "b", n=6)
    pair = IdxPair(idx_splits(tmp_path / "a")["train"].images, idx_splits(tmp_path / "b")["train"].labels)
    with pytest.raises(ValueError, match=re.escape("arrays of the shapes (5, 8, 8) and (6,)")):
        read_pair(pair)
