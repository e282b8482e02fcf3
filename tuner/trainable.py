"""The Ray Tune trainable: a worker, which runs one trial after the other without a trace of the one before.

To Tune a worker is a trial: Tune places it, restarts the search for a place when its node dies, and carries its
results. The trials of the experiment are handed to it by `bcrit.tuner.scheduler`.
"""

import json
import os
import pickle
import platform
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from types import FrameType
from typing import Any

import ray
import torch
from ray import tune
from ray.util.placement_group import get_current_placement_group, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from bcrit.analysis.records.run_folder import checkpoint
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.options import COMMAND
from bcrit.tuner import checkpoints
from bcrit.tuner.checkpoints import Reach
from bcrit.tuner.code import is_own
from bcrit.tuner.dispatch import limits_of, settings_of
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.training.data import prepare_gpu
from bcrit.tuner.training.reported import Died, Reported, RunState
from bcrit.tuner.training.settings import Run
from bcrit.tuner.training.trial import Keeping, Limits, Preempted, Trial, as_row
from bcrit.tuner.workloads.child import Call
from bcrit.tuner.workloads.command import not_there
from bcrit.tuner.workloads.function import TrainingFunction
from bcrit.tuner.workloads.launch import start, why_no_start
from bcrit.tuner.workloads.places import EVERYTHING, reach, trust
from bcrit.tuner.workloads.protocol import Workload, our_loop
from bcrit.tuner.workloads.ranks import Ranks, Spread
from bcrit.tuner.workloads.registry import load_workload

_PARTING_SECONDS = 10.0  # for which another machine may end its ranks by itself; chosen
_CHECKPOINT_SECONDS = 300.0
"""Between a trial's checkpoints where the experiment does not say; chosen: what is lost then is five minutes."""


@lru_cache(maxsize=4)
def _workload(name: str, options: str) -> Workload:
    """One workload a process, so that starting a trial reads no data again."""
    return load_workload(name, json.loads(options))


