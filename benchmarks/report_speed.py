"""How fast a report opens in a headless browser, from its file to the last figure, against the limit of 3 seconds.

    python -m benchmarks.report_speed

Each page is opened five times and the median is printed, so other programs on the machine count; processor time is that
of the page's thread alone. Needs the browser of the tests (`python -m tests.browser.chromium` says which).
"""

import re
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser

from bcrit.analysis.records.run_folder import REPORT, RunFolder
from bcrit.analysis.report.build import finish
from tests.browser.chromium import open_browser
from tests.browser.large_run import write_large_run
from tests.browser.pages import LIMIT, Opening, opened, opening

OPENINGS = 5
RUNS = {"10 x 200": (10, 200, 40), "12 x 14,000": (12, 14_000, 5), "36 x 5,000": (36, 5_000, 5)}
"""Batch sizes x search trials: how many of each, and evaluations of a trial."""


def row(browser: Browser, name: str, studies: int, trials: int, evaluations: int) -> str:
    """Make a run and its report, open it, and say how long that took."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.at(Path(place) / "run")
        write_large_run(folder, studies, trials, evaluations)
        begun = time.perf_counter()
        finish(folder)
        made = time.perf_counter() - begun
        page = Path(folder.root) / REPORT
        size = page.stat().st_size / 1e6
        fewer = re.search(r"[\d,]+ trials [\d,]+ are drawn", page.read_text(encoding="utf-8"))
        times = [time_of(browser, page) for _ in range(OPENINGS)]
    answer, drawn, processor = (
        statistics.median(getattr(each, what) for each in times) for what in ("answer", "drawn", "processor")
    )
    cells = (name, made, size, answer, drawn, drawn / LIMIT, processor, fewer[0] if fewer else "all trials drawn")
    return "| {} | {:.1f} | {:.1f} | {:.2f} | {:.2f} | {:.2f} | {:.2f} | {} |".format(*cells)


def time_of(browser: Browser, page: Path) -> Opening:
    """Open the page once."""
    with opened(browser, page) as found:
        return opening(found)


def main() -> None:
    """Print one row a run."""
    print("| batch sizes x trials | made, s | page, MB | answer, s | all drawn, s | of 3 s | CPU, s | marks |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with open_browser() as browser:
        for name, (studies, trials, evaluations) in RUNS.items():
            print(row(browser, name, studies, trials, evaluations), flush=True)


if __name__ == "__main__":
    main()
