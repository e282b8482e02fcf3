"""The figures of the answer show every study once and of the fit what is known; curves are those behind the numbers."""

import math
from typing import Any

import pytest

from bcrit.analysis.questions.steps import ask, curves_plot, drawn_runs, examples_plot, steps_plot, steps_text
from bcrit.analysis.report import Answer, Figure
from bcrit.search_spaces.outcome import Outcome
from tests.analysis.report import runs

SIZES = [8, 16, 32, 64, 128, 256]


def trace(figure: Figure, start: str) -> dict[str, Any]:
    found: dict[str, Any] = next(t for t in figure["data"] if t.get("name", "").startswith(start))
    return found


def names(figure: Figure) -> list[str]:
    return [t.get("name", "").split(":")[0] for t in figure["data"]]


def words(figure: Figure) -> str:
    return " ".join(note["text"] for note in figure["layout"]["annotations"])


def test_confirmed_studies_stand_at_their_median_with_their_interval() -> None:
    studies, figure = runs.usual().studies, steps_plot(runs.usual())
    points, axis = trace(figure, "confirmed"), figure["layout"]["xaxis"]
    assert (points["x"], points["y"]) == (list(studies["batch_size"]), list(studies["steps"]))
    assert points["error_y"]["array"] == list(studies["steps_high"] - studies["steps"])
    assert points["error_y"]["arrayminus"] == list(studies["steps"] - studies["steps_low"])
    assert axis["tickvals"] == SIZES and math.isfinite(sum(axis["range"]))
    assert 10 ** axis["range"][0] < 8 < 256 < 10 ** axis["range"][1]


def test_studies_that_were_not_reached_point_up_from_where_training_ended_and_without_fresh_seeds_are_hollow() -> None:
    figure = steps_plot(runs.partly((32, 64, 128)))
    points = trace(figure, "not reached")
    assert (points["x"], points["y"], points["marker"]["symbol"]) == ([8, 16, 256], [90, 50, 12], "triangle-up-open")
    assert trace(figure, "confirmed")["x"] == [32, 64, 128]
    figure = steps_plot(runs.partly(tuple(SIZES), confirm=False))
    assert trace(figure, "search only")["x"] == SIZES and "confirmed" not in names(figure)
    assert trace(figure, "search only")["marker"]["color"] == "#ffffff"


def test_what_is_not_known_of_the_curve_is_called_so_or_left_out() -> None:
    assert "curve with a free knee (p = 4)" in names(steps_plot(runs.bent()))
    assert not [name for name in names(steps_plot(runs.usual())) if "free knee" in name]
    assert "b_crit not identified" in words(steps_plot(runs.partly((32, 64))))
    figure = steps_plot(runs.partly(()))
    assert names(figure) == ["not reached"]
    assert figure["layout"]["annotations"] == figure["layout"]["shapes"] == []
    assert examples_plot(runs.partly(())) is None


def test_the_steps_ask_nothing_else() -> None:
    """`bcrit analyze` prints at once: what takes seconds, such as the importances, is asked for by name."""
    analysis = runs.usual()
    assert isinstance(ask(analysis), Answer)
    assert not {"sensitivity", "laws"} & set(vars(analysis))


# --- learning curves ---


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    spec = runs.experiment()
    long = runs.analysis_of(spec, runs.study(spec, 8) + [runs.trial(spec, 16, 0, Outcome.REACHED, 40_000)])
    for analysis, evaluations, ends in ((runs.widened(), 2000, (1, 90)), (long, 5000, (8, 40_000))):
        figure = curves_plot(analysis, runs.curves(analysis, evaluations))
        assert figure is not None
        x = figure["data"][-1]["x"]
        assert (x[0], x[-1]) == ends and len(x) <= 300


def test_many_runs_and_thinned_curves_are_said_in_the_figure() -> None:
    spec = runs.experiment(batch_sizes=(8, 16))
    rows = [row for b in spec.batch_sizes for row in runs.study(spec, b)]
    for b in spec.batch_sizes:
        best = next(row["repeats"] for row in rows if row["batch_size"] == b and row["repeats"])
        more = {"stage": "confirm", "repeats": best}
        rows += [runs.trial(spec, b, number, Outcome.REACHED, 90, **more) for number in range(3, 120)]
    analysis = runs.analysis_of(spec, rows)
    figure = curves_plot(analysis, runs.curves(analysis))
    assert figure is not None
    assert len(figure["data"]) == 150 == len(drawn_runs(analysis))
    assert "150 of 240 runs drawn" in words(figure)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(130.0, 160.0, "144 (130 to 160)"), (130.0, math.nan, "144 (130 to not reached)"), (math.nan, math.nan, "144")],
)
def test_an_end_that_no_seed_reached_and_one_run_without_an_interval_are_told_apart(
    low: float, high: float, said: str
) -> None:
    assert steps_text({"steps": 144.0, "steps_low": low, "steps_high": high}) == said
