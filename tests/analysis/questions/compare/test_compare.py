"""The comparison as a whole: runs and tables mixed, JSON without infinities, tables, a page, refusals."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects as go
import pytest

from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.questions.compare import ask, batch_size_table, estimate_text, p_text
from bcrit.analysis.questions.compare.sides import StepsTable
from bcrit.analysis.questions.compare.steps import AtBatchSize
from bcrit.analysis.report.answer import Answer, Rows, Table
from bcrit.analysis.report.template import page_of
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from tests.analysis.questions.compare.made_up import run, table
from tests.analysis.report.runs import EVIL

RUN, TABLE = run("a"), table("t", 100, 64, noise=0.03, seed=1)
SCALING = table("scaling", 1, 1e6, noise=0.03, seed=3)
GENERATOR = "bcrit compare"


def answered(sources: Sequence[Run | StepsTable], **options: Any) -> Answer:
    answer = ask(sources, **options)
    assert isinstance(answer, Answer)
    return answer


def tables(answer: Answer) -> dict[str, Table]:
    parts = [part for section in answer.sections for part in section.parts]
    return {part.heading: part.table for part in parts if isinstance(part, Rows)}


def test_runs_and_tables_stand_side_by_side() -> None:
    facts = answered([RUN, TABLE]).facts
    assert [one["label"] for one in facts["runs"]] == ["a", "t"]
    assert len(facts["ratios"]) == 3 and len(facts["at_batch_sizes"]) == 9
    assert "A table does not say which target" in facts["cautions"][0]


def test_the_json_has_everything_and_no_infinity() -> None:
    facts = answered([TABLE, SCALING, RUN]).facts
    json.dumps(facts, allow_nan=False)
    assert facts["runs"][1]["b_crit"]["high"] is None and not facts["runs"][1]["b_crit"]["identified"]
    assert facts["runs"][2]["optimizer"] == "sgd" and facts["runs"][0]["optimizer"] is None
    ratio = next(r for r in facts["ratios"] if r["quantity"] == "b_crit" and r["run"] == "scaling")
    assert ratio["low"] > 1 and ratio["high"] is None and ratio["verdict"] == "differs"


def test_nothing_comparable_is_known_as_such() -> None:
    assert not answered([RUN, run("b", target="loss < 0.5")]).yes
    assert answered([RUN, run("b", target="loss < 0.5")], across_targets=True).yes


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "two or more runs are needed, but there is 0"),
        ([RUN], "two or more runs are needed, but there is 1"),
        ([RUN, TABLE, RUN], "'runs/a-sgd-0' is given twice"),
    ],
    ids=["none", "one", "twice"],
)
def test_bad_input_is_refused(sources: list[Run | StepsTable], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(sources)


def test_tables_say_what_was_found() -> None:
    found = answered([run("a"), run("b", "momentum", s_min=80, b_crit=90, seed=1)])
    shown = tables(found)
    row = dict(
        zip(*(shown["What they were measured from"].head, shown["What they were measured from"].rows[0]), strict=True)
    )
    assert (row["run"], row["target"], row["batch sizes"]) == ("sgd", "loss < 1", "4 to 1,024")
    assert (row["reached"], row["trials"], row["lack of fit"]) == ("9 of 9", "45", "no")
    stretches = shown["By the curves, where both runs measured"].rows
    assert len(stretches) == len(found.facts["advantages"][0]["stretches"]) and stretches[-1][2] == "momentum"
    assert [row[0] for row in shown["Shortest training, on each run's own machine"].rows] == ["momentum", "sgd"]
    points = shown["By run and batch size"]
    place = points.head.index("momentum")  # a hyperparameter that a run lacks is a dash
    assert {row[0] for row in points.rows if row[place] == "–"} == {"sgd"} and len(points.rows) == 18


def test_a_ratio_has_its_verdict_and_its_reason() -> None:
    shown = tables(answered([TABLE, SCALING]))["Against t"]
    rows = {row[1]: dict(zip(shown.head, row, strict=True)) for row in shown.rows}
    assert rows["b_crit"]["ratio (interval)"].startswith("above ") and rows["b_crit"]["verdict"] == "differs"
    assert rows["s_min"]["ratio (interval)"] == "–" and "not identified" in rows["s_min"]["why"]


def test_a_number_is_written_with_its_interval_or_why_there_is_none() -> None:
    assert estimate_text(None) == "–"
    assert estimate_text(Estimate(10.0, 9.0, 11.0)) == "10 (9 to 11)"
    assert estimate_text(Estimate(10.0, 9.0, why="not identified")) == "not identified (above 9)"
    assert estimate_text(Estimate(None, why="not identified")) == "not identified"
    (row,) = batch_size_table([AtBatchSize(8, "a", "b", None, 5, Estimate(None, 2.5))]).rows
    assert row[4] == "above 2.5"  # a run that did not reach keeps the bound on its ratio
    assert [p_text(p) for p in (None, 0.0, 0.00012, 0.046, 1.0)] == ["–", "< 0.0001", "0.00012", "0.046", "1"]


def sgd() -> Run:
    return run("a", "sgd")


def missing() -> StepsTable:
    made = table("missing", 100, 64, noise=0.03, seed=5)
    made.table.loc[0, ["steps", "max_steps"]] = [float("nan"), 900.0]
    return made


def hostile(seed: int) -> Run:
    texts: dict[str, Any] = {
        "workload": {"name": EVIL, "options": {"file": EVIL}},
        "unit": EVIL,
        "target": {"metric": EVIL, "threshold": 1, "direction": "minimize"},
        "text": EVIL,
    }
    return run("a", seed=seed, **texts).but(location=f"{EVIL}{seed}")


CASES: dict[str, Callable[[], list[Run | StepsTable]]] = {
    "two runs": lambda: [sgd(), run("b", "momentum", s_min=80, b_crit=90, seed=1)],
    "a run and tables": lambda: [sgd(), missing(), table("scaling", 1, 1e6, noise=0.03, seed=3)],
    "hostile texts": lambda: [hostile(0), hostile(1), StepsTable(f"{EVIL}.csv", missing().table, EVIL)],
    "nothing comparable": lambda: [sgd(), run("b", target="loss < 0.5")],
    "two units": lambda: [sgd(), table("tokens", 100, 64, noise=0.03, unit="tokens")],
    "without a fit": lambda: [sgd(), StepsTable("short.csv", missing().table.iloc[:2])],
    "twelve tables": lambda: [table(f"t{k}", 100 + 30 * k, 64, noise=0.03, seed=k) for k in range(12)],
}
every_case = pytest.mark.parametrize("case", CASES)


@functools.cache
def compared(case: str) -> Answer:
    return answered(CASES[case]())


@functools.cache
def text_of(case: str) -> str:
    return page_of(compared(case), GENERATOR)


class Page(HTMLParser):
    """The elements of a page, its words and its figures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.scripts += [""] if tag == "script" else []

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.words += data

    @property
    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


