"""A large run is drawn with fewer marks, says so, and its report opens in the time that a small one takes."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser

from bcrit.analysis.finish import finish
from bcrit.analysis.questions.search import MOST_MARKS
from bcrit.analysis.records.run_folder import REPORT, RunFolder
from tests.browser.large_run import write_large_run
from tests.browser.pages import opened
from tests.browser.speed import LIMIT, opening


def test_a_large_run_is_drawn_with_fewer_marks_and_the_page_says_so(browser: Browser, tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    write_large_run(folder, studies=12, trials=1500, evaluations=2)
    finish(folder)
    assert (tmp_path / REPORT).stat().st_size < 8e6
    with opened(browser, tmp_path / REPORT) as found:
        assert "Of 18,000 trials 5,9" in found.page.locator("#search").inner_text()
        assert 0.9 * MOST_MARKS < found.page.locator(".panels .points path").count() < 1.1 * MOST_MARKS
        assert found.messages == []
        assert opening(found).processor < 1.5 * LIMIT
