"""The workload of a run that is to be trained again: loaded, or one message why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcrit.search_spaces.problems import InputError
from bcrit.tuner.run_workload import workload_of_run
from tests.tuner.landscape.small import Blobs, experiment


def test_the_workload_of_the_run_is_loaded() -> None:
    assert isinstance(workload_of_run(experiment(), "run"), Blobs)


def test_a_run_of_elsewhere_is_refused() -> None:
    with pytest.raises(InputError, match="an imported run describes trials of elsewhere"):
        workload_of_run(experiment(imported={"format": "mlperf", "source": "there"}), "run")


def test_a_module_that_ends_the_program_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quits.py").write_text("raise SystemExit('no data here')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no data here"):
        workload_of_run(experiment(workload="quits:Thing"), "run")
