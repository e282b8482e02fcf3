"""Finding the batch size, the seed and the counter among names that are likely, nested, double or missing."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from bcrit.analysis.exchange.logged import LoggedRun, Names, Reading, find_names
from bcrit.analysis.exchange.run import listed
from bcrit.search_spaces.problems import InputError
from tests.analysis.exchange.planted import READING, TARGET


def found(settings: list[str], logged: list[str], reading: Reading = READING) -> Names:
    log = pd.DataFrame(dict.fromkeys([*logged, "val_loss"], [1.0]))
    return find_names([LoggedRun("r", dict.fromkeys(settings, 1), log)], reading, "there")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["batch_size", "lr"], "batch_size"),
        (["bs", "eval/batch_size"], "eval/batch_size"),
        (["train.batch_size"], "train.batch_size"),
        (["batch_size", "eval/batch_size"], "batch_size"),
        (["global_batch_size", "x"], "global_batch_size"),
        (["opt/BS"], "opt/BS"),
    ],
)
def test_the_batch_size_is_known_by_its_last_word(settings: list[str], expected: str) -> None:
    assert found(settings, ["step"]).batch_size == expected


def test_two_likely_names_are_not_guessed_between() -> None:
    with pytest.raises(InputError, match="no setting, or more than one, .*; name it with --batch-size-param"):
        found(["train/batch_size", "eval/batch_size"], ["step"])
    reading = replace(READING, batch_size="train/batch_size")
    assert found(["train/batch_size", "eval/batch_size"], ["step"], reading).batch_size == "train/batch_size"
    assert (
        found(["train/size", "eval/batch_size"], ["step"], replace(READING, batch_size="SIZE")).batch_size
        == "train/size"
    )


def test_attributes_may_be_the_batch_size_and_the_seed() -> None:
    run = LoggedRun("r", {"lr": 1}, pd.DataFrame({"step": [1.0], "val_loss": [1.0]}), attributes={"bs": 8, "seed": 1})
    assert find_names([run], READING, "there") == Names("bs", "seed", "step")


def test_the_counter_is_the_first_that_is_there() -> None:
    reading = replace(READING, counters=("a", "b"), iterations=("epoch",))
    assert found(["bs"], ["b", "a"], reading).counter == "a"
    assert found(["bs"], ["b", "epoch"], reading).counter == "b"
    with pytest.raises(InputError, match="'epoch' need not count optimizer updates"):
        found(["bs"], ["epoch"], reading)
    assert found(["bs"], ["epoch"], replace(reading, examples_per_count=5.0)).counter == "epoch"
    with pytest.raises(InputError, match="no column that counts updates was logged"):
        found(["bs"], [], reading)


def test_all_problems_come_in_one_message() -> None:
    with pytest.raises(InputError, match="3 problems"):
        find_names([LoggedRun("r", {}, pd.DataFrame({"x": [1.0]}))], READING, "there")


def test_what_a_count_is_in_words_and_steps() -> None:
    assert (READING.factor, READING.steps(8)) == ("one step", 1.0)
    assert replace(READING, steps_per_count=250.0).factor == "250 steps"
    epochs = Reading(TARGET, examples_per_count=50_000.0)
    assert (epochs.factor, epochs.steps(100)) == ("50,000 examples", 500.0)


def test_long_lists_of_long_names_stay_readable() -> None:
    assert listed([]) == "nothing"
    text = listed(["x" * 500] * 100)
    assert text.endswith(" and 60 more") and len(text) < 5000
