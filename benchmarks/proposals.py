"""What the next trial costs the driver, beside what Optuna's own ask and tell cost on as many trials.

Ten studies of the protocol grow side by side in memory; their trials train nothing. Beside them Optuna's own random and
TPE samplers choose points of the same space, one study for all the trials of one of ours, as a user would who ran a
study a batch size. Milliseconds of CPU a proposal, the mean over the proposals before each size.

    python -m benchmarks.proposals
"""

import time
import warnings
from collections import defaultdict

import optuna

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Crossing
from bcrit.tuner.ledger import record_of, trial_row
from bcrit.tuner.protocol.proposal import Proposal, TrialRecord
from bcrit.tuner.protocol.protocol import PerStudyProtocol
from bcrit.tuner.training.settings import evaluation_steps
from bcrit.tuner.training.trial import Ending

SIZES = [500, 2_000, 5_000, 10_000]
STUDIES = 10
# Proposals that are timed before each size, so that one long one among them counts as it does in a run.
TIMED = 200


def experiment(protocol: str) -> Experiment:
    """Ten studies that search for as long as the benchmark lasts."""
    data = {
        "workload": "tests.scripted:ExactHyperbola",
        "batch_sizes": [2**i for i in range(3, 3 + STUDIES)],
        "target": "loss < 1",
        "space": {"lr": "log from 0.001 to 10", "momentum": "reverse_log from 0 to 0.99"},
        "budget": {"steps": 800, "examples": 10_000},
        "search": {"protocol": protocol, "trials": 2 * SIZES[-1] // STUDIES, "start": 12},
    }
    return parse_experiment(data, "benchmark")


def finished(proposal: Proposal) -> TrialRecord:
    """A trial as it might have ended: the loss falls exponentially, slower away from lr/(1 - momentum) = 1."""
    effective = float(proposal.point["lr"]) / (1 - float(proposal.point["momentum"]))
    need = round(100 * max(effective, 1 / effective) ** 0.5)
    reached = need <= proposal.max_steps
    steps = min(need, proposal.max_steps)
    curve = [(step, 10.0 ** (1 - (step + 0.5) / need)) for step in evaluation_steps(steps, 0.02)]
    outcome, crossing = (Outcome.REACHED, Crossing(steps, 0)) if reached else (Outcome.CAPPED, None)
    return record_of(trial_row(proposal, Ending(outcome, None, steps, crossing, curve[-1][1], 0, 0, 0, 0)), curve)


def ours(sampler: str) -> dict[int, float]:
    """Milliseconds a proposal at each size."""
    protocol, spent = PerStudyProtocol(experiment(sampler)), [0.0]
    records: dict[int, list[TrialRecord]] = defaultdict(list)
    for _ in range(SIZES[-1]):
        begun = time.process_time()
        proposal = protocol.next_trial(records, ())
        spent.append(time.process_time() - begun)
        assert proposal is not None
        records[proposal.batch_size].append(finished(proposal))
    return {size: 1000 * sum(spent[size - TIMED + 1 : size + 1]) / TIMED for size in SIZES}


def optunas(sampler: optuna.samplers.BaseSampler) -> dict[int, float]:
    """The same of Optuna, on the share of the trials that one of our studies has."""
    study, spent = optuna.create_study(sampler=sampler), [0.0]
    for _ in range(SIZES[-1] // STUDIES):
        begun = time.process_time()
        trial = study.ask()
        lr, momentum = trial.suggest_float("lr", 1e-3, 10, log=True), trial.suggest_float("momentum", 0.0, 0.99)
        effective = lr / (1 - momentum)
        study.tell(trial, max(effective, 1 / effective))
        spent.append(time.process_time() - begun)
    timed = TIMED // STUDIES
    return {size: 1000 * sum(spent[size // STUDIES - timed + 1 : size // STUDIES + 1]) / timed for size in SIZES}


def main() -> None:
    """Print both and the ratio at the largest size."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    tpe = optunas(optuna.samplers.TPESampler(multivariate=True, group=True, seed=0))
    uniform = optunas(optuna.samplers.RandomSampler(seed=0))
    print(f"{'ms of CPU a proposal, ' + str(STUDIES) + ' studies':44}" + "".join(f"{size:>9,}" for size in SIZES))
    for name in ("sobol", "random", "tpe"):
        peer, own = tpe if name == "tpe" else uniform, ours(name)
        shown = {f"bcrit, protocol: {name}": own, f"Optuna, {'TPE' if name == 'tpe' else 'random'}": peer}
        for label, cost in shown.items():
            print(f"{label:44}" + "".join(f"{cost[size]:>9.2f}" for size in SIZES))
        print(f"{'ratio at the end':44}{own[SIZES[-1]] / peer[SIZES[-1]]:>9.2f}")


if __name__ == "__main__":
    main()
