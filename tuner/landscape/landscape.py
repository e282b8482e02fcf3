"""The landscape of a run: its winners trained again, measured, and joined by paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from bcrit.analysis.questions.landscape.result import Landscape, Network
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS
from bcrit.tuner.landscape.measure import Options, Rows, finite, measure
from bcrit.tuner.landscape.paths import End, between, kept
from bcrit.tuner.landscape.trained import Curve, Trained, difference, last_value, trained
from bcrit.tuner.landscape.wanted import Wanted, Winners, winners
from bcrit.tuner.landscape.warm_start import Bench, compared_by, warm_starts
from bcrit.tuner.ledger import Ledger
from bcrit.tuner.protocol.protocol import PerStudyProtocol
from bcrit.tuner.training.device import device_for, prepare_gpu
from bcrit.tuner.workloads.protocol import OpenWorkload, gives_model
from bcrit.tuner.workloads.registry import workload_of_run

Watch = Callable[[str], None]
"""Called with a line whenever something is done."""


def landscape(folder: RunFolder, options: Options, watch: Watch = lambda line: None) -> Landscape:
    """Measure a run. Weights are kept in the folder's `checkpoints`; nothing else is written.

    Args:
        folder: a run with confirmed studies.
        options: how it is measured.
        watch: told of the progress.

    Returns:
        What was measured; the same every time, from the experiment's seed.

    Raises:
        InputError: the run cannot be trained again here, or has no confirmed winner.
    """
    experiment = folder.read_experiment()
    workload = _workload(experiment, str(folder))
    gpus = experiment.resources.gpus if torch.cuda.is_available() else 0.0
    found = _winners(folder, experiment, options.seeds, gpus)
    torch.set_num_threads(max(1, int(experiment.resources.cpus)))  # as in its trials: it decides the last bits
    if gpus:
        prepare_gpu(gpus)
    recorded = _recorded(folder, experiment, found.networks)
    rows = _rows(workload, options, experiment.seed, device_for(gpus))
    networks: list[Network] = []
    ends: list[End] = []
    try:
        for place, wanted in enumerate(found.networks, 1):
            watch(f"{place} of {len(found.networks)}: {_words(wanted)}")
            made = trained(wanted, workload, experiment, folder, lambda step: watch(f"  step {step:,}"))
            watch(f"  {'read from' if made.read else 'trained'} {made.checkpoint}: {made.steps:,} steps")
            numbers = (
                measure(made.model, workload, rows, options, experiment.seed)
                if made.whole
                else {"problem": made.message or "its weights are not finite"}
            )
            networks.append(_network(wanted, made, recorded.get(wanted.name), numbers))
            if made.whole and wanted.number == 0:
                ends = kept([*ends, (networks[-1], made.model)])
        watch("paths between the smallest and the largest batch size")
        paths, problems = between(ends, workload, rows)
        warm = None
        if options.warm_starts:
            warm = warm_starts(found.networks, Bench(workload, experiment, folder, rows, options), watch)
            problems += [] if warm else ["there are no warm starts: they need networks of two batch sizes"]
    except ValueError as error:
        raise InputError(str(folder), [str(error)]) from error
    return Landscape(
        target=str(experiment.target),
        unit=experiment.unit,
        n_examples=len(rows.train[0]),
        n_training_set=workload.n_examples or 0,
        n_validation=len(rows.validation[0]),
        seed=experiment.seed,
        device="cpu" if not gpus else torch.cuda.get_device_name(),
        torch=torch.__version__,
        networks=tuple(networks),
        paths=paths,
        metric=compared_by(workload),
        warm_starts=warm,
        notes=(*found.left_out, *problems, *_elsewhere(experiment, gpus), *_unfinished(folder, experiment)),
    )


def _workload(experiment: Experiment, where: str) -> OpenWorkload:
    """What the run trained, if its weights can be had.

    Raises:
        InputError: they cannot.
    """
    name, workload = experiment.workload.name, workload_of_run(experiment, where)
    if not gives_model(workload):
        rule = "a landscape needs a model, its data and their loss, which only a SupervisedWorkload gives"
        raise InputError(where, [f"{rule}, but '{name}' is none; the libraries of tuner.training.landscape take any"])
    return workload


def _winners(folder: RunFolder, experiment: Experiment, seeds: int, gpus: float) -> Winners:
    rows: list[dict[str, Any]] = folder.read(TRIALS).to_pylist()
    if not rows:
        raise InputError(str(folder), ["the run has no finished trial yet; `bcrit resume` goes on with it"])
    found = winners(rows, experiment, seeds, gpus)
    if not found.networks:
        why = "; ".join(found.left_out)
        raise InputError(
            str(folder), [f"no study has a confirmed winner: {why}; `confirm` in an experiment asks for re-runs"]
        )
    return found


def _elsewhere(experiment: Experiment, gpus: float) -> list[str]:
    if not experiment.resources.gpus or gpus:
        return []
    return ["the run trained on a GPU, but there is none here: the networks were trained again on the CPU"]


def _unfinished(folder: RunFolder, experiment: Experiment) -> list[str]:
    if PerStudyProtocol(experiment).next_trial(Ledger.open(folder, experiment).records, ()) is None:
        return []
    return ["the run is not complete, so winners may still change; `bcrit resume` goes on with it"]


def _rows(workload: OpenWorkload, options: Options, seed: int, device: torch.device) -> Rows:
    drawn = [workload.sample(part, options.examples, seed) for part in ("train", "validation")]
    train, validation = ((inputs.to(device), targets.to(device)) for inputs, targets in drawn)
    return Rows(train, validation)


def _recorded(folder: RunFolder, experiment: Experiment, wanted: Sequence[Wanted]) -> Mapping[str, Curve]:
    """The learning curves of the runs that are repeated."""
    metric, names = experiment.target.metric, {w.trial_id for w in wanted if w.trial_id is not None}
    rows = folder.select(MEASUREMENTS, ["trial_id", "step", metric], names).to_pylist()
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
    for row in sorted(rows, key=lambda row: row["step"]):
        found[row["trial_id"]].append((row["step"], row[metric]))
    return {name: tuple(curve) for name, curve in found.items()}


def _network(wanted: Wanted, made: Trained, recorded: Curve | None, numbers: Mapping[str, Any]) -> Network:
    gap = None if recorded is None else difference(made.curve, recorded)
    steps = None if recorded is None or not recorded else recorded[-1][0]
    return Network(
        batch_size=wanted.settings.batch_size,
        tuned=wanted.tuned,
        number=wanted.number,
        seed=wanted.settings.seed,
        trial_id=wanted.trial_id,
        point=wanted.point,
        checkpoint=made.checkpoint,
        outcome=made.outcome,
        steps=made.steps,
        n_weights=made.n_weights,
        metric=last_value(made.curve),
        metrics=made.metrics if made.whole else {},
        # A run that trained beyond its target was recorded further than it is repeated.
        same_curve=None if recorded is None else gap == 0 and made.steps in dict(recorded),
        curve_difference=None if gap is None else finite(gap),
        recorded_steps=steps,
        weight_distance=made.weight_distance if made.whole else None,
        weight_norm=made.weight_norm if made.whole else None,
        **numbers,
    )


def _words(wanted: Wanted) -> str:
    kind = "winner" if wanted.tuned else "un-tuned"
    return f"batch size {wanted.settings.batch_size:,}, {kind}, seed {wanted.number + 1}"


__all__ = ["Watch", "landscape"]
