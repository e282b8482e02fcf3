"""The page of a comparison: complete, self-contained, and no text in it is markup."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects as go
import pytest

from bcrit.analysis.comparison import Comparison, StepsTable, compare
from bcrit.analysis.report.comparison import GENERATOR, build_comparison
from bcrit.analysis.run import Run
from tests.analysis.comparison.made_up import run, table
from tests.analysis.report.runs import EVIL


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
def compared(case: str) -> Comparison:
    return compare(CASES[case]())


@functools.cache
def text_of(case: str) -> str:
    return build_comparison(compared(case))


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
    page, comparison = Page(text_of(case)), compared(case)
    for words in (*comparison.sentences, *comparison.cautions, *comparison.assumed):
        assert words in page.words
    for one in comparison.runs:
        assert one.label in page.words and one.location in page.words


def test_the_answer_comes_first_and_what_was_assumed_last() -> None:
    text = Page(text_of("two runs")).words
    headings = [
        "Which differences are real?",
        compared("two runs").sentences[0],
        "What to keep in mind",
        "Numbers, with their intervals",
        "Measured steps to the target",
        "Against sgd",
        "Which run needs fewer steps, and where",
        "Best hyperparameters",
        "What was assumed",
    ]
    places = [text.index(words) for words in headings]
    assert places == sorted(places)


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
    assert text_of("two runs") == build_comparison(compared("two runs"))
