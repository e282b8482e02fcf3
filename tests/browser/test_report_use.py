"""What a reader does with the report: points at it, chooses, jumps, prints it, opens it on a phone, has many trials."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from bcrit.analysis.report import build
from bcrit.analysis.report.answer import Answer, Rows, Table
from bcrit.analysis.report.build import build_report
from tests.analysis.report import runs
from tests.browser.pages import ALL_DRAWN, LOOK, PAGES, Opened, eventually, opened

# How many pixels of a PNG have each colour, as "r,g,b".
COLORS = """async (png) => {
  const bitmap = await createImageBitmap(await (await fetch("data:image/png;base64," + png)).blob());
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const {data} = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const counts = {};
  for (let at = 0; at < data.length; at += 4) {
    const color = data[at] + "," + data[at + 1] + "," + data[at + 2];
    counts[color] = (counts[color] || 0) + 1;
  }
  return counts;
}"""
ACCENT, WHITE = "0,114,178", "255,255,255"

# The clock runs so fast that the page pauses after its first figure, and the pause never ends.
SLOW = """
let clock = 0;
performance.now = () => (clock += 1e6);
window.setTimeout = () => 0;
window.IntersectionObserver = class { observe() {} };
"""
DRAWN = "document.querySelectorAll('.plot .main-svg:first-child').length"


def drawn_in(png: bytes, browser: Browser) -> dict[str, int]:
    page = browser.new_page()
    try:
        found: dict[str, int] = page.evaluate(COLORS, base64.b64encode(png).decode())
        return found
    finally:
        page.close()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return PAGES["every outcome"](tmp_path_factory.mktemp("usual"))


@pytest.fixture(scope="module")
def wide(browser: Browser, usual: Path) -> Iterator[Opened]:
    with opened(browser, usual) as found:
        yield found


def test_a_screenshot_shows_the_page_and_its_curve(browser: Browser, wide: Opened, tmp_path: Path) -> None:
    whole = wide.page.screenshot(path=tmp_path / "report.png", full_page=True)
    counts = drawn_in(whole, browser)
    assert 0.02 < 1 - counts[WHITE] / sum(counts.values()) < 0.5
    curve = drawn_in(wide.page.locator("[data-figure=steps]").screenshot(), browser)
    assert curve[ACCENT] > 1000  # a line of 2 pixels across the figure
    assert len(curve) > 50


def test_pointing_at_a_mark_tells_its_numbers(wide: Opened) -> None:
    mark = wide.page.locator("[data-figure=steps] .points path").first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    expect(wide.page.locator("[data-figure=steps] .hovertext")).to_contain_text(re.compile("batch size: 8.*steps:"))


def test_a_link_of_the_contents_leads_to_its_section_by_keyboard(wide: Opened) -> None:
    link = wide.page.locator(".contents a", has_text="Learning curves")
    link.focus()
    wide.page.keyboard.press("Enter")
    heading = wide.page.locator("#curves h2")
    expect(heading).to_be_in_viewport()
    place, contents = heading.bounding_box(), wide.page.locator(".contents").bounding_box()
    assert place and contents
    assert place["y"] >= contents["y"] + contents["height"]  # not behind the contents, which stay in view


def test_the_page_can_be_printed(wide: Opened) -> None:
    wide.page.emulate_media(media="print")
    assert not wide.page.locator(".contents").is_visible()
    assert wide.page.locator(".plot .main-svg").first.is_visible()
    assert wide.page.pdf().startswith(b"%PDF-")
    wide.page.emulate_media(media="screen")


def test_figures_that_wait_are_drawn_before_printing(browser: Browser, usual: Path) -> None:
    with opened(browser, usual, start=SLOW) as found:
        assert found.page.evaluate(DRAWN) == 1
        found.page.pdf()
        assert found.page.evaluate(DRAWN) == found.page.locator(".plot").count() > 1
        assert found.messages == []


def test_figures_near_the_screen_are_drawn_before_those_below(browser: Browser, usual: Path) -> None:
    still = SLOW.replace("window.IntersectionObserver = class { observe() {} };", "")
    with opened(browser, usual, start=still) as found:
        found.page.locator("#fit h2").scroll_into_view_if_needed()
        svg = found.page.locator("[data-figure=residuals] .main-svg").first
        expect(svg).to_be_visible()
        assert not found.page.locator(ALL_DRAWN).count()


def test_on_a_phone_nothing_of_a_figure_is_cut_off(browser: Browser, usual: Path) -> None:
    with opened(browser, usual, width=400) as found:
        assert eventually(found.page, "document.documentElement.scrollWidth", 400) == 400
        assert [place["outside"] for place in found.page.evaluate(LOOK) if place["outside"]] == []


def test_without_scripts_the_words_and_tables_are_there(browser: Browser, usual: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    try:
        page.goto(usual.as_uri())
        expect(page.locator("#answer")).to_contain_text("Train at batch size")
        assert "The figures need JavaScript" in page.locator("main").inner_text()
    finally:
        page.close()


def test_with_many_studies_a_list_chooses_the_one_that_is_shown(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, PAGES["many studies"](tmp_path)) as found:
        page = found.page
        shown = "document.getElementById('chosen').data.find((trace) => trace.hovertext).hovertext[0]"
        assert "trial: b1-search" in page.evaluate(shown)
        page.locator("#choose").select_option(label="4,096")
        assert "trial: b4096-search" in page.evaluate(shown)
        assert page.locator("#chosen .points path").count() > 0
        assert found.messages == []


def test_the_closing_section_ends_the_page(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Rows("Laws", Table(("law", "verdict"), (("linear", "rejected"),)))
    topics = (
        Answer("law", "How lr moves", ("It grows.",), (table,)),
        Answer("recommend.decision", "In short", ("Train at 64.",), ()),
    )
    monkeypatch.setattr(build, "sections", lambda *_, **__: topics)
    path = tmp_path / "report.html"
    path.write_text(build_report(runs.usual()), encoding="utf-8")
    with opened(browser, path) as found:
        assert found.page.locator("main").inner_text().split()[-5:] == ["In", "short", "Train", "at", "64."]
        links = found.page.locator(".contents a").all_inner_texts()
        assert links == ["How lr moves", "In short"]
