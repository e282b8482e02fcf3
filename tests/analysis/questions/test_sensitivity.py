"""Sensitivity: what is drawn, and which tables there are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bcrit.analysis.questions.sensitivity import ask
from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.sensitivity.sensitivity import sensitivity_of
from tests.analysis.optimum.surface import PLANE, bowl, searched, sets, spec
from tests.analysis.report import runs
from tests.bcrit.command import bcrit


@pytest.fixture(scope="module")
def answer() -> Answer:
    experiment = spec(PLANE, (4, 32, 256))
    trials = searched(experiment, bowl(lambda b: 0.1, 0.2), np.random.default_rng(0), noise=0.03)
    found = ask(runs.usual().but(sensitivity=sensitivity_of(sets(trials, experiment), experiment.target)))
    assert isinstance(found, Answer)
    return found


def test_shares_profiles_and_the_plane_are_drawn(answer: Answer) -> None:
    plots = {part.name: part.figure for part in answer.parts if isinstance(part, Plot)}
    profiles = [f"sensitivity-profile-{number}" for number in range(3)]
    assert list(plots) == ["sensitivity-share", *profiles, "sensitivity-plane"]
    assert len(plots["sensitivity-share"]["data"][0]["x"]) == 3
    assert [trace["name"] for trace in plots["sensitivity-plane"]["data"]] == ["4", "32", "256"]


def test_tables_give_verdicts_shares_and_importances(answer: Answer) -> None:
    verdicts, shares, importances = (part.table for part in answer.parts if isinstance(part, Rows))
    assert [row[0] for row in verdicts.rows] == ["effective_lr", "lr", "momentum"]
    assert all(sum(map(int, row[3:6])) == 40 for row in shares.rows)
    assert len(importances.rows) == 3


def test_what_is_near_optimal_is_the_users_choice(tmp_path: Path) -> None:
    run = runs.written(tmp_path / "run", reached=True)
    found = json.loads(bcrit("sensitivity", run, "--within", 0.5, "--json").stdout)
    assert found["within"] == 0.5 and len(found["studies"]) == 6
