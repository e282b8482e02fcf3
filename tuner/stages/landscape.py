"""The landscape of a run: its winners trained again for their weights, measured, and joined by paths.

Weights are made on demand rather than kept by every confirmation run: a trial depends on its settings alone, so one
training run a network gives them back, to the bit on the same machine. Kept checkpoints would cost every run of every
experiment the storage and the writing for a command that few of them see; what is made again is compared with the
recorded learning curve, and a difference is said.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bcrit.analysis.questions.landscape.result import Landscape, Network
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.records.run_folder import RunFolder, checkpoint
from bcrit.analysis.studies import steps_to_target
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import STUDY, Outcome, Stage
from bcrit.search_spaces.presets import AVERAGED, STEPS_OF
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.ledger import Ledger
from bcrit.tuner.protocol.proposal import Proposal, blank, retraining
from bcrit.tuner.protocol.protocol import protocol_of
from bcrit.tuner.session import Train
from bcrit.tuner.stages import Watch, curves_of, trials_of
from bcrit.tuner.stages import warm_starts as warm
from bcrit.tuner.stages.measure import Bench, End, Options, between, finite, first_and_largest, flat, loaded, measure
from bcrit.tuner.training.data import device_for, prepare_gpu
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.workloads.protocol import OpenWorkload, gives_model
from bcrit.tuner.workloads.registry import workload_of_run

STAGES = (Stage.LANDSCAPE, Stage.WARM_START)
"""What is trained here."""

Curve = Mapping[int, float]
"""The target's metric by step, rising."""


@dataclass(frozen=True)
class Wanted:
    """One network to have."""

    tuned: bool  # whether with the hyperparameters of its own study's winner
    number: int  # which of the study's seeds, from 0
    repeats: str | None  # the confirmation run that it is again; None where it is no run of the study
    proposal: Proposal  # the trial that trains it; its `repeats` is the search trial whose hyperparameters it has


@dataclass(frozen=True)
class Winners:
    """What is wanted, and what is not there to be wanted."""

    networks: tuple[Wanted, ...]  # by batch size, tuned before un-tuned, by seed
    left_out: tuple[str, ...]  # why studies are left out, a sentence each


def winners(trials: Sequence[Mapping[str, Any]], experiment: Experiment, seeds: int) -> Winners:
    """Name the networks of a run, from the rows of its trials table: the first `seeds` re-runs of each study's winner.

    Un-tuned means as in Keskar et al. 2016: the winning hyperparameters of the smallest batch size, the same numbers at
    every batch size, schedules with the same lengths in optimizer updates. They train to the same target, for which
    they have as many updates as the study's re-runs had; equal epochs would compare networks at different losses.
    """
    frame = to_arrow(TRIALS, trials).to_pandas()
    studies = {int(row["batch_size"]): row for row in steps_to_target(frame, experiment).to_dict("records")}
    left_out: list[str] = []
    networks: list[Wanted] = []
    smallest: tuple[str, dict[str, Any]] | None = None
    for batch_size in sorted(experiment.batch_sizes):
        why = _unusable(studies.get(batch_size))
        if why is not None:
            left_out.append(f"batch size {batch_size:,} is left out: {why}")
            continue
        point = str(studies[batch_size]["best_trial"])
        runs = _reruns(trials, batch_size, point)[:seeds]
        smallest = smallest or (point, _hyperparameters(runs[0]))
        for number, run in enumerate(runs):
            own = _again(run, point, _hyperparameters(run), number, experiment)
            networks.append(Wanted(True, number, run["trial_id"], own))
        if smallest[0] != point:
            for number, run in enumerate(runs):
                networks.append(Wanted(False, number, None, _again(run, *smallest, number, experiment)))
    return Winners(tuple(networks), tuple(left_out))


def _again(
    run: Mapping[str, Any], repeats: str, point: Mapping[str, Any], number: int, experiment: Experiment
) -> Proposal:
    """A confirmation run again, or its twin with another point, whose weights are kept."""
    return retraining(
        replace(
            blank(experiment, run["batch_size"], Stage.LANDSCAPE, number, run["round"]),
            repeats=repeats,
            seed=run["seed"],
            point=dict(point),
            max_steps=run["max_steps"],
            keep="average" if experiment.target.metric.endswith(AVERAGED) else "weights",
        )
    )


