"""The pages that the tests open, what is recorded while one is open, and how long it took to open."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Dialog, Page

from bcrit.analysis.records.run_folder import REPORT, RunFolder
from bcrit.analysis.report.build import build_report, finish
from tests.analysis.report import runs
from tests.browser.large_run import write_large_run

ALL_DRAWN = "html[data-figures=drawn]"
LOOK = """() => [...document.querySelectorAll(".plot")].map((div) => {
  const frame = div.getBoundingClientRect();
  const seen = (mark) => { const box = mark.getBoundingClientRect(); return box.width + box.height > 0; };
  const all = (what) => [...div.querySelectorAll(what)].filter(seen);
  const outside = all(".main-svg text").filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
  });
  return {
    name: div.dataset.figure,
    label: document.getElementById(div.getAttribute("aria-labelledby"))?.textContent || div.getAttribute("aria-label"),
    points: all(".scatterlayer .points path").length,
    lines: all(".scatterlayer .js-line").length,
    others: all(".cartesianlayer .trace:not(.scatter), .cartesianlayer .hm, .cartesianlayer .contour").length,
    outside: outside.map((text) => text.textContent),
  };
})"""
"""What plotly made of each figure: its marks, its name to be read aloud, and those of its texts that are cut off."""


@dataclass(frozen=True)
class Opened:
    """A page in a browser and what it did there."""

    page: Page  # with all figures drawn
    path: Path
    session: CDPSession  # a line to the browser, which counts the processor time of the page's thread
    messages: list[str] = field(default_factory=list)  # what it logged and what went wrong in it
    requests: list[str] = field(default_factory=list)  # every address it asked for
    dialogs: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """The figures that the page holds, by name."""
        found: dict[str, Any] = self.page.evaluate("figures")
        return found


@contextmanager
def opened(
    browser: Browser, path: Path, width: int = 1200, start: str = "", hash: str = "all", **more: Any
) -> Iterator[Opened]:
    """Open a page as a reader does, from its file, and wait until all figures are drawn; by default nothing is folded.

    `start` is a script that runs before those of the page; then nothing is waited for.
    """
    page = browser.new_page(viewport={"width": width, "height": 900}, **more)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    found = Opened(page, path, session)

    def refuse(dialog: Dialog) -> None:
        found.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("console", lambda message: found.messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.messages.append(f"error: {error}"))
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("dialog", refuse)
    if start:
        page.add_init_script(start)
    try:
        page.goto(f"{path.as_uri()}#{hash}")
        if not start:
            page.wait_for_selector(ALL_DRAWN, state="attached")
        yield found
    finally:
        page.close()


LIMIT = 3.0
"""Seconds within which the report of 10 batch sizes with 200 trials each is to be open."""

_TIMES = """() => [
  performance.getEntriesByName("first-contentful-paint")[0].startTime / 1000,
  performance.getEntriesByType("navigation")[0].loadEventEnd / 1000,
]"""


@dataclass(frozen=True)
class Opening:
    """One opening of a page, in seconds since the browser was sent to it."""

    answer: float  # until the answer, at the top, could be read
    loaded: float  # until the page had loaded, with most of its figures
    drawn: float  # until the last figure was drawn
    processor: float  # processor time of the page's thread until then, which other programs hardly change


def opening(found: Opened) -> Opening:
    """The times of a page that is open and drawn."""
    drawn = found.page.evaluate("performance.now() / 1000")
    metrics = {metric["name"]: metric["value"] for metric in found.session.send("Performance.getMetrics")["metrics"]}
    answer, loaded = found.page.evaluate(_TIMES)
    return Opening(answer, loaded, drawn, metrics["TaskDuration"])


def eventually(page: Page, expression: str, wanted: Any) -> Any:
    """The expression's value as soon as it is the wanted one, else what it is after ten seconds.

    Playwright's own waiting evaluates text in the page, which the page's security policy forbids.
    """
    for _ in range(100):
        if page.evaluate(expression) == wanted:
            break
        page.wait_for_timeout(100)
    return page.evaluate(expression)


def _made(**size: Any) -> Callable[[Path], Path]:
    """Ten batch sizes with 200 trials each, or fewer of them, tuned here or elsewhere."""

    def page(folder: Path) -> Path:
        run = RunFolder.at(folder)
        write_large_run(run, **size)
        finish(run)
        return folder / REPORT

    return page


def _built(make: Callable[[], str]) -> Callable[[Path], Path]:
    def page(folder: Path) -> Path:
        (folder / REPORT).write_text(make(), encoding="utf-8")
        return folder / REPORT

    return page


def _whole(analysis: Any, **limits: Any) -> str:
    return build_report(runs.with_curves(analysis).but(recommendation=runs.recommended(analysis, **limits)))


PAGES: dict[str, Callable[[Path], Path]] = {
    "every outcome": _built(lambda: _whole(runs.usual(), max_steps=50)),
    "hostile texts": _built(lambda: _whole(runs.hostile())),
    "no fit": _built(lambda: build_report(runs.with_curves(runs.partly(())))),
    "many studies": _built(lambda: _whole(runs.usual(batch_sizes=tuple(2**k for k in range(14))))),
    "10 x 200 trials": _made(),
    "4 x 200 trials, imported": _made(studies=4, imported=True),
}
"""How to make each page in an empty folder."""
