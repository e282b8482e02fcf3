"""Where data are found, and local files read in the formats of the hub, which itself is never asked."""

import gzip
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcrit.tuner.workloads.data import (
    DataChoice,
    HubName,
    ImageChoice,
    LocalFiles,
    TextChoice,
    find_column,
    find_source,
)
from bcrit.tuner.workloads.images import ImageSet, load_images
from bcrit.tuner.workloads.tokens import load_tokens
from tests.tuner.workloads.files import pictures, write_text


def local(source: str | Path) -> LocalFiles:
    found = find_source(DataChoice(source=str(source)))
    assert isinstance(found, LocalFiles)
    return found


def test_the_key_changes_with_name_size_and_time_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    keys = [local(tmp_path).key]
    path.write_text("ab")
    keys.append(local(tmp_path).key)
    os.utime(path, ns=(1, 1))
    keys.append(local(tmp_path).key)
    path.rename(tmp_path / "b.txt")
    keys.append(local(tmp_path).key)
    assert all(keys[i] != keys[j] for i in range(4) for j in range(i))
    assert local(tmp_path).key == keys[-1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: two files, hidden ones, a link that leads back, one to nowhere, and an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine/b.txt", "mine/a.txt", "mine/.c.txt", "mine/.git/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a")
    (tmp_path / "mine/again").symlink_to(tmp_path / "mine")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/b.txt").symlink_to(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_path_is_seen_from_the_working_directory_and_hidden_files_do_not_count(folder: Path) -> None:
    assert local("mine") == LocalFiles(folder / "mine", (folder / "mine/a.txt", folder / "mine/b.txt"))


NOWHERE = (
    *("/not/there", "./not", "not/there/now", "words.txt", "a.parquet", "~/not-there", "mine/mnist"),
    *("notes.md", "run.log", "~somebody/data", ".data/mnist", "train-images-idx3-ubyte", "Images.ZIP"),
)
NO_SOURCE: list[tuple[dict[str, Any], str]] = [
    *(({"source": name}, "no file or folder '/.*'; put the data there, or correct 'data'") for name in NOWHERE),
    ({"source": "empty"}, "has no files in it"),
    ({"source": "mine", "revision": "main"}, "'revision' is for data sets of the hub"),
    ({"source": "links"}, "'/.*/b.txt' is a link to '/.*/gone', where nothing is; mend or remove"),
    ({"source": "links/b.txt"}, "'/.*/b.txt' is a link to '/.*/gone', where nothing is; mend or remove"),
]


@pytest.mark.parametrize(("given", "message"), NO_SOURCE, ids=str)
def test_what_is_no_source_is_refused(folder: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_source(DataChoice(**given))


def test_a_name_of_the_papers_is_its_place_on_the_hub() -> None:
    assert find_source(DataChoice(source="svhn")) == HubName("ufldl-stanford/svhn", "cropped_digits")
    assert find_source(DataChoice(source="svhn", configuration="full_numbers", revision="v1")) == HubName(
        "ufldl-stanford/svhn", "full_numbers", "v1"
    )
    assert find_source(DataChoice(source="mine/mnist")) == HubName("mine/mnist")  # there is no folder `mine` here


@pytest.mark.parametrize(
    ("role", "columns", "named", "found"),
    [
        ("image", ["img", "label"], {}, "img"),
        ("label", ["img", "fine_label", "coarse_label"], {}, "fine_label"),
        ("text", ["id", "text"], {}, "text"),
        ("label", ["label", "coarse"], {"label": "coarse"}, "coarse"),
    ],
    ids=["cifar10", "cifar100", "text", "the user's"],
)
def test_usual_names_are_found_after_the_users(
    role: str, columns: list[str], named: dict[str, str], found: str
) -> None:
    assert find_column(role, columns, named, "it") == found


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({}, r"'it' has no column for the label; its columns are a, b; name .* with 'columns: \{label: ...\}'"),
        ({"label": "c"}, "'it' has no column 'c'; its columns are a, b"),
        ({"lable": "a"}, "'columns' names lable, but what can be named is image, label, text"),
    ],
    ids=["none", "wrong", "misspelt"],
)
def test_a_column_that_is_not_there_is_refused(chosen: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_column("label", ["a", "b"], chosen, "it")


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


def parquet(folder: Path) -> Path:
    table(image="img").to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def in_splits(folder: Path) -> Path:
    table().to_parquet(folder / "train-00000-of-00001.parquet")
    table(IMAGES[:6], LABELS[:6]).to_parquet(folder / "validation-00000-of-00001.parquet")
    return folder


def without_the_library(folder: Path) -> Path:
    plain = {"pixels": [image.transpose(1, 2, 0).tolist() for image in IMAGES], "target": LABELS.tolist()}
    datasets.Dataset.from_dict(plain).to_pandas().to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def saved(folder: Path) -> Path:
    splits = datasets.DatasetDict({"train": table(), "validation": table(IMAGES[:6], LABELS[:6])})
    splits.save_to_disk(folder / "saved")
    return folder / "saved"


def arrow(folder: Path) -> Path:
    table().save_to_disk(folder / "saved")
    (file,) = (folder / "saved").glob("*.arrow")
    return file.rename(folder / "train.arrow")


def picture_folder(folder: Path, sizes: tuple[int, ...] = (8,)) -> Path:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        place = folder / "train" / f"class_{label}"
        place.mkdir(parents=True, exist_ok=True)
        size = sizes[number % len(sizes)]
        Image.fromarray(image.transpose(1, 2, 0)).resize((size, 8)).save(place / f"{number:03}.png")
    return folder


FORMS = (parquet, in_splits, without_the_library, saved, arrow, picture_folder)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_holds_the_same_images_with_their_labels(tmp_path: Path, form: Callable[[Path], Path]) -> None:
    (tmp_path / "set").mkdir()
    source = form(tmp_path / "set")
    data = load(source, validation=10)
    assert data.train_images.shape == (30, 3, 8, 8)
    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    assert all_images(data) == set(known)
    assert [known[i.tobytes()] for i in data.train_images] == data.train_labels.tolist()
    declared = form in (parquet, in_splits, saved, arrow)  # four classes, though no image here is of the last
    assert data.n_classes == (4 if declared else 3)
    assert not list((tmp_path / "library").rglob("*.arrow"))  # the library keeps no copy
    if form in (in_splits, saved):
        whole = load(source)
        np.testing.assert_array_equal(whole.train_images, IMAGES)
        np.testing.assert_array_equal(whole.validation_images, IMAGES[:6])
        np.testing.assert_array_equal(whole.validation_labels, LABELS[:6])


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
    path = picture_folder(tmp_path / "pictures") / "train" / "class_1" / "001.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=f"pictures.*cannot be.*the image '{path}', is damaged; mend, fetch or remove"):
        load(tmp_path / "pictures", validation=10)


def labelled(*labels: Any) -> Any:
    plain = [image[0].tolist() for image in IMAGES[: len(labels)]]
    return datasets.Dataset.from_dict({"image": plain, "label": list(labels)}).to_pandas()


def in_bytes(made: Any) -> bytes:
    file = io.BytesIO()
    made.to_parquet(file)
    return file.getvalue()


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "half a table": (in_bytes(labelled(0, 1))[:-30], "the data set '/.*/a.parquet.*' cannot be read: "),
    "words": (in_bytes(labelled("a", "b")), "label 0 of .* is 'a', but labels must be whole numbers"),
    "unknown classes": (in_bytes(labelled(-1, 0)), "has labels below 0"),
    "no rows": (in_bytes(labelled(1)[:0]), r"a.parquet \(train\)' cannot be read: a file of it has no rows; remove it"),
    "empty": (b"", "a.parquet' cannot be read: it is empty; put the data there, or remove"),
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_one_message(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.parquet", validation=1)


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


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.ndjson", "a.txt", "a"])
def test_a_single_file_of_json_lines_is_a_table_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    lines = b'{"n": 1, "text": "to be"}\n'
    (tmp_path / name).write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    tokens = load_tokens(TextChoice(source=str(tmp_path / name)))
    assert "".join(tokens.alphabet[i] for i in tokens.train) == "to be\n"
    (tmp_path / "b.txt").write_text("plain")
    if name == "a.txt":
        with pytest.raises(ValueError, match="a.txt' is no plain text but a table by its content; name it .jsonl"):
            load_tokens(TextChoice(source=str(tmp_path)))


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
