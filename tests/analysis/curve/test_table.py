import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.curve.table import RowSetAside, Study, read_table, studies
from bcrit.search_spaces.problems import InputError

INF = math.inf


def table(*rows: tuple[float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["batch_size", "steps", "max_steps"])


def one(*rows: tuple[float, float]) -> Study:
    found, _ = studies(table(*[(8.0, steps, max_steps) for steps, max_steps in rows]))
    return found[0]


def test_reading_keeps_what_a_fit_needs(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("batch_size,seed,steps,max_steps\n8,a,100,\n16,b,,900\n")
    assert read_table(path).to_dict("list") == {
        "batch_size": [8.0, 16.0],
        "steps": [100.0, pytest.approx(math.nan, nan_ok=True)],
        "max_steps": [pytest.approx(math.nan, nan_ok=True), 900.0],
    }


@pytest.mark.parametrize(
    ("repeats", "steps", "bound"),
    [
        pytest.param([(100, 0), (300, 0), (200, 0)], 200, None, id="all-reached"),
        pytest.param([(100, 0), (200, 0), (INF, 500)], 200, None, id="one-of-three-unreached-counts-as-inf"),
        pytest.param([(100, 0), (200, 0), (math.nan, math.nan)], 200, None, id="needs-no-max-steps-for-that"),
        pytest.param([(100, 0), (INF, 500), (INF, 700)], None, 500, id="two-of-three-unreached"),
        pytest.param([(100, 0), (INF, 500)], None, 300, id="half-unreached-is-bounded-by-the-mean-of-the-middle-two"),
        pytest.param([(INF, 400), (INF, 600), (INF, 900)], None, 600, id="none-reached"),
    ],
)
def test_repeats_enter_as_their_median(
    repeats: list[tuple[float, float]], steps: float | None, bound: float | None
) -> None:
    study = one(*repeats)
    assert (study.steps, study.max_steps, study.n_repeats) == (steps, bound, len(repeats))


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=1, max_size=7))
def test_the_bound_of_a_censored_study_never_exceeds_the_true_median(runs: list[tuple[float, float]]) -> None:
    study = one(*[(true if true <= trained else INF, trained) for true, trained in runs])
    truth = pd.Series([true for true, _ in runs]).median()
    if study.max_steps is not None:
        assert study.max_steps <= truth * (1 + 1e-12)


def test_rows_that_cannot_be_used_are_set_aside_with_reasons() -> None:
    rows = table((0, 10, 0), (8, -1, 0), (math.nan, 5, 0), (16, INF, math.nan), (32, 7, 0))
    rows.index = pd.Index([2, 3, 4, 5, 6])
    found, aside = studies(rows)
    assert [study.batch_size for study in found] == [32]
    assert aside == (
        RowSetAside(2, "batch_size must be a positive number below 1e+100, but it is 0"),
        RowSetAside(3, "steps must be a positive number below 1e+100 (inf = not reached), but it is -1"),
        RowSetAside(4, "batch_size must be a positive number below 1e+100, but it is nan"),
        RowSetAside(5, "not reached, and max_steps does not say how far it was trained; add it"),
    )


@pytest.mark.parametrize(("bound", "kept"), [(115.0, True), (125.0, False)])
def test_a_bound_far_above_what_a_smaller_batch_size_took_is_set_aside(bound: float, kept: bool) -> None:
    found, aside = studies(table((8, 300, math.nan), (16, 100, math.nan), (32, INF, bound), (64, 90, math.nan)))
    assert [study.batch_size for study in found] == ([8, 16, 32, 64] if kept else [8, 16, 64])
    reason = "not reached in 125 steps at batch size 32, though 16 did in 100: a larger batch that is tuned as well"
    assert [(row.row, row.reason.startswith(reason)) for row in aside] == ([] if kept else [(2, True)])


def test_a_column_of_another_meaning_is_no_column_of_batch_sizes() -> None:
    every = pd.DataFrame({"batch_size": range(1, 1_002), "steps": 5})
    with pytest.raises(InputError, match="at most 1,000 batch sizes, but there are 1,001; look whether 'batch_size'"):
        studies(every)
