"""Which batch size wins under one budget: the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from bcrit.analysis.budgets.resources import Resource
from bcrit.analysis.budgets.winner import CLEAR, FEWEST_TRIALS, win_shares
from bcrit.analysis.records.one_pass import Floats
from bcrit.search_spaces.target import Target


class Status(StrEnum):
    """What the best value within a budget is."""

    COVERED = "covered"
    CUT = "cut"
    STOPPED = "stopped"
    MISSING = "missing"

    @property
    def sentence(self) -> str:
        """One sentence that a newcomer understands."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.COVERED: "Every trial that counts could use the whole budget.",
    Status.CUT: "Some trials were stopped before; the full search could only have done better.",
    Status.STOPPED: "Trials reached the target before and stopped; what they would have reached is not known.",
    Status.MISSING: "No trial was trained as far, or was evaluated as early.",
}


@dataclass(frozen=True)
class BudgetVerdict:
    """Which batch size wins under one budget.

    Attributes:
        resource: what is limited.
        budget: the limit, in steps, examples or hours.
        winner: the batch size; None where there is no clear one.
        leader: the batch size with the best value that can be compared; None where nothing can.
        share: share of the resamples in which the leader is best; None where that says nothing.
        sentence: the verdict in words.
    """

    resource: Resource
    budget: float
    winner: int | None
    leader: int | None
    share: float | None
    sentence: str


@dataclass(frozen=True)
class Compared:
    """What a study brings into the comparison under one budget.

    Attributes:
        status: what its best value is; `missing` where no trial was trained as far.
        values: best values of its trials within the budget, the better the smaller; (n,), at least one.
        unfinished: whether a trial ended before the budget that neither reached the run's target nor was stopped by
            the search for being behind: what it would have reached is open.
        n_reached: trials that reached the run's target within the budget.
    """

    status: Status
    values: Floats
    unfinished: bool
    n_reached: int


def verdict_on(
    asked: BudgetVerdict, studies: Mapping[int, Compared], ran_to: Target, metric: str
) -> tuple[BudgetVerdict, dict[int, float]]:
    """Judge one budget.

    Reached beats not reached, where the values are of the target's metric. Of studies that reached the run's target and
    stopped there nobody knows which is best. A study whose trials ended before the budget without being judged may yet
    be best, so that there is no winner beside it. Otherwise resampling the trials decides
    (`bcrit.analysis.budgets.winner`).

    Args:
        asked: resource and budget, with the budget in words as its sentence.
        studies: by batch size, those with any evaluation within the budget.
        ran_to: the target at which trials stopped.
        metric: of the values.

    Returns:
        (verdict, share of resamples in which each study is best where that was asked).
    """
    within = f"Within {asked.sentence}"
    shown = {batch_size: study for batch_size, study in studies.items() if study.status is not Status.MISSING}
    if len(shown) < 2:
        said = f"{within} there is nothing to compare: fewer than two batch sizes were trained as far."
        return replace(asked, sentence=said), {}
    if any(study.status is Status.STOPPED for study in shown.values()):
        reached = [batch_size for batch_size, study in studies.items() if study.n_reached]
        others = [b for b, study in studies.items() if b not in reached and _open(study)]
        if len(reached) == 1 and not others and metric == ran_to.metric:
            said = f"{within} only batch size {reached[0]:,} reaches {ran_to}."
            if studies[reached[0]].n_reached == 1:
                return replace(asked, leader=reached[0], sentence=f"{said[:-1]}, in one trial: that may be luck."), {}
            return replace(asked, winner=reached[0], leader=reached[0], sentence=said), {}
        who = f"batch sizes {_list(reached)} reach" if len(reached) > 1 else f"batch size {_list(reached)} reaches"
        stop = "stop" if len(reached) > 1 else "stops"
        best = "is best" if metric == ran_to.metric else f"has the best {metric}"
        said = f"{within} {who} {ran_to} and {stop} there; which {best} is not known."
        if others:
            said += f" {_list(others)} were not trained as far."
        return replace(asked, sentence=said), {}
    leader = min(shown, key=lambda b: (shown[b].values.min(), b))
    asked, shares = replace(asked, leader=leader), win_shares({b: study.values for b, study in shown.items()})
    rivals = [batch_size for batch_size, study in studies.items() if batch_size != leader and _open(study)]
    if rivals:
        said = f"{within} batch size {leader:,} is best so far, but trials at {_list(rivals)} ended before."
        return replace(asked, sentence=said), {}
    if not shares:
        said = f"{within} batch size {leader:,} is best, but with fewer than {FEWEST_TRIALS} trials that may be luck."
        return replace(asked, sentence=said), {}
    asked = replace(asked, share=shares[leader])
    if shares[leader] >= CLEAR:
        said = f"{within} batch size {leader:,} is best (in {shares[leader]:.0%} of resamples of the trials)."
        return replace(asked, winner=leader, sentence=said), shares
    close = sorted(b for b, share in shares.items() if share > (1 - CLEAR) / 2)
    return replace(asked, sentence=f"{within} there is no clear winner among the batch sizes {_list(close)}."), shares


def _open(study: Compared) -> bool:
    return study.unfinished or study.status is Status.MISSING


def _list(batch_sizes: list[int]) -> str:
    return ", ".join(f"{batch_size:,}" for batch_size in batch_sizes)


__all__ = ["BudgetVerdict", "Compared", "Status", "verdict_on"]