def _unusable(study: Mapping[Any, Any] | None) -> str | None:
    """Why a study has no confirmed winner."""
    if study is None:
        return "it has no finished trial"
    if math.isnan(study["steps"]):
        return "it did not reach the target"
    if study["source"] != Stage.CONFIRM:
        return "its winner was not run again on fresh seeds"
    return None


def _reruns(trials: Sequence[Mapping[str, Any]], batch_size: int, point: str) -> list[Mapping[str, Any]]:
    """The re-runs of a point that say something, in order of their seeds."""
    mine = [t for t in trials if t["batch_size"] == batch_size and t["stage"] == Stage.CONFIRM]
    mine = [t for t in mine if t["repeats"] == point and not Outcome(t["outcome"]).broken]
    return sorted(mine, key=lambda t: t["number"])


def _hyperparameters(trial: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial was trained with; lengths of its schedule in updates, in the place of shares of a budget."""
    known = {*TRIALS.known, *STEPS_OF}
    return {name: value for name, value in trial.items() if name not in known and value is not None}


def landscape(folder: RunFolder, options: Options, train: Train, watch: Watch = lambda line: None) -> Landscape:
    """Measure a run: the same every time, from the experiment's seed.

    `train` brings trials and their weights into the folder. A run that cannot be trained again here, or has no
    confirmed winner, is an InputError.
    """
    experiment = folder.read_experiment()
    workload = _workload(experiment, str(folder))
    trials = [t for t in folder.read(TRIALS).to_pylist() if t["stage"] in STUDY]
    if not trials:
        raise InputError(str(folder), ["the run has no finished trial yet; `bcrit resume` goes on with it"])
    found = winners(trials, experiment, options.seeds)
    if not found.networks:
        why = "; ".join(found.left_out)
        raise InputError(
            str(folder), [f"no study has a confirmed winner: {why}; `confirm` in an experiment asks for re-runs"]
        )
    gpus = experiment.resources.gpus if torch.cuda.is_available() else 0.0
    torch.set_num_threads(max(1, int(experiment.resources.cpus)))  # as in its trials: it decides the last bits
    if gpus:
        prepare_gpu(gpus)
    bench = _bench(workload, experiment, folder, options, gpus)
    pairs = [(wanted.tuned, wanted.proposal) for wanted in found.networks]
    networks: list[Network] = []
    ends: list[End] = []
    try:
        small = warm.small_batch(pairs, bench) if options.warm_starts else []
        train([proposal for _, proposal in pairs] + [state.proposal for state in small])
        made = _trained(bench, found.networks)
        for place, (wanted, one) in enumerate(zip(found.networks, made, strict=True), 1):
            watch(f"{place} of {len(found.networks)}: {_words(wanted)}, {one.row['steps']:,} steps")
            numbers = (
                measure(one.run.model.eval(), bench)
                if one.whole
                else {"problem": one.row["message"] or "its weights are not finite"}
            )
            networks.append(_network(wanted, one, numbers))
            if one.whole and wanted.number == 0:
                ends = first_and_largest([*ends, (networks[-1], one.run.model)])
        watch("paths between the smallest and the largest batch size")
        paths, problems = between(ends, bench)
        starts = None
        if options.warm_starts:
            starts = warm.warm_starts(pairs, bench, train, watch)
            problems += [] if starts else ["there are no warm starts: they need networks of two batch sizes"]
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(folder), [str(error)]) from error
    return Landscape(
        target=str(experiment.target),
        unit=experiment.unit,
        n_examples=len(bench.train[0]),
        n_training_set=workload.n_examples or 0,
        n_validation=len(bench.validation[0]),
        seed=experiment.seed,
        device="cpu" if not gpus else torch.cuda.get_device_name(),
        torch=torch.__version__,
        networks=tuple(networks),
        paths=paths,
        metric=warm.compared_by(workload),
        warm_starts=starts,
        notes=(*found.left_out, *problems, *_elsewhere(experiment, gpus), *_unfinished(folder, experiment)),
    )


def _workload(experiment: Experiment, where: str) -> OpenWorkload:
    """What the run trained; where its weights cannot be had, an InputError."""
    name, workload = experiment.workload.name, workload_of_run(experiment, where)
    if not gives_model(workload):
        rule = "a landscape needs a model, its data and their loss, which only a SupervisedWorkload gives"
        raise InputError(where, [f"{rule}, but '{name}' is none; the libraries of tuner.training.landscape take any"])
    if experiment.execution.sharded:
        rule = "a landscape needs all weights in one process, which 'execution.sharded' divides"
        raise InputError(where, [f"{rule}; run the experiment without it"])
    return workload


def _elsewhere(experiment: Experiment, gpus: float) -> list[str]:
    if not experiment.resources.gpus or gpus:
        return []
    return ["the run trained on a GPU, but there is none here: the networks were measured on the CPU"]


def _unfinished(folder: RunFolder, experiment: Experiment) -> list[str]:
    if protocol_of(experiment).next_trial(Ledger.open(folder, experiment).records, ()) is None:
        return []
    return ["the run is not complete, so winners may still change; `bcrit resume` goes on with it"]


def _bench(workload: OpenWorkload, experiment: Experiment, folder: RunFolder, options: Options, gpus: float) -> Bench:
    drawn = [workload.sample(part, options.examples, experiment.seed) for part in ("train", "validation")]
    train, validation = ((inputs.to(device_for(gpus)), targets.to(device_for(gpus))) for inputs, targets in drawn)
    return Bench(workload, experiment, folder, options, gpus, train, validation)


@dataclass(frozen=True)
class _Trained:
    """A network at the end of its training."""

    row: Mapping[str, Any]  # of the trials table
    curve: Curve
    recorded: Curve | None  # of the run that it repeats
    run: SupervisedRun  # of its weights; the network that the target speaks of
    start: torch.Tensor  # its weights at initialisation, as `flat` gives them
    metrics: Mapping[str, float]  # all of the workload's, of these weights

    @property
    def whole(self) -> bool:
        """Whether all its weights are numbers."""
        return bool(flat(self.run.model).isfinite().all())


def _trained(bench: Bench, networks: Sequence[Wanted]) -> Iterator[_Trained]:
    """Read the networks one by one, as memory holds few of them."""
    metric, names = bench.experiment.target.metric, {wanted.proposal.trial_id for wanted in networks}
    rows = trials_of(bench.folder, names)
    traces = curves_of(bench.folder, [metric], names | {wanted.repeats for wanted in networks if wanted.repeats})
    curves = {name: {at["step"]: at[metric] for at in trace} for name, trace in traces.items()}
    for wanted in networks:
        name = wanted.proposal.trial_id
        run, start = loaded(bench, wanted.proposal, rows[name]["message"])
        metrics = {key: value for key, value in run.evaluate().items() if not key.endswith(AVERAGED)}
        recorded = None if wanted.repeats is None else curves[wanted.repeats]
        yield _Trained(rows[name], curves[name], recorded, run, start, metrics)


def difference(made: Curve, recorded: Curve) -> float:
    """The largest relative difference of two curves over the steps that both have; infinite where there is none.

    Equal curves differ by 0, NaN at the same step included.
    """
    gaps = []
    for step, value in made.items():
        if step in recorded:
            other = recorded[step]
            same = value == other or (math.isnan(value) and math.isnan(other))
            gaps.append(0.0 if same else abs(value - other) / max(abs(other), 1e-300))
    return max((math.inf if math.isnan(gap) else gap for gap in gaps), default=math.inf)


def _network(wanted: Wanted, made: _Trained, numbers: Mapping[str, Any]) -> Network:
    recorded, proposal, end = made.recorded, wanted.proposal, flat(made.run.model)
    gap = None if recorded is None else difference(made.curve, recorded)
    last = list(made.curve.values())[-1] if made.curve else math.nan
    return Network(
        batch_size=proposal.batch_size,
        tuned=wanted.tuned,
        number=wanted.number,
        seed=proposal.seed,
        trial_id=wanted.repeats,
        point=str(proposal.repeats),
        checkpoint=checkpoint(proposal.trial_id),
        outcome=made.row["outcome"],
        steps=made.row["steps"],
        n_weights=len(end),
        metric=finite(last),
        metrics={name: finite(value) for name, value in made.metrics.items()} if made.whole else {},
        # A run that trained beyond its target was recorded further than it is repeated.
        same_curve=None if recorded is None else gap == 0 and made.row["steps"] in recorded,
        curve_difference=None if gap is None else finite(gap),
        recorded_steps=max(recorded) if recorded else None,
        weight_distance=float((end - made.start).norm()) if made.whole else None,
        weight_norm=float(end.norm()) if made.whole else None,
        **numbers,
    )


def _words(wanted: Wanted) -> str:
    kind = "winner" if wanted.tuned else "un-tuned"
    return f"batch size {wanted.proposal.batch_size:,}, {kind}, seed {wanted.number + 1}"
