"""A command from a question: the one way in which options become arguments and an answer becomes text or JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from bcrit.analysis.questions import QUESTIONS, question
from bcrit.search_spaces.problems import InputError

RUN = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]


def command(name: str) -> Callable[..., None]:
    """The command of a question, with the question's options and its docstring as help."""
    ask = question(name)
    options = dict(inspect.signature(ask, eval_str=True).parameters)
    of = options.pop(next(iter(options))).annotation

    def run_it(run: str, as_json: bool, **given: Any) -> None:
        from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
        from bcrit.analysis.run import Run
        from bcrit.terminal import print_json, show

        folder = RunFolder.at(run)
        asked = {key: options[key].default if value is None else value for key, value in given.items()}
        answer = ask(Run(folder) if of is Run or folder.has(EXPERIMENT) else Path(run), **asked)
        if isinstance(answer, str):
            raise InputError(run, [answer])
        if as_json:
            print_json(answer.facts)
        else:
            show(answer)
        if not answer.yes:
            raise typer.Exit(1)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("run", keyword, annotation=_argument(of)),
        *(_option(option) for option in options.values()),
        inspect.Parameter("as_json", keyword, default=False, annotation=AS_JSON),
    ]
    run_it.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run_it.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run_it.__name__, run_it.__doc__ = name, inspect.getdoc(ask)
    return run_it


def _argument(of: Any) -> Any:
    """`Run`, or `Annotated[Run | Path, help, metavar]` where a table of steps-to-target can be asked too."""
    if get_origin(of) is not Annotated:
        return RUN
    _, told, metavar = get_args(of)
    return Annotated[str, typer.Argument(metavar=metavar, help=told)]


def _option(of: inspect.Parameter) -> inspect.Parameter:
    """`name: Annotated[TYPE, help, metavar] = default` as an option; a sequence may be given repeatedly."""
    kind, told, *metavar = get_args(of.annotation)
    if get_origin(kind) is Sequence:
        kind = list[get_args(kind)[0]] | None  # type: ignore[misc]
    option = typer.Option(help=told, metavar=metavar[0] if metavar else None)
    default = None if isinstance(of.default, tuple) else of.default
    return inspect.Parameter(
        of.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def listed(name: str) -> Callable[[], None]:
    """What stands in the list of commands in place of a question that is not asked: its line alone."""

    def unasked() -> None:
        raise AssertionError("the command that is asked for is loaded")

    unasked.__name__, unasked.__doc__ = name, QUESTIONS[name]
    return unasked
