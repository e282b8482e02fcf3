"""Labels are made from what differs, and no two runs share one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.comparison import StepsTable
from bcrit.analysis.comparison.names import named
from bcrit.analysis.comparison.source import run_of
from bcrit.analysis.run import Run
from tests.analysis.comparison import made_up

RUNS = {
    "sgd": made_up.run("a", "sgd"),
    "momentum": made_up.run("b", "momentum"),
    "stricter": made_up.run("a", "sgd", seed=1, target="loss < 0.5"),
    "other model": made_up.run("c", "sgd", seed=1, workload={"name": "net", "width": 8}),
    "again": made_up.run("a", "sgd", seed=1),
    "renamed": made_up.run("z", "sgd", seed=1),
}
TABLE = made_up.table("some/steps", 100, 64)


def labels(*sources: Run | StepsTable) -> list[str]:
    return [run.label for run in named([run_of(source) for source in sources])]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["sgd", "momentum"], ["sgd", "momentum"]),
        (["sgd", "stricter"], ["loss < 1", "loss < 0.5"]),
        (["sgd", "other model"], ["toy", "net width 8"]),
        (["sgd", "momentum", "stricter"], ["sgd, loss < 1", "momentum, loss < 1", "sgd, loss < 0.5"]),
        (["sgd", "renamed"], ["a", "z"]),
        (["sgd", "again"], ["a, a-sgd-0", "a, a-sgd-1"]),
        (["sgd", "again", "momentum"], ["sgd, a, a-sgd-0", "sgd, a, a-sgd-1", "momentum"]),
    ],
    ids=lambda value: " and ".join(value),
)
def test_a_label_says_what_differs(names: list[str], expected: list[str]) -> None:
    assert labels(*(RUNS[name] for name in names)) == expected


def test_a_table_is_called_by_its_file() -> None:
    assert labels(RUNS["sgd"], TABLE) == ["a", "steps"]
    assert labels(TABLE, made_up.table("other/steps", 50, 64)) == [
        "steps, some/steps.csv",
        "steps, other/steps.csv",
    ]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([*RUNS, "table"]), min_size=2, max_size=6))
def test_labels_are_unique_and_not_empty_even_for_the_same_run_twice(names: list[str]) -> None:
    found = labels(*(TABLE if name == "table" else RUNS[name] for name in names))
    assert len(set(found)) == len(found) == len(names) and all(found)
