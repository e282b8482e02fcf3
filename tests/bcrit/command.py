"""The command line, called by a test: in its own process where the process is the point, else in the test's."""

import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from bcrit import cli

ROOT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]


def command(*arguments: object) -> list[str]:
    """The words that start it as a process."""
    return [sys.executable, "-m", "bcrit", *map(str, arguments)]


def process(*arguments: object, cwd: Path = ROOT) -> Done:
    """As a user starts it: what Ray prints, what a user's module does to the process and exit codes are all there."""
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, check=False, timeout=550)


def bcrit(*arguments: object, cwd: Path = ROOT) -> Done:
    """The same without a new process, whose imports take seconds: what would be printed, and the exit code."""
    words, out, err, before = ["bcrit", *map(str, arguments)], StringIO(), StringIO(), set(sys.modules)
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err), patch.multiple(sys, argv=words, path=[*sys.path]):
        code = cli.command()
    ours = (str(ROOT), sys.prefix, sys.base_prefix)
    for name in set(sys.modules) - before:  # a user's module is another file in the next test, of the same name
        if not (getattr(sys.modules[name], "__file__", None) or sys.prefix).startswith(ours):
            del sys.modules[name]
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def refused(done: Done) -> str:
    """The message to somebody who did something wrong."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    return done.stderr
