"""Commands on what was recorded: analyze, report, repair, workloads; and those of the questions.

Options of a question become arguments, and its answer text or JSON, in one way: that of `command`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from rich import box
from rich.table import Table

from bcrit.analysis.questions import question
from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from bcrit.terminal import print_json, say, show, tell, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.records.storage import Place
    from bcrit.analysis.run import Run

RUN = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]
OUT = Annotated[str | None, typer.Option(help="Write the comparison as one HTML page to this file. Default: no file.")]
_HEAD = 4096  # bytes of a file in which a page of ours says what it is


def command(name: str) -> Callable[..., None]:
    """The command of a question, with the question's options and its docstring as help."""
    ask = question(name)
    options = dict(inspect.signature(ask, eval_str=True).parameters)
    of, *told = _annotated(options.pop(next(iter(options))).annotation)
    several = get_origin(of) is Sequence
    tables = Path in get_args(get_args(of)[0] if several else of)

    def run_it(places: str | list[str], as_json: bool, out: str | None = None, **given: Any) -> None:
        if out is not None:
            _check_free(out, name)
        asked = {key: options[key].default if value is None else value for key, value in given.items()}
        if isinstance(places, str):
            where, answer = places, ask(_opened(places, tables), **asked)
        else:
            where, answer = name, ask([_opened(place, tables) for place in places], **asked)
        if isinstance(answer, str):
            raise InputError(where, [answer])
        if out is not None:  # before anything is printed: a reader that closes the pipe must not cost the page
            from bcrit.analysis.report.build import page_of

            folder, file = _place(out)
            folder.write_bytes(file, page_of(answer, _generator(name)).encode())
        tell(answer, as_json)
        if out is not None:
            say(wide_console(stderr=as_json), f"\ncomparison: {out}")
        if not answer.yes:
            raise typer.Exit(1)

    keyword = inspect.Parameter.KEYWORD_ONLY
    argument = Annotated[list[str] if several else str, typer.Argument(metavar=told[1], help=told[0])] if told else RUN
    parameters = [
        inspect.Parameter("places", keyword, annotation=argument),
        # What compares runs and tables has a page of its own.
        *([inspect.Parameter("out", keyword, default=None, annotation=OUT)] if several and tables else []),
        *map(option, options.values()),
        inspect.Parameter("as_json", keyword, default=False, annotation=AS_JSON),
    ]
    run_it.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run_it.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run_it.__name__, run_it.__doc__ = name, inspect.getdoc(ask)
    return run_it


def _annotated(of: Any) -> tuple[Any, ...]:
    """What a question is asked of: `Run`, or with help and metavar `Run | Path` (a table), or a Sequence of these."""
    return get_args(of) if get_origin(of) is Annotated else (of,)


def _opened(place: str, tables: bool) -> Run | Path:
    """The run at a place, which is read when it is asked; what is no folder is a table where those are taken."""
    from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
    from bcrit.analysis.run import Run

    folder = RunFolder.at(place)
    is_run = not tables or folder.has(EXPERIMENT) or "://" in place or Path(place).is_dir()
    return Run(folder) if is_run else Path(place)


def _place(out: str) -> tuple[Place, str]:
    """The folder of a file, local or of any URI, and the file's name in it."""
    from bcrit.analysis.records.storage import Place

    folder, slash, name = out.rpartition("/")
    return Place.at(folder + slash if slash else "."), name


def _generator(name: str) -> str:
    """By which a page of ours is known again, so that nothing else is overwritten."""
    return f"bcrit {name}"


def _check_free(out: str, name: str) -> None:
    """Let nothing be overwritten but a page of this command."""
    folder, file = _place(out)
    if not file:
        raise InputError(out, ["'--out' names a file, but this is a folder; add a name such as compare.html"])
    if not folder.creatable():
        raise InputError(out, ["its folder cannot be written to; give another place"])
    if not folder.has(file):
        return
    if folder.is_local and Path(folder.path(file)).is_dir():
        raise InputError(out, ["'--out' names a file, but this is a folder; add a name such as compare.html"])
    with folder.filesystem.open_input_stream(folder.path(file)) as stream:
        head = bytes(stream.read(_HEAD))
    if f'content="{_generator(name)}"'.encode() not in head:
        raise InputError(out, ["a file that is no comparison lies there and is kept; give another name or remove it"])


