"""Run an experiment's protocol in this process, without Ray or files: for tests of everything that only decides."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.resources import Resources
from bcrit.tuner.dispatch import Dispatcher, Row, limits_of
from bcrit.tuner.ledger import record_of, trial_row
from bcrit.tuner.protocol.proposal import Only, Proposal, TrialRecord
from bcrit.tuner.protocol.protocol import protocol_of
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.trial import Ending, Trial, as_row
from bcrit.tuner.workloads.protocol import Workload


def scripted(**changes: Any) -> Experiment:
    """An experiment on the exact hyperbola."""
    data = {
        "workload": "tests.scripted:ExactHyperbola",
        "batch_sizes": [8, 64, 512],
        "target": "loss < 1",
        "space": {"lr": "log from 0.001 to 10", "momentum": "reverse_log from 0 to 0.99"},
        "budget": {"steps": 500, "examples": 10_000},
        "confirm": {"points": 2, "seeds": 2},
        **changes,
    }
    return parse_experiment(data, "test")


def train(experiment: Experiment, workload: Workload, proposal: Proposal) -> tuple[list[Row], Ending]:
    """All measurements of a trial under its proposal's limits, and its end."""
    settings = Settings(proposal.batch_size, proposal.seed, experiment.optimizer, proposal.hyperparameters)
    limits = limits_of(proposal, experiment)
    trial = Trial(lambda: workload.begin(settings), experiment.target, limits)
    rows: list[Row] = []
    while trial.ending is None:
        rows += [as_row(m, proposal.trial_id, proposal.batch_size) for m in trial.advance(60)]
    return rows, trial.ending


def record(
    experiment: Experiment, proposal: Proposal, rows: Sequence[Row], end: Ending, ended: float | None = None
) -> TrialRecord:
    """A trial as the ledger has it; its times are those of a clock on which an update takes a second, where one is."""
    began, ended = (0.0, 0.0) if ended is None else (ended - end.steps, ended)
    end = replace(end, train_seconds=0.0, evaluate_seconds=0.0, started_at=began, ended_at=ended)
    return record_of(trial_row(proposal, end), [(row["step"], row[experiment.target.metric]) for row in rows])


def run_trial(experiment: Experiment, workload: Workload, proposal: Proposal) -> TrialRecord:
    return record(experiment, proposal, *train(experiment, workload, proposal))


def simulate(
    experiment: Experiment,
    workload: Workload,
    *,
    workers: int = 1,
    disorder: int | None = 0,
    deaf: float = 0.0,
    lost: float = 0.0,
    records: dict[int, list[TrialRecord]] | None = None,
    at_most: int = 10**9,
    kind: Resources | None = None,
) -> dict[int, list[TrialRecord]]:
    """Run to the end with this many workers, whose trials end in an order that `disorder` shuffles.

    With None it is the order of a clock on which every update takes a second; the records have its times.
    A share `deaf` of the trials is not told that its horizon fell; a share `lost` dies with its worker. The workers may
    be there for trials of one kind alone.
    """
    order, now = random.Random(disorder), 0.0
    found: dict[int, list[TrialRecord]] = defaultdict(list, {b: list(r) for b, r in (records or {}).items()})

    def keep(proposal: Proposal, rows: Sequence[Row], ending: Ending | None) -> None:
        if ending is not None:
            ended = now if disorder is None else None
            found[proposal.batch_size].append(record(experiment, proposal, rows, ending, ended))

    protocol = protocol_of(experiment, horizon_falls=True)
    protocol = protocol if kind is None else Only(protocol, experiment.resources, kind)
    dispatcher = Dispatcher(protocol, found, experiment.target, keep)
    taken: dict[str, Proposal] = {}
    made: dict[str, tuple[float, list[Row], Ending]] = {}  # what a trial makes, and when it ends, by the clock
    done = 0
    while done < at_most:
        while len(dispatcher.running) < workers and (proposal := dispatcher.take()) is not None:
            taken[proposal.trial_id] = proposal
            if disorder is None:
                rows, ending = train(experiment, workload, proposal)
                made[proposal.trial_id] = now + ending.steps, rows, ending
        at_work = {proposal.trial_id: proposal for proposal in dispatcher.running}
        if not at_work:
            break
        dispatcher.ahead()  # as it is in a session: it changes nothing
        if disorder is None:
            name = min(at_work, key=lambda each: (made[each][0], each))
            now, rows, ending = made.pop(name)
        else:
            name = order.choice(sorted(at_work))
            if order.random() < lost:
                dispatcher.lost(name)
                continue
            rows, ending = train(experiment, workload, taken[name] if order.random() < deaf else at_work[name])
        dispatcher.ended(name, rows, ending)
        dispatcher.falls()
        done += 1
    return found


def searched(records: dict[int, list[TrialRecord]], batch_size: int) -> list[TrialRecord]:
    return sorted((r for r in records[batch_size] if r.stage is Stage.SEARCH), key=lambda r: r.number)
