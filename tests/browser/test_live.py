"""The page of a run in a real browser while it goes on, is killed, and is resumed."""

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.bcrit.command import ROOT, bcrit, command
from tests.bcrit.test_bounds import MANY
from tests.processes import below, kill

PATIENCE = 240  # seconds; Ray starts in 10 to 100


@contextmanager
def started(*words: object, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command whose output goes into a file; whatever it started is gone afterwards."""
    with out.open("wb") as sink:
        process = subprocess.Popen(command(*words), cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            for each in below(process.pid):
                kill(each, signal.SIGKILL)
            process.wait()


def soon(what: Callable[[], object]) -> None:
    """Wait until it is true."""
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, what
        time.sleep(0.3)


def address(out: Path) -> str:
    soon(lambda: re.search(r"http://127\.0\.0\.1:\d+/", out.read_text()))
    found = re.search(r"http://127\.0\.0\.1:\d+/", out.read_text())
    assert found is not None
    return found[0]


def said(page: Page) -> str:
    return page.locator("#state").inner_text()


def finished(page: Page) -> int:
    found = re.search(r"([\d,]+) of about", said(page))
    return int(found[1].replace(",", "")) if found else -1


def status_of(url: str, host: str | None = None) -> int:
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:  # its process is still starting
        return 0


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_page_of_a_run_follows_it_through_its_death_and_its_resume(browser: Browser, tmp_path: Path) -> None:
    folder, path = tmp_path / "run", tmp_path / "many.yaml"
    path.write_text(MANY.replace("trials: 500", "trials: 10000"))
    messages: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda error: messages.append(str(error)))
    with started("tune", path, "--out", folder, "--price", 3600, "--live", out=tmp_path / "tune.txt") as tune:
        live = address(tmp_path / "tune.txt")
        soon(lambda: status_of(live) == 200)
        with started("watch", folder, out=tmp_path / "watch.txt"):
            url = address(tmp_path / "watch.txt")
            page.goto(url, timeout=1000 * PATIENCE)
            soon(lambda: said(page).startswith("State of the run") and "Running on" in said(page))
            first = finished(page)
            soon(lambda: finished(page) > first)  # the state is told anew
            revision = page.locator("#state").get_attribute("data-revision")
            soon(lambda: page.locator("#state").get_attribute("data-revision") != revision)  # and the page
            soon(lambda: page.locator("#steps").count() == 1)  # with figures, as the answer firms up
            assert status_of(url, host="evil.example:80") == 404 and status_of(f"{url}experiment.yaml") == 404

            for each in below(tune.pid):
                kill(each, signal.SIGKILL)
            tune.wait()
            soon(lambda: "No sign of life for" in said(page) and "bcrit resume" in said(page))
            told = bcrit("status", folder, "--json")
            assert told.returncode == 1 and json.loads(told.stdout)["state"] == "silent"

            spent = json.loads(told.stdout)["cost"]
            with started("resume", folder, "--max-cost", spent + 5, out=tmp_path / "resume.txt") as resume:
                soon(lambda: "Running on" in said(page))
                assert resume.wait(PATIENCE) == 5, (tmp_path / "resume.txt").read_text()
            soon(lambda: "Stopped" in said(page) and "at its bound, --max-cost" in said(page))
        soon(lambda: page.locator("#state").get_attribute("data-is") == "away")
    assert messages == []
    page.close()
