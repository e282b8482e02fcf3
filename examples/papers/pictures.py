"""One figure or section of a report, or of a page of `bcrit compare`, as a picture: how the pages here got theirs.

    python examples/papers/pictures.py RUN/report.html steps OUT.png

takes the figure or section of that name, or with `screen` what a window shows first; a name that is not there lists
those that are. It needs playwright
(`pip install 'bcrit[dev]'`) and the system's Chromium or Chrome, one named in BCRIT_CHROMIUM, or playwright's own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Error, Page, sync_playwright

LIMIT = 200_000  # bytes of a picture; chosen, not studied
_SCALES = (2.0, 1.5, 1.0)  # pixels of the picture for each of the page's, the first that keeps the limit
_DRAWN = "html[data-figures=drawn]"
_NAMES = """() => ({
  figures: [...document.querySelectorAll(".plot[data-figure]")].map((plot) => plot.dataset.figure),
  sections: [...document.querySelectorAll("section[id]")].map((section) => section.id),
})"""


@contextmanager
def opened(browser: Browser, path: Path, width: int, scale: float, unfolded: str = "all") -> Iterator[Page]:
    """A page from its file, with all its figures drawn.

    Args:
        browser: which.
        path: of the HTML file.
        width: of the window, in the page's pixels.
        scale: of the picture's pixels to them.
        unfolded: the section that is opened if it is folded, `all`, or nothing.

    Yields:
        The open page.
    """
    page = browser.new_page(viewport={"width": width, "height": 900}, device_scale_factor=scale)
    try:
        page.goto(f"{path.resolve().as_uri()}#{unfolded}")
        page.wait_for_selector(_DRAWN, state="attached")
        yield page
    finally:
        page.close()


def selector(page: Page, name: str) -> str:
    """Where a name is on the page; a figure comes before a section of the same name.

    Args:
        page: open.
        name: of a figure or a section.

    Raises:
        ValueError: it has neither.
    """
    names: dict[str, list[str]] = page.evaluate(_NAMES)
    if name in names["figures"]:
        return f'.plot[data-figure="{name}"]'
    if name in names["sections"]:
        return f'section[id="{name}"]'
    lists = "; ".join(f"{kind}: {', '.join(found) or 'none'}" for kind, found in names.items())
    raise ValueError(f"the page has nothing named '{name}', but {lists}; choose one of them")


def picture(browser: Browser, path: Path, name: str, width: int) -> bytes:
    """The figure or section as PNG, as sharp as the limit allows.

    Args:
        browser: which.
        path: of the page.
        name: of the figure or section.
        width: of the window.

    Raises:
        ValueError: the page has nothing of that name, or it is too large a picture at any sharpness.
    """
    sizes = []
    for scale in _SCALES:
        with opened(browser, path, width, scale, "" if name == "screen" else "all") as page:
            place = page if name == "screen" else page.locator(selector(page, name)).first
            shot = place.screenshot(animations="disabled")
        if len(shot) < LIMIT:
            return shot
        sizes.append(len(shot))
    raise ValueError(
        f"a picture of fewer than {LIMIT:,} bytes must come out, but '{name}' has {min(sizes):,}; take a figure of it, "
        "or a smaller --width"
    )


def main() -> None:
    """Take one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="report.html of a run, or what `bcrit compare --out` wrote")
    parser.add_argument("name", help="of a figure or section")
    parser.add_argument("out", type=Path, help="the PNG file")
    parser.add_argument("--width", type=int, default=900, help="of the window in pixels")
    given = parser.parse_args()
    if not given.page.is_file():
        sys.exit(f"a page must exist, but there is no file {given.page}; `bcrit report RUN` writes one")
    try:
        with sync_playwright() as playwright:
            found = os.environ.get("BCRIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=found)
            shot = picture(browser, given.page, given.name, given.width)
            browser.close()
    except (ValueError, Error) as error:
        sys.exit(str(error))
    given.out.write_bytes(shot)
    print(f"{given.out}: {len(shot) / 1000:.0f} KB")


if __name__ == "__main__":
    main()
