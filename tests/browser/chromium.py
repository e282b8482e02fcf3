"""A headless browser for the tests of the report: the system's Chromium or Chrome, else playwright's own.

    python -m tests.browser.chromium

says which one it is; the exit code is 1 where there is none.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserType, Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REMEDY = (
    "install one (`apt-get install chromium`, or `python -m playwright install --with-deps --only-shell chromium`), "
    "or name one in BCRIT_CHROMIUM"
)


class NoBrowserError(Exception):
    """No browser could be started; the message says why and what helps."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start the browser, which ends with the block; where there is none, that is a NoBrowserError."""
    with sync_playwright() as playwright:
        browser = _launch(playwright.chromium)
        try:
            yield browser
        finally:
            browser.close()


def _launch(chromium: BrowserType) -> Browser:
    found = os.environ.get("BCRIT_CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    try:
        return chromium.launch(executable_path=found)
    except Error as error:
        none = f"none of {', '.join(NAMES)} is installed"
        why = f"{found} does not start: {error.message.splitlines()[0]}" if found else none
        raise NoBrowserError(f"no browser: {why}; {REMEDY}") from error


def main() -> None:
    """Say which browser the tests will use."""
    try:
        with open_browser() as browser:
            print(f"the tests of the report use {browser.browser_type.name} {browser.version}")
    except NoBrowserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