class Worker(tune.Trainable):
    """Runs trials. A step is a chunk of optimizer updates with their evaluations; the first one looks the node over."""

    def setup(
        self,
        config: dict[str, Any],
        experiment: Any = None,
        folder: str = "",
        function: bool = False,
        run: tuple[str, str] = ("", ""),
    ) -> None:
        """Note what is to be run; nothing that may fail happens here, where a failure could not name its node.

        `folder` is where a user's own workload is found ("" = the working directory, to which Ray brought it),
        `function` whether that is a training function, which this process never imports, `run` the place of the run
        folder and the fingerprint of its experiment.
        """
        self._experiment, self._folder = parse_experiment(experiment, "experiment"), folder or os.getcwd()
        self._function, self._ready, self._brought = function, False, not folder
        self._trial: Trial | None = None
        self._run: Run | None = None  # of a trial whose weights are kept
        self._ranks: Ranks | None = None  # the other processes of each trial
        self._beside: list[str] = []  # the other nodes of each trial, by Ray's id
        self._seconds, self._place, self._reach = 0.0, run, Reach(None)
        self._keeps = False  # whether the trial has written a checkpoint
        self._notes: list[str] = []  # what the driver is to be told
        self._leaving = False  # whether a notice came that this process will be ended

    def _begin(self, proposal: Proposal, limits: Limits) -> Run | Reported:
        """Start the training run of a proposal."""
        experiment = self._experiment
        settings = settings_of(proposal, experiment, experiment.resources.gpus)
        if proposal.start is not None:
            weights = checkpoints.unpacked(self._reach.read(checkpoint(proposal.start)) or b"", proposal.start)
            if weights is None:
                raise ValueError(f"the weights of {proposal.start} are damaged")
            settings = replace(settings, start=weights)
        choice, resources = experiment.workload, experiment.resources
        if self._function:
            function = TrainingFunction(choice.name, choice.options)
            metric, budget = experiment.target.metric, proposal.budget_steps
            return start(function, self._folder, settings, metric, limits, resources, budget, self._spread())
        workload = _workload(choice.name, json.dumps(choice.options, sort_keys=True))
        if resources.ranks > 1 and our_loop(workload):
            if self._ranks is None or not self._ranks.alive:
                own = self._folder if is_own(experiment) else ""
                each = resources.threads, resources.gpus
                call = Call(choice.name, own, dict(choice.options), 0.0, *each, forked=False)
                self._ranks = Ranks(call, resources.ranks // (resources.nodes or 1), self._spread())
            run: Run = self._ranks.begin(workload, settings)
        else:
            run = workload.begin(settings)
        self._run = run if proposal.keep else None
        return run

    def _spread(self) -> Spread | None:
        """The machines of a trial, each a bundle of this worker's placement group; None where this one is all."""
        resources = self._experiment.resources
        if (resources.nodes or 1) == 1:
            return None
        group = get_current_placement_group()
        assert group is not None, "a worker of Tune has one"
        host = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        # Noted now: a bundle whose node dies is soon on another.
        placed = placement_group_table(group)["bundles_to_node_id"]
        self._beside = [str(name) for bundle, name in sorted(placed.items()) if bundle]

        def begin(node: int, work: Callable[..., None], *given: Any) -> Any:
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=node)
            taken = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "resources": resources.custom or {}}
            return ray.remote(work).options(**taken, scheduling_strategy=place, max_retries=0).remote(*given)

        def gone(handle: Any) -> bool:
            return bool(ray.wait([handle], timeout=0)[0])

        def end(handle: Any) -> None:
            if not ray.wait([handle], timeout=_PARTING_SECONDS)[0]:
                ray.cancel(handle, force=True)

        return Spread(resources.nodes or 1, host, self._brought, begin, gone, end)

    def begin(self, proposal: bytes, seconds: float, goes_on: bool, files: Mapping[str, bytes]) -> Any:
        """Take another trial, pickled, train `seconds` long as between all reports, and report.

        `goes_on` says that it may have been begun before, and `files` are those of its checkpoints that this process
        cannot read from the run folder.
        """
        self.offer(pickle.loads(proposal), seconds, goes_on, files)  # noqa: S301  # of our own driver
        return self.train()  # type: ignore[no-untyped-call]

    def offer(
        self, proposal: Proposal, seconds: float, goes_on: bool = False, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Make ready for another trial; nothing of the last one is kept but the workload's data."""
        self._let_go()
        self._proposal, self._seconds, self._keeps = proposal, seconds, goes_on
        self._reach = Reach(self._reach.folder, files or {})
        limits = limits_of(proposal, self._experiment)
        every = self._experiment.checkpoint_seconds or _CHECKPOINT_SECONDS
        keeping = Keeping(every, self._keep, lambda: self._leaving)
        begin, target = partial(self._begin, proposal, limits), self._experiment.target
        self._trial = Trial(begin, target, limits, keeping=keeping)
        if goes_on:
            self._trial.checkpoint = self._kept

    def _keep(self, state: RunState) -> None:
        """Write a checkpoint; where the store is away the trial trains on, and the next one is due as ever."""
        try:
            path = checkpoints.unfinished(self._proposal.trial_id)
            self._reach.write(path, checkpoints.packed_state(state, self._proposal))
            self._keeps = True
        except (OSError, MemoryError) as error:
            self._notes.append(f"checkpoints cannot be written from {platform.node()}: {error}")

    def _kept(self) -> RunState | None:
        """What the trial goes on from; without it, it begins anew."""
        why = "it is damaged, or of another trial"
        try:
            content = self._reach.read(checkpoints.unfinished(self._proposal.trial_id))
            if content is None or (state := checkpoints.unpacked_state(content, self._proposal)) is not None:
                return None if content is None else state
        except OSError as error:
            why = str(error)
        self._notes.append(f"the checkpoint of {self._proposal.trial_id} cannot be read, so it begins anew: {why}")
        return None

    def lower(self, trial_id: str, max_steps: int) -> None:
        """Let a trial end earlier than it was told, if it is still the one at work."""
        if self._trial is not None and self._proposal.trial_id == trial_id:
            self._trial.lower(max_steps)

    def step(self) -> dict[str, Any]:
        """Train for a while and report the measurements, and the ending once there is one; at first, the node.

        Where the trial's process died before it had measured anything, or this one has to leave, report that alone.
        """
        if not self._ready:
            self._ready = True
            return self._look_around()
        assert self._trial is not None, "a step without a trial"
        try:
            made = self._trial.advance(self._seconds)
        except Died as died:
            return {"died": str(died), "beside": self._beside, **self._told()}
        except Preempted:
            return {"preempted": True, **self._told()}
        rows = [as_row(m, self._proposal.trial_id, self._proposal.batch_size) for m in made]
        ending, resumed_at = self._trial.ending, self._trial.resumed_at
        if self._run is not None and ending is not None:
            self._reach.goes[checkpoint(self._proposal.trial_id)] = checkpoints.packed(self._run, self._proposal)
        return {"rows": rows, "ending": ending, "resumed_at": resumed_at, **self._told()}

    def _told(self) -> dict[str, Any]:
        """What every report takes along; in lists, for Tune takes mappings apart."""
        (files, self._reach.goes), (notes, self._notes) = (self._reach.goes, {}), (self._notes, [])
        return {"files": list(files.items()), "notes": notes, "keeps": self._keeps}

    def _look_around(self) -> dict[str, Any]:
        """Load the workload as every trial here will, and say where this is and what is wrong with it, if anything."""
        node, problem = "", self._problem()
        if ray.is_initialized():  # else it is no worker of a run
            node = ray.get_runtime_context().get_node_id()
            self._reach = Reach.to(*self._place)
            self._heed_notices()
        sees = self._reach.folder is not None
        return {"node": node, "host": platform.node(), "problem": problem, "sees_folder": sees}

    def _heed_notices(self) -> None:
        """At a SIGTERM let the trial write a checkpoint and leave; at a second one, or without a trial, end at once."""
        before = signal.getsignal(signal.SIGTERM)

        def noticed(number: int, frame: FrameType | None) -> None:
            if self._leaving or self._trial is None or self._trial.ending is not None:
                if callable(before):
                    before(number, frame)
                sys.exit(1)
            self._leaving = True

        signal.signal(signal.SIGTERM, noticed)

    def _problem(self) -> str | None:
        choice = self._experiment.workload
        try:
            trust([EVERYTHING])  # the driver has checked
            if is_own(self._experiment):
                reach(self._folder)
            torch.set_num_threads(max(1, int(self._experiment.resources.cpus)))
            if choice.name == COMMAND and (why := not_there(choice.options)):
                return why
            if self._function:
                return why_no_start(choice.name, self._folder, self._experiment.resources)
            if self._experiment.resources.gpus:
                prepare_gpu(self._experiment.resources.gpus)
            workload = _workload(choice.name, json.dumps(choice.options, sort_keys=True))
            _ = workload.n_examples  # reads the data
            if our_loop(workload):
                torch.set_num_threads(self._experiment.resources.threads)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            return f"{type(error).__name__}: {error}"
        return None

    def cleanup(self) -> None:
        """Leave nothing running: a trial may be stopped before its end."""
        self._let_go()
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None

    def _let_go(self) -> None:
        self._run = None
        if self._trial is not None:
            self._trial.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune saves nothing: a trial keeps its own checkpoints (`bcrit.tuner.checkpoints`)."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing was saved."""
