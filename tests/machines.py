"""Several machines on one: raylets that see neither the driver's temporary files nor its run folder nor its code.

A node is started in a mount namespace of its own with an empty file system over the folders it must not see, and in a
process namespace, so that killing its first process is a power cut. That needs root (as in CI's container).
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_BIN = Path(sys.executable).parent
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_START_SECONDS = 60.0


def can_hide() -> bool:
    """Whether this system lets a process have a view of its own of the file system."""
    return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0


def need_machines() -> None:
    """Skip where namespaces are refused; fail there if nothing may be skipped."""
    if not can_hide():
        reason = (
            "several machines on one need `unshare --mount --pid`, which this system refuses; run the tests as root"
        )
        (pytest.fail if os.environ.get("REQUIRE_ALL_DEPS") else pytest.skip)(reason)


@dataclass
class Machines:
    """A cluster: a head without CPUs, on the driver's machine, and nodes that are machines of their own."""

    address: str
    temporary: Path
    hidden: tuple[Path, ...]
    environment: dict[str, str]
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)  # that start the nodes

    def add(self, name: str, cpus: int = 2, hidden: Sequence[Path] = ()) -> None:
        """Start a node under a name (also a label of Ray's); it does not see what lies in `hidden` either."""
        covers = " && ".join(f"mount -t tmpfs none {shlex.quote(str(p))}" for p in (*self.hidden, *hidden))
        start = [str(_BIN / "ray"), "start", "--address", self.address, f"--num-cpus={cpus}", "--block"]
        start += [f"--labels=machine={name}", "--disable-usage-stats"]
        self.scripts[name] = f"{covers} && cd / && exec {shlex.join(start)}"
        self.nodes[name] = self._started(name, "wb")

    def _started(self, name: str, mode: str) -> subprocess.Popen[bytes]:
        with open(self._log(name), mode) as log:
            return subprocess.Popen(
                [*_UNSHARE, "sh", "-c", self.scripts[name]],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self.temporary.parent / f"{name}.log"

    def wait_for_cpus(self, cpus: int) -> None:
        """Wait until the cluster has so many: its head is asked as a node asks it, without a driver of its own."""
        from ray import _raylet
        from ray._private.state import GlobalState

        address = (self.address, None, True, True)  # any cluster's
        options = _raylet.GcsClientOptions.create(*address)  # type: ignore[attr-defined]  # of the extension module
        asked: Any = GlobalState()  # type: ignore[no-untyped-call]
        asked._initialize_global_state(options)
        until = time.monotonic() + _START_SECONDS
        while asked.cluster_resources().get("CPU", 0) != cpus:
            for name, node in self.nodes.items():
                if node.poll() is not None and time.monotonic() < until:  # as when another took its port meanwhile
                    self.nodes[name] = self._started(name, "ab")
            if time.monotonic() > until:
                logs = "".join(f"\n{name}: {self._log(name).read_text()[-2000:]}" for name in self.nodes)
                raise TimeoutError(f"the cluster does not come to {cpus} CPUs: {asked.cluster_resources()}{logs}")
            time.sleep(0.1)
        asked.disconnect()

    def kill(self, name: str) -> None:
        """Cut a node's power."""
        node = self.nodes.pop(name)
        node.kill()
        node.wait()


def free_port() -> int:
    """A port below the range of Ray's workers that nothing listens at now."""
    for port in range(6400 + os.getpid() % 1000, 9990):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port
    raise OSError("no port is free between 6400 and 9990")


@contextmanager
def machines(
    hidden: Sequence[Path] = (), settings: Mapping[str, str] | None = None, **nodes: int
) -> Iterator[Machines]:
    """A head and nodes by name with their number of CPUs, which do not see `hidden`; all are gone afterwards.

    Settings are of Ray, as its environment has them.
    """
    with tempfile.TemporaryDirectory(prefix="bm", dir="/tmp") as place:  # short: sockets' paths hold 107 characters
        temporary = Path(place) / "ray"
        temporary.mkdir()
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", **(settings or {})}
        port = free_port()
        head = [str(_BIN / "ray"), "start", "--head", f"--port={port}", "--num-cpus=0", f"--temp-dir={temporary}"]
        head += ["--include-dashboard=false", "--disable-usage-stats", "--block"]
        with open(Path(place) / "head.log", "wb") as log:
            process = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *head],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        cluster = Machines(f"127.0.0.1:{port}", temporary, (temporary, *hidden), environment)
        try:
            _wait_for(port)
            for name, cpus in nodes.items():
                cluster.add(name, cpus)
            cluster.wait_for_cpus(sum(nodes.values()))
            yield cluster
        finally:
            for name in list(cluster.nodes):
                cluster.kill(name)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        with socket.socket() as tried:
            if not tried.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise TimeoutError(f"Ray's head did not start within {_START_SECONDS:g} s")
