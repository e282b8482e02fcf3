"""The boundary rule: a box that binds, its four look-alikes, and the trials that it reads."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.studies import boundary
from bcrit.analysis.studies.boundary import SearchedTrials, Touch, Verdict
from bcrit.search_spaces.options import BoundaryRule
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.space import SearchSpace

RULE = BoundaryRule()
LR: Any = "log from 0.01 to 1"


def space(**dimensions: Any) -> SearchSpace:
    return SearchSpace.model_validate({"lr": LR, **dimensions})


def tried(point: dict[str, Any], steps: float | None, feasible: bool = True, shortfall: float | None = None) -> Any:
    """A trial of which the metric's threshold is 0."""
    outcome = Outcome.EXHAUSTED if feasible else Outcome.DIVERGED
    return SimpleNamespace(point=point, steps_to_target=steps, outcome=outcome, best_value=shortfall)


def trials(
    at: SearchSpace, steps: Callable[[dict[str, Any]], float | None], n: int = 40, noise: float = 0.0
) -> list[Any]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        point = at.sample(rng)
        value = steps(point)
        if value is not None:
            value = round(value * math.exp(noise * rng.normal()))
        found.append(tried(point, value, feasible=value is not None))
    return found


def touches(at: SearchSpace, found: list[Any], rule: BoundaryRule) -> list[Touch]:
    return boundary.touches(at, SearchedTrials.of(found, 0.0), rule)


def after_round(
    at: SearchSpace, found: list[Any], rule: BoundaryRule, number: int
) -> tuple[SearchSpace, list[Verdict]]:
    return boundary.after_round(at, SearchedTrials.of(found, 0.0), rule, number)


def bowl(centre: float) -> Callable[[dict[str, Any]], float]:
    return lambda point: 1000 * (1 + math.log(point["lr"] / centre) ** 2)


def verdicts(found: list[Any]) -> list[tuple[str, str, str]]:
    return [(touch.dimension, touch.side, touch.kind) for touch in found]


def test_an_optimum_inside_touches_nothing() -> None:
    assert touches(space(), trials(space(), bowl(0.1)), RULE) == []


@pytest.mark.parametrize(("centre", "side"), [(3.0, "high"), (0.003, "low")])
def test_an_optimum_outside_touches_the_box(centre: float, side: str) -> None:
    (touch,) = touches(space(), trials(space(), bowl(centre)), RULE)
    assert (touch.dimension, touch.side, touch.kind, touch.widenable) == ("lr", side, "box", True)


def test_an_optimum_inside_the_margin_is_no_touch_when_steps_rise_again_before_the_edge() -> None:
    near = space()
    assert near.box("lr").to_unit(0.85) > 1 - RULE.margin
    dense = [tried({"lr": lr}, round(bowl(0.85)({"lr": lr})), True) for lr in np.geomspace(0.4, 1, 30)]
    assert touches(near, dense, RULE) == []
    few = [dense[0], dense[-8], dense[-5]]
    assert verdicts(touches(near, few, RULE)) == [("lr", "high", "box")]


def test_a_wall_of_divergence_is_not_the_box() -> None:
    def steps(point: dict[str, Any]) -> float | None:
        return None if point["lr"] > 0.8 else 1000 / point["lr"]

    (touch,) = touches(space(), trials(space(), steps, n=80), RULE)
    assert (touch.kind, touch.side, touch.widenable) == ("wall", "high", False)


def test_the_natural_limit_of_a_hyperparameter_is_a_finding_and_not_a_fault() -> None:
    at = space(momentum={"scale": "reverse_log", "low": 0.0, "high": 0.99, "hard_low": 0.0})
    found = trials(at, lambda p: bowl(0.1)(p) * (1 + point_momentum(p)))
    assert ("momentum", "low", "limit") in verdicts(touches(at, found, RULE))
    assert not any(touch.widenable for touch in touches(at, found, RULE))


def point_momentum(point: dict[str, Any]) -> float:
    return float(point["momentum"])


def test_an_axis_that_hardly_matters_is_flat() -> None:
    at = space(other="linear from 0 to 1")
    found = [
        tried({"lr": 0.1, "other": u}, 100 if u == 1.0 else 101 + i % 3, True)
        for i, u in enumerate(np.linspace(0, 1, 12).tolist())
    ]
    assert verdicts(touches(at, found, RULE)) == [("other", "high", "flat")]


def test_one_lucky_trial_does_not_hide_a_cluster_on_the_edge() -> None:
    on_edge = [tried({"lr": 1 - 0.001 * i}, 104, True) for i in range(9)]
    lucky = tried({"lr": 0.3}, 100, True)
    assert ("lr", "high", "box") in verdicts(touches(space(), [lucky, *on_edge], RULE))


