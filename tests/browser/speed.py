"""How long a page took to open."""

from __future__ import annotations

from dataclasses import dataclass

from tests.browser.pages import Opened

LIMIT = 3.0
"""Seconds within which the report of 10 batch sizes with 200 trials each is to be open."""

_TIMES = """() => [
  performance.getEntriesByName("first-contentful-paint")[0].startTime / 1000,
  performance.getEntriesByType("navigation")[0].loadEventEnd / 1000,
]"""


@dataclass(frozen=True)
class Opening:
    """One opening of a page, in seconds since the browser was sent to it.

    Attributes:
        answer: until the answer, at the top, could be read.
        loaded: until the page had loaded, with most of its figures.
        drawn: until the last figure was drawn.
        processor: processor time of the page's thread until then, which other programs hardly change.
    """

    answer: float
    loaded: float
    drawn: float
    processor: float


def opening(found: Opened) -> Opening:
    """The times of a page that is open and drawn.

    Args:
        found: as `opened` gave it.

    Returns:
        The times.
    """
    drawn = found.page.evaluate("performance.now() / 1000")
    metrics = {metric["name"]: metric["value"] for metric in found.session.send("Performance.getMetrics")["metrics"]}
    answer, loaded = found.page.evaluate(_TIMES)
    return Opening(answer, loaded, drawn, metrics["TaskDuration"])
