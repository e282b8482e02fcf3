"""The optimum: what is drawn, which tables there are, and what the command makes of its options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bcrit.analysis.questions.optimum import ask
from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.run import Run
from tests.analysis.report import runs
from tests.analysis.report.runs import written
from tests.bcrit.command import bcrit, refused


def asked(run: Run) -> Answer:
    answer = ask(run)
    assert isinstance(answer, Answer)
    return answer


def test_every_study_is_drawn_with_its_set_and_the_laws() -> None:
    answer = asked(runs.usual())
    plots = {part.name: part.figure for part in answer.parts if isinstance(part, Plot)}
    assert list(plots) == ["optimum-0", "optimum-1", "optimum-2"]
    points = plots["optimum-0"]["data"][-1]
    assert points["x"] == [8, 16, 32, 64, 128, 256]
    assert len(points["error_y"]["array"]) == 6 and min(points["error_y"]["array"]) >= 0
    names = {trace["name"].removesuffix(" (rejected)") for trace in plots["optimum-0"]["data"]}
    assert {"none", "linear", "sqrt", "saturating"} <= names
    laws, lead, others = (part.table for part in answer.parts if isinstance(part, Rows))
    assert (len(laws.rows), len(lead.rows), len(others.rows)) == (8 + 8 + 2, 6, 2 * 6)
    assert len(answer.sentences) == 3 + 3 + 1 and answer.sentences[-1].startswith("Near-optimal means")


def test_a_space_with_lr_alone_has_one_figure_and_one_table_of_its_sets() -> None:
    parts = asked(runs.usual({"lr": "log from 0.01 to 10"})).parts
    assert [
        part.heading if isinstance(part, Rows) else part.name for part in parts if isinstance(part, Plot | Rows)
    ] == [
        "optimum-0",
        "Laws of the optimum, and what speaks against them",
        "Near-optimal values of learning rate",
    ]


@pytest.mark.parametrize("question", ["optimum", "sensitivity"])
def test_a_run_that_reached_nothing_says_so_exits_with_1_and_has_no_section(tmp_path: Path, question: str) -> None:
    done = bcrit(question, written(tmp_path / "run", reached=False))
    assert done.returncode == 1 and "No study reached the target" in done.stdout
    assert not asked(runs.partly(())).on_page


def test_batch_sizes_that_were_not_measured_are_predicted(tmp_path: Path) -> None:
    run = written(tmp_path / "run", reached=True, space={**runs.PLANE, "width": "integer from 4 to 64"}, missed=8)
    done = bcrit("optimum", run, "--at", 48, "--at", 4096)
    assert "At batch size 4,096" in done.stdout and "extrapolated" in done.stdout
    found = json.loads(bcrit("optimum", run, "--at", 64, "--at", 100, "--json").stdout)
    assert [point["batch_size"] for point in found["at"]] == [64, 100]
    for point in found["at"]:  # widths stay whole where another study did not reach
        assert all(isinstance(point[part]["width"], int) for part in ("values", "low", "high"))


def test_wrong_options_are_one_message(tmp_path: Path) -> None:
    message = refused(bcrit("optimum", written(tmp_path / "run", reached=True), "--at", -3, "--within", 0))
    assert "2 problems" in message and "'--at' must be a positive batch size" in message
