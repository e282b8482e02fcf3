import gzip
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcrit.tuner.workloads.data import TextChoice
from bcrit.tuner.workloads.tokens import TokenSet, load_tokens


def load(source: Path, cache: Path, **options: Any) -> TokenSet:
    return load_tokens(TextChoice(source=str(source), cache=str(cache), **options))


TEXT = "Wer reitet so spät\r\ndurch Nacht und Wind? 🌬\n"


def test_characters_are_numbered_in_the_order_of_their_code_points(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    tokens = load(tmp_path / "a.txt", tmp_path / "cache")
    assert tokens.alphabet == "".join(sorted(set(TEXT)))
    assert "".join(tokens.alphabet[i] for i in tokens.train) == TEXT
    assert tokens.n_kinds == len(set(TEXT))
    assert tokens.train.dtype == np.uint8
    assert tokens.validation is None


def test_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    tokens = load(tmp_path / "a.txt", tmp_path / "cache", tokenizer="bytes")
    assert tokens.train.tobytes() == TEXT.encode()
    assert tokens.n_kinds == 256


def test_many_characters_take_wider_numbers(tmp_path: Path) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    (tmp_path / "a.txt").write_text(text)
    tokens = load(tmp_path / "a.txt", tmp_path / "cache")
    assert tokens.n_kinds == 300
    assert tokens.train.dtype == np.int16
    assert tokens.train.tolist() == list(range(300))


def test_files_follow_each_other_and_their_names_say_the_split(tmp_path: Path) -> None:
    for name, text in {
        "ptb.valid.txt": "b",
        "ptb.train.2.txt": "ac",
        "ptb.train.1.txt": "c",
        "ptb.test.txt": "x",
    }.items():
        (tmp_path / name).write_text(text)
    tokens = load(tmp_path, tmp_path.parent / "cache")
    assert "".join(tokens.alphabet[i] for i in tokens.train) == "cac"
    assert tokens.validation is not None
    assert "".join(tokens.alphabet[i] for i in tokens.validation) == "b"
    assert "x" not in tokens.alphabet
    assert load(tmp_path, tmp_path.parent / "cache", validation=0.5).validation is None


def test_a_single_file_is_for_training_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("abc")
    assert len(load(tmp_path / "test.txt", tmp_path / "cache").train) == 3


def test_gzipped_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"abc"))
    assert load(tmp_path / "a.txt.gz", tmp_path / "cache").train.tolist() == [0, 1, 2]


IDS = np.random.default_rng(0).integers(0, 40, 3000)


def in_numpy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(number: int) -> bytes:
    return np.array([number, 1, len(IDS), *[0] * 253], np.int32).tobytes()


STORED: dict[str, tuple[str, bytes, int]] = {
    "two bytes": ("a.bin", IDS.astype(np.uint16).tobytes(), 40),
    "four bytes": ("a.bin", IDS.astype(np.uint32).tobytes(), 40),
    "four bytes by the vocabulary": ("a.bin", (IDS + 99_000).astype(np.uint32).tobytes(), 100_000),
    "modded-nanogpt": ("a.bin", header(20240520) + IDS.astype(np.uint16).tobytes(), 40),
    "llm.c": ("a.bin", header(20240801) + IDS.astype(np.uint32).tobytes(), 40),
    "numpy": ("a.npy", in_numpy(IDS.reshape(30, 100)), 40),
    "json lines": (
        "a.jsonl",
        b"".join(b'{"input_ids": %s}\n' % str(r).encode() for r in IDS.reshape(30, 100).tolist()),
        40,
    ),
}


@pytest.mark.parametrize(("name", "data", "n_kinds"), STORED.values(), ids=STORED)
def test_what_is_tokens_already_stays_and_needs_its_vocabulary(
    tmp_path: Path, name: str, data: bytes, n_kinds: int
) -> None:
    if name.endswith("jsonl") and not os.environ.get("REQUIRE_ALL_DEPS"):
        pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    (tmp_path / name).write_bytes(data)
    tokens = load(tmp_path / name, tmp_path / "cache", vocabulary=n_kinds)
    assert tokens.n_kinds == n_kinds and (tokens.train.astype(int) % 1000 == IDS).all()
    with pytest.raises(
        ValueError, match="holds tokens, not text, and their vocabulary is not known; give its size, `data:"
    ):
        load(tmp_path / name, tmp_path / "cache")
    with pytest.raises(ValueError, match="tokens must lie from 0 to 29, but '.*' has "):
        load(tmp_path / name, tmp_path / "cache", vocabulary=30)


