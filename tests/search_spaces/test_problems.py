"""What is wrong with an experiment, in the words of its file and not of the library that reads it."""

from typing import Any

import pytest
from pydantic import ValidationError

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.problems import InputError, describe
from tests.search_spaces.declared import problems

TARGET = {"metric": "val_loss", "threshold": 1, "direction": "minimize"}

BETAS = "'space.betas' is given by beta1 and beta2, each a number or a dimension; write both instead"
CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({"batch_sizes": 16}, ["'batch_sizes' must be a list, but it is 16"]),
    ({"batch_sizes": []}, ["'batch_sizes' must have 1 or more entries, but it is []"]),
    ({"batch_sizes": [16, 1.5]}, ["'batch_sizes.1' must be a whole number, but it is 1.5"]),
    ({"batch_sizes": [True, "x"]}, [f"'batch_sizes.{i}' must be a whole number, but it is {v}" for i, v in
                                    enumerate(("true", "'x'"))]),
    ({"batch_sizes": [0]}, ["'batch_sizes.0' must be at least 1, but it is 0"]),
    ({"budget": None}, ["'budget' must be a mapping of keys, but it is empty"]),
    ({"space": {"lr": 1, "cosin": None}}, ["'space.cosin' must be a mapping of keys, but it is empty; in braces a "
                                           "comma ends a value, so put one that has a comma in quotes"]),
    ({"search": 5}, ["'search' must be a mapping of keys, but it is 5"]),
    (
        {"search": {"protocol": "grid"}},
        [
            "'search.protocol': it must be auto, joint, tpe, sobol, random, or module:name of another search, but it "
            "is 'grid'"
        ],
    ),
    ({"search": {"stopping": {"eta": 1}}}, ["'search.stopping.eta' must be greater than 1, but it is 1"]),
    ({"search": {"stopping": {"eta": "x"}}}, ["'search.stopping.eta' must be a number, but it is 'x'"]),
    ({"search": {"max_draws": True}}, ["'search.max_draws': a number is needed here, but it is true"]),
    ({"confirm": {"horizon": float("inf")}}, ["'confirm.horizon' must be a finite number, but it is inf"]),
    ({"boundary": {"margin": 0.7}}, ["'boundary.margin' must be less than 0.5, but it is 0.7"]),
    ({"batch_sizes": [10**30]}, [f"'batch_sizes.0' must be at most 1000000000000, but it is {10**30}"]),
    ({"batch_sizes": [*range(1, 100_001)]}, ["'batch_sizes' must have at most 1000 entries, but it is "
                                             "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1..."]),
    ({"confirm": {"horizon": 1e308}}, ["'confirm.horizon' must be at most 10000, but it is 1e+308"]),
    ({"space": {"lr": 2**64}}, ["'space.lr.value': a whole number must be below 2^63 in size, but it is "
                                "18446744073709551616..."]),
    ({"space": {"lr": float("nan")}}, ["'space.lr.value': a finite number is needed here, but it is nan"]),
    ({"resolution": 1e-6, "budget": {"steps": 10**12}},
     ["'experiment': a trial is evaluated at most 1,000,000 times, but a 'resolution' of 1e-06 makes 14,815,511 of "
      "1,000,000,000,000 steps; raise it"]),
    ({"resolution": 0.7}, ["'resolution' must be at most 0.5, but it is 0.7"]),
    ({"name": 5}, ["'name' must be a word, but it is 5"]),
    ({"name": "a" * 101}, [f"'name' must have at most 100 characters, but it is '{'a' * 56}..."]),
    ({"target": 5}, ["'target' must be a mapping of keys, but it is 5"]),
    ({"target": {**TARGET, "threshold": True}}, ["'target.threshold' must be a number, but it is true"]),
    ({"target": {**TARGET, "direction": 1}}, ["'target.direction' must be 'minimize' or 'maximize', but it is 1"]),
    ({"space": {"lr": [0.1]}}, ["'space.lr' must be a mapping of keys, but it is [0.1]"]),
    ({"space": {"lr": 1, "betas": [0.9, 0.95]}}, [BETAS]),
    ({"space": {"lr": 1, "betas": {"beta1": 0.9}}}, [BETAS]),
    ({"space": {"lr": {"scale": "log", "low": "a", "high": 1}}}, ["'space.lr.low' must be a number, but it is 'a'"]),
    (
        {"space": {"lr": {"scale": "fixed", "value": [1]}}},
        ["'space.lr.value' must be a number, or a whole number, or a word, or true or false, but it is [1]"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentences"), CASES, ids=lambda case: str(case)[:60])
def test_a_value_of_the_wrong_kind_is_told_by_its_rule(changes: dict[str, Any], sentences: list[str]) -> None:
    assert list(problems(**changes)) == sentences


class Part(Frozen):
    flag: bool = False
    either: int | bool = 0


def test_an_error_without_a_rule_of_ours_keeps_pydantics_words_and_a_flag_is_a_flag() -> None:
    assert Part(flag=True, either=True) == Part.model_validate({"flag": True, "either": True})
    with pytest.raises(ValidationError, match="flag") as caught:
        Part.model_validate({"flag": "perhaps", "either": b"\xff"})
    found = describe(caught.value, Part, {})
    assert found[0] == "'flag' must be true or false, but it is 'perhaps'"
    assert found[1].startswith("'either' must be a whole number, or true or false, but it is b")


def test_a_message_has_an_end() -> None:
    told = InputError("there", [f"{'x' * 5000}; mend it", *(f"row {n} is wrong" for n in range(100_000))])
    assert len(str(told)) < 2000 and str(told).startswith("there: 100001 problems\n  - xxx")
    assert told.problems[0].endswith("; mend it") and len(told.problems[0]) <= 300
    assert str(told).endswith("\n  - and 99971 more")
