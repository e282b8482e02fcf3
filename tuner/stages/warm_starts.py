"""Large-batch training from the iterates of a small-batch run (Keskar et al. 2016, section 4, Figure 5)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bcrit.analysis.questions.landscape.result import Kind, WarmStarts, WarmState
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.target import Direction
from bcrit.tuner.checkpoints import kept
from bcrit.tuner.protocol.proposal import Proposal, retraining
from bcrit.tuner.session import Train
from bcrit.tuner.stages import Watch, curves_of, trials_of
from bcrit.tuner.stages.measure import Bench, finite, flat, loaded, sharpness_alone
from bcrit.tuner.workloads.protocol import OpenWorkload


@dataclass(frozen=True)
class State:
    """One set of weights to have: an iterate of the small batch, or the end of the large batch from one."""

    kind: Kind
    number: int  # which of the seeds
    small_steps: int
    proposal: Proposal


def warm_starts(
    networks: Sequence[tuple[bool, Proposal]], bench: Bench, train: Train, watch: Watch
) -> WarmStarts | None:
    """Train the small batch to some iterates, and the large batch on from each.

    `networks` are those of the landscape in its order, with whether each is tuned; None where they are all of one batch
    size. The small batch trains for the budget of a search trial with the hyperparameters of its winner, also beyond
    the target, and so does the large batch from every iterate: with its own winner's hyperparameters and, as in the
    paper, with those of the small batch. A budget of 100 epochs is the paper's. Optimizer state, schedule and data
    order begin afresh. Iterate 0 is the initialisation, so its large-batch runs are ordinary ones of full length.
    """
    small = small_batch(networks, bench)
    if not small:
        return None
    smallest, largest = networks[0][1].batch_size, networks[-1][1].batch_size
    experiment, workload = bench.experiment, bench.workload
    n, length = _n_examples(bench), experiment.budget.max_steps(largest)
    train([state.proposal for state in small])
    ended = trials_of(bench.folder, {state.proposal.trial_id for state in small})
    whole = {name for name, row in ended.items() if _problem(row) is None and _finite_weights(bench.folder, name)}
    large = [
        State("tuned" if tuned else "un-tuned", own.number, start.small_steps, _on(own, length, start.proposal))
        for start in small
        if start.proposal.trial_id in whole
        for tuned, own in networks
        if own.batch_size == largest and own.number == start.number
    ]
    watch(f"warm starts: {len(large)} runs of batch size {largest:,} from them")
    train([state.proposal for state in large])
    states = [one for start in small for one in (start, *(state for state in large if _from(state, start)))]
    return WarmStarts(
        small=smallest,
        large=largest,
        small_examples_a_step=workload.rows(smallest),
        large_epochs=length * workload.rows(largest) / n,
        n_training_set=n,
        eps=max(bench.options.eps),
        metric=compared_by(workload),
        states=tuple(_measured(bench, states)),
    )


def small_batch(networks: Sequence[tuple[bool, Proposal]], bench: Bench) -> list[State]:
    """The iterates of the small batch, by seed; none where all networks are of one batch size."""
    smallest, largest = networks[0][1].batch_size, networks[-1][1].batch_size
    if smallest == largest:
        return []
    epoch = _n_examples(bench) // bench.workload.rows(smallest)
    iterated = iterates(bench.experiment.budget.max_steps(smallest), epoch, bench.options.warm_starts)
    own = [network for tuned, network in networks if tuned and network.batch_size == smallest]
    return [State("small", network.number, steps, _on(network, steps)) for network in own for steps in iterated]


def _n_examples(bench: Bench) -> int:
    return bench.workload.n_examples or len(bench.train[0])


def _on(network: Proposal, steps: int, start: Proposal | None = None) -> Proposal:
    """A network's settings for so many updates, whatever it reaches, from its initialisation or another's weights."""
    return retraining(
        replace(
            network,
            stage=Stage.WARM_START,
            max_steps=steps,
            stop_at_target=False,
            start=None if start is None else start.trial_id,
            keep="weights",
        )
    )


def _from(state: State, start: State) -> bool:
    return state.proposal.start == start.proposal.trial_id


def _problem(row: Mapping[str, Any]) -> str | None:
    """Why a run did not come to its end, however its trial is called: it may have reached the target before."""
    if row["steps"] == row["max_steps"] and not Outcome(row["outcome"]).broken:
        return None
    return f"it ended after {row['steps']:,} of {row['max_steps']:,} updates: {row['message'] or row['outcome']}"


def _finite_weights(folder: RunFolder, trial_id: str) -> bool:
    weights = kept(folder, trial_id) or {}
    return bool(weights) and all(bool(w.isfinite().all()) for w in weights.values() if w.is_floating_point())


def compared_by(workload: OpenWorkload) -> str:
    """The first metric that is maximised, as an accuracy is (what Keskar et al. 2016 compare), else the first."""
    rising = (name for name, way in workload.metrics.items() if Direction(way) is Direction.MAXIMIZE)
    return next(rising, next(iter(workload.metrics)))


def iterates(whole: int, epoch: int, count: int) -> list[int]:
    """After how many updates of the small batch the large one starts: 0, and from an epoch to the end in equal factors.

    `count` of them, 2 at least; fewer where the run, of `whole` updates, has not as many. The paper keeps the iterate
    of every epoch; what changes early needs the fine steps, and few of them are enough later. Where the run is short
    its first iterate comes before an epoch, so that the factors are 2 at least.
    """
    first = max(1, min(epoch, whole >> (count - 2)))
    factors = [(whole / first) ** (i / max(1, count - 2)) for i in range(count - 1)]
    return sorted({0, *(round(first * factor) for factor in factors[:-1] if count > 2), whole})


def _measured(bench: Bench, states: Sequence[State]) -> list[WarmState]:
    names = {state.proposal.trial_id for state in states}
    # The metrics whose direction is known, which are of the weights themselves.
    trials, curves = trials_of(bench.folder, names), curves_of(bench.folder, list(bench.workload.metrics), names)
    return [_state(bench, state, trials[(name := state.proposal.trial_id)], curves[name]) for state in states]


def _state(bench: Bench, wanted: State, row: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> WarmState:
    """Measure weights."""
    proposal, workload = wanted.proposal, bench.workload
    own = list(workload.metrics)
    metrics = [{name: math.nan if at[name] is None else float(at[name]) for name in own} for at in curve]
    run, start = loaded(bench, proposal, row["message"])
    distance = float((flat(run.model) - start).norm())
    if not math.isfinite(distance):
        measured: dict[str, Any] = {"problem": "its weights are not finite"}
    else:
        measured = sharpness_alone(run.model.eval(), bench)
    measured["problem"] = measured.get("problem") or _problem(row)
    small = wanted.kind == "small"
    best = {name: _best(workload, name, [at[name] for at in metrics]) for name in workload.metrics}
    return WarmState(
        kind=wanted.kind,
        number=wanted.number,
        small_steps=wanted.small_steps,
        large_steps=0 if small else row["steps"],
        last=_finite(metrics[-1]),
        best=_finite(metrics[-1] if small else best),
        train_loss=measured.get("train_loss"),
        sharpness=measured.get("sharpness"),
        weight_distance=finite(distance),
        problem=measured.get("problem"),
    )


def _best(workload: OpenWorkload, name: str, values: Sequence[float]) -> float:
    known, sign = (value for value in values if not math.isnan(value)), Direction(workload.metrics[name]).sign
    return min(known, key=lambda value: sign * value, default=math.nan)


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: finite(value) for name, value in metrics.items()}
