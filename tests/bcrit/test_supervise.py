"""The process that watches a command: exit codes, what is said when the command is gone, what is left running."""

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from bcrit import cli, supervise
from tests.bcrit.command import bcrit


def program(work: str) -> list[str]:
    """One whose function `work` is supervised, as words of a command."""
    text = "import os, signal, subprocess, sys, threading, time\nfrom bcrit import supervise\n"
    text += "from bcrit.supervise import supervised, tell\nsupervise._GRACE_SECONDS = 1\n"
    text += "def work():\n" + textwrap.indent(textwrap.dedent(work), "    ") + "\nsys.exit(supervised(work))"
    return [sys.executable, "-c", text]


def watched(work: str) -> subprocess.CompletedProcess[str]:
    """Run such a program."""
    return subprocess.run(program(work), capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("code", [0, 4])
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
    ("end", "said", "begun"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "the run was killed by SIGKILL, as the system does when memory runs out",
            True,
        ),
        (
            "os.write(2, b'Failed to connect to GCS within 60 seconds'); os._exit(1)",
            "Ray's head does not answer any more",
            False,
        ),
        ("os.write(2, b'Raylet is terminated'); os._exit(1)", "Ray's process on this machine (the raylet) died", True),
        ("os._exit(7)", "the run ended in the middle, with exit code 7", False),
    ],
)
def test_a_command_that_is_gone_is_explained_in_one_line_with_the_remedy(
    end: str, said: str, begun: bool, tmp_path: Path
) -> None:
    if begun:
        (tmp_path / "experiment.yaml").touch()
    done = watched(f"tell('run', {str(tmp_path)!r}), tell('again', 'bcrit resume runs/mine')\n{end}")
    assert done.returncode == 3 and done.stdout == ""
    remedy = "finished trials are kept, go on with:  bcrit resume runs/mine"
    assert done.stderr.startswith(f"{said}; {remedy if begun else 'nothing was run; give the same command again'}   (")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("work", "signals", "code"),
    [
        ("{ready}; time.sleep(60)", [signal.SIGINT], 130),
        ("{ready}; time.sleep(60)", [signal.SIGTERM], 143),
        ("{ready}; time.sleep(60)", [signal.SIGHUP], 129),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN); {ready}; time.sleep(60)", [signal.SIGTERM], 143),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN); {ready}; time.sleep(60)", [signal.SIGINT] * 2, 130),
        ("signal.signal(signal.SIGINT, lambda *_: sys.exit(3)); {ready}; time.sleep(60)", [signal.SIGTERM], 143),
        # What came to its end meanwhile is done, and so is what was told to go on whatever happens to its terminal.
        ("signal.signal(signal.SIGINT, signal.SIG_IGN); {ready}; time.sleep(0.5); return 0", [signal.SIGINT], 0),
        ("{ready}; time.sleep(0.5); return 0", [signal.SIGHUP], 0),
    ],
)
def test_a_signal_ends_a_command_soon_with_its_own_code_and_the_remedy(
    work: str, signals: list[signal.Signals], code: int
) -> None:
    words = program(work.format(ready="print('ready')"))
    nohup = ["nohup"] if (signals, code) == ([signal.SIGHUP], 0) else []
    with subprocess.Popen(nohup + words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None and command.stdout.readline() == "ready\n"
        for number in signals:
            command.send_signal(number)
            time.sleep(0.1)
        _, err = command.communicate(timeout=20)
    assert command.returncode == code
    assert err.splitlines()[-1:] == (["stopped; nothing was run; give the same command again"] if code else [])


def test_ctrl_c_while_the_command_line_is_imported_is_told_too(tmp_path: Path) -> None:
    """Pydantic makes an error of its own of the exception where it is at work just then."""
    stop = "    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt as error:\n    raise ValueError from error"
    (tmp_path / "typer.py").write_text(f"import signal\ntry:\n{stop}\n")
    text = f"import signal, sys\nsys.path.insert(0, {str(tmp_path)!r})\nfrom bcrit.__main__ import start\n"
    text += "signal.signal(signal.SIGINT, signal.default_int_handler)\nstart()"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped; nothing was run\n")


def _broken_off() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise ImportError("numpy.core failed to import") from error


class _Finalized:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def _swallowed() -> None:
    _Finalized()
    time.sleep(60)


@pytest.mark.parametrize("work", [_broken_off, _swallowed])
def test_ctrl_c_is_told_in_a_line_whatever_it_is_taken_for_where_it_lands(work: Callable[[], None]) -> None:
    begun_at = time.monotonic()
    with patch.dict(supervise._told, clear=True), patch.object(cli, "application", lambda _: work):
        done = bcrit("fit", "x.csv")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")
    assert time.monotonic() - begun_at < 40, "it waits no longer for what was under way"


def test_a_command_that_does_not_heed_it_ends_soon_after_what_watched_it_was_killed() -> None:
    words = program("signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(60)")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None and command.stdout.readline() == "ready\n"
        command.kill()
        begun = time.monotonic()
        assert command.stdout.read() == ""  # the pipe is closed when both are gone
    assert time.monotonic() - begun < 30


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
