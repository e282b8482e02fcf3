"""Finished runs in the run folder's `adaptive`: known again by all that decides them, made again where damaged."""

from __future__ import annotations

import json
import re

import torch

from bcrit.analysis.questions.adaptive.result import Trained
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import ADAPTIVE_RUNS, RunFolder
from bcrit.analysis.records.stored import restored
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.tuner.landscape.checkpoint import facts_to_target, key_of
from bcrit.tuner.training.settings import Settings

_LONGEST = 200  # characters of a ramp in a file's name; file systems take 255


def path_of(schedule: str, number: int) -> str:
    """The file of a run, within the run folder: `adaptive/ramp_0_16_50_64-1.json` of 'ramp 0:16, 50:64'."""
    name = re.sub(r"[^\w.+-]+", "_", schedule)[:_LONGEST]
    return f"{ADAPTIVE_RUNS}/{name}-{number + 1}.json"


def key_of_run(settings: Settings, experiment: Experiment, max_steps: int, device: str) -> str:
    """What a run is known again by: all that decides it, its plan of batch sizes too, and what computed it."""
    facts = facts_to_target(settings, experiment, max_steps)
    return key_of({**facts, "plan": plain(settings.batches), "device": device, "torch": torch.__version__})


def read(folder: RunFolder, path: str, key: str) -> Trained | None:
    """The run; None where there is none, it is of other settings, or damaged."""
    if not folder.has(path):
        return None
    try:
        found = json.loads(folder.read_text(path))
        whole = found.pop("sha256") == key_of(found) and found["key"] == key
        return restored(Trained, found["run"]) if whole else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write(folder: RunFolder, path: str, key: str, run: Trained) -> Trained:
    """Keep a finished run, unless its code failed, which may be mended; return it as it will be read."""
    content = {"key": key, "run": plain(run)}
    if not Outcome(run.outcome).broken:
        folder.write_json(path, {**content, "sha256": key_of(content)})
    return restored(Trained, content["run"])


__all__ = ["key_of_run", "path_of", "read", "write"]
