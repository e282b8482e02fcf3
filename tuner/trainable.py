"""The Ray Tune trainable: a worker, which runs one trial after the other without a trace of the one before.

To Tune a worker is a trial: Tune places it, restarts the search for a place when its node dies, and carries its
results. The trials of the experiment are handed to it by `bcrit.tuner.scheduler`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import ray
import torch
from ray import tune

from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.options import Probes
from bcrit.search_spaces.outcome import Stage
from bcrit.tuner.dispatch import limits_of
from bcrit.tuner.protocol.proposal import Proposal, Rung
from bcrit.tuner.training.device import prepare_gpu
from bcrit.tuner.training.settings import Run, Settings
from bcrit.tuner.training.trial import Limits, Reported, Trial, as_row
from bcrit.tuner.workloads.function.workload import TrainingFunction, start
from bcrit.tuner.workloads.protocol import Workload
from bcrit.tuner.workloads.registry import load_workload


def to_text(proposal: Proposal) -> str:
    """A proposal as one string, which travels to the worker cheaply."""
    return json.dumps(asdict(proposal))


def from_text(text: str) -> Proposal:
    """The proposal in a string."""
    facts = json.loads(text)
    facts["rungs"] = tuple(Rung(**rung) for rung in facts["rungs"])
    return Proposal(**{**facts, "stage": Stage(facts["stage"])})


@lru_cache(maxsize=4)
def _workload(name: str, options: str) -> Workload:
    """One workload a process, so that starting a trial reads no data again."""
    return load_workload(name, json.loads(options))


class Worker(tune.Trainable):
    """Runs trials. A step is a chunk of optimizer updates with their evaluations; the first one looks the node over."""

    def setup(self, config: dict[str, Any], experiment: Any = None, folder: str = "", function: bool = False) -> None:
        """Note what is to be run; nothing that may fail happens here, where a failure could not name its node.

        `folder` is where a user's own workload is found ("" = the working directory, to which Ray brought it),
        `function` whether that is a training function, which this process never imports.
        """
        self._experiment, self._folder = parse_experiment(experiment, "experiment"), folder or os.getcwd()
        self._function, self._ready = function, False
        self._trial: Trial | None = None
        self._seconds = 0.0

    def _begin(self, proposal: Proposal, limits: Limits) -> Run | Reported:
        """Start the training run of a proposal."""
        experiment = self._experiment
        settings = Settings(
            proposal.batch_size,
            proposal.seed,
            experiment.optimizer,
            proposal.hyperparameters,
            experiment.execution,
            experiment.resources.gpus,
            experiment.probes if proposal.stage is Stage.CONFIRM else Probes(),
        )
        choice, resources = experiment.workload, experiment.resources
        if self._function:
            function = TrainingFunction(choice.name, choice.options)
            metric, budget = experiment.target.metric, proposal.budget_steps
            return start(function, self._folder, settings, metric, limits, resources, budget)
        return _workload(choice.name, json.dumps(choice.options, sort_keys=True)).begin(settings)

    def begin(self, proposal: str, seconds: float) -> Any:
        """Take another trial, as `to_text` made it, train `seconds` long as between all reports, and report."""
        self.offer(proposal, seconds)
        return self.train()  # type: ignore[no-untyped-call]

    def offer(self, proposal: str, seconds: float) -> None:
        """Make ready for another trial; nothing of the last one is kept but the workload's data."""
        self.cleanup()
        self._proposal, self._seconds = from_text(proposal), seconds
        limits = limits_of(self._proposal, self._experiment.resolution)
        self._trial = Trial(lambda: self._begin(self._proposal, limits), self._experiment.target, limits)

    def lower(self, trial_id: str, max_steps: int) -> None:
        """Let a trial end earlier than it was told, if it is still the one at work."""
        if self._trial is not None and self._proposal.trial_id == trial_id:
            self._trial.lower(max_steps)

    def step(self) -> dict[str, Any]:
        """Train for a while and report the measurements, and the ending once there is one; at first, the node."""
        if not self._ready:
            self._ready = True
            return self._look_around()
        assert self._trial is not None, "a step without a trial"
        made = self._trial.advance(self._seconds)
        rows = [as_row(m, self._proposal.trial_id, self._proposal.batch_size) for m in made]
        return {"rows": rows, "ending": self._trial.ending}

    def _look_around(self) -> dict[str, Any]:
        """Load the workload as every trial here will, and say where this is and what is wrong with it, if anything."""
        node = ray.get_runtime_context().get_node_id()
        return {"node": node, "host": platform.node(), "problem": self._problem()}

    def _problem(self) -> str | None:
        choice = self._experiment.workload
        try:
            if self._folder not in sys.path:
                sys.path.insert(0, self._folder)
            torch.set_num_threads(max(1, int(self._experiment.resources.cpus)))
            if self._function:
                return None  # its own processes import it
            if self._experiment.resources.gpus:
                prepare_gpu(self._experiment.resources.gpus)
            _ = _workload(choice.name, json.dumps(choice.options, sort_keys=True)).n_examples  # reads the data
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            return f"{type(error).__name__}: {error}"
        return None

    def cleanup(self) -> None:
        """Leave nothing running: a trial may be stopped before its end."""
        if self._trial is not None:
            self._trial.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing is saved: a trial that is cut off is run again, and makes the same curve."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing was saved."""