def option(of: inspect.Parameter) -> inspect.Parameter:
    """`name: Annotated[TYPE, help, metavar] = default` as an option; an argument where it has a metavar and no default.

    A sequence may be given repeatedly, and a target is typed as text.
    """
    kind, told, *more = get_args(of.annotation)
    if get_origin(kind) is Sequence:
        kind = list[get_args(kind)[0]] | None  # type: ignore[misc]
    if Target in (kind, *get_args(kind)):
        kind = str if kind is Target else str | None
    metavar, flag = more[0] if more else None, [f"--{of.name.replace('_', '-')}"] if kind is bool else []
    asked = typer.Option(*flag, help=told, metavar=metavar)
    if metavar and of.default is of.empty:
        asked = typer.Argument(metavar=metavar, help=told)
    default = None if isinstance(of.default, tuple) else of.default
    return of.replace(kind=of.KEYWORD_ONLY, default=default, annotation=Annotated[kind, asked])


def listed(name: str, says: str) -> Callable[[], None]:
    """What stands in the list of commands in place of one that is not asked for: its line alone."""

    def unasked() -> None:
        raise AssertionError("the command that is asked for is loaded")

    unasked.__name__, unasked.__doc__ = name, says
    return unasked


def analyze(
    run: RUN,
    target: Annotated[
        str | None, typer.Option(help="Analyze at another target, such as 'val_loss < 0.3'; nothing is written then.")
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Compute steps-to-target, boundary verdicts and the fit of a run again, and print them.

    Exit code 1 where there is no curve, as of `tune`.
    """
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.report.build import write_analysis
    from bcrit.analysis.run import Run
    from bcrit.analysis.targets.crossings import read_targets

    folder = RunFolder.at(run)
    other = None if target is None else read_targets([target], folder.read_experiment().target)[0]
    asked = Run(folder, other)
    if other is None:
        write_analysis(asked)
    if as_json:
        print_json(asked.to_json())  # the facts of the other questions too
    else:
        show(asked.ask("steps"))
    if asked.fit is None:
        raise typer.Exit(1)


def report(run: RUN) -> None:
    """Write the report of a run again: one HTML page that needs nothing else."""
    from bcrit.analysis.records.run_folder import REPORT, RunFolder
    from bcrit.analysis.report.build import finish

    folder = RunFolder.at(run)
    finish(folder)
    say(wide_console(), folder.address(REPORT))


def repair(run: RUN, as_json: AS_JSON = False) -> None:
    """Mend the tables of a run: doubled rows, damaged files, trials that lack evaluations.

    Needed where two processes ran one experiment with an older version, or a file was damaged. What is wrong is moved
    to RUN/repaired and said by name; nothing is deleted. Rows that a killed run left on this machine are delivered.
    """
    from bcrit.analysis.records.repair import repair as repair_run
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.tuner.lease import held
    from bcrit.tuner.ledger import Ledger

    folder = RunFolder.at(run)
    experiment = folder.read_experiment()
    with held(folder) as lease:
        mended = repair_run(folder, can_run_again=experiment.imported is None)
        waiting = folder.has_log()
        Ledger.open(folder, experiment, lease).close()
    sentences = mended.sentences(run)
    if mended.files:
        again = (
            f"`bcrit resume {run}` runs what was lost with it"
            if experiment.imported is None
            else "import the run again"
        )
        sentences.append(f"what else a file held is not in the run now; {again}")
    if waiting:
        sentences.append("rows that a run had left on this machine were brought to the folder")
    if as_json:
        print_json(plain(mended))
        return
    for sentence in sentences:
        say(wide_console(), sentence)


def workloads(as_json: AS_JSON = False) -> None:
    """List the built-in workloads: data, model, metrics, a target that is reached, the unit of a batch."""
    from bcrit.tuner.workloads.registry import WORKLOADS

    if as_json:
        print_json({name: plain(entry) for name, entry in WORKLOADS.items()})
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("workload", "what it is", "data", "model", "metrics", "target", "unit"):
        table.add_column(heading)
    for name, entry in WORKLOADS.items():
        table.add_row(
            name, entry.description, entry.data, entry.model, ", ".join(entry.metrics), entry.target, entry.unit
        )
    wide_console().print(table)
    print(
        "A class or a training function of your own is named by its import path, my_module:name; the README shows both."
    )
