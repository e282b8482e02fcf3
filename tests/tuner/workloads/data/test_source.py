from __future__ import annotations

import os
from pathlib import Path

import pytest

from bcrit.tuner.workloads.data.source import DataChoice, HubName, LocalFiles, find_column, find_source


def local(source: str | Path) -> LocalFiles:
    found = find_source(DataChoice(source=str(source)))
    assert isinstance(found, LocalFiles)
    return found


def test_a_path_is_seen_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("a")
    assert local("mine") == LocalFiles(tmp_path / "mine", (tmp_path / "mine" / "a.txt",))


def test_hidden_files_do_not_count(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", ".c.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "d.txt").write_text("")
    assert [file.name for file in local(tmp_path).files] == ["a.txt", "b.txt"]


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


@pytest.mark.parametrize(
    "source",
    [
        *("/not/there", "./not", "not/there/now", "words.txt", "a.parquet", "~/not-there"),
        *("notes.md", "run.log", "~somebody/data", ".data/mnist", "train-images-idx3-ubyte", "Images.ZIP"),
    ],
)
def test_a_path_where_nothing_is_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="there is no file or folder '/.*'; put the data there, or correct 'data'"):
        find_source(DataChoice(source=source))


def test_what_would_lie_in_a_folder_that_is_here_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_source(DataChoice(source="data/mnist")) == HubName("data/mnist")
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="there is no file or folder '/.*/data/mnist'; put the data there"):
        find_source(DataChoice(source="data/mnist"))


def test_a_link_that_leads_back_into_its_folder_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "again").symlink_to(tmp_path)
    assert [file.name for file in local(tmp_path).files] == ["a.txt"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no files in it"):
        find_source(DataChoice(source=str(tmp_path)))


def test_a_name_of_the_papers_is_its_place_on_the_hub() -> None:
    assert find_source(DataChoice(source="svhn")) == HubName("ufldl-stanford/svhn", "cropped_digits")
    assert find_source(DataChoice(source="svhn", configuration="full_numbers", revision="v1")) == HubName(
        "ufldl-stanford/svhn", "full_numbers", "v1"
    )
    assert find_source(DataChoice(source="somebody/something")) == HubName("somebody/something")


def test_a_revision_of_a_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match="'revision' is for data sets of the hub"):
        find_source(DataChoice(source=str(tmp_path), revision="main"))


def test_a_broken_link_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").symlink_to(tmp_path / "gone")
    for source in (tmp_path, tmp_path / "b.txt"):
        with pytest.raises(ValueError, match="'/.*/b.txt' is a link to '/.*/gone', where nothing is; mend or remove"):
            find_source(DataChoice(source=str(source)))


@pytest.mark.parametrize(
    ("role", "columns", "found"),
    [
        ("image", ["img", "label"], "img"),
        ("label", ["img", "fine_label", "coarse_label"], "fine_label"),
        ("text", ["id", "text"], "text"),
    ],
    ids=["cifar10", "cifar100", "text"],
)
def test_usual_names_are_found(role: str, columns: list[str], found: str) -> None:
    assert find_column(role, columns, {}, "it") == found


def test_the_users_choice_comes_first() -> None:
    assert find_column("label", ["label", "coarse"], {"label": "coarse"}, "it") == "coarse"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            {},
            r"'it' has no column for the label; its columns are a, b; name .* with 'columns: \{label: ...\}'",
        ),
        ({"label": "c"}, "'it' has no column 'c'; its columns are a, b"),
        ({"lable": "a"}, "'columns' names lable, but what can be named is image, label, text"),
    ],
    ids=["none", "wrong", "misspelt"],
)
def test_a_column_that_is_not_there_is_refused(chosen: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_column("label", ["a", "b"], chosen, "it")
