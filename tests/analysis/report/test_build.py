"""The page as a whole: it is complete, needs nothing else, and takes no text for markup."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects as go
import pytest

from bcrit.analysis.report.build import MOST_PANELS, answer, build_report, caveats
from bcrit.analysis.run import Run
from tests.analysis.report import runs


def complete(analysis: Run, **limits: Any) -> Run:
    return runs.with_curves(analysis).but(recommendation=runs.recommended(analysis, **limits))


CASES: dict[str, Callable[[], Run]] = {
    "everything": lambda: complete(runs.usual(), max_steps=50),
    "hostile texts": lambda: complete(runs.hostile()),
    "no batch size keeps the limits": lambda: complete(runs.usual(), max_steps=1),
    "no step times": lambda: complete(runs.usual(), timed=False),
    "no recommendation": runs.usual,
    "some studies not reached": lambda: complete(runs.partly((32, 64, 128))),
    "two studies reached": lambda: complete(runs.partly((32, 64))),
    "one study reached": lambda: runs.partly((32,)),
    "nothing reached": lambda: runs.with_curves(runs.partly(())),
    "nothing confirmed": lambda: complete(runs.partly((8, 16, 32, 64, 128, 256), confirm=False)),
    "one study": runs.widened,
    "lack of fit": lambda: complete(runs.bent()),
    "no momentum": lambda: complete(runs.usual({"lr": "log from 0.01 to 10"})),
    "fixed learning rate": lambda: complete(runs.usual({"lr": 0.1})),
    "only a schedule's parameters": lambda: complete(runs.usual({"lr": 0.1, "schedule": "choice of constant, linear"})),
    "other hyperparameters": lambda: complete(
        runs.usual({"lr": 0.1, "width": "integer from 4 to 64", "mix": "linear from 0 to 1"})
    ),
    "many studies": lambda: complete(runs.usual(batch_sizes=tuple(2**k for k in range(MOST_PANELS + 1)))),
}
every_case = pytest.mark.parametrize("case", CASES)


@functools.cache
def given(case: str) -> Run:
    return CASES[case]()


@functools.cache
def text_of(case: str) -> str:
    return build_report(given(case))


class Page(HTMLParser):
    """The elements of a page and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append("")

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
def test_every_run_has_a_page_whose_places_for_figures_are_filled(case: str) -> None:
    page = Page(text_of(case))
    places = [value for name, value in page.attributes if name == "data-figure"]
    many = len(given(case).studies) > MOST_PANELS
    drawn = (
        {"trials-1"} | {name for name in page.figures if not name.startswith("trials")} if many else set(page.figures)
    )
    assert set(places) == drawn
    assert len(places) == len(drawn)


@every_case
def test_every_figure_is_one_that_plotly_knows(case: str) -> None:
    for name, figure in Page(text_of(case)).figures.items():
        go.Figure(figure)  # raises for an unknown property or a value of the wrong type
        assert any(len(trace["x"]) for trace in figure["data"]), name


@every_case
def test_the_page_leads_nowhere(case: str) -> None:
    text = text_of(case)
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    places = [(name, value) for name, value in page.attributes if name in ("src", "href", "srcset", "action")]
    assert not [name for name, value in places if name != "href" or not f"{value}".startswith("#")]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    css = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in css
    assert "@import" not in css
    assert "default-src 'none'" in text


@every_case
def test_plotly_is_embedded_once_and_the_page_stays_small(case: str) -> None:
    text = text_of(case)
    assert text.count("* plotly.js v") == 1
    assert len(text) < 6e6


def test_markup_from_users_is_text_in_the_page() -> None:
    page = Page(text_of("hostile texts"))
    usual = Page(text_of("everything"))
    assert len(page.scripts) == len(usual.scripts) == 3
    assert set(page.tags) == set(usual.tags)
    assert page.scripts[1:] == usual.scripts[1:]
    assert runs.EVIL in page.words


