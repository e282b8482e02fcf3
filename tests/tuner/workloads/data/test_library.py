"""Local files in the formats of the hub, read through the library's own builders; the hub itself is never asked."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcrit.tuner.workloads.data.images import ImageSet, load_images
from bcrit.tuner.workloads.data.source import ImageChoice, TextChoice
from bcrit.tuner.workloads.data.tokens import load_tokens
from tests.tuner.workloads.files import pictures, write_text

if not os.environ.get("REQUIRE_ALL_DEPS"):
    pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    pytest.importorskip("PIL", reason="the extra 'data' is not installed")
import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: E402
import huggingface_hub  # type: ignore[import-not-found,unused-ignore]  # noqa: E402
from PIL import Image  # noqa: E402


@pytest.fixture(autouse=True)
def _no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "library"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


IMAGES, LABELS = pictures(40, size=8, channels=3)


def table(images: Any = IMAGES, labels: Any = LABELS, image: str = "image", label: str = "label") -> Any:
    """A table in the hub's form: encoded images and named classes."""
    features = datasets.Features(
        {image: datasets.Image(), label: datasets.ClassLabel(names=["zero", "one", "two", "never"])}
    )
    encoded = [Image.fromarray(picture.transpose(1, 2, 0).squeeze()) for picture in images]
    return datasets.Dataset.from_dict({image: encoded, label: list(labels)}, features=features)


def load(source: Path, **options: Any) -> ImageSet:
    return load_images(ImageChoice(source=str(source), **options))


def all_images(data: ImageSet) -> set[bytes]:
    return {image.tobytes() for image in (*data.train_images, *data.validation_images)}