@every_case
def test_every_figure_has_its_place_and_plotly_knows_it(case: str) -> None:
    page = Page(text_of(case))
    assert sorted(v or "" for n, v in page.attributes if n == "data-figure") == sorted(page.figures)
    for figure in page.figures.values():
        go.Figure(figure)  # raises for an unknown property or a value of the wrong type


@every_case
def test_the_page_needs_no_other_file(case: str) -> None:
    text, page = text_of(case), Page(text_of(case))
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href") or name.startswith("on")]
    assert "default-src 'none'" in text and len(text) < 6e6


@every_case
def test_a_page_of_ours_is_known_by_its_first_lines(case: str) -> None:
    assert f'<meta name="generator" content="{GENERATOR}">' in text_of(case)[:500]


@every_case
def test_every_sentence_and_run_is_in_the_page(case: str) -> None:
    page, answer = Page(text_of(case)), compared(case)
    for words in (*answer.sentences, *answer.notes, *answer.facts["assumed"]):
        assert words in page.words
    for one in answer.facts["runs"]:
        assert one["label"] in page.words and one["location"] in page.words


def test_two_runs_have_the_three_figures() -> None:
    assert set(Page(text_of("two runs")).figures) == {"curves-0", "collapse", "numbers-0"}
    assert len(Page(text_of("two units")).figures) == 5


def test_markup_from_users_is_text() -> None:
    page, usual = Page(text_of("hostile texts")), Page(text_of("two runs"))
    assert len(page.scripts) == len(usual.scripts) == 3 and page.scripts[1:] == usual.scripts[1:]
    assert EVIL in page.words
    seen: list[str] = []

    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert not [key for key in value if key.endswith("template")]
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(inner)
        if isinstance(value, str):
            seen.append(value)

    check({name: drawn for name, drawn in page.figures.items()})
    shown = [text for text in seen if "script" in text and not text.startswith(EVIL)]  # `legendgroup` is never shown
    assert shown and not [text for text in shown if re.search(r"<(?!br>)", text)]


def test_long_tables_are_folded() -> None:
    assert Page(text_of("twelve tables")).tags.count("details") == 2
    assert "With more than 6 runs the bands are left out." in Page(text_of("twelve tables")).words


def test_the_same_comparison_has_the_same_page() -> None:
    assert text_of("two runs") == page_of(answered(CASES["two runs"]()), GENERATOR)
