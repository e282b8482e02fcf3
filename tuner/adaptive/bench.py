"""What all runs of `bcrit adaptive` share: the workload, what its studies tuned, micro-batches and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from bcrit.analysis.questions.adaptive.result import Trained
from bcrit.analysis.records.run_folder import ADAPTIVE_RUNS, RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.adaptive import kept
from bcrit.tuner.adaptive.training import train
from bcrit.tuner.adaptive.tuned import Tuned, tuned
from bcrit.tuner.training.batch_schedule import BatchPlan, Ramp, Schedule, TunedRates
from bcrit.tuner.training.device import prepare_gpu
from bcrit.tuner.training.micro_batches import smallest_piece
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.protocol import OpenWorkload, PlannedWorkload, follows_plan, gives_model, says, unfit
from bcrit.tuner.workloads.registry import workload_of_run

Watch = Callable[[str], None]
"""Called with a line whenever something is done."""

_STREAM = 1812  # second word of the seed: a stream that nothing else draws from


@dataclass(frozen=True)
class Bench:
    """What all runs share.

    Attributes:
        folder: of the run, which keeps what is trained.
        workload: what is trained.
        experiment: its target and resolution.
        found: what the studies tuned.
        settings: of every run, less its seed and its plan of batch sizes.
        micro_batch: examples in a micro-batch; None where the noise is known exactly.
        seeds: of every schedule.
        deterministic: whether every seed would give the same curve.
        watch: told of the progress.
    """

    folder: RunFolder
    workload: PlannedWorkload
    experiment: Experiment
    found: Tuned
    settings: Settings
    micro_batch: int | None
    seeds: Sequence[int]
    deterministic: bool
    watch: Watch

    @property
    def device(self) -> str:
        """What trains."""
        return "cpu" if not self.settings.gpus else torch.cuda.get_device_name()

    def runs(self, name: str, schedule: Schedule, max_steps: int) -> list[Trained]:
        """The runs of one schedule, trained or as they were kept; a line for all."""
        plan = BatchPlan(schedule, TunedRates(self.found.batch_sizes, self.found.rates), self.micro_batch)
        made, read = [], 0
        for number, seed in enumerate(self.seeds):
            settings = replace(self.settings, seed=seed, batches=plan)
            path = kept.path_of(name, number)
            key = kept.key_of_run(settings, self.experiment, max_steps, self.device)
            run = kept.read(self.folder, path, key)
            read += run is not None
            if run is None:
                run = train(self.workload, self.experiment, settings, name, number, max_steps)
                run = kept.write(self.folder, path, key, run)
            made.append(run)
        reached = [run.steps for run in made if run.steps is not None]
        said = f"{name}: {len(reached)} of {len(made)} reached the target"
        if reached:
            said += f", {min(reached):,} to {max(reached):,} steps"
        if read:
            said += f", {read} read from {ADAPTIVE_RUNS}/"
        why = next((run.message for run in made if run.steps is None and run.message is not None), None)
        self.watch(said if why is None else f"{said} ({why})")
        return made


def prepare(folder: RunFolder, ramps: Sequence[Ramp], seeds: int, watch: Watch) -> Bench:
    """Read what the runs share, and refuse what cannot be trained before hours are spent.

    Args:
        folder: a run with confirmed studies.
        ramps: that will be trained.
        seeds: of every schedule, where they differ.
        watch: told of the progress.

    Returns:
        The bench.

    Raises:
        InputError: the run cannot be trained again here, its studies do not do, or a ramp has an impossible batch size.
    """
    experiment, where = folder.read_experiment(), str(folder)
    workload = _workload(experiment, where)
    found = tuned(folder.read(TRIALS).to_pylist(), experiment, where)
    if problems := _impossible(workload, ramps):
        raise InputError("--ramp", problems)
    gpus = experiment.resources.gpus if torch.cuda.is_available() else 0.0
    torch.set_num_threads(max(1, int(experiment.resources.cpus)))  # as in its trials
    if gpus:
        prepare_gpu(gpus)
    execution = experiment.execution.model_copy(update={"compile": False})  # a size that changes is compiled anew
    middle = found.batch_sizes[len(found.batch_sizes) // 2]
    settings = Settings(middle, 0, experiment.optimizer, {**found.kept, "lr": found.rates[0]}, execution, gpus)
    micro_batch = _micro_batch(workload, settings, found, where) if gives_model(workload) else None
    deterministic = says(workload, "deterministic")
    drawn = np.random.default_rng((experiment.seed, _STREAM)).integers(2**31, size=1 if deterministic else seeds)
    numbers = [int(seed) for seed in drawn]
    return Bench(folder, workload, experiment, found, settings, micro_batch, numbers, deterministic, watch)


def _workload(experiment: Experiment, where: str) -> PlannedWorkload:
    """What the run trained, if its batch size can change.

    Raises:
        InputError: it cannot.
    """
    name, workload = experiment.workload.name, workload_of_run(experiment, where)
    if not follows_plan(workload):
        rule = "batch sizes change along a run in our own loop only: that of a SupervisedWorkload, and noisy_quadratic"
        raise InputError(where, [f"{rule}, but '{name}' is neither; tuner.training.batch_schedule has the parts"])
    return workload


def _impossible(workload: PlannedWorkload, ramps: Sequence[Ramp]) -> list[str]:
    """The batch sizes of ramps that the workload cannot make."""
    problems = []
    for batch_size in sorted({size for ramp in ramps for _, size in ramp.stages}):
        if workload.n_examples is not None and batch_size > workload.n_examples:
            rule = f"every batch size must be at most the training set of {workload.n_examples} {workload.unit}"
            problems.append(f"{rule}, but one is {batch_size}; choose a smaller one")
            continue
        if why := unfit(workload, batch_size):
            problems.append(why)
    return problems


def _micro_batch(workload: OpenWorkload, settings: Settings, found: Tuned, where: str) -> int:
    """Half of the smallest batch size, so that all have two; whole ghost batches.

    Raises:
        InputError: the model or its loss mixes the examples of a batch.
    """
    state = torch.get_rng_state()
    model = workload.model(settings)
    torch.set_rng_state(state)
    least = smallest_piece(model) if workload.divisible else None
    if least is None:
        rule = "the noise scale is measured between micro-batches, whose examples must not influence the others'"
        why = "batch normalisation does; set 'ghost_batch_size', or take a model without"
        raise InputError(where, [f"{rule}, but here they do: {why if workload.divisible else 'its loss mixes them'}"])
    item = settings.batch_size / workload.rows(settings.batch_size)
    half = max(1, workload.rows(found.batch_sizes[0]) // 2)
    return round(max(least, half // least * least) * item)


__all__ = ["Bench", "Watch", "prepare"]
