"""An S3 on this machine: it counts its requests, and can be away for a while without forgetting anything."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from bcrit.analysis.records.run_folder import RunFolder

_REQUEST = re.compile(r'"[^A-Z]*([A-Z]+) (\S+) HTTP')


class ObjectStore(logging.Handler):
    """A server with one empty bucket."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self._answers = threading.Event()
        self._answers.set()
        self._port = 0
        self.back()
        # What another store of this process held is gone: moto keeps everything in one place.
        urlopen(Request(f"http://127.0.0.1:{self._port}/moto-api/reset", method="POST")).close()
        made, _ = fs.FileSystem.from_uri(f"s3://bucket?{self.options}&allow_bucket_creation=true")
        made.create_dir("bucket")
        logging.getLogger("werkzeug").addHandler(self)

    @property
    def options(self) -> str:
        return f"endpoint_override=127.0.0.1:{self._port}&scheme=http&region=us-east-1"

    def emit(self, record: logging.LogRecord) -> None:
        """Note a request, which was carried out and is answered next."""
        self._answers.wait()
        if found := _REQUEST.search(record.getMessage()):
            self.requests.append(f"{found[1]} {found[2]}")

    def folder(self, name: str) -> RunFolder:
        return RunFolder.at(f"s3://bucket/{name}?{self.options}")

    def back(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()
        _, self._port = self._server.get_host_and_port()

    def away(self) -> None:
        self._server.stop()

    @contextmanager
    def outage(self, kind: str) -> Iterator[None]:
        """In this block it `refuses` connections, or is `silent`: it does what it is asked to and never says so."""
        if kind == "refuses":
            self.away()
        else:
            self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()
            if kind == "refuses":
                self.back()

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The requests made in this block, such as `PUT /bucket/run/a`."""
        begun, found = len(self.requests), list[str]()
        yield found
        found += self.requests[begun:]


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        store = ObjectStore()
        try:
            yield store
        finally:
            store.away()
            logging.getLogger("werkzeug").removeHandler(store)
