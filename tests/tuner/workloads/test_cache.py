import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bcrit.tuner.workloads.cache import Converted, Writer, cache_folder, converted


def write(writer: Writer) -> dict[str, int]:
    writer.append("rows", np.arange(6, dtype=np.int16).reshape(3, 2))
    writer.append("rows", np.arange(4, dtype=np.int16).reshape(2, 2))
    return {"answer": 42}


def refuse(writer: Writer) -> dict[str, int]:
    raise AssertionError("converted a second time")


def make(folder: Path, **key: int) -> Converted:
    return converted(str(folder), key, write)


def test_pieces_become_one_mapped_array_with_its_facts(tmp_path: Path) -> None:
    data = make(tmp_path)
    assert data.arrays["rows"].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]
    assert isinstance(data.arrays["rows"], np.memmap)
    assert data.facts == {"answer": 42}


def test_the_same_key_is_converted_once_and_another_key_again(tmp_path: Path) -> None:
    make(tmp_path, size=1)
    assert converted(str(tmp_path), {"size": 1}, refuse).facts == {"answer": 42}
    with pytest.raises(AssertionError, match="a second time"):
        converted(str(tmp_path), {"size": 2}, refuse)


def test_writing_into_an_array_changes_neither_the_file_nor_another_reader(tmp_path: Path) -> None:
    make(tmp_path).arrays["rows"][:] = 7
    assert make(tmp_path).arrays["rows"][0].tolist() == [0, 1]


def test_a_conversion_that_fails_leaves_nothing_to_be_used(tmp_path: Path) -> None:
    def fail(writer: Writer) -> dict[str, int]:
        write(writer)
        raise ValueError("broken at the end")

    with pytest.raises(ValueError, match="broken at the end"):
        converted(str(tmp_path), {}, fail)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert make(tmp_path).facts == {"answer": 42}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    make(tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    left = tmp_path / f"{folder.name}.abc.partial"
    folder.rename(left)
    assert make(tmp_path).facts == {"answer": 42}
    assert not left.exists()


def test_a_dropped_array_is_gone(tmp_path: Path) -> None:
    def rearrange(writer: Writer) -> dict[str, int]:
        writer.append("a", np.zeros(3))
        writer.append("b", np.ones(2))
        assert writer.written("b").tolist() == [1, 1]
        assert len(writer.written("c")) == 0
        writer.append("d", np.ones(1))
        writer.drop("d")
        return {}

    arrays = converted(str(tmp_path), {}, rearrange).arrays
    assert {name: array.tolist() for name, array in arrays.items()} == {"a": [0, 0, 0], "b": [1, 1]}


@pytest.mark.parametrize("harm", ["truncate", "no contents", "no json"])
def test_converted_data_that_were_changed_are_refused(tmp_path: Path, harm: str) -> None:
    make(tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    if harm == "truncate":
        (folder / "rows.bin").write_bytes(b"\0")
    elif harm == "no contents":
        (folder / "contents.json").unlink()
    else:
        (folder / "contents.json").write_text("{")
    with pytest.raises(ValueError, match=f"the converted data in '{folder}' were changed .*; remove that folder"):
        make(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be kept in a folder, but .*; choose one with the option 'cache'"):
        make(tmp_path / "file")


def test_the_users_cache_folder_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder(None) == Path("/home/somebody/.cache/bcrit")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert cache_folder(None) == Path("/home/somebody/.cache/bcrit")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast/cache")
    assert cache_folder(None) == Path("/fast/cache/bcrit")
    assert cache_folder("/here") == Path("/here")


PROCESS = """
import sys, time, numpy as np
from pathlib import Path
from bcrit.tuner.workloads.cache import converted
def write(writer):
    Path(sys.argv[2]).open("a").write("converted\\n")
    time.sleep(0.3)
    writer.append("rows", np.arange(3))
    return {}
print(converted(sys.argv[1], {}, write).arrays["rows"].tolist())
"""


def test_of_processes_that_ask_at_once_one_converts_and_all_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "cache"), str(log)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in running]
    assert outputs == ["[0, 1, 2]\n"] * 3
    assert log.read_text() == "converted\n"


def test_contents_are_plain_json(tmp_path: Path) -> None:
    make(tmp_path, size=3)
    (contents,) = tmp_path.glob("*/contents.json")
    about = json.loads(contents.read_text())
    assert about["key"] == {"format": 1, "size": 3}
    assert about["arrays"] == {"rows": {"dtype": "<i2", "shape": [5, 2]}}