def test_a_folder_as_nanogpt_leaves_it(tmp_path: Path) -> None:
    for name, ids in {"train": IDS, "val": IDS[:100]}.items():
        (tmp_path / f"{name}.bin").write_bytes(ids.astype(np.uint16).tobytes())
    (tmp_path / "meta.pkl").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    cache = tmp_path.parent / "cache"
    tokens = load(tmp_path, cache, vocabulary=40)
    assert len(tokens.train) == 3000 and tokens.validation is not None and len(tokens.validation) == 100
    (tmp_path / "README.txt").write_text("how this was made")
    with pytest.raises(ValueError, match="holds tokens, not text"):
        load(tmp_path, cache)
    (tmp_path / "input.txt").write_text("to be")
    assert load(tmp_path, cache).n_kinds == 5 and load(tmp_path, cache, vocabulary=40).n_kinds == 40


BROKEN = {
    "NUL bytes": (
        "a.txt",
        b"a\0b",
        "the text file '.*' is broken: it has NUL bytes, so that it is no text; .* tokens are",
    ),
    "text called .bin": (
        "a.bin",
        b"to be or not to be",
        "tokens in '.*' cannot be read: it is text by its bytes; name it",
    ),
    "odd": ("a.bin", b"abc", "numbers of two or four bytes, but it has 3 bytes"),
    "eight bytes": ("a.bin", IDS.tobytes(), "numbers of two or four bytes, but these seem to have eight"),
    "no array": ("a.npy", b"to be or not", "tokens in '.*' cannot be read: the magic string is not correct"),
    "fractions": ("a.npy", in_numpy(IDS / 2), "tokens are whole numbers, but these are float64"),
    "objects": ("a.npy", in_numpy(np.array([None])), "tokens in '.*' cannot be read: "),
    "not utf-8": ("a.txt", b"\xff\xfe\x00", "the text file '.*' is broken: 'utf-8' codec"),
    "half a gzip": ("a.txt.gz", gzip.compress(b"abc" * 99)[:-9], "the text file '.*' is broken: "),
    "empty": ("a.txt", b"", "has no text to train on"),
}


@pytest.mark.parametrize(("name", "data", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_text_is_one_message(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name, tmp_path / "cache", **({} if "txt" in name else {"vocabulary": 40}))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "tokenizer": ({"tokenizer": "words"}, "'tokenizer' must be characters, bytes or a file"),
    "split": ({"validation": "dev"}, "has no split 'dev'; its splits are train"),
    "examples": ({"examples": 3}, "'examples' counts rows, which plain text"),
    "vocabulary": ({"vocabulary": 9}, "'vocabulary' is for data that are tokens already, but '.*' is text; remove it"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "a.txt").write_text("abc")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.txt", tmp_path / "cache", **options)


def test_a_tokenizer_of_the_library(tmp_path: Path) -> None:
    if not os.environ.get("REQUIRE_ALL_DEPS"):
        pytest.importorskip("tokenizers", reason="the extra 'data' is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"to": 0, "be": 1, "or": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "words.json"))
    (tmp_path / "a.txt").write_text("to be or\nnot to be")
    tokens = load(tmp_path / "a.txt", tmp_path / "cache", tokenizer=str(tmp_path / "words.json"))
    assert tokens.train.tolist() == [0, 1, 2, 3, 0, 1]
    assert tokens.n_kinds == 4
    np.array([0, 3, 1], np.uint16).tofile(tmp_path / "a.bin")
    assert load(tmp_path / "a.bin", tmp_path / "cache", tokenizer=str(tmp_path / "words.json")).n_kinds == 4
    (tmp_path / "words.json").rename(tmp_path / "tokenizer.json")
    assert load(tmp_path / "a.bin", tmp_path / "cache").n_kinds == 4
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"the tokenizer '.*bad.json' cannot be read"):
        load(tmp_path / "a.txt", tmp_path / "cache", tokenizer=str(tmp_path / "bad.json"))
