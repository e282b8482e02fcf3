from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bcrit.analysis.records.run_folder import RunFolder
from tests.tuner.landscape.small import experiment, filled


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, to be copied by whoever writes into it."""
    path = tmp_path_factory.mktemp("landscape") / "run"
    folder: RunFolder = filled(path, experiment())
    assert folder.has("trials")
    return path
