from dataclasses import replace

import pytest

from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.space import Point
from bcrit.tuner.protocol.proposal import Proposal, evaluated_rarely, merit, response
from tests.tuner.protocol.records import TARGET, drawn


def hyperparameters(point: Point, budget_steps: int = 200) -> Point:
    return Proposal("t", 8, Stage.SEARCH, 0, 0, None, 0, point, budget_steps, budget_steps).hyperparameters


@pytest.mark.parametrize(
    ("point", "added"),
    [
        ({"lr": 0.1}, {}),
        ({"lr": 0.1, "decay_fraction": 0.333}, {"decay_steps": 67}),
        ({"lr": 0.1, "decay_fraction": 0.0001}, {"decay_steps": 1}),
        ({"lr": 0.1, "warmup_fraction": 0.0}, {"warmup_steps": 0}),
        ({"lr": 0.1, "warmup_fraction": 0.1, "decay_fraction": 0.5}, {"warmup_steps": 20, "decay_steps": 100}),
        ({"lr": 0.1, "warmup_steps": 7}, {}),
    ],
    ids=str,
)
def test_shares_of_the_budget_are_recorded_in_steps(point: Point, added: Point) -> None:
    assert hyperparameters(point) == point | added


def test_the_order_of_merit_is_reached_then_nearer_then_diverged() -> None:
    reached = [drawn(0, {}, 10, [(0, 9.0), (10, 0.9)]), drawn(1, {}, 99_999, [(0, 9.0)])]
    unreached = [drawn(2, {}, None, [(0, 9.0), (50, 1.5)]), drawn(3, {}, None, [(0, 9.0), (50, 6.0)])]
    ordered = [response(r, TARGET) for r in (*reached, *unreached, drawn(4, {}, None, []))]
    assert ordered == sorted(ordered) and len(set(ordered)) == 5
    worse, better = (drawn(n, {}, 10, [(0, 9.0), (10, value)]) for n, value in enumerate((0.9, 0.1)))
    assert merit(better, TARGET) < merit(worse, TARGET) < merit(drawn(2, {}, 10, [(0, 9.0), (10, 0.9)]), TARGET)
    went_on = drawn(0, {}, 10, [(0, 9.0), (10, 0.9), (20, 0.01)])
    assert merit(better, TARGET) < merit(went_on, TARGET)


def test_a_trial_that_is_evaluated_rarely_says_how_to_do_better() -> None:
    said = str(evaluated_rarely(drawn(0, {}, None, [(0, 9.0), (187, 5.0)])))
    assert "at steps 0 and 187 and not between: a crossing there is known to 100 % of its steps only" in said
    assert said.endswith("next at config.next_evaluation(s) after a report at step s)")
    assert evaluated_rarely(drawn(0, {}, None, [(0, 9.0), (1, 8.0), (2, 7.0)])) is None
    assert evaluated_rarely(drawn(0, {}, None, [(100, 9.0), (119, 7.0)])) is None
    assert evaluated_rarely(drawn(0, {}, None, [])) is None
    early = replace(drawn(0, {}, 20, [(10, 9.0), (20, 0.5), (21, 0.5)]), steps_to_target_low=10)
    assert "at steps 10 and 20" in str(evaluated_rarely(early))
