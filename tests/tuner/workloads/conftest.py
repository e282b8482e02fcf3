from pathlib import Path
from typing import Any

import pytest

from tests.tuner.workloads.files import write_idx, write_text


@pytest.fixture
def pictured(tmp_path: Path) -> dict[str, Any]:
    """The option `data` of 72 small images, of which 24 validate."""
    write_idx(tmp_path / "data", n=72)
    return {"source": str(tmp_path / "data"), "validation": 24, "cache": str(tmp_path / "cache")}


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Any]:
    """The option `data` of a text, the last fifth of which validates."""
    write_text(tmp_path / "text.txt", lines=120)
    return {"source": str(tmp_path / "text.txt"), "validation": 0.2, "cache": str(tmp_path / "cache")}
