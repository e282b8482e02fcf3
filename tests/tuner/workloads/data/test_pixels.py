from __future__ import annotations

import io
import os
import sys
from typing import Any

import numpy as np
import pytest

from bcrit.tuner.workloads.data.choice import ImageChoice
from bcrit.tuner.workloads.data.pixels import to_pixels

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
