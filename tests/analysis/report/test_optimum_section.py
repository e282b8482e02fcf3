from __future__ import annotations

import json

from bcrit.analysis.report.answer import Plot, Rows
from bcrit.analysis.report.optimum_section import optimum_section
from tests.analysis.report import runs
from tests.analysis.report.runs import EVIL


def test_the_section_draws_every_study_with_its_set_and_the_laws() -> None:
    section = optimum_section(runs.usual())
    assert section is not None
    plots = {part.name: part.figure for part in section.parts if isinstance(part, Plot)}
    assert list(plots) == ["optimum-0", "optimum-1", "optimum-2"]
    points = plots["optimum-0"]["data"][-1]
    assert points["x"] == [8, 16, 32, 64, 128, 256]
    assert len(points["error_y"]["array"]) == 6 and min(points["error_y"]["array"]) >= 0
    names = {trace["name"].removesuffix(" (rejected)") for trace in plots["optimum-0"]["data"]}
    assert {"none", "linear", "sqrt", "saturating"} <= names
    tables = {part.heading: part.table for part in section.parts if isinstance(part, Rows)}
    assert len(tables["Laws of the optimum, and what speaks against them"].rows) == 8 + 8 + 2


def test_sentences_give_the_laws_some_studies_and_what_near_optimal_means() -> None:
    section = optimum_section(runs.usual())
    assert section is not None
    assert len(section.sentences) == 3 + 3 + 1 and section.sentences[-1].startswith("Near-optimal means")


def test_without_a_reached_study_there_is_nothing_to_say() -> None:
    assert optimum_section(runs.partly(())) is None


def test_a_space_with_lr_alone_has_one_figure() -> None:
    section = optimum_section(runs.usual({"lr": "log from 0.01 to 10"}))
    assert section is not None
    assert [part.name for part in section.parts if isinstance(part, Plot)] == ["optimum-0"]


def test_markup_from_users_is_escaped_in_figures() -> None:
    section = optimum_section(runs.hostile())
    assert section is not None
    figures = json.dumps([part.figure for part in section.parts if isinstance(part, Plot)], allow_nan=False)
    assert EVIL not in figures and "<img" not in figures
