from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcrit.tuner.workloads.data.images import ImageSet, held_out, load_images, split_at_random
from bcrit.tuner.workloads.data.source import ImageChoice
from tests.tuner.workloads.files import write_idx


def load(source: Path, cache: Path, **options: Any) -> ImageSet:
    return load_images(ImageChoice(source=str(source), cache=str(cache), **options))


def test_a_share_is_held_out_of_the_training_files(tmp_path: Path) -> None:
    images, labels = write_idx(tmp_path / "data", n=60)
    data = load(tmp_path / "data", tmp_path / "cache")
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


def test_the_test_files_are_used_only_where_they_are_named(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", n=30)
    tests, _ = write_idx(tmp_path / "data", n=12, prefix="t10k", seed=9)
    inside = {image.tobytes() for image in tests}
    data = load(tmp_path / "data", tmp_path / "cache", validation=10)
    assert not inside & {image.tobytes() for image in (*data.train_images, *data.validation_images)}
    named = load(tmp_path / "data", tmp_path / "cache", validation="test")
    np.testing.assert_array_equal(named.validation_images, tests)
    assert len(named.train_images) == 30


def test_an_official_validation_split_is_taken_unless_a_number_is_given(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", n=30)
    official, _ = write_idx(tmp_path / "data", n=6, prefix="validation", seed=9)
    np.testing.assert_array_equal(load(tmp_path / "data", tmp_path / "cache").validation_images, official)
    assert len(load(tmp_path / "data", tmp_path / "cache", validation=0.5).validation_images) == 15


def test_only_the_first_examples(tmp_path: Path) -> None:
    images, _ = write_idx(tmp_path / "data", n=30)
    write_idx(tmp_path / "data", n=6, prefix="validation", seed=9)
    np.testing.assert_array_equal(load(tmp_path / "data", tmp_path / "cache", examples=7).train_images, images[:7])


def test_moments_are_those_of_the_training_part(tmp_path: Path) -> None:
    write_idx(tmp_path / "data")
    data = load(tmp_path / "data", tmp_path / "cache")
    assert data.mean == pytest.approx([data.train_images.mean()])
    assert data.deviation == pytest.approx([data.train_images.std()])


def test_the_second_use_reads_no_source_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path / "data")
    first = load(tmp_path / "data", tmp_path / "cache")
    monkeypatch.setattr("bcrit.tuner.workloads.data.images.read_pair", None)
    again = load(tmp_path / "data", tmp_path / "cache")
    np.testing.assert_array_equal(again.train_images, first.train_images)
    assert isinstance(again.train_images, np.memmap)


def test_a_changed_file_is_converted_anew(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", n=30)
    load(tmp_path / "data", tmp_path / "cache")
    write_idx(tmp_path / "data", n=36)
    assert len(load(tmp_path / "data", tmp_path / "cache").train_images) == 33


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    write_idx(tmp_path / "data")
    with pytest.raises(ValueError, match="has no split 'dev'; its splits are train"):
        load(tmp_path / "data", tmp_path / "cache", validation="dev")


def test_a_broken_file_leaves_no_converted_data(tmp_path: Path) -> None:
    write_idx(tmp_path / "data")
    path = tmp_path / "data" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz' is broken"):
        load(tmp_path / "data", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/contents.json"))


def test_images_of_one_class_are_refused_with_the_likely_reason(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", n=1)
    write_idx(tmp_path / "data", n=6, prefix="validation")
    with pytest.raises(ValueError, match="two classes or more, but all 1 training labels of '.*' are 0; choose other"):
        load(tmp_path / "data", tmp_path / "cache")
    write_idx(tmp_path / "data", n=6)
    with pytest.raises(ValueError, match="are 0, perhaps because 'examples' takes the first ones of data in order"):
        load(tmp_path / "data", tmp_path / "cache", examples=1)


def test_without_labels_none_are_looked_for(tmp_path: Path) -> None:
    images, _ = write_idx(tmp_path / "data", n=30)
    (tmp_path / "data" / "train-labels-idx1-ubyte.gz").unlink()
    data = load_images(ImageChoice(source=str(tmp_path / "data"), cache=str(tmp_path / "cache")), labelled=False)
    assert {i.tobytes() for i in (*data.train_images, *data.validation_images)} == {i.tobytes() for i in images}
    assert not data.train_labels.any() and not data.validation_labels.any()


def test_shallues_division_of_mnist_is_the_default() -> None:
    assert held_out(60_000, None, "mnist") == 5_000


@pytest.mark.parametrize(("wanted", "count"), [(7, 7), (0.25, 25), (0.999, 99)], ids=str)
def test_a_count_or_a_share(wanted: float, count: int) -> None:
    if wanted == 0.999:
        with pytest.raises(ValueError, match="'validation' holds 100 of the 100 of 'it' out"):
            held_out(100, wanted, "it")
    else:
        assert held_out(100, wanted, "it") == count


@pytest.mark.parametrize(("n", "wanted"), [(10, 10), (10, 11), (3, None), (1, None)])
def test_something_must_be_left_on_both_sides(n: int, wanted: int | None) -> None:
    with pytest.raises(ValueError, match=f"of the {n} of 'it' out; choose another number"):
        held_out(n, wanted, "it")


def test_the_parts_are_whole_disjoint_sorted_and_the_same_each_time() -> None:
    train, validation = split_at_random(50, 8)
    assert (len(train), len(validation)) == (42, 8)
    assert sorted([*train, *validation]) == list(range(50))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    assert validation.tolist() != list(range(8))
    np.testing.assert_array_equal(split_at_random(50, 8)[1], validation)
