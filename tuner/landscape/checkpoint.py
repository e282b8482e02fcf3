"""Weights in the run folder's `checkpoints`: known again by all that decides them, and refused where damaged."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bcrit.analysis.records.run_folder import CHECKPOINTS, RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.settings import Settings

_FORMAT = 1

Weights = dict[str, Tensor]
"""A whole state of a model, buffers too, on the host."""


def path_of(name: str) -> str:
    """The file of a checkpoint, within the run folder."""
    return f"{CHECKPOINTS}/{name}.pt"


def run_facts(settings: Settings, experiment: Experiment) -> dict[str, Any]:
    """All that decides the weights of a run from its initialisation, but not how far it goes."""
    return {
        "format": _FORMAT,
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "optimizer": settings.optimizer,
        "hyperparameters": dict(settings.hyperparameters),
        "execution": settings.execution.model_dump(mode="json"),
        "workload": experiment.workload.model_dump(mode="json"),
    }


def facts_to_target(settings: Settings, experiment: Experiment, max_steps: int) -> dict[str, Any]:
    """The same of a run to the target of its experiment, and where it ends."""
    return {
        **run_facts(settings, experiment),
        "max_steps": max_steps,
        "target": str(experiment.target),
        "direction": Direction(experiment.target.direction).value,
        "threshold": experiment.target.threshold.hex(),
        "resolution": experiment.resolution,
    }


def key_of(facts: Mapping[str, Any]) -> str:
    """What a stored run is known again by."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def weights_of(model: nn.Module) -> Weights:
    """A copy of the model's state."""
    return {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()}


def write(folder: RunFolder, path: str, key: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Keep weights.

    Args:
        folder: the run folder.
        path: of the file.
        key: of all that decides them.
        stored: `weights`, and beside them plain numbers, words and lists.

    Returns:
        What is in the file.
    """
    whole = {**stored, "key": key}
    whole["sha256"] = _digest(whole)
    content = io.BytesIO()
    torch.save(whole, content)
    folder.write_bytes(path, content.getvalue())
    return whole


def read(folder: RunFolder, path: str, key: str, model: nn.Module) -> dict[str, Any] | None:
    """The checkpoint; None where there is none, it is of other settings, damaged, or of another architecture."""
    if not folder.has(path):
        return None
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(folder.read_bytes(path)), map_location="cpu", weights_only=True)
        shapes = {name: weight.shape for name, weight in found["weights"].items()}
        same = shapes == {name: weight.shape for name, weight in model.state_dict().items()}
        return found if same and found["key"] == key and found.pop("sha256") == _digest(found) else None
    except Exception:  # whatever a damaged file makes of the unpickler: the weights are made again
        return None


def _digest(stored: Mapping[str, Any]) -> str:
    """Of all that a checkpoint holds; PyTorch's own check sums are not looked at when it is read."""
    facts = {name: value for name, value in stored.items() if name != "weights"}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, weight in sorted(stored["weights"].items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["Weights", "facts_to_target", "key_of", "path_of", "read", "run_facts", "weights_of", "write"]
