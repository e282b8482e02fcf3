"""The Ray Tune trainable: one actor runs many trials, one after the other, without a trace of the one before."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch
from ray import tune

from search_spaces.load import parse_experiment
from search_spaces.options import Probes
from search_spaces.outcome import Stage
from tuner.protocol.proposal import Proposal, Rung
from tuner.training.gpu import prepare_gpu
from tuner.training.reported import Reported
from tuner.training.settings import Settings
from tuner.training.trial import Limits, Trial, as_row
from tuner.workloads.function.workload import TrainingFunction, start
from tuner.workloads.protocol import Run, Workload
from tuner.workloads.registry import load_workload

# One Ray step is at least this long (or one evaluation): below it Ray's own cost per report (1 ms of the driver) shows.
_REPORT_SECONDS = 0.2
# The same for a training function: longer, because the time is up also where there is nothing to report yet.
_FUNCTION_SECONDS = 1.0


def to_config(proposal: Proposal) -> dict[str, Any]:
    """A proposal as Ray's configuration: one string, because Tune flattens, copies and prints what it is given."""
    return {"proposal": json.dumps(asdict(proposal))}


def from_config(config: Mapping[str, Any]) -> Proposal:
    """The proposal in a configuration."""
    facts = json.loads(config["proposal"])
    facts["rungs"] = tuple(Rung(**rung) for rung in facts["rungs"])
    return Proposal(**{**facts, "stage": Stage(facts["stage"])})


@lru_cache(maxsize=4)
def _workload(name: str, options: str, folder: str) -> Workload:
    """One workload a process, so that starting a trial reads no data again."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return load_workload(name, json.loads(options))


class TrialTrainable(tune.Trainable):
    """Runs one trial after the other. A step is a chunk of optimizer updates with their evaluations."""

    def setup(self, config: dict[str, Any], experiment: Any = None, folder: str = "", function: bool = False) -> None:
        """Prepare the process for its trials, and the first of them.

        Args:
            config: the first trial, as `to_config` made it.
            experiment: the resolved experiment as plain data.
            folder: where a user's own workload is found.
            function: whether that is a training function, which this process then never imports.
        """
        self._experiment, self._folder = parse_experiment(experiment, "experiment"), folder
        self._function = function
        self._trial: Trial | None = None
        torch.set_num_threads(max(1, int(self._experiment.resources.cpus)))
        if self._experiment.resources.gpus and not function:
            prepare_gpu(self._experiment.resources.gpus)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Make the actor ready for another trial; nothing of the last one is kept but the workload's data."""
        self.cleanup()
        proposal = from_config(new_config)
        rungs = tuple((rung.step, rung.cutoff) for rung in proposal.rungs)
        resolution, stop = self._experiment.resolution, proposal.stop_at_target
        limits = Limits(proposal.max_steps, proposal.capped, rungs, resolution, stop)
        self._proposal = proposal
        self._trial = Trial(lambda: self._begin(proposal, limits), self._experiment.target, limits)
        return True

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
        return _workload(choice.name, json.dumps(choice.options, sort_keys=True), self._folder).begin(settings)

    def step(self) -> dict[str, Any]:
        """Train for a while and report the measurements, and the ending once there is one."""
        assert self._trial is not None
        made = self._trial.advance(_FUNCTION_SECONDS if self._function else _REPORT_SECONDS)
        rows = [as_row(m, self._proposal.trial_id, self._proposal.batch_size) for m in made]
        ending = self._trial.ending
        return {"rows": rows, "ending": ending, "step": made[-1].step if made else 0, "done": ending is not None}

    def cleanup(self) -> None:
        """Leave nothing running: a trial may be stopped before its end."""
        if self._trial is not None:
            self._trial.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing is saved: a trial that is cut off is run again, and makes the same curve."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing was saved."""
