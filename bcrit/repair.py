"""`bcrit repair`: set aside what keeps a run from being read."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bcrit.analysis.records.json_values import plain
from bcrit.runs import AsJson
from bcrit.terminal import say, wide_console


def repair(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a path or a URI.")],
    as_json: AsJson = False,
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
    if waiting:
        sentences.append("rows that a run had left on this machine were brought to the folder")
    if as_json:
        print(json.dumps(plain(mended), indent=2))
        return
    for sentence in sentences:
        say(wide_console(), sentence)
