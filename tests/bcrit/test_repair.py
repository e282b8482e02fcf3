"""`bcrit repair` as a user runs it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.cli import application
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner import uploader
from bcrit.tuner.lease import held
from bcrit.tuner.ledger import Ledger
from tests.tuner.test_ledger import EXPERIMENT, finish


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Three finished trials, of which the log still has the last."""
    monkeypatch.setattr(uploader, "_DELIVER_SECONDS", 1e6)
    folder = RunFolder.at(tmp_path / "run")
    folder.write_experiment(EXPERIMENT)
    ledger = Ledger.open(folder, EXPERIMENT)
    for number in range(2):
        finish(ledger, number)
        ledger.flush()
    finish(ledger, 2)
    return folder


def run(*arguments: str) -> str:
    done = CliRunner().invoke(application(()), ["repair", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_torn_run_is_mended_and_what_a_killed_driver_left_is_delivered(folder: RunFolder) -> None:
    first = folder.parts(TRIALS)[0]
    folder.write_bytes("trials/000008-000008.parquet", folder.read_bytes(first))  # a second driver's
    said = run(str(folder))
    assert "1 doubled row was set aside in 'trials'; the trial that finished first stays" in said
    assert "rows that a run had left on this machine were brought to the folder" in said
    assert folder.read(TRIALS).num_rows == 3 and folder.read(MEASUREMENTS).num_rows == 30 and not folder.has_log()
    assert run(str(folder)).strip() == "nothing to mend"
    assert json.loads(run(str(folder), "--json"))["place"] is None


def test_a_run_that_somebody_is_at_work_in_is_left_alone(folder: RunFolder) -> None:
    with held(folder), pytest.raises(InputError, match="another process is running this experiment: .* on "):
        run(str(folder))
