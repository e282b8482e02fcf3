"""The user's code: what goes along, and that it comes back as it was."""

import io
import zipfile
from pathlib import Path

import pytest

from bcrit.analysis.records.run_folder import CODE, RunFolder
from bcrit.search_spaces.problems import InputError
from bcrit.tuner import code
from bcrit.tuner.code import pack, stored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    for name in (
        "train.py",
        "package/model.py",
        "runs/a/trials.parquet",
        ".git/config",
        "__pycache__/x.pyc",
        "big.bin",
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    return place


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_code_goes_along_and_runs_caches_and_history_do_not(folder: Path) -> None:
    assert pack(folder).names == ("big.bin", "train.py", "package/model.py")


def test_a_file_of_patterns_leaves_out_more(folder: Path) -> None:
    (folder / ".bcritignore").write_text("# data\n*.bin\npackage/\n")
    assert pack(folder).names == ("train.py",)


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(folder: Path, tmp_path: Path) -> None:
    before = pack(folder)
    (folder / "train.py").touch()
    assert pack(folder).archive == before.archive and len(before.sha256) == 64
    (folder / "train.py").write_text("other")
    assert pack(folder).sha256 != before.sha256


def test_what_was_packed_comes_back_from_the_run_folder(folder: Path, tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path / "run")
    assert stored(run) is None
    run.write_bytes(CODE, pack(folder).archive)
    own = stored(run)
    assert own is not None and own.names == pack(folder).names
    there = own.unpacked()
    assert {p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()} == set(own.names)
    assert (there / "package/model.py").read_text() == "package/model.py"
    assert own.unpacked() == there


def test_too_much_to_be_code_is_refused_with_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MOST_BYTES", 20)
    with pytest.raises(
        InputError, match=r"the last file was package/model\.py\); .* name what is no code in \.bcritignore"
    ):
        pack(folder)


def test_an_archive_that_holds_more_than_was_ever_packed_is_refused(tmp_path: Path) -> None:
    run, content = RunFolder.at(tmp_path / "run"), io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(60_000_000))
    run.write_bytes(CODE, content.getvalue())
    with pytest.raises(InputError, match="code.zip says that it holds 60 MB, more than 50 MB of code; bring the code"):
        stored(run)


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_damaged_archive_is_named_with_the_remedy(folder: Path, tmp_path: Path, harm: str) -> None:
    run, archive = RunFolder.at(tmp_path / "run"), bytearray(pack(folder).archive)
    archive[30 + len(pack(folder).names[0])] ^= 1  # the first file's own bytes begin behind its header and its name
    run.write_bytes(CODE, bytes(archive[:-30] if harm == "cut" else archive))
    with pytest.raises(InputError, match="code.zip is damaged.*; bring the code yourself, with --code FOLDER"):
        stored(run)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is no folder"):
        pack(tmp_path / "nowhere")
