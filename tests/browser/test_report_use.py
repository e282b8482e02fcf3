"""What a reader does with the report: points at it, chooses, jumps, prints it, opens it on a phone, has many trials."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
from playwright.sync_api import Browser, expect

from bcrit.analysis.questions.studies import MOST_MARKS
from bcrit.analysis.records.run_folder import REPORT, RunFolder
from bcrit.analysis.report import Answer, Rows, Table, build
from bcrit.analysis.report.build import build_report, finish
from bcrit.analysis.run import Run
from tests.analysis.report import runs
from tests.browser.large_run import write_large_run
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
ROOT = Path(__file__).parents[2]
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
    counts = drawn_in(wide.page.screenshot(path=tmp_path / "report.png"), browser)
    assert 0.02 < 1 - counts[WHITE] / sum(counts.values()) < 0.5
    curve = drawn_in(wide.page.locator("[data-figure=steps]").screenshot(), browser)
    assert curve[ACCENT] > 500  # a line of 2 pixels across the figure
    assert len(curve) > 50


def test_pointing_at_a_mark_tells_its_numbers(wide: Opened) -> None:
    mark = wide.page.locator("[data-figure=steps] .points path").first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    expect(wide.page.locator("[data-figure=steps] .hovertext")).to_contain_text(re.compile("batch size: 8.*steps:"))


def test_a_link_of_the_contents_leads_to_its_section_by_keyboard(wide: Opened) -> None:
    wide.page.locator("#steps-curves details").evaluate("(folded) => { folded.open = false; }")
    link = wide.page.locator(".contents a", has_text="Learning curves")
    link.focus()
    wide.page.keyboard.press("Enter")
    heading = wide.page.locator("#steps-curves h2")
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


PAPER = 688  # pixels between the margins of A4
WIDEST = """() => Math.max(...[...document.querySelectorAll(".plot .main-svg, table")]
  .map((part) => part.getBoundingClientRect().right - document.querySelector("main").getBoundingClientRect().left))"""


def test_on_paper_nothing_is_cut_and_figures_are_as_wide_as_before_after_it(browser: Browser, tmp_path: Path) -> None:
    path, run = tmp_path / REPORT, RunFolder.at(ROOT / "tests/golden/runs/full")
    path.write_text(build_report(Run(run)), encoding="utf-8")
    with opened(browser, path, width=1400) as found:
        page, before = found.page, found.page.evaluate(WIDEST)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert page.evaluate(WIDEST) <= PAPER < before
        page.emulate_media(media="screen")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert eventually(page, WIDEST, before) == before


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
        with page.expect_download() as saved:
            page.locator(".single button.data").click()
        assert "b4096-search" in saved.value.path().read_text()
        assert page.locator("#chosen .points path").count() > 0
        assert found.messages == []


def test_the_closing_section_ends_the_page(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Rows("Laws", Table(("law", "verdict"), (("linear", "rejected"),)))
    topics = (
        Answer("law", "How lr moves", ("It grows.",), (table,)),
        Answer("recommend.decision", "In short", ("Train at 64.",), ()),
    )
    usual = build.sections(runs.usual())[:1]
    monkeypatch.setattr(build, "sections", lambda *_, **__: (*usual, *topics))
    path = tmp_path / "report.html"
    path.write_text(build_report(runs.usual()), encoding="utf-8")
    with opened(browser, path) as found:
        assert found.page.locator("main").inner_text().split()[-5:] == ["In", "short", "Train", "at", "64."]
        links = found.page.locator(".contents a").all_inner_texts()
        assert links == ["How lr moves", "In short", "Open all"]


def test_a_large_run_is_drawn_with_fewer_marks_and_the_page_says_so(browser: Browser, tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    write_large_run(folder, studies=7, trials=1000, evaluations=2)
    finish(folder)
    assert (tmp_path / REPORT).stat().st_size < 8e6
    with opened(browser, tmp_path / REPORT) as found:
        assert "Of 7,000 trials 5,9" in found.page.locator("#studies-search").inner_text()
        assert 0.9 * MOST_MARKS < found.page.locator(".panels .points path").count() < 1.1 * MOST_MARKS
        assert found.messages == []


FITS = """(inside) => [...document.querySelectorAll(inside)].map((part) => {
  const box = part.getBoundingClientRect();
  return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight;
})"""


def test_the_first_screen_has_the_decision_its_cost_how_sure_it_is_and_the_curve(browser: Browser, usual: Path) -> None:
    with opened(browser, usual, width=1400, hash="") as found:
        parts = ".answer .first, .taken div, .copies button, .sure, [data-figure=steps] .xtitle, #steps .zone"
        assert found.page.evaluate(FITS, parts) == [True] * (1 + 4 + 3 + 1 + 1 + 3)
        words = found.page.locator("[data-figure=steps] .annotation-text").all_text_contents()
        assert [word for word in words if "=" not in word] == ["too small", "pays", "wasted"]  # each has room for it
    with opened(browser, usual, width=390, hash="") as found:
        phone = ".answer .first, .taken div, .sure, [data-figure=steps] .xtitle"
        assert found.page.evaluate(FITS, phone) == [True] * (1 + 4 + 1 + 1)


def test_topics_for_experts_are_folded_until_they_are_wanted(browser: Browser, usual: Path) -> None:
    with opened(browser, usual, hash="fit") as found:
        drawn = found.page.locator("[data-figure=residuals] .main-svg").first
        expect(drawn).to_be_visible()  # a link to a topic opens it
        assert not found.page.locator("[data-figure=curves]").is_visible()
        found.page.locator("#steps-curves summary").click()
        expect(found.page.locator("[data-figure=curves] .main-svg").first).to_be_visible()
        assert found.messages == []


def test_settings_are_copied_and_a_figure_is_saved_as_a_table(browser: Browser, usual: Path) -> None:
    with opened(browser, usual, hash="") as found:
        found.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        for language, begins in (("YAML", "batch_size: 64\nlr: "), ("Python", "{'batch_size': 64, 'lr': ")):
            found.page.get_by_role("button", name=language).click()
            expect(found.page.get_by_role("button", name="copied").first).to_be_visible()
            assert found.page.evaluate("navigator.clipboard.readText()").startswith(begins)
        with found.page.expect_download() as saved:
            found.page.locator("#steps button.data").click()
        table = pd.read_csv(saved.value.path())
        assert saved.value.suggested_filename == "steps.csv"
        assert list(table.columns) == ["series", "x", "y", "low", "high", "words"]
        studies = table[table["series"].str.startswith("confirmed", na=False)]
        assert list(studies["x"]) == [8, 16, 32, 64, 128, 256]
        assert (studies["low"] < studies["y"]).all() and studies["words"].str.contains("lr: ").all()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_on_their_ground(wide: Opened, scheme: Literal["light", "dark"]) -> None:
    """WCAG 2.2 wants a contrast of 4.5; text lies on the nearest ground that is not transparent."""
    contrast = """() => {
      const parts = (color) => color.match(/[\\d.]+/g).map(Number);
      const light = (color) => {
        const linear = (c) => (c <= 0.04 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = parts(color).map((c) => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ground = (node) => {
        const color = getComputedStyle(node).backgroundColor;
        return parts(color)[3] === 0 && node.parentElement ? ground(node.parentElement) : color;
      };
      const found = [...document.querySelectorAll("main *")].filter((node) => !node.closest(".plot, svg") &&
        [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
      return Math.min(...found.map((node) => {
        const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => x - y);
        return (b + 0.05) / (a + 0.05);
      }));
    }"""
    wide.page.emulate_media(color_scheme=scheme)
    assert wide.page.evaluate(contrast) >= 4.5
    ground = wide.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_table_that_goes_on_beyond_its_edge_says_so(browser: Browser, usual: Path) -> None:
    with opened(browser, usual, width=400) as found:
        cut = found.page.locator(".scroll").filter(has_text="sample efficiency").first
        cut.scroll_into_view_if_needed()
        assert cut.evaluate("(table) => table.scrollWidth > table.clientWidth")
        before = drawn_in(cut.screenshot(), browser)
        cut.evaluate("(table) => { table.scrollLeft = table.scrollWidth; table.scrollTop = table.scrollHeight; }")
        after = drawn_in(cut.screenshot(), browser)
        assert before != after and set(before) - {WHITE}
