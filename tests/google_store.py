"""A Google Cloud Storage on this machine, as far as a run folder uses it, for Arrow's own client.

Its answers are those of two emulators (fake-gcs-server and gcp-storage-emulator), against which the same calls were
tried. It is a process of its own: where Arrow closes a file of this store it holds Python's lock and waits.
"""

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from bcrit.analysis.records.run_folder import RunFolder

_PATH = re.compile(r"^(?:/upload)?/storage/v1/b/bucket/o(?:/(.+))?$")
_Answer = tuple[int, dict[str, str], bytes]  # code, headers, content


@dataclass(frozen=True)
class GoogleStore:
    """A server with one bucket, which can be away for a while without forgetting anything."""

    server: subprocess.Popen[str]
    port: int

    def folder(self, name: str) -> RunFolder:
        options = f"endpoint_override=127.0.0.1:{self.port}&scheme=http&retry_limit_seconds=1"
        return RunFolder.at(f"gs://anonymous@bucket/{name}?{options}")

    def away(self) -> None:
        self._tell("away")

    def back(self) -> None:
        self._tell("back")

    def _tell(self, what: str) -> None:
        assert self.server.stdin is not None and self.server.stdout is not None
        print(what, file=self.server.stdin, flush=True)
        assert self.server.stdout.readline() == f"{self.port}\n"


@contextmanager
def google_store() -> Iterator[GoogleStore]:
    words = [sys.executable, "-m", "tests.google_store"]
    with subprocess.Popen(
        words, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        yield GoogleStore(server, int(server.stdout.readline()))
        server.stdin.close()


class _Bucket:
    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self._uploads: dict[str, bytes] = {}
        self._lock, self._numbers = threading.Lock(), itertools.count(1)
        self.away = False

    def answer(self, verb: str, name: str, asked: dict[str, str], pieces: str, content: bytes) -> _Answer:
        """Do what a request asks for; `pieces` says where in an upload its content belongs."""
        with self._lock:
            if verb == "POST":
                upload = str(next(self._numbers))
                self._uploads[upload] = b""
                return 200, {"Location": f"?name={quote(name, safe='')}&upload_id={upload}"}, b""
            if verb == "PUT":
                whole = self._uploads[asked["upload_id"]] = self._uploads[asked["upload_id"]] + content
                if pieces.endswith("/*"):  # the last one says how long the whole is
                    return 308, {"Range": f"bytes=0-{len(whole) - 1}"}, b""
                self._objects[name] = whole, self._described(name, whole)
            elif not name:
                return 200, {}, json.dumps(self._listed(asked.get("prefix", ""), asked.get("delimiter"))).encode()
            if name not in self._objects:
                return 404, {}, b"Not Found"
            if verb == "DELETE":
                del self._objects[name]
                return 204, {}, b""
            data, facts = self._objects[name]
            return 200, {}, data if asked.get("alt") == "media" else json.dumps(facts).encode()

    def _described(self, name: str, data: bytes) -> dict[str, Any]:
        now = time.time()
        written = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1e6):06d}Z"
        facts = {"kind": "storage#object", "name": name, "bucket": "bucket", "generation": str(next(self._numbers))}
        return {**facts, "metageneration": "1", "size": str(len(data)), "timeCreated": written, "updated": written}

    def _listed(self, prefix: str, delimiter: str | None) -> dict[str, Any]:
        names = sorted(name for name in self._objects if name.startswith(prefix))
        inside = [name for name in names if delimiter is None or delimiter not in name[len(prefix) :]]
        folders = {prefix + name[len(prefix) :].partition("/")[0] + "/" for name in set(names) - set(inside)}
        items = [self._objects[name][1] for name in inside]
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and content go out together
    bucket: _Bucket

    def _do(self) -> None:
        url, content = urlsplit(self.path), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.bucket.away:
            self.close_connection = True
            return
        found = _PATH.match(url.path)
        name = unquote((found and found[1]) or asked.get("name", ""))
        pieces = self.headers.get("Content-Range", "")
        code, told, body = (
            self.bucket.answer(self.command, name, asked, pieces, content) if found else (404, dict[str, str](), b"")
        )
        self.send_response(code)
        if "Location" in told:
            told["Location"] = f"http://{self.headers['Host']}{url.path}{told['Location']}"
        for key, value in {**told, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _do

    def log_message(self, format: str, *given: object) -> None:
        """Say nothing."""


def _serve() -> None:
    """Serve until standard input ends; a line there says to be `away` or `back`. Answers with the port."""
    bucket = _Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bucket": bucket}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    for line in sys.stdin:
        bucket.away = line == "away\n"
        print(server.server_address[1], flush=True)


if __name__ == "__main__":
    _serve()
