"""A glance at an experiment: the beginning of one trial at a batch size, by a worker's own code but without Ray."""

import os
import time
from dataclasses import dataclass

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.protocol.protocol import protocol_of
from bcrit.tuner.stages.pilot import ONE_TRIAL, pilot_point, small
from bcrit.tuner.trainable import Worker
from bcrit.tuner.workloads.registry import is_function

_EVALUATIONS = 2  # after the start: the second tells the time of an update without what the first had to get ready


@dataclass(frozen=True)
class Glance:
    """What the beginning of a trial showed."""

    batch_size: int
    budget_steps: int  # optimizer updates of a search trial
    evaluate_every: int | None  # updates between its last two evaluations
    step_seconds: float | None  # of an update; with evaluation where a function or program does not tell it apart
    start_seconds: float | None  # to the first evaluation
    memory: int | None  # bytes that it held at most
    metrics: dict[str, float]  # of the last evaluation
    problem: str | None  # why there are no two evaluations; None where there are


def glance(experiment: Experiment, batch_size: int) -> Glance:
    """Train to the second evaluation at the middle of the space: two updates, or what a function or program makes.

    Whatever the training code does wrong comes back as the `problem`, in the words of a trial's outcome.
    """
    space = experiment.space_at(batch_size)
    data = {**small(experiment, "check", space, pilot_point(space)), **ONE_TRIAL, "batch_sizes": [batch_size]}
    alone = parse_experiment(data, "check")
    proposal = protocol_of(alone).next_trial({}, ())
    assert proposal is not None, "an experiment has a first trial"
    worker = Worker.__new__(Worker)  # Tune's own beginning looks for Ray
    worker.setup({}, alone.to_dict(), os.getcwd(), is_function(alone.workload.name))
    seen: list[tuple[int, float]] = []  # step, seconds in training by then
    metrics: dict[str, float] = {}
    waited = ending = None
    problem = worker.step()["problem"]
    began = time.perf_counter()
    if problem is None:
        worker.offer(proposal, 0.1)
    while problem is None and ending is None:
        said = worker.step()
        problem, ending = said.get("died"), said.get("ending")
        for row in said.get("rows", ()):
            waited = time.perf_counter() - began if waited is None else waited
            seen.append((row["step"], row["train_seconds"]))
            metrics = {name: row[name] for name in MEASUREMENTS.beside(row)}
        if sum(step > 0 for step, _ in seen) >= _EVALUATIONS:
            worker.lower(proposal.trial_id, 0)
    worker.cleanup()
    if ending is not None and (ending.outcome is Outcome.DIVERGED or ending.outcome.broken or len(seen) < 2):
        problem = f"{ending.outcome}: {ending.message or ending.outcome.sentence}"
    every = pace = None
    if len(seen) > 1:
        (earlier, since), (step, seconds) = seen[-2:]
        every, pace = step - earlier, (seconds - since) / (step - earlier)
    memory, budget = None if ending is None else ending.memory, experiment.budget.max_steps(batch_size)
    return Glance(batch_size, budget, every, pace, waited, memory, metrics, problem)
