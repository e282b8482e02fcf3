from __future__ import annotations

import pytest

from bcrit.tuner.workloads.data.columns import find_column


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
