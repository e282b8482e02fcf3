"""Starts an experiment and kills it, with all processes below it, when it has confirmed a part of its studies."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import TRIALS
from tests.bcrit.command import command
from tests.processes import below

CONFIRMED = 25  # of 48


def main(experiment: Path, run: Path) -> None:
    driver = subprocess.Popen(command("tune", experiment, "--workers", 2, "--out", run))
    while driver.poll() is None and not (run / "experiment.yaml").exists():
        time.sleep(0.5)
    while driver.poll() is None and _confirmed(run) < CONFIRMED:
        time.sleep(0.05)
    for process in below(driver.pid):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    driver.wait()


def _confirmed(run: Path) -> int:
    return sum(stage == "confirm" for stage in RunFolder.at(run).read(TRIALS)["stage"].to_pylist())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
