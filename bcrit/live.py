"""`bcrit status` and `bcrit watch`: a run seen from another terminal or in a browser, also after its driver died."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcrit.ask import AS_JSON, RUN
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import Screen, print_json, say, show, wide_console
from bcrit.tuner.workloads.processes import die_with_parent

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.tuner.session import Watch

_LOOK_SECONDS = 2.0  # between two looks at a run
_LINE_SECONDS = 10.0  # the same where they go into a file
# Between two pages: one takes a second or two of a processor that may be training. Chosen.
_PAGE_SECONDS = 10.0
_HERE = "127.0.0.1"


def status(
    run: RUN,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every few seconds, until the run is complete or Ctrl-C.")
    ] = False,
    price: Annotated[
        float | None,
        typer.Option(help="What a device-hour costs, in your currency. Default: as `bcrit tune` was told."),
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Say how far a run is: what runs where, what was found and spent so far, how long the rest will take.

    From any machine that reaches the run folder, while the run goes on and after its driver died. The exit code is 0
    where it is running or complete, and 1 where `bcrit resume` is needed. With --watch and --json every look is one
    object on a line of its own.
    """
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.run import Run

    folder, console = RunFolder.at(run), wide_console()
    while True:
        answer = Run(folder).ask("status", price=price)
        if as_json and watch:
            print(json.dumps(answer.facts, allow_nan=False), flush=True)
        elif as_json:
            print_json(answer.facts)
        elif watch and not console.is_terminal:
            say(console, f"[{time.strftime('%H:%M:%S')}] {' '.join(answer.sentences)}")
        else:
            if watch:
                console.clear()
            show(answer, console)
        if not watch or answer.facts["state"] == "complete":
            raise typer.Exit(0 if answer.yes else 1)
        time.sleep(_LOOK_SECONDS if console.is_terminal else _LINE_SECONDS)


def watch(
    run: RUN,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine. Default: one that is free.")] = 0,
    beside: Annotated[bool, typer.Option("--beside", hidden=True)] = False,
) -> None:
    """Serve the report of a run on this machine, for a browser; it refreshes itself while the run goes on.

    It can be started during and after the run, and on another machine than the run's; it only reads, and goes on
    when the run is killed and resumed. It is served to this machine alone: from elsewhere, tunnel to it as in
    `ssh -L 8080:127.0.0.1:PORT HOST`. Ctrl-C ends it.
    """
    from http.server import ThreadingHTTPServer

    from bcrit.analysis.records.run_folder import RunFolder

    if beside:  # with the command that started it
        die_with_parent(signal.SIGTERM)
    folder = RunFolder.at(run)
    folder.read_experiment()
    try:
        server = ThreadingHTTPServer((_HERE, port), _handler(_Pages(folder)))
    except OSError as error:
        raise InputError("--port", [f"port {port} cannot be used: {error.strerror}; leave it out"]) from error
    with server:
        if not beside:
            say(wide_console(), f"{run} is served at {_address(server.server_port)}; Ctrl-C ends that")
            sys.stdout.flush()
        server.serve_forever()


def _address(port: int) -> str:
    return f"http://{_HERE}:{port}/"


class _Pages:
    """The page of a run and the state at its top, made anew when they are asked for and have changed."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._state: dict[str, Any] = {}
        self._page, self._revision = "", ""
        self._looked = self._built = -float("inf")

    def state(self) -> dict[str, Any]:
        """What the page asks for all the time: the block at its top, and which page would be served now."""
        from bcrit.analysis.report.build import build_report, render, state_of
        from bcrit.analysis.run import Run

        with self._lock:
            now = time.monotonic()
            if now - self._looked > _LOOK_SECONDS:
                run = Run(self._folder)
                revision = f"{len(run.every_trial)} {run.progress is None}"
                if revision != self._revision and now - self._built > _PAGE_SECONDS:
                    self._page, self._revision = build_report(run, live=revision), revision
                    self._built = time.monotonic()
                block = render("state.html", state=state_of(run), figures={})
                self._state = {"html": block, "state": run.ask("status").facts["state"]}
                self._looked = time.monotonic()
            return {**self._state, "revision": self._revision}

    def page(self) -> str:
        """The report of the run as it is."""
        self.state()
        return self._page


def _handler(pages: _Pages) -> type[BaseHTTPRequestHandler]:
    from http.server import BaseHTTPRequestHandler

    class Handler(BaseHTTPRequestHandler):
        """Answers GET of two addresses, and nothing that a page of elsewhere could ask for by another host's name."""

        def do_GET(self) -> None:  # noqa: N802
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in (_HERE, "localhost") or self.path not in ("/", "/state.json"):
                self.send_error(404)
                return
            try:
                content, kind = (pages.page(), "text/html") if self.path == "/" else (None, "application/json")
                content = json.dumps(pages.state()) if content is None else content
            except (InputError, OSError) as error:  # the store is away, say: the page asks again
                self.send_error(503, explain=str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing is printed for every request."""

    return Handler


@contextmanager
def served(folder: RunFolder, watch: Watch, wanted: bool) -> Iterator[Watch]:
    """The same watch; where it is `wanted`, a process of its own serves the page as soon as the run has begun."""
    process: subprocess.Popen[bytes] | None = None

    def watched(scheduler: Any) -> None:
        nonlocal process
        if wanted and scheduler is not None and process is None:
            with socket.create_server((_HERE, 0)) as free:
                port = free.getsockname()[1]
            words = [sys.executable, "-m", "bcrit", "watch", str(folder), "--port", str(port), "--beside"]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603
            say(Screen(stderr=True), f"live: {_address(port)}")
        watch(scheduler)

    try:
        yield watched
    finally:
        if process is not None:
            process.terminate()
            process.wait()
