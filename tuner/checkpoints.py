"""Checkpoints: what is kept of a trial in the run folder's `checkpoints`, and the only place that writes and reads it.

A trial that has ended keeps its weights there where a command wants them (`bcrit landscape`, warm starts). One that
trains on keeps all that it would go on from (`bcrit.tuner.training.trial`), in the place of what it kept before; that
goes when its row is recorded.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

import torch
from pyarrow import fs
from torch import Tensor

from bcrit.analysis.records.run_folder import CHECKPOINTS, EXPERIMENT, RunFolder, checkpoint, fingerprint
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.training.reported import RunState
from bcrit.tuner.training.settings import Run
from bcrit.tuner.training.supervised import SupervisedRun

Weights = dict[str, Tensor]
"""A whole state of a model, buffers too, on the host."""

_UNFINISHED = ".unfinished.pt"


def unfinished(trial_id: str) -> str:
    """The file with what a trial goes on from, within the run folder."""
    return checkpoint(trial_id).removesuffix(".pt") + _UNFINISHED


def packed(run: Run, proposal: Proposal) -> bytes:
    """The weights that a proposal wants kept of its run, which is one of a `SupervisedWorkload`."""
    assert isinstance(run, SupervisedRun), "checked before anything was trained"
    model = run.average if proposal.keep == "average" and run.average is not None else run.model
    weights = {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()}
    return _sealed("weights", weights, proposal.trial_id)


def unpacked(content: bytes, trial_id: str) -> Weights | None:
    """The weights of a trial; None where they are damaged, or of another one."""
    found: Weights | None = _opened("weights", content, trial_id)
    return found


def kept(folder: RunFolder, trial_id: str) -> Weights | None:
    """The weights of a trial in its run folder; None where they are not there, or not whole."""
    path = checkpoint(trial_id)
    return unpacked(folder.read_bytes(path), trial_id) if folder.has(path) else None


def packed_state(state: RunState, proposal: Proposal) -> bytes:
    """What a trial goes on from."""
    return _sealed("state", state, _identity(proposal))


def unpacked_state(content: bytes, proposal: Proposal) -> RunState | None:
    """What a trial goes on from; None where it is damaged, or of a trial that was proposed otherwise."""
    found: RunState | None = _opened("state", content, _identity(proposal))
    return found


def left(folder: RunFolder) -> set[str]:
    """The trials that can go on from something."""
    entries = folder.filesystem.get_file_info(fs.FileSelector(folder.path(CHECKPOINTS), allow_not_found=True))
    names = (entry.base_name for entry in entries)
    return {name.removesuffix(_UNFINISHED) for name in names if name.endswith(_UNFINISHED) and name[0] != "."}


def remove(folder: RunFolder, trial_ids: Iterable[str]) -> None:
    """Let go of what trials would go on from."""
    for trial_id in trial_ids:
        with suppress(FileNotFoundError):
            folder.filesystem.delete_file(folder.path(unfinished(trial_id)))


@dataclass
class Reach:
    """The run's checkpoints as a worker has them: in the run folder, or through the driver where it cannot see that."""

    folder: RunFolder | None
    came: Mapping[str, bytes] = field(default_factory=dict)  # files that were sent with a trial
    goes: dict[str, bytes] = field(default_factory=dict)  # files that the next report takes along

    @classmethod
    def to(cls, location: str, experiment_sha256: str) -> Reach:
        """What reaches the run folder at this place, if it is the same one from here."""
        with suppress(OSError, InputError):
            folder = RunFolder.at(location)
            if fingerprint(folder.read_text(EXPERIMENT)) == experiment_sha256:
                return cls(folder)
        return cls(None)

    def read(self, path: str) -> bytes | None:
        """A file; None where there is none."""
        if path in self.came or self.folder is None:
            return self.came.get(path)
        return self.folder.read_bytes(path) if self.folder.has(path) else None

    def write(self, path: str, content: bytes) -> None:
        """Write a file whole or not at all, in one try: an OSError where the store is away."""
        if self.folder is None:
            self.goes[path] = content
        else:
            self.folder.write_bytes(path, content, patience=0)


def _sealed(kind: str, content: Any, of: str) -> bytes:
    """A file with something of a trial, and a sum of all its numbers."""
    file = io.BytesIO()
    torch.save({"trial_id": of, kind: content, "sha256": _digest(content)}, file)
    return file.getvalue()


def _opened(kind: str, content: bytes, of: str) -> Any:
    """What `_sealed` put into a file; None where it is damaged, or of another trial.

    What was on a GPU is on this process' GPU again.
    """
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(content), map_location=_here, weights_only=True)
        return found[kind] if found["trial_id"] == of and found["sha256"] == _digest(found[kind]) else None
    except Exception:  # whatever a damaged file makes of the unpickler: what it held is made again
        return None


def _here(storage: Any, place: str) -> Any:
    return storage if place == "cpu" else storage.cuda()


def _identity(proposal: Proposal) -> str:
    """All that decides a trial's curve, but for what is frozen with its run."""
    facts = [proposal.trial_id, proposal.batch_size, proposal.seed, sorted(proposal.hyperparameters.items())]
    return f"{facts} {proposal.batches} {proposal.start}"


def _digest(content: Any) -> str:
    """Of every number; PyTorch's own check sums are not looked at when a file is read."""
    digest = hashlib.sha256()
    for name, value in _leaves("", content):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif type(value) in (int, float, bool, str, NoneType):
            digest.update(f"{name} {value!r}".encode())
        else:
            rule = f"{name} holds a {type(value).__name__}, which no checkpoint can"
            raise ValueError(f"{rule}; keep numbers, words, None, tensors, and lists and dictionaries of them")
    return digest.hexdigest()


def _leaves(name: str, content: Any) -> Iterator[tuple[str, Any]]:
    """The parts of nested mappings and lists, by their addresses."""
    if isinstance(content, Mapping):
        for key, value in sorted(content.items(), key=lambda item: str(item[0])):
            yield from _leaves(f"{name}.{key}" if name else str(key), value)
    elif isinstance(content, list | tuple):
        for place, value in enumerate(content):
            yield from _leaves(f"{name}[{place}]", value)
    else:
        yield name, content
