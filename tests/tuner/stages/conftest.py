from pathlib import Path

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from tests.tuner.stages.small import experiment, filled


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, to be copied by whoever writes into it."""
    path = tmp_path_factory.mktemp("landscape") / "run"
    folder: RunFolder = filled(path, experiment())
    assert folder.has("trials")
    return path
