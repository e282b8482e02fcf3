"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console

from bcrit import (
    answers,
    exchange,
    measure,
    pilot,
    repair,
    runs,
)
from bcrit.analysis.questions import OF_SEVERAL, QUESTIONS
from bcrit.ask import command as command_of
from bcrit.ask import listed
from bcrit.search_spaces.problems import InputError
from bcrit.supervise import STOPPED, supervised
from bcrit.terminal import say


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bcrit {version('bcrit')}")
        raise typer.Exit


def application(asked: Collection[str]) -> typer.Typer:
    """The command line; only the questions that are asked are loaded, so that `--help` takes no second."""
    app = typer.Typer(
        name="bcrit",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Begin with:  bcrit tune examples/digits.yaml",
    )
    app.callback()(_options)
    loaded = {word.replace("-", "_") for word in asked}
    commands: tuple[Callable[..., None], ...] = (
        *(runs.tune, runs.resume, repair.repair, pilot.pilot, answers.analyze),
        *(command_of(name) if name in loaded else listed(name) for name in OF_SEVERAL),
        *(command_of(name) if name in loaded else listed(name) for name, line in QUESTIONS.items() if line),
        *(measure.landscape, measure.adaptive),
        *(answers.report, answers.workloads),
    )
    for function in commands:
        app.command()(function)
    app.add_typer(exchange.imports)
    app.add_typer(exchange.exports)
    return app


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Which batch size, with which learning rate, momentum and schedule, and what will it cost?"""


def main() -> None:
    """Run the command line; the exit codes stand in the README."""
    sys.exit(supervised(command) if sys.argv[1:2] in (["tune"], ["resume"]) else command())


def command() -> int:
    """Run the command that `sys.argv` names.

    Returns:
        The exit code: 0 done, 1 ran and the answer is "no", 2 bad input, 3 the cluster failed, 130 interrupted.
    """
    errors = Console(stderr=True)
    try:
        application(sys.argv[1:2])()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except InputError as error:
        say(errors, str(error))
        return 2
    except BrokenPipeError:
        return 141  # as a shell says of a program that was cut off by SIGPIPE
    except Exception as error:  # nothing that a user did shows a traceback; a fault of ours can be asked for
        if os.environ.get("BCRIT_TRACEBACK"):
            raise
        say(errors, f"bcrit failed: {type(error).__name__}: {error}")
        kept = "finished trials are kept, `bcrit resume` goes on; " if sys.argv[1:2] in (["tune"], ["resume"]) else ""
        say(errors, f"{kept}BCRIT_TRACEBACK=1 shows where it failed")
        return 1
    except KeyboardInterrupt:
        errors.print("stopped")
        return STOPPED
    return 0
