from __future__ import annotations

import json
from functools import cache

import numpy as np

from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.report.sensitivity_section import sensitivity_section
from bcrit.analysis.sensitivity.sensitivity import sensitivity
from tests.analysis.optimum.surface import PLANE, bowl, searched, spec, tables
from tests.analysis.report import runs
from tests.analysis.report.runs import EVIL


@cache
def section() -> Answer:
    experiment = spec(PLANE, (4, 32, 256))
    trials = searched(experiment, bowl(lambda b: 0.1, 0.2), np.random.default_rng(0), noise=0.03)
    found = sensitivity_section(runs.usual().but(sensitivity=sensitivity(*tables(trials, experiment))))
    assert found is not None
    return found


def test_the_section_draws_shares_profiles_and_the_plane() -> None:
    plots = {part.name: part.figure for part in section().parts if isinstance(part, Plot)}
    assert list(plots) == [
        "sensitivity-share",
        *(f"sensitivity-profile-{number}" for number in range(3)),
        "sensitivity-plane",
    ]
    assert len(plots["sensitivity-share"]["data"][0]["x"]) == 3
    assert [trace["name"] for trace in plots["sensitivity-plane"]["data"]] == ["4", "32", "256"]
    json.dumps(plots, allow_nan=False)


def test_tables_give_verdicts_shares_and_importances() -> None:
    tables_ = {part.heading: part.table for part in section().parts if isinstance(part, Rows)}
    assert [row[0] for row in tables_["Does it matter? Over all studies"].rows] == ["effective_lr", "lr", "momentum"]
    shares = tables_["Share of the search space that is near-optimal"]
    assert all(sum(map(int, row[3:6])) == 40 for row in shares.rows)
    assert len(tables_["Importances: share of the variation in steps"].rows) == 3


def test_without_a_reached_study_there_is_nothing_to_say() -> None:
    assert sensitivity_section(runs.partly(())) is None


def test_markup_from_users_is_escaped_in_figures() -> None:
    found = sensitivity_section(runs.hostile())
    assert found is not None
    figures = json.dumps([part.figure for part in found.parts if isinstance(part, Plot)], allow_nan=False)
    assert EVIL not in figures and "<img" not in figures
