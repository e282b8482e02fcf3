"""The processes that a command has begun, as the operating system sees them: to count them, and to kill one of them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KINDS: Final = {
    "worker": r"ray::(?!\w*Agent\b)",
    "agent": r"ray::\w*Agent\b",  # of which a raylet has two, and it ends with either
    "raylet": r"\S*/raylet/raylet ",
    "gcs": r"\S*/gcs/gcs_server ",
}
"""How the command line of each process of Ray's begins."""


@dataclass(frozen=True)
class Process:
    """A process that was there at one moment."""

    pid: int  # its number, which another process may have later
    parent: int
    started: str  # when it began, by which it is told from that other one
    line: str

    @property
    def lives(self) -> bool:
        """Whether it is still there and has not ended."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return fields[19] == self.started and fields[0] != "Z"


def below(pid: int) -> list[Process]:
    """A process and all that it has begun, from the top down; what had lost its parent before is not found."""
    children: dict[int, list[Process]] = {}
    for process in _all():
        children.setdefault(process.parent, []).append(process)
    found = [process for processes in children.values() for process in processes if process.pid == pid]
    for each in found:
        found += children.get(each.pid, [])
    return found


def of_kind(kind: str, pid: int) -> list[Process]:
    """The processes of a command that are of one of `KINDS`, or its `supervisor`, or its `driver`, or `all` of them."""
    processes = below(pid)
    if kind == "all":
        return processes
    if kind == "supervisor":
        return processes[:1]
    if kind == "driver":  # forked from the supervisor, so that it has its command line
        return [process for process in processes[1:] if process.parent == pid and process.line == processes[0].line]
    return [process for process in processes if re.match(KINDS[kind], process.line)]


def _all() -> list[Process]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended since the listing
            found.append(Process(int(folder.name), int(fields[1]), fields[19], line))
    return found


def kill(process: Process, number: int) -> bool:
    """Send a signal; whether the process was still there."""
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True
