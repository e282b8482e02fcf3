"""The commands on what was recorded, beside those of the questions: analyze, report, repair; and workloads."""

from typing import Annotated

import typer
from rich import box
from rich.table import Table

from bcrit.analysis.records import plain
from bcrit.ask import AS_JSON, RUN
from bcrit.terminal import print_json, say, show, wide_console


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


def repair(
    run: RUN,
    as_json: AS_JSON = False,
) -> None:
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
