"""How busy many workers are kept, and what that costs in optimizer updates: the dispatcher on a simulated clock.

Eight studies of the default search run on 2, 16 and 64 workers. A trial takes 2 s on average at each batch size; its
worker reports every 0.2 s, is told a lower horizon at its next report, and needs 20 ms between two trials. Trials are
trained for real, on the scripted hyperbola; only the clock is simulated, so nothing else on this machine matters.

Side by side: two trials of a study at once, which was the default; twice the workers' share at once, each trial's
horizon settled when it begins; and the default, the same with horizons that fall. Updates count all that was trained,
also what was cut off afterwards, as a share of two at once on 16 workers. `found` is what the best points of the search
cost, log(steps-to-target) against the same.

    python -m benchmarks.idle_workers
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.tuner.dispatch import Dispatcher, Row
from bcrit.tuner.protocol.proposal import Proposal, TrialRecord
from bcrit.tuner.protocol.protocol import PerStudyProtocol, resolved
from bcrit.tuner.training.trial import Ending
from tests.scripted import ExactHyperbola
from tests.simulate import record, searched, train

SEEDS = 3
TRIAL_SECONDS, REPORT_SECONDS, BETWEEN_SECONDS = 2.0, 0.2, 0.02


def experiment(seed: int) -> Experiment:
    """Eight studies of the default search."""
    data = {
        "workload": "tests.scripted:ExactHyperbola",
        "batch_sizes": [8, 16, 32, 64, 128, 256, 512, 1024],
        "target": "loss < 1",
        "space": {"lr": "log from 0.001 to 10", "momentum": "reverse_log from 0 to 0.99"},
        "budget": {"steps": 800, "examples": 10_000},
        "seed": seed,
    }
    return parse_experiment(data, "benchmark")


@dataclass
class AtWork:
    """A trial on its worker: all that it would make, when it begins, and the step after which it ends."""

    rows: Sequence[Row]
    ending: Ending
    begins: float
    stop: int


@dataclass(frozen=True)
class Result:
    """Share of the workers' time in training, seconds, updates, log of the steps found, seconds a step by study."""

    busy: float
    seconds: float
    steps: int
    found: float
    mean_steps: Mapping[int, float]


def simulated(spec: Experiment, workers: int, horizon_falls: bool, step_seconds: Mapping[int, float]) -> Result:
    """One run on so many workers."""
    workload, now, steps, busy = ExactHyperbola(), 0.0, 0, 0.0
    records: dict[int, list[TrialRecord]] = defaultdict(list)
    at_work: dict[str, AtWork] = {}
    ends: list[tuple[float, str]] = []

    def keep(proposal: Proposal, rows: Sequence[Row], ending: Ending | None) -> None:
        if ending is not None:
            records[proposal.batch_size].append(record(spec, proposal, rows, ending))

    def plan_end(proposal: Proposal) -> None:
        trial = at_work[proposal.trial_id]
        stop = min(trial.stop, trial.ending.steps)
        heapq.heappush(ends, (trial.begins + stop * step_seconds[proposal.batch_size], proposal.trial_id))

    dispatcher = Dispatcher(PerStudyProtocol(spec, horizon_falls), records, spec.target, keep)
    while True:
        while len(at_work) < workers and (proposal := dispatcher.take()) is not None:
            rows, ending = train(spec, workload, proposal)
            at_work[proposal.trial_id] = AtWork(rows, ending, now + BETWEEN_SECONDS, proposal.max_steps)
            plan_end(proposal)
        if not at_work:
            mean = {b: float(np.mean([r.steps for r in found])) for b, found in records.items()}
            best = [min(r.steps_to_target or np.inf for r in searched(records, b)) for b in spec.batch_sizes]
            return Result(busy / (workers * now), now, steps, float(np.mean(np.log(best))), mean)
        at, name = heapq.heappop(ends)
        proposal = next((p for p in dispatcher.running if p.trial_id == name), None)
        if proposal is None or at < now:
            continue  # it ended earlier than was thought first
        trial, dt = at_work[name], step_seconds[proposal.batch_size]
        stop = min(trial.stop, trial.ending.steps)
        if trial.begins + stop * dt < at:
            continue
        now = at
        del at_work[name]
        steps, busy = steps + stop, busy + stop * dt
        ending = trial.ending
        if stop < ending.steps:
            ending = replace(ending, outcome=Outcome.CAPPED, message=None, crossing=None, steps=stop)
        dispatcher.ended(name, [row for row in trial.rows if row["step"] <= stop], ending)
        told = dispatcher.falls()
        for fallen in dispatcher.running:
            if fallen.trial_id in told:
                later, dt = at_work[fallen.trial_id], step_seconds[fallen.batch_size]
                reports = np.ceil(max(0.0, now - later.begins) / REPORT_SECONDS) * REPORT_SECONDS
                made = next((r["step"] for r in later.rows if r["step"] * dt >= reports), later.ending.steps)
                later.stop = max(told[fallen.trial_id], made) if now > later.begins else told[fallen.trial_id]
                plan_end(fallen)


def main() -> None:
    """Print the table."""
    print(f"{'':40}{'workers':>8}{'at once':>8}{'busy':>7}{'seconds':>9}{'updates':>9}{'found':>8}")
    one = dict.fromkeys(experiment(0).batch_sizes, 1.0)
    base = []
    for seed in range(SEEDS):
        two = _at_once(experiment(seed), 2)
        mean = simulated(two, 16, False, one).mean_steps
        pace = {b: TRIAL_SECONDS / steps for b, steps in mean.items()}
        base.append((pace, simulated(two, 16, False, pace)))
    for workers in (2, 16, 64):
        auto = resolved(experiment(0), workers).search.at_once
        for label, at_once, falls in (
            ("two of a study at once", 2, False),
            ("auto, horizons settled at the beginning", auto, False),
            ("auto, horizons that fall", auto, True),
        ):
            runs = [
                simulated(_at_once(experiment(seed), at_once), workers, falls, pace)
                for seed, (pace, _) in enumerate(base)
            ]
            updates = np.mean([run.steps for run in runs]) / np.mean([run.steps for _, run in base])
            found = np.mean([run.found for run in runs]) - np.mean([run.found for _, run in base])
            print(
                f"{label:40}{workers:>8}{at_once:>8}{np.mean([run.busy for run in runs]):>7.0%}"
                f"{np.mean([run.seconds for run in runs]):>9.1f}{updates:>9.2f}{found:>+8.3f}",
                flush=True,
            )


def _at_once(spec: Experiment, number: int) -> Experiment:
    return spec.model_copy(update={"search": spec.search.model_copy(update={"parallel_per_study": number})})


if __name__ == "__main__":
    main()
