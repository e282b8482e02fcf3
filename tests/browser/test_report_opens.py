"""The report in a real browser: every figure is drawn, nothing is logged, nothing is asked for, nothing sticks out."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.pages import LOOK, PAGES, Opened, eventually, opened, opening

# The largest is only more of what another one has, and `test_report_use.py` opens a larger one.
LARGEST = "10 x 200 trials"
EACH = [pytest.param(name, marks=[pytest.mark.long] if name == LARGEST else []) for name in PAGES]


@pytest.fixture(scope="module", params=EACH)
def report(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    """Each of the pages, opened once."""
    with opened(browser, PAGES[request.param](tmp_path_factory.mktemp("page"))) as found:
        yield found


def there(trace: dict[str, Any]) -> list[bool]:
    return [x is not None and y is not None for x, y in zip(trace["x"], trace["y"], strict=True)]


def joined(trace: dict[str, Any]) -> bool:
    """Whether a line has anything to draw: two points beside each other, without a gap between them."""
    points = there(trace)
    return any(a and b for a, b in zip(points, points[1:], strict=False))


def test_every_figure_is_drawn_with_all_its_marks(report: Opened) -> None:
    figures, drawn = report.figures(), report.page.evaluate(LOOK)
    assert len(drawn) >= 2
    for place in drawn:
        # A trace that waits in the legend to be asked for is not drawn.
        traces = [t for t in figures[place["name"]]["data"] if t.get("visible", True) is True]
        scatter = [trace for trace in traces if trace["type"] == "scatter"]
        points = sum(sum(there(trace)) for trace in scatter if "markers" in trace["mode"])
        lines = sum(joined(trace) for trace in scatter if "lines" in trace["mode"])
        assert (place["points"], place["lines"]) == (points, lines), place["name"]
        assert bool(place["others"]) == (len(scatter) < len(traces)), place["name"]


def test_nothing_is_logged_and_nothing_goes_wrong(report: Opened) -> None:
    assert report.messages == []
    assert report.dialogs == []


def test_the_page_asks_for_nothing_but_itself(report: Opened) -> None:
    assert [request.split("#")[0] for request in report.requests] == [report.path.as_uri()]


def test_no_text_of_a_figure_is_cut_off(report: Opened) -> None:
    assert {place["name"]: place["outside"] for place in report.page.evaluate(LOOK) if place["outside"]} == {}


def test_the_page_is_no_wider_than_its_window(report: Opened) -> None:
    for width in (1200, 800, 400):
        report.page.set_viewport_size({"width": width, "height": 900})
        sizes = "[document.documentElement.scrollWidth, innerWidth]"
        assert eventually(report.page, sizes, [width, width]) == [width, width]
    report.page.set_viewport_size({"width": 1200, "height": 900})


def test_headings_tables_and_figures_can_be_read_aloud(report: Opened) -> None:
    page = report.page
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title()
    assert page.locator("h1").count() == 1
    assert all(place["label"] for place in page.evaluate(LOOK))
    assert page.locator(".plot:not([role=img])").count() == 0
    assert page.locator("table").count() >= 2
    assert page.locator("table:not(:has(thead th[scope=col]))").count() == 0


def test_the_contents_name_every_section_in_its_order(report: Opened) -> None:
    links = report.page.evaluate(
        "[...document.querySelectorAll('.contents a:not([href=\"#all\"])')].map((a) => [a.hash, a.textContent])"
    )
    sections = report.page.evaluate(
        "[...document.querySelectorAll('.contents ~ section[id], .contents ~ .closing section')]"
        ".map((section) => ['#' + section.id, section.querySelector('h2').textContent])"
    )
    assert links == sections
    assert len(links) >= 4


def test_the_answer_can_be_read_before_the_page_has_loaded(report: Opened) -> None:
    times = opening(report)
    assert times.answer < times.loaded
