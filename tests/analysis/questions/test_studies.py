"""Every study, outcome, edge and search trial is shown, in the plane of its space; of very many trials, fewer."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.questions import studies as question
from bcrit.analysis.questions.studies import (
    EDGES,
    MARKS,
    ask,
    coordinates,
    environment_table,
    outline,
    search,
    shown_trials,
)
from bcrit.analysis.report import Answer, Figure, Panels, Rows, Table, Trace
from bcrit.analysis.run import Run
from bcrit.analysis.studies import searched_spaces
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.space import SearchSpace
from tests.analysis.report import runs


def tables(run: Run) -> dict[str, Table]:
    return {part.heading: part.table for part in ask(run).parts if isinstance(part, Rows)}


def column(table: Table, name: str) -> list[str]:
    return [row[table.head.index(name)] for row in table.rows]


def test_every_edge_is_a_row_with_a_sentence_for_its_kind() -> None:
    analysis = runs.widened()
    table = tables(analysis)["Optima at the edge of their box"]
    assert len(table.rows) == len(analysis.boundary) > 0
    assert set(column(table, "kind")) <= set(EDGES)
    assert EDGES["box"] in str(ask(analysis).parts[-1])


def test_facts_of_the_environment_stand_on_one_line_and_what_differs_between_sessions_side_by_side() -> None:
    one = {"packages": {"ray": "2.60.0", "own": None}, "devices": [], "host": "a"}
    lines = ("packages", "ray 2.60.0, own –"), ("devices", "none")
    assert environment_table([one]).rows == (*lines, ("host", "a"))
    assert environment_table([one, {**one, "host": "b"}]).rows == (*lines, ("host", "a; then b"))


# --- the search ---

SPACES: dict[str, dict[str, Any]] = {
    "lr and momentum": runs.PLANE,
    "lr only": {"lr": "log from 0.01 to 10"},
    "fixed": {"lr": 0.1},
    "two others": {"lr": 0.1, "width": "integer from 4 to 64", "mix": "linear from 0 to 1"},
}


def drawn(analysis: Run) -> Panels:
    answer = search(analysis)
    assert isinstance(answer, Answer)
    (panels,) = answer.parts
    assert isinstance(panels, Panels)
    return panels


def first(analysis: Run) -> Figure:
    return next(iter(drawn(analysis).figures.values()))


def traces(panel: Figure) -> dict[str, Trace]:
    return {trace["name"]: trace for trace in panel["data"]}


def keys(analysis: Run) -> list[str]:
    return [key.text for key in drawn(analysis).legend]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_trial_of_a_study_is_a_mark_of_its_outcome(space: dict[str, Any]) -> None:
    analysis = runs.usual(space)
    panels = drawn(analysis)
    assert list(panels.figures) == list(analysis.studies["batch_size"])
    assert [key.text for key in panels.legend][: len(Outcome)] == [outcome.value for outcome in Outcome]
    trials = analysis.trials[analysis.trials["stage"] == "search"]
    for batch_size, panel in panels.figures.items():
        for outcome in Outcome:
            trace = traces(panel)[outcome]
            expected = ((trials["batch_size"] == batch_size) & (trials["outcome"] == outcome)).sum()
            assert len(trace["x"]) == len(trace["y"]) == expected and None not in trace["x"] + trace["y"]
            assert trace["marker"]["symbol"] == MARKS[outcome][0]


def test_every_outcome_has_a_symbol_of_its_own() -> None:
    assert set(MARKS) == set(Outcome)
    assert len({symbol for symbol, _ in MARKS.values()}) == len(Outcome)


def test_the_plane_is_that_of_the_effective_learning_rate_and_the_best_point_is_marked() -> None:
    analysis = runs.usual()
    panel = traces(first(analysis))
    trials, best = analysis.trials, analysis.studies.iloc[0]
    rows = trials[(trials["batch_size"] == 8) & (trials["stage"] == "search") & (trials["outcome"] == "reached")]
    assert panel["reached"]["x"] == pytest.approx(list(rows["lr"] / (1 - rows["momentum"])))
    assert panel["reached"]["y"] == pytest.approx(list(1 - rows["momentum"]))
    assert panel["reached"]["marker"]["color"] == pytest.approx([math.log2(3), 0])
    assert panel["point of the study"]["y"] == pytest.approx([1 - best["momentum"]])


def test_first_and_widened_boxes_are_drawn_as_the_table_of_edges_has_them() -> None:
    analysis = runs.widened()
    assert keys(analysis)[-2:] == ["search box", "widened box"] and "widened box" not in keys(runs.usual())
    own, wider = first(analysis)["data"][:2]
    assert (own["name"], wider["name"]) == ("search box", "widened box 1") and max(wider["x"]) > max(own["x"])
    declared, second = (space.box("lr") for space in searched_spaces(analysis.experiment, analysis.boundary, 8))
    assert (declared.low, declared.high, second.low) == (0.01, 10.0, 0.01)
    assert second.high == analysis.boundary["widened_to"].iloc[0]


def test_with_one_coordinate_trials_that_did_not_reach_stand_on_top() -> None:
    panel = first(runs.usual(SPACES["lr only"]))
    assert min(traces(panel)["pruned"]["y"]) > max(traces(panel)["reached"]["y"])
    assert [shape["type"] for shape in panel["layout"]["shapes"]][0] == "rect"


def test_a_run_that_reached_nothing_is_drawn() -> None:
    panels = drawn(runs.partly((), space={"lr": "log from 0.01 to 10"}))
    assert "reached" not in [key.text for key in panels.legend]
    assert all(len(panel["data"]) == len(Outcome) - 1 for panel in panels.figures.values())


AXES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "lr and momentum": (runs.PLANE, ["lr / (1 − momentum)", "1 − momentum"]),
    "lr": ({"lr": "log from 0.1 to 1", "momentum": 0.9}, ["lr"]),
    "momentum": ({"lr": 0.1, "momentum": "reverse_log from 0 to 0.9"}, ["1 − momentum"]),
    "the first two of three": ({k: "linear from 0 to 1" for k in "abc"}, ["a", "b"]),
    "conditional ones where there are no others": ({"a": {"x": {}, "y": {"z": "linear from 0 to 1"}}}, ["z"]),
    "conditional ones give way": ({"a": {"x": {"z": "linear from 0 to 1"}}, "b": "log from 1 to 2"}, ["b"]),
    "no number": ({"a": "choice of x, y"}, []),
}


@pytest.mark.parametrize(("space", "titles"), AXES.values(), ids=AXES)
def test_the_axes_fit_the_space(space: dict[str, Any], titles: list[str]) -> None:
    assert [coordinate.title for coordinate in coordinates(SearchSpace.model_validate(space))] == titles


def test_an_outline_encloses_the_points_of_its_box() -> None:
    space = SearchSpace.model_validate(runs.PLANE)
    plane = coordinates(space)
    x, y = (np.log(line) for line in outline(space, plane))
    rng = np.random.default_rng(0)
    for point in (space.sample(rng) for _ in range(50)):
        px, py = (np.log(coordinate.of(point)) for coordinate in plane)
        assert y.min() - 1e-9 <= py <= y.max() + 1e-9
        # lr, the sum of the two logarithms, bounds the box along the diagonal.
        assert (x + y).min() - 1e-9 <= px + py <= (x + y).max() + 1e-9
    assert (x[0], y[0]) == pytest.approx((x[-1], y[-1]))
    line = SearchSpace.model_validate({"lr": "log from 0.1 to 10"})
    assert list(outline(line, coordinates(line))[0]) == pytest.approx([0.1, 10])


MANY = {Outcome.REACHED: 4000, Outcome.CAPPED: 2000, Outcome.DIVERGED: 500, Outcome.FAILED: 3}


def tried(counts: dict[Outcome, int]) -> pd.DataFrame:
    """So many trials of each outcome at every batch size, in mixed order."""
    rows = [
        {
            "batch_size": batch_size,
            "outcome": outcome.value,
            "steps": 10.0 + number,
            "steps_to_target": 10.0 + number if outcome is Outcome.REACHED else np.nan,
            "trial_id": f"{batch_size}-{outcome.value}-{number}",
        }
        for batch_size in (8, 16)
        for outcome, count in counts.items()
        for number in range(count)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)


def test_few_trials_are_all_shown_and_of_many_about_as_many_as_asked_for_each_once_and_in_order() -> None:
    few, many = tried({Outcome.REACHED: 30, Outcome.FAILED: 1}), tried(MANY)
    assert shown_trials(few, most=len(few)) is few
    shown = shown_trials(many, most=1000)
    assert 950 <= len(shown) <= 1050
    assert shown.index.is_monotonic_increasing and shown.index.is_unique
    pd.testing.assert_frame_equal(shown, many.loc[shown.index])
    again = many.sample(frac=1, random_state=1, ignore_index=True)  # the order of the rows does not matter
    assert set(shown["trial_id"]) == set(shown_trials(again, most=1000)["trial_id"])


def test_every_outcome_keeps_its_share_its_spread_and_its_ends_and_rare_ones_stay_whole() -> None:
    trials = tried(MANY)
    shown = shown_trials(trials, most=1000)
    for _, of_study in shown.groupby("batch_size")["outcome"].value_counts().unstack().iterrows():
        assert of_study["failed"] == 3
        assert of_study["reached"] == pytest.approx(2 * of_study["capped"], rel=0.02)
        assert of_study["reached"] == pytest.approx(8 * of_study["diverged"], rel=0.05)
    for rows in (shown, shown_trials(trials, most=200)):
        ends = [frame.groupby("batch_size")["steps_to_target"].agg(["min", "max"]) for frame in (trials, rows)]
        pd.testing.assert_frame_equal(ends[0], ends[1])
    whole, part = (frame["steps_to_target"].quantile([0.1, 0.25, 0.5, 0.75]) for frame in (trials, shown))
    assert part.to_numpy() == pytest.approx(whole.to_numpy(), rel=0.02)


def test_a_study_with_more_trials_than_marks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = runs.usual()
    total = int((analysis.trials["stage"] == "search").sum())
    assert "are drawn" not in str(search(analysis))
    monkeypatch.setattr(question, "shown_trials", lambda trials: shown_trials(trials.iloc[:-1], 999))
    assert f"Of {total} trials {total - 1} are drawn" in str(search(analysis))
    panels = drawn(analysis).figures.values()
    assert sum(len(trace["x"]) for panel in panels for trace in panel["data"] if "hovertext" in trace) == total - 1