def test_markup_from_users_is_text_in_the_figures() -> None:
    """Plotly reads `<b>`, `<a>` and their like in every text, and names between %{ } in templates."""
    seen = []

    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert not [key for key in value if key.endswith("template")]
            for inner in value.values():
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)
        elif isinstance(value, str):
            assert not re.search(r"<(?!br>)", value), value
            seen.append(value)

    figures = Page(text_of("hostile texts")).figures
    check(figures)
    escaped = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;"
    assert any(f"message: {escaped}" in text for text in seen)
    assert any(f"flavour: {escaped}" in text for text in seen)
    assert escaped in figures["curves"]["layout"]["yaxis"]["title"]["text"]


def test_the_json_of_the_figures_cannot_end_its_script() -> None:
    text = text_of("hostile texts")
    start = text.index('id="figures">')
    assert "<" not in text[start + len('id="figures">') : text.index("</script>", start)]


def test_the_answer_comes_first_and_says_what_was_recommended() -> None:
    text, recommendation = Page(text_of("everything")).words, given("everything").recommendation
    assert recommendation is not None
    places = [
        text.index(word) for word in (recommendation.sentences[0], "What to keep in mind", "Learning curves", "Words")
    ]
    assert places == sorted(places)


def test_without_a_fit_the_page_says_why() -> None:
    text = Page(text_of("nothing reached")).words
    assert "No batch size can be recommended: there is no fit." in text
    assert "A curve needs 2 batch sizes that reached the target, better 6, but there are 0" in text


def test_a_limit_that_cannot_be_kept_is_named_with_what_is_needed() -> None:
    text = Page(text_of("no batch size keeps the limits")).words
    assert "No batch size keeps all limits" in text
    assert "max_steps" in text


def test_the_same_run_has_the_same_page() -> None:
    assert text_of("everything") == build_report(given("everything"))


def test_importing_the_report_loads_neither_plotly_nor_jinja() -> None:
    code = "import sys, bcrit.analysis.report.build; print(*({'plotly', 'jinja2', 'ray', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_run_without_a_search_shows_none() -> None:
    usual = runs.usual()
    repeats = usual.trials[usual.trials["stage"] == "confirm"]
    page = build_report(usual.but(trials=repeats))
    assert 'id="search"' in build_report(usual) and 'id="search"' not in page
    assert "How the search trials ended" not in page


def test_the_recommendation_is_the_answer_with_its_hyperparameters() -> None:
    analysis = runs.usual()
    recommendation = runs.recommended(analysis)
    sentences = answer(analysis.but(recommendation=recommendation))
    assert sentences[:2] == recommendation.sentences
    assert sentences[2].startswith("Hyperparameters there (interpolated): lr = ")


def test_limits_that_cannot_be_kept_name_no_hyperparameters() -> None:
    analysis = runs.usual()
    recommendation = runs.recommended(analysis, max_steps=1)
    assert answer(analysis.but(recommendation=recommendation)) == recommendation.sentences


def test_a_fit_without_a_recommendation_says_so() -> None:
    assert "No recommendation was computed" in answer(runs.usual())[0]


@pytest.mark.parametrize(
    ("analysis", "sentence"),
    [
        (runs.partly((32, 64, 128)), "The target was not reached at batch size (in steps): 8 (90), 16 (50), 256 (12)."),
        (runs.partly((8, 16), confirm=False), "At batch size 8, 16 the number is that of the search's best trial"),
    ],
    ids=["not reached", "not confirmed"],
)
def test_what_the_studies_lack_is_said(analysis: Run, sentence: str) -> None:
    assert any(found.startswith(sentence) for found in caveats(analysis))


def test_seeds_that_missed_the_target_are_counted() -> None:
    analysis = runs.usual()
    studies = analysis.studies.assign(n_reached=2)
    assert any("8 (2 of 3)" in found for found in caveats(analysis.but(studies=studies)))


def test_an_optimum_at_the_end_of_a_box_that_was_not_widened_is_a_caveat() -> None:
    analysis = runs.widened()
    at_end = analysis.but(boundary=analysis.boundary.assign(widened_to=float("nan"), round=1, kind="box"))
    assert any("the best lr lies at the high end of its box" in found for found in caveats(at_end))


def test_every_caveat_is_said_once() -> None:
    analysis = runs.bent()
    found = caveats(analysis.but(recommendation=runs.recommended(analysis)))
    assert len(found) == len(set(found))
    assert analysis.fit is not None
    assert set(analysis.fit.notes) <= set(found)
