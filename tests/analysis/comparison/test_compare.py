"""The comparison as a whole: runs and tables mixed, JSON without infinities, refusals."""

from __future__ import annotations

import json

import pytest

from bcrit.analysis.comparison import compare
from bcrit.search_spaces.problems import InputError
from tests.analysis.comparison.made_up import run, table

RUN, TABLE = run("a"), table("t", 100, 64, noise=0.03, seed=1)
SCALING = table("scaling", 1, 1e6, noise=0.03, seed=3)


def test_runs_and_tables_stand_side_by_side() -> None:
    found = compare([RUN, TABLE])
    assert [one.label for one in found.runs] == ["a", "t"]
    assert found.anything and len(found.ratios) == 3 and len(found.at_batch_sizes) == 9
    assert "A table does not say which target" in found.cautions[0]
    assert any("Holm" in sentence for sentence in found.assumed)


def test_the_json_has_everything_and_no_infinity() -> None:
    found = compare([TABLE, SCALING, RUN])
    text = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert set(text) >= {"runs", "ratios", "at_batch_sizes", "advantages", "sentences", "cautions", "assumed"}
    assert text["runs"][1]["b_crit"] == {
        **text["runs"][1]["b_crit"],
        "high": None,
        "identified": False,
    }
    assert text["runs"][2]["optimizer"] == "sgd" and text["runs"][0]["optimizer"] is None
    ratio = next(r for r in text["ratios"] if r["quantity"] == "b_crit" and r["run"] == "scaling")
    assert ratio["low"] > 1 and ratio["high"] is None and ratio["verdict"] == "differs"


def test_the_same_runs_give_the_same_comparison() -> None:
    assert compare([RUN, TABLE]).to_json() == compare([RUN, TABLE]).to_json()


def test_nothing_comparable_is_known_as_such() -> None:
    assert not compare([RUN, run("b", target="loss < 0.5")]).anything
    assert compare([RUN, run("b", target="loss < 0.5")], across_targets=True).anything


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "two or more runs are needed, but there is 0"),
        ([RUN], "two or more runs are needed, but there is 1"),
        ([RUN, TABLE, RUN], "'runs/a-sgd-0' is given twice"),
    ],
    ids=["none", "one", "twice"],
)
def test_bad_input_is_refused(sources: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(sources)  # type: ignore[arg-type]