def test_while_nothing_reached_the_trials_that_came_nearest_decide() -> None:
    found = [tried({"lr": lr}, None, True, shortfall=1 / lr) for lr in np.geomspace(0.01, 1, 30)]
    assert verdicts(touches(space(), found, RULE)) == [("lr", "high", "box")]
    inside = [tried({"lr": lr}, None, True, shortfall=abs(lr - 0.1)) for lr in np.geomspace(0.01, 1, 30)]
    assert touches(space(), inside, RULE) == []


def test_nothing_feasible_means_no_verdict() -> None:
    assert touches(space(), [tried({"lr": 0.5}, None, False)], RULE) == []


def test_a_conditional_dimension_is_judged_only_where_it_exists() -> None:
    at = space(schedule={"constant": {}, "linear": {"end_factor": "linear from 0.1 to 1"}})
    found = trials(at, lambda p: 1000 * (1 if p["schedule"] == "constant" else 3))
    assert "schedule.linear.end_factor" not in [touch.dimension for touch in touches(at, found, RULE)]


def test_widening_goes_by_the_scaled_width_and_stops_after_the_last_round() -> None:
    found = trials(space(), bowl(30.0))
    wider, (verdict,) = after_round(space(), found, RULE, 0)
    assert verdict.widened_to == pytest.approx(10) == wider.box("lr").high
    same, (verdict,) = after_round(space(), found, RULE, RULE.max_rounds)
    assert verdict.widened_to is None and same == space()


def test_a_hard_limit_is_flagged_but_not_widened() -> None:
    at = SearchSpace.model_validate({"lr": {"scale": "log", "low": 0.01, "high": 1, "hard_high": 1}})
    same, (verdict,) = after_round(at, trials(at, bowl(30.0)), RULE, 0)
    assert (verdict.touch.kind, verdict.widened_to, same) == ("box", None, at)


SPACE = SearchSpace.model_validate(
    {
        "lr": "log from 0.01 to 1",
        "momentum": "reverse_log from 0 to 0.99",
        "schedule": {"constant": {}, "linear": {"end_factor": "linear from 0.1 to 1"}},
    }
)
NAMES = ["lr", "momentum", "schedule", "end_factor"]


def frame(seed: int, reaching: bool) -> pd.DataFrame:
    """Trials whose optimum lies towards large learning rates, where they also diverge."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(60):
        point: dict[str, Any] = dict(SPACE.sample(rng))
        outcome = rng.choice(["diverged", "failed"] if point["lr"] > 0.5 else ["reached", "exhausted"])
        steps = round(1000 / point["lr"] * (1 + 0.1 * rng.random())) if reaching and outcome == "reached" else None
        rows.append(
            {"end_factor": np.nan, **point, "outcome": outcome, "steps_to_target": steps, "best_value": 1 / point["lr"]}
        )
    return pd.DataFrame(rows).astype({"steps_to_target": float})


@pytest.mark.parametrize("reaching", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_a_frame_and_its_points_give_the_same_edges(seed: int, reaching: bool) -> None:
    trials = frame(seed, reaching)
    points: list[Any] = [
        SimpleNamespace(
            point={name: row[name] for name in NAMES if not pd.isna(row[name])},
            steps_to_target=None if pd.isna(row["steps_to_target"]) else int(row["steps_to_target"]),
            outcome=Outcome(row["outcome"]),
            best_value=row["best_value"],
        )
        for row in trials.to_dict("records")
    ]
    one = boundary.touches(SPACE, SearchedTrials.of(points, 0.5), BoundaryRule())
    two = boundary.touches(SPACE, SearchedTrials.in_frame(trials, NAMES, 0.5), BoundaryRule())
    assert one == two


def test_the_edges_of_a_frame_are_found() -> None:
    found = [
        boundary.touches(SPACE, SearchedTrials.in_frame(frame(seed, True), NAMES, 0.5), BoundaryRule())
        for seed in range(9)
    ]
    assert sum(map(len, found)) >= 4


def test_the_nearest_stand_first_and_earlier_trials_before_later_ones() -> None:
    steps = [120, 100, None, 100, 111]
    some = SearchedTrials.of([tried({"lr": 0.1}, of) for of in steps], 0.0)
    assert some.near_optimal(0.11).tolist() == [1, 3, 4]


def test_an_axis_exists_where_its_option_was_chosen() -> None:
    points: list[dict[str, Any]] = [{"schedule": "linear", "end_factor": 0.3}, {"schedule": "constant"}]
    some = SearchedTrials.of([tried(point, 10) for point in points], 0.0)
    np.testing.assert_array_equal(some.on("schedule.linear.end_factor"), [0.3, np.nan])
    assert np.isnan(some.on("lr")).all()
