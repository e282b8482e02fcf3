"""Fixed budgets: what is drawn, what a cell says, and what the command makes of its options."""

from __future__ import annotations

import json

import pytest

from bcrit.analysis.questions.budgets import _cell, ask
from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.run import Run
from tests.analysis.budgets.test_tables import falling
from tests.analysis.folders import Made, experiment, write_run
from tests.bcrit.command import bcrit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = {f"b{b}-{n}": falling(b, 1 + 0.1 * n) for b in (4, 16, 64) for n in range(4)}
    made["b64-pruned"] = Made(64, falling(64, 3, until=10).curve, "pruned")
    spec = experiment([4, 16, 64], "loss < 0.0001", unit="tokens")
    return Run(write_run(tmp_path_factory.mktemp("run") / "run", spec, made))


def test_every_resource_has_its_figure_and_its_table(run: Run) -> None:
    answer = ask(run)
    assert isinstance(answer, Answer)
    plots = [part for part in answer.parts if isinstance(part, Plot)]
    assert [plot.name for plot in plots] == ["budgets-steps", "budgets-examples", "budgets-hours"]
    assert plots[0].figure["data"][-1]["marker"]["symbol"] == ["circle", "circle", "circle-open"]
    steps, examples, _ = [part.table for part in answer.parts if isinstance(part, Rows)]
    assert [row[0] for row in steps.rows] == ["4", "16", "64", "clear winner"]
    assert steps.rows[-1][-1] == "64 (96%)" and steps.rows[2][-1].endswith(" *")
    assert examples.head[0] == "B (tokens)" and len(examples.rows) == 4
    assert answer.sentences[0].startswith("Steps: batch size 64 clearly wins")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"status": "covered", "value": 0.1234}, "0.123"),
        ({"status": "cut", "value": 0.5}, "0.5 *"),
        ({"status": "stopped", "value": 0.5}, "0.5 +"),
        ({"status": "missing", "value": float("nan")}, "–"),
        (None, "–"),
    ],
)
def test_a_cell_says_what_it_is(row: dict[str, object] | None, text: str) -> None:
    assert _cell(row) == text


def test_budgets_of_the_users_choice(run: Run) -> None:
    answer = json.loads(bcrit("budgets", run.location, "--steps", 20, "--steps", 10, "--json").stdout)
    assert [row["budget"] for row in answer["steps"]] == [10, 20]
    assert answer["examples"] == answer["hours"] == []
