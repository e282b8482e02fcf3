"""The command line: which batch size, with which learning rate, momentum and schedule, and what will it cost?"""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from bcrit import answers, runs
from search_spaces.problems import InputError

app = typer.Typer(
    name="bcrit",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with:  bcrit tune examples/digits.yaml",
)
app.command()(runs.tune)
app.command()(runs.resume)
app.command()(answers.analyze)
app.command()(answers.fit)
app.command()(answers.recommend)
app.command()(answers.report)
app.command()(answers.workloads)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 ran and the answer is "no", 2 bad input, 130 interrupted."""
    errors = Console(stderr=True)
    try:
        app()
    except InputError as error:
        errors.print(escape(str(error)), highlight=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("stopped")
        sys.exit(130)