def test_a_parquet_file_of_images(tmp_path: Path) -> None:
    table(image="img").to_parquet(tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet", validation=10)
    assert data.train_images.shape == (30, 3, 8, 8)
    assert all_images(data) == {image.tobytes() for image in IMAGES}
    assert data.n_classes == 4  # declared, though no image here is of the last
    assert not list((tmp_path / "library").rglob("*.arrow"))  # the library keeps no copy


def test_a_folder_of_parquet_files_with_splits_in_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    table().to_parquet(folder / "train-00000-of-00001.parquet")
    table(IMAGES[:6], LABELS[:6]).to_parquet(folder / "validation-00000-of-00001.parquet")
    data = load(folder)
    np.testing.assert_array_equal(data.train_images, IMAGES)
    np.testing.assert_array_equal(data.train_labels, LABELS)
    np.testing.assert_array_equal(data.validation_images, IMAGES[:6])


def test_a_parquet_file_written_without_the_library(tmp_path: Path) -> None:
    plain = {"pixels": [image[0].tolist() for image in IMAGES], "target": LABELS.tolist()}
    datasets.Dataset.from_dict(plain).to_pandas().to_parquet(tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet", validation=10)
    assert all_images(data) == {image[:1].tobytes() for image in IMAGES}
    assert data.n_classes == 3


def test_a_folder_that_the_library_saved(tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": table(), "validation": table(IMAGES[:4], LABELS[:4])})
    splits.save_to_disk(tmp_path / "saved")
    data = load(tmp_path / "saved")
    np.testing.assert_array_equal(data.train_images, IMAGES)
    np.testing.assert_array_equal(data.validation_labels, LABELS[:4])


def test_an_arrow_file(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file.rename(tmp_path / "train.arrow")
    assert load(tmp_path / "train.arrow", validation=10).train_images.shape == (30, 3, 8, 8)


def picture_folder(folder: Path, sizes: tuple[int, ...] = (8,)) -> Path:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        place = folder / "train" / f"class_{label}"
        place.mkdir(parents=True, exist_ok=True)
        size = sizes[number % len(sizes)]
        Image.fromarray(image.transpose(1, 2, 0)).resize((size, 8)).save(place / f"{number:03}.png")
    return folder


def test_a_folder_of_images_has_a_class_for_each_subfolder(tmp_path: Path) -> None:
    data = load(picture_folder(tmp_path / "pictures"), validation=10)
    assert all_images(data) == {image.tobytes() for image in IMAGES}
    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    assert [known[i.tobytes()] for i in data.train_images] == data.train_labels.tolist()


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", sizes=(8, 12))
    with pytest.raises(ValueError, match="has 8 x .. pixels, those before it 8 x .*; set 'image_size' in 'data'"):
        load(folder, validation=10)
    assert load(folder, validation=10, image_size=4).shape == (3, 4, 4)


def test_grey_images_among_colour_ones_become_colour_and_not_the_reverse(tmp_path: Path) -> None:
    mixed = [IMAGES[0], IMAGES[1][:1], *IMAGES[2:6]]
    table(mixed, LABELS[:6]).to_parquet(tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet", validation=2)
    assert data.shape == (3, 8, 8)
    assert np.repeat(IMAGES[1][:1], 3, axis=0).tobytes() in all_images(data)
    table(mixed[1:], LABELS[1:6]).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="image 1 of .* it has colours, .* are grey; set 'channels: 3'"):
        load(tmp_path / "b.parquet", validation=2)
    assert load(tmp_path / "b.parquet", validation=2, channels=3).shape == (3, 8, 8)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures")
    path = folder / "train" / "class_1" / "001.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="pictures.*cannot be"):
        load(folder, validation=10)


def test_a_truncated_parquet_file_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table().to_parquet(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=f"the data set '{path}.*' cannot be read: "):
        load(path, validation=10)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a"] * 4, "label 0 of .* is 'a', but labels must be whole numbers"), ([-1] * 4, "has labels below 0")],
    ids=["words", "unknown"],
)
def test_labels_must_be_classes(tmp_path: Path, labels: list[Any], message: str) -> None:
    plain = {"image": [image[0].tolist() for image in IMAGES[:4]], "label": labels}
    datasets.Dataset.from_dict(plain).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.parquet", validation=2)


def test_a_script_beside_the_data_is_not_run(tmp_path: Path) -> None:
    folder, trace = tmp_path / "scripted", tmp_path / "trace"
    folder.mkdir()
    (folder / "scripted.py").write_text(f"open({str(trace)!r}, 'w')\n")
    with pytest.raises(ValueError, match="cannot be read"):
        load(folder)
    assert not trace.exists()


def test_the_hub_out_of_reach_is_one_message() -> None:
    with pytest.raises(
        ValueError,
        match="no file or folder 'mnist' in '/.*', and as a name on the hub, the data set 'ylecun/mnist' cannot be "
        "read: .*; correct the path or the name, or see",
    ):
        load_images(ImageChoice(source="mnist"))


class Hub:
    """Stands for the hub and for what the library makes of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Exception | None) -> None:
        self.answer, self.asked = answer, 0
        self.loaded_offline: list[bool] = []
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", self.dataset_info)
        monkeypatch.setattr(datasets, "load_dataset", self.load_dataset)

    def dataset_info(self, *args: Any, timeout: float, **kwargs: Any) -> None:
        assert timeout < 5
        self.asked += 1
        if self.answer is not None:
            raise self.answer

    def load_dataset(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.loaded_offline.append(datasets.config.HF_HUB_OFFLINE)
        if name == "nobody/nothing":
            raise FileNotFoundError("it is not kept here")
        return {"train": datasets.Dataset.from_dict({"text": ["to be"] * 20})}


@pytest.mark.parametrize("answer", [None, ConnectionError("no route")], ids=["answers", "out of reach"])
def test_a_hub_that_does_not_answer_is_asked_once_and_what_was_kept_is_taken(
    answer: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(monkeypatch, answer)
    assert len(load_tokens(TextChoice(source="somebody/something")).train) > 20
    assert (hub.asked, hub.loaded_offline) == (1, [answer is not None])
    assert datasets.config.HF_HUB_OFFLINE is False


def test_what_the_hub_answered_is_told_and_not_that_nothing_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch, ConnectionError("no route"))
    with pytest.raises(
        ValueError, match="'nobody/nothing' cannot be read: ConnectionError: no route; correct the path"
    ):
        load_tokens(TextChoice(source="nobody/nothing"))
    assert datasets.config.HF_HUB_OFFLINE is False


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table().to_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"'datasets', which is not installed; pip install 'bcrit\[data\]'"):
        load(tmp_path / "a.parquet")


def test_a_column_of_text_is_joined_by_line_breaks(tmp_path: Path) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    datasets.Dataset.from_dict({"text": ["to be", "or", "not"]}).to_parquet(folder / "train.parquet")
    datasets.Dataset.from_dict({"text": ["to be"]}).to_parquet(folder / "validation.parquet")
    tokens = load_tokens(TextChoice(source=str(folder)))
    assert "".join(tokens.alphabet[i] for i in tokens.train) == "to be\nor\nnot\n"
    assert tokens.validation is not None
    assert "".join(tokens.alphabet[i] for i in tokens.validation) == "to be\n"
    limited = load_tokens(TextChoice(source=str(folder), examples=2))
    assert "".join(limited.alphabet[i] for i in limited.train) == "to be\nor\n"


def test_plain_text_needs_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    write_text(tmp_path / "a.txt")
    assert len(load_tokens(TextChoice(source=str(tmp_path / "a.txt"))).train) > 100


def test_a_single_file_that_is_no_table_is_text_and_never_a_name_on_the_hub(tmp_path: Path) -> None:
    for name in ("notes.md", "run.log", "README"):
        text = write_text(tmp_path / name)
        tokens = load_tokens(TextChoice(source=str(tmp_path / name)))
        assert len(tokens.train) == len(text)


def test_a_single_compressed_table_is_refused_and_not_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "to be"}\n'))
    with pytest.raises(ValueError, match=r"cannot be read: files must end in .* has only \.gz"):
        load_tokens(TextChoice(source=str(tmp_path / "a.jsonl.gz")))


@pytest.mark.parametrize("name", ["train.tsv", "train.ndjson", "train.jsonl.gz"])
def test_a_folder_may_hold_what_the_library_reads_beyond_the_files_that_are_read_one_by_one(
    tmp_path: Path, name: str
) -> None:
    said = b"text\tn\nto be\t1\n" if name.endswith(".tsv") else b'{"text": "to be", "n": 1}\n'
    (tmp_path / name).write_bytes(gzip.compress(said) if name.endswith(".gz") else said)
    tokens = load_tokens(TextChoice(source=str(tmp_path)))
    assert "".join(tokens.alphabet[i] for i in tokens.train) == "to be\n"


@pytest.mark.parametrize("name", ["notes.md", "a/run.log", "picture.png"])
def test_files_of_a_kind_that_is_not_read_are_refused_at_once(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / "data" / name)
    source = tmp_path / "data" / name if name.endswith(".png") else tmp_path / "data"
    ending = name.partition(".")[2]
    message = rf"cannot be read: files must end in \.parquet, .* has only \.{ending}; bring the data into"
    with pytest.raises(ValueError, match=message):
        load(source)
    if source.is_dir():
        with pytest.raises(ValueError, match=message):
            load_tokens(TextChoice(source=str(source)))


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_an_empty_file_is_called_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{name}' cannot be read: it is empty; put the data there, or remove"):
        load(tmp_path)


def test_a_table_without_rows_is_said_to_have_none(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"image": [b""], "label": [1]}).to_pandas()[:0].to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet \(train\)' cannot be read: a file of it has no rows; remove it"):
        load(tmp_path / "a.parquet")
