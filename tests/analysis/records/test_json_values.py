import json
import math
from dataclasses import dataclass

import numpy as np

from bcrit.analysis.records.json_values import plain


@dataclass(frozen=True)
class Inner:
    low: float
    flags: tuple[bool, ...]


def test_everything_becomes_what_json_takes() -> None:
    value = {1: Inner(-math.inf, (True, False)), "a": np.array([1.0, np.nan]), "b": np.int64(3), "c": np.bool_(True)}
    expected = {"1": {"low": None, "flags": [True, False]}, "a": [1.0, None], "b": 3, "c": True}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == expected
