"""Reading reference points: everything that is wrong with a file, in one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bcrit.analysis.exchange.mlperf import read_points
from bcrit.search_spaces.problems import InputError

GOOD = {"Benchmark": "bert", "BS": 256, "Hyperparams": {}, "Epochs to converge": [1, 2.5]}


def test_both_spellings_of_the_list_are_read_and_the_folder_names_the_version(tmp_path: Path) -> None:
    path = tmp_path / "training_5.0.0" / "rcps_x.json"
    path.parent.mkdir()
    samples = {k: v for k, v in GOOD.items() if k != "Epochs to converge"} | {"samples to converge": [256]}
    path.write_text(json.dumps({"a": GOOD, "b": samples}))
    first, second = read_points(path)
    assert (first.version, first.lengths, first.counts_samples) == ("training_5.0.0", (1.0, 2.5), False)
    assert (second.name, second.lengths, second.counts_samples) == ("b", (256.0,), True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("{", "not readable as JSON"),
        ("[1]", "a JSON object of objects"),
        ("{}", "holds no reference point"),
        (json.dumps({"a": {**GOOD, "BS": 0}}), "point 'a': the batch size must be a whole number"),
        (json.dumps({"a": {**GOOD, "BS": "many"}}), "point 'a': could not convert"),
        (json.dumps({"a": {**GOOD, "Epochs to converge": [1, -1]}}), "positive numbers only"),
        (json.dumps({"a": {**GOOD, "Epochs to converge": [1, None]}}), "positive numbers only"),
        (json.dumps({"a": {**GOOD, "Hyperparams": [1]}}), "must be a mapping"),
        (json.dumps({"a": {"Benchmark": "bert"}}), "point 'a': it lacks 'epochs to converge'"),
    ],
)
def test_a_broken_file_is_one_message(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "rcps.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_points(path)


def test_a_table_without_the_columns_lists_those_it_has(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    path.write_text("benchmark,bs\nbert,1\n")
    with pytest.raises(InputError, match="columns batch_size, epochs_list are missing; the columns are benchmark, bs"):
        read_points(path)
    path.write_text('benchmark,batch_size,epochs_list\nbert,1,"[1, 2]"\nbert,x,[1]\nbert,2,[1\n')
    with pytest.raises(InputError, match=r"2 problems(.|\n)*line 3(.|\n)*line 4"):
        read_points(path)
