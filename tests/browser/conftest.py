"""The browser that the tests of the report share."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import NoBrowserError, open_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless browser; where there is none, the tests that need it are skipped, or fail with REQUIRE_ALL_DEPS=1."""
    try:
        with open_browser() as found:
            yield found
    except NoBrowserError as missing:
        if os.environ.get("REQUIRE_ALL_DEPS") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
