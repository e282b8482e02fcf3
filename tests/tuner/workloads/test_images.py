"""Images in all their forms, and how they become arrays."""

import gzip
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcrit.tuner.workloads.data import ImageChoice
from bcrit.tuner.workloads.images import (
    IdxPair,
    ImageSet,
    held_out,
    idx_splits,
    load_images,
    read_idx,
    read_pair,
    split_at_random,
    to_pixels,
)
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


ZIPPED = {f"cut at {cut}": gzip.compress(WHOLE)[:cut] for cut in (3, 30, -4)} | {"Not a gzipped file": WHOLE}


@pytest.mark.parametrize("why", ZIPPED)
def test_what_is_no_whole_gzip_is_one_message(tmp_path: Path, why: str) -> None:
    path = tmp_path / "broken.gz"
    path.write_bytes(ZIPPED[why])
    with pytest.raises(ValueError, match=f"the idx file '{path}' is broken: {'' if 'cut' in why else why}"):
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


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", n=5)
    write_idx(tmp_path / "b", n=6)
    pair = IdxPair(idx_splits(tmp_path / "a")["train"].images, idx_splits(tmp_path / "b")["train"].labels)
    with pytest.raises(ValueError, match=re.escape("arrays of the shapes (5, 8, 8) and (6,)")):
        read_pair(pair)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(labelled: bool = True, **options: Any) -> ImageSet:
    return load_images(ImageChoice(source="data", cache="cache", **options), labelled)


def test_a_share_is_held_out_of_the_training_files() -> None:
    images, labels = write_idx(Path("data"), n=60)
    data = load()
    assert data.shape == (1, 8, 8)
    assert data.n_classes == 3
    assert (len(data.train_labels), len(data.validation_labels)) == (55, 5)
    # Every image is in exactly one part, with its own label.
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    both = [
        *zip(data.train_images, data.train_labels, strict=True),
        *zip(data.validation_images, data.validation_labels, strict=True),
    ]
    assert {image.tobytes() for image, _ in both} == set(known)
    assert all(known[image.tobytes()] == label for image, label in both)


def test_the_test_files_are_used_only_where_they_are_named() -> None:
    write_idx(Path("data"), n=30)
    tests, _ = write_idx(Path("data"), n=12, prefix="t10k", seed=9)
    inside = {image.tobytes() for image in tests}
    data = load(validation=10)
    assert not inside & {image.tobytes() for image in (*data.train_images, *data.validation_images)}
    named = load(validation="test")
    np.testing.assert_array_equal(named.validation_images, tests)
    assert len(named.train_images) == 30


def test_an_official_validation_split_is_taken_unless_a_number_is_given() -> None:
    write_idx(Path("data"), n=30)
    official, _ = write_idx(Path("data"), n=6, prefix="validation", seed=9)
    np.testing.assert_array_equal(load().validation_images, official)
    assert len(load(validation=0.5).validation_images) == 15


def test_only_the_first_examples() -> None:
    images, _ = write_idx(Path("data"), n=30)
    write_idx(Path("data"), n=6, prefix="validation", seed=9)
    np.testing.assert_array_equal(load(examples=7).train_images, images[:7])


def test_moments_are_those_of_the_training_part() -> None:
    write_idx(Path("data"))
    data = load()
    assert data.mean == pytest.approx([data.train_images.mean()])
    assert data.deviation == pytest.approx([data.train_images.std()])


def test_the_second_use_reads_no_source_and_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(Path("data"))
    first = load()
    monkeypatch.setattr("bcrit.tuner.workloads.images.read_pair", None)
    again = load()
    np.testing.assert_array_equal(again.train_images, first.train_images)
    assert isinstance(again.train_images, np.memmap)


def test_a_changed_file_is_converted_anew() -> None:
    write_idx(Path("data"), n=30)
    load()
    write_idx(Path("data"), n=36)
    assert len(load().train_images) == 33


def test_an_unknown_split_is_refused() -> None:
    write_idx(Path("data"))
    with pytest.raises(ValueError, match="has no split 'dev'; its splits are train"):
        load(validation="dev")


def test_a_broken_file_leaves_no_converted_data() -> None:
    write_idx(Path("data"))
    path = Path("data") / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz' is broken"):
        load()
    assert not list(Path("cache").glob("*/contents.json"))


def test_images_of_one_class_are_refused_with_the_likely_reason() -> None:
    write_idx(Path("data"), n=1)
    write_idx(Path("data"), n=6, prefix="validation")
    with pytest.raises(ValueError, match="two classes or more, but all 1 training labels of '.*' are 0; choose other"):
        load()
    write_idx(Path("data"), n=6)
    with pytest.raises(ValueError, match="are 0, perhaps because 'examples' takes the first ones of data in order"):
        load(examples=1)


def test_without_labels_none_are_looked_for() -> None:
    images, _ = write_idx(Path("data"), n=30)
    (Path("data") / "train-labels-idx1-ubyte.gz").unlink()
    data = load(labelled=False)
    assert {i.tobytes() for i in (*data.train_images, *data.validation_images)} == {i.tobytes() for i in images}
    assert not data.train_labels.any() and not data.validation_labels.any()


@pytest.mark.parametrize(
    ("n", "wanted", "count"),
    [(60_000, None, 5_000), (100, 7, 7), (100, 0.25, 25), (100, 0.999, 0), (10, 10, 0), (10, 11, 0), (3, None, 0)],
    ids=str,
)
def test_so_many_or_a_share_are_held_out_but_never_all_or_none(n: int, wanted: float | None, count: int) -> None:
    """The first is Shallue et al.'s division of MNIST; 0 stands for what is refused."""
    if count:
        assert held_out(n, wanted, "it") == count
    else:
        with pytest.raises(ValueError, match=f"'validation' holds .* of the {n} of 'it' out; choose another number"):
            held_out(n, wanted, "it")


def test_the_parts_are_whole_disjoint_sorted_and_the_same_each_time() -> None:
    train, validation = split_at_random(50, 8)
    assert (len(train), len(validation)) == (42, 8)
    assert sorted([*train, *validation]) == list(range(50))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    assert validation.tolist() != list(range(8))
    np.testing.assert_array_equal(split_at_random(50, 8)[1], validation)
