"""The process that watches a command: exit codes, what is said when the command is gone, what is left running."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest


def watched(work: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a program whose function `work` is supervised."""
    program = "import os, signal, subprocess, sys, threading, time\nfrom bcrit.supervise import supervised, tell\n"
    program += "def work():\n" + textwrap.indent(textwrap.dedent(work), "    ") + "\nsys.exit(supervised(work))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_exit_code_is_the_command_s(code: int) -> None:
    done = watched(f"print('answer'); return {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "answer\n", "")


def test_what_ray_prints_stays_out_of_the_command_s_output() -> None:
    done = watched(
        """
        os.write(1, b"from C++\\n"), os.write(2, b"from C++\\n")
        thread = threading.Thread(target=lambda: print("from a thread of Ray's"))
        thread.start(), thread.join()
        print("answer")
        return 0
        """
    )
    assert (done.stdout, done.stderr) == ("answer\n", "")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "the run was killed by SIGKILL, as the system does when memory runs out",
        ),
        (
            "os.write(2, b'Failed to connect to GCS within 60 seconds'); os._exit(1)",
            "Ray's head does not answer any more",
        ),
        ("os.write(2, b'Raylet is terminated'); os._exit(1)", "Ray's process on this machine (the raylet) died"),
        ("os._exit(7)", "the run ended in the middle, with exit code 7"),
    ],
)
def test_a_command_that_is_gone_is_explained_in_one_line_with_the_remedy(end: str, said: str) -> None:
    done = watched(f"tell('folder', 'runs/mine')\n{end}")
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.startswith(f"{said}; finished trials are kept, go on with:  bcrit resume runs/mine")
    assert len(done.stderr.splitlines()) == 1


def test_nothing_that_the_command_started_outlives_it(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    done = watched(
        f"""
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        open({str(noted)!r}, "w").write(str(child.pid))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert done.returncode == 3
    deadline = time.monotonic() + 10
    while Path(f"/proc/{noted.read_text()}").exists():
        assert time.monotonic() < deadline, "the child's child is still there"
        time.sleep(0.05)
