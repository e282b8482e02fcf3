"""The command line."""

import os
import signal
import sys
from collections.abc import Callable, Collection
from importlib.metadata import version
from typing import Annotated

import typer

from bcrit import ask, begin, exchange, live, measure, runs
from bcrit.analysis.questions import OF_SEVERAL, QUESTIONS
from bcrit.ask import command as command_of
from bcrit.ask import listed
from bcrit.search_spaces.problems import InputError
from bcrit.supervise import CLUSTER_FAILED, STOPPED, remedy, say_stopped, stopped_by_ctrl_c, supervised
from bcrit.terminal import Screen, paragraphs, say

# Commands that run Ray, in a process of their own.
_USE_RAY = {"demo", "tune", "resume", "pilot", "landscape", "adaptive", "doctor"}


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bcrit {version('bcrit')}")
        raise typer.Exit


def application(asked: Collection[str]) -> typer.Typer:
    """The command line; only the questions and sources that are asked are loaded, so that `--help` takes no second."""
    app = typer.Typer(
        name="bcrit",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Begin with:  bcrit demo   or, for a script of yours,   bcrit init --from train.py",
    )
    app.callback()(_options)
    loaded, questions = {word.replace("-", "_") for word in asked}, {**OF_SEVERAL, **QUESTIONS}
    commands: tuple[Callable[..., None], ...] = (
        *(begin.demo, begin.init, begin.check, begin.doctor),
        *(runs.tune, runs.resume, live.status, live.watch, ask.repair, measure.pilot, ask.analyze),
        *(command_of(name) if name in loaded else listed(name, of.says) for name, of in questions.items() if of.says),
        *(measure.landscape, measure.adaptive),
        *(ask.report, ask.workloads),
    )
    for function in commands:
        app.command(help=paragraphs(function))(function)
    app.add_typer(exchange.imports(asked))
    app.add_typer(exchange.exports)
    return app


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Which batch size, with which learning rate, momentum and schedule, and what will it cost?"""


def main() -> None:
    """Run the command line; the exit codes stand in docs/guides/operations.md."""
    try:
        code = supervised(command) if set(sys.argv[1:2]) & _USE_RAY else command()
    except KeyboardInterrupt:  # it came while something was said
        say_stopped()
        code = STOPPED
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is done; from here on there is nobody to tell
    sys.exit(code)


def command() -> int:
    """Run the command that `sys.argv` names.

    It gives 0 done, 1 ran and the answer is "no", 2 bad input, 3 a disk or a store failed, 130 interrupted.

    "No" is no batch size within the limits, nothing to compare, a run without a curve where one is asked for, whichever
    command asks. What cannot be read or is not as it must be is bad input, a table that is too short for a curve too.
    """
    errors, runs = Screen(stderr=True), bool(set(sys.argv[1:2]) & _USE_RAY)
    try:
        # Where a shell asks for completions, the words so far stand in its own variable.
        with stopped_by_ctrl_c():
            application(sys.argv[1:3] or os.environ.get("COMP_WORDS", "").split()[1:3])()
    except SystemExit as done:
        if done.code == STOPPED:  # as typer has it of a KeyboardInterrupt
            say_stopped()
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except InputError as error:
        say(errors, str(error))
        return 2
    except BrokenPipeError:
        return 141  # as a shell says of a program that was cut off by SIGPIPE
    except OSError as error:
        from bcrit.analysis.records.storage import may_pass

        if os.environ.get("BCRIT_TRACEBACK"):
            raise
        if not runs and not may_pass(error):
            say(errors, f"what was named cannot be read or written: {error}; look at its place and whose it is")
            return 2
        say(errors, f"a disk or a store fails: {error}; {remedy() if runs else 'try again when it works'}")
        return CLUSTER_FAILED
    except Exception as error:  # nothing that a user did shows a traceback; a fault of ours can be asked for
        if os.environ.get("BCRIT_TRACEBACK"):
            raise
        say(errors, f"bcrit failed: {type(error).__name__}: {error}; BCRIT_TRACEBACK=1 shows where")
        if runs:
            say(errors, remedy())
        return 1
    except KeyboardInterrupt:
        say_stopped()
        return STOPPED
    return 0
