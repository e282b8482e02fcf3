"""What a trial's time goes into: updates, evaluation, and the rest, with the fine and with the coarse grid.

Trials of the digits example, the same ones each time, run in this process without Ray; a bare loop written by hand does
their updates and evaluations on the fine grid beside them. All take turns on one core and processor time is what
counts. The rest is building model and optimizer, deciding and making rows; what Ray takes is another benchmark
(`trial_overhead`). The learning rates are below, about and above the best.

    python -m benchmarks.worker_time
"""

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import product
from unittest import mock

import torch
from torch import nn

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Target
from bcrit.tuner.training.settings import Settings, evaluation_steps
from bcrit.tuner.training.trial import Limits, Measurement, Trial, as_row
from bcrit.tuner.workloads.digits import DigitsMLP

TARGET = Target.model_validate("val_loss < 0.15")
MOST_STEPS = {16: 625, 64: 300, 256: 300}  # the example's budget
RATES = (0.03, 0.1, 0.3, 1.0)
MOMENTUM = 0.5
ROUNDS = 5


@dataclass
class Spent:
    """Processor seconds and how many of what they went into."""

    whole: float = 0.0
    updating: float = 0.0
    evaluating: float = 0.0
    updates: int = 0
    evaluations: int = 0

    def told(self) -> str:
        """Shares of the whole, and the cost of one."""
        rest = self.whole - self.updating - self.evaluating
        return (
            f"updates {self.updating / self.whole:.1%}, evaluation {self.evaluating / self.whole:.1%}, rest "
            f"{rest / self.whole:.1%}; an update {1e6 * self.updating / self.updates:.0f} us, an evaluation "
            f"{1e6 * self.evaluating / self.evaluations:.0f} us"
        )


def ours(workload: DigitsMLP, settings: Settings, coarse: bool, spent: Spent) -> Trial:
    """One trial to its end, as a worker runs it."""
    begun = time.process_time()
    limits = Limits(MOST_STEPS[settings.batch_size], False, (), 0.02, coarse=coarse)
    trial = Trial(partial(workload.begin, settings), TARGET, limits)
    made: list[Measurement] = []
    # A trial counts its seconds by the wall's clock, which on a busy machine others move on.
    with mock.patch("bcrit.tuner.training.trial.time.perf_counter", time.process_time):
        while trial.ending is None:
            made += trial.advance(60)
    rows = [as_row(measurement, "trial", settings.batch_size) for measurement in made]
    spent.whole += time.process_time() - begun
    spent.updating += trial.ending.train_seconds
    spent.evaluating += trial.ending.evaluate_seconds
    spent.updates += trial.ending.steps
    spent.evaluations += len(rows)
    return trial


def by_hand(workload: DigitsMLP, settings: Settings, updates: int, evaluated: set[int], spent: Spent) -> None:
    """As many updates, and evaluations after the same ones, as one would write them."""
    begun = time.process_time()
    (inputs, targets), (val_inputs, val_targets) = workload.train_data(), workload.validation_data()
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=MOMENTUM, fused=True)
    order, at = torch.randperm(len(inputs)), 0
    for step in range(updates + 1):
        if step:
            since = time.process_time()
            if at + settings.batch_size > len(inputs):
                order, at = torch.randperm(len(inputs)), 0
            rows, at = order[at : at + settings.batch_size], at + settings.batch_size
            loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            spent.updating += time.process_time() - since
        if step in evaluated:
            since = time.process_time()
            with torch.inference_mode():
                outputs = model(val_inputs)
                nn.functional.cross_entropy(outputs, val_targets).item()
                (outputs.argmax(dim=1) == val_targets).sum().item()
            spent.evaluating += time.process_time() - since
    spent.whole += time.process_time() - begun
    spent.updates += updates
    spent.evaluations += len(evaluated)


def steps_of(trial: Trial) -> set[int]:
    """The fine grid up to a trial's end."""
    assert trial.ending is not None
    return {step for step in evaluation_steps(10**6, 0.02) if step <= trial.ending.steps} | {trial.ending.steps}


def main() -> None:
    """Print the shares, the ratios, and how often a crossing moved."""
    torch.set_num_threads(1)
    workload = DigitsMLP()
    bare, fine, coarse, seen = Spent(), Spent(), Spent(), Counter[str]()
    workload.begin(Settings(64, 0, "momentum", {"lr": 0.1, "momentum": MOMENTUM})).train(50)
    for seed, batch_size, lr in product(range(ROUNDS), MOST_STEPS, RATES):
        settings = Settings(batch_size, seed, "momentum", {"lr": lr, "momentum": MOMENTUM})
        whole, part = (ours(workload, settings, way, spent) for way, spent in ((False, fine), (True, coarse)))
        assert whole.ending is not None and part.ending is not None
        by_hand(workload, settings, whole.ending.steps, steps_of(whole), bare)
        seen["reached"] += whole.ending.outcome is Outcome.REACHED
        seen["moved"] += whole.ending.crossing != part.ending.crossing
    print(f"by hand:     {bare.told()}")
    print(f"fine grid:   {fine.told()}")
    print(f"coarse grid: {coarse.told()}")
    print(
        f"by hand / ours: an update {bare.updating / fine.updating:.2f}, an evaluation "
        f"{bare.evaluating / fine.evaluating:.2f}, a whole trial {bare.whole / fine.whole:.2f}"
    )
    print(
        f"coarse / fine: evaluations {coarse.evaluations / fine.evaluations:.2f}, time {coarse.whole / fine.whole:.2f}"
    )
    print(f"crossings moved by the coarse grid: {seen['moved']} of {seen['reached']}")


if __name__ == "__main__":
    main()
