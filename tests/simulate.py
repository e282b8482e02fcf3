"""Run an experiment's protocol in this process, without Ray or files: for tests of everything that only decides."""

from __future__ import annotations

import random
from collections import defaultdict

from search_spaces.experiment import Experiment
from search_spaces.outcome import Stage
from tuner.protocol.proposal import Proposal, TrialRecord
from tuner.protocol.protocol import PerStudyProtocol
from tuner.training.settings import Settings
from tuner.training.trial import Limits, Trial
from tuner.workloads.protocol import Workload


def run_trial(experiment: Experiment, workload: Workload, proposal: Proposal) -> TrialRecord:
    settings = Settings(proposal.batch_size, proposal.seed, experiment.optimizer, proposal.hyperparameters)
    rungs = tuple((rung.step, rung.cutoff) for rung in proposal.rungs)
    stop = proposal.stop_at_target
    coarse = stop and proposal.stage is Stage.SEARCH
    limits = Limits(proposal.max_steps, proposal.capped, rungs, experiment.resolution, stop, coarse)
    trial = Trial(lambda: workload.begin(settings), experiment.target, limits)
    curve: list[tuple[int, float]] = []
    while trial.ending is None:
        curve += [(m.step, m.metrics[experiment.target.metric]) for m in trial.advance(60)]
    end = trial.ending
    return TrialRecord(
        trial_id=proposal.trial_id,
        batch_size=proposal.batch_size,
        stage=proposal.stage,
        number=proposal.number,
        round=proposal.round,
        repeats=proposal.repeats,
        seed=proposal.seed,
        outcome=end.outcome,
        message=end.message,
        max_steps=proposal.max_steps,
        steps=end.steps,
        examples=end.steps * proposal.batch_size,
        steps_to_target=None if end.crossing is None else end.crossing.steps,
        steps_to_target_low=None if end.crossing is None else end.crossing.steps_low,
        best_value=end.best_value,
        train_seconds=0.0,
        evaluate_seconds=0.0,
        started_at=0.0,
        ended_at=0.0,
        point=proposal.point,
        curve=curve,
    )


def simulate(
    experiment: Experiment,
    workload: Workload,
    *,
    workers: int = 1,
    disorder: int = 0,
    records: dict[int, list[TrialRecord]] | None = None,
    at_most: int = 10**9,
) -> dict[int, list[TrialRecord]]:
    """Run to the end with this many workers, whose trials end in an order that `disorder` shuffles."""
    protocol, order = PerStudyProtocol(experiment), random.Random(disorder)
    found: dict[int, list[TrialRecord]] = defaultdict(list, {b: list(r) for b, r in (records or {}).items()})
    running: dict[str, Proposal] = {}
    done = 0
    while done < at_most:
        while len(running) < workers and (proposal := protocol.next_trial(found, running)) is not None:
            running[proposal.trial_id] = proposal
        if not running:
            break
        name = order.choice(sorted(running))
        proposal = running.pop(name)
        found[proposal.batch_size].append(run_trial(experiment, workload, proposal))
        done += 1
    return found


def searched(records: dict[int, list[TrialRecord]], batch_size: int) -> list[TrialRecord]:
    return sorted((r for r in records[batch_size] if r.stage is Stage.SEARCH), key=lambda r: r.number)
