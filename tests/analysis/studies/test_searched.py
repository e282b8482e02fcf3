"""Search trials in columns: those of a frame are those of the points, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.studies.boundary import touches
from bcrit.analysis.studies.searched import SearchedPoint, SearchedTrials
from bcrit.search_spaces.options import BoundaryRule
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.space import SearchSpace

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
    points = [
        SearchedPoint(
            {name: row[name] for name in NAMES if not pd.isna(row[name])},
            None if pd.isna(row["steps_to_target"]) else int(row["steps_to_target"]),
            Outcome(row["outcome"]).feasible,
            abs(row["best_value"] - 0.5),
        )
        for row in trials.to_dict("records")
        if not Outcome(row["outcome"]).broken
    ]
    one = touches(SPACE, SearchedTrials.of(points), BoundaryRule())
    two = touches(SPACE, SearchedTrials.in_frame(trials, NAMES, 0.5), BoundaryRule())
    assert one == two


def test_the_edges_of_a_frame_are_found() -> None:
    found = [
        touches(SPACE, SearchedTrials.in_frame(frame(seed, True), NAMES, 0.5), BoundaryRule()) for seed in range(9)
    ]
    assert sum(map(len, found)) >= 4


def test_the_nearest_stand_first_and_earlier_trials_before_later_ones() -> None:
    steps = [120, 100, None, 100, 111]
    some = SearchedTrials.of([SearchedPoint({"lr": 0.1}, of, feasible=True) for of in steps])
    assert some.near_optimal(0.11).tolist() == [1, 3, 4]


def test_an_axis_exists_where_its_option_was_chosen() -> None:
    points: list[dict[str, Any]] = [{"schedule": "linear", "end_factor": 0.3}, {"schedule": "constant"}]
    some = SearchedTrials.of([SearchedPoint(point, 10, feasible=True) for point in points])
    np.testing.assert_array_equal(some.on("schedule.linear.end_factor"), [0.3, np.nan])
    assert np.isnan(some.on("lr")).all()
