"""Runs side by side: everything that a page, a table or JSON shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bcrit.analysis.comparison.advantage import Advantage, Fastest, advantages, fastest
from bcrit.analysis.comparison.at_batch_sizes import AtBatchSize, at_batch_sizes
from bcrit.analysis.comparison.cautions import cautions
from bcrit.analysis.comparison.names import named
from bcrit.analysis.comparison.ratios import Ratio, ratios
from bcrit.analysis.comparison.sentences import sentences
from bcrit.analysis.comparison.source import Side, StepsTable, run_of
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError

ASSUMED = (
    "Each run is a measurement of its own: its studies scatter about its curve independently of the other runs.",
    "Each run was tuned afresh at every batch size. Ratios then compare ways of training, tuning and its effort "
    "included; b_crit belongs to the target and to that way of training.",
    "A larger b_crit is not better by itself: it is also had by wasting examples at small batch sizes. What counts are "
    "the steps, or hours, at the batch size that is going to be used.",
    "Intervals hold for one ratio each and come from the scatter of the studies about the curves, with Welch's degrees "
    "of freedom. 'Differs' needs a p-value below 5 % after Holm's correction over all ratios of this comparison; at "
    "single batch sizes, over the batch sizes of the two runs.",
    "'No difference seen' is not 'the same': the interval says how large a difference could be.",
)
"""What every comparison takes for granted."""


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: each with its label, in the order in which they were given; the first is the baseline.
        ratios: s_min, e_min and b_crit of every two runs.
        at_batch_sizes: steps of every two runs at each batch size that both measured.
        advantages: which of two runs needs fewer steps or hours, from where to where.
        fastest: the shortest training of each run with step times.
        sentences: the answer in words.
        cautions: what speaks against it.
        assumed: what was taken for granted.
    """

    runs: tuple[Side, ...]
    ratios: tuple[Ratio, ...]
    at_batch_sizes: tuple[AtBatchSize, ...]
    advantages: tuple[Advantage, ...]
    fastest: tuple[Fastest, ...]
    sentences: tuple[str, ...]
    cautions: tuple[str, ...]
    assumed: tuple[str, ...]

    @property
    def anything(self) -> bool:
        """Whether any two runs could be compared in anything."""
        return any(ratio.verdict != "not comparable" for ratio in self.ratios) or bool(self.advantages)

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit compare --json`: finite numbers or null; an open end is null."""
        found: dict[str, Any] = {
            "runs": [run.to_json() for run in self.runs],
            "ratios": self.ratios,
            "at_batch_sizes": self.at_batch_sizes,
            "advantages": self.advantages,
            "fastest": self.fastest,
            "sentences": self.sentences,
            "cautions": self.cautions,
            "assumed": self.assumed,
        }
        return {name: plain(value) for name, value in found.items()}


def compare(sources: Sequence[Run | StepsTable], across_targets: bool = False) -> Comparison:
    """Put runs side by side and say which of their differences are real.

    Args:
        sources: analyses of runs, or tables of steps to target; two or more. The first is the baseline.
        across_targets: whether runs to different targets are compared; else they are shown but not divided.

    Returns:
        The comparison; runs that cannot be compared are in it with the reason.

    Raises:
        InputError: fewer than two are given, one is given twice, or a table cannot be read as numbers.
    """
    places = [source.location for source in sources]
    problems = [f"'{place}' is given twice; name each run once" for place in places if places.count(place) > 1]
    if len(sources) < 2:
        problems.append(f"two or more runs are needed, but there is {len(sources)}; name another run or table")
    if problems:
        raise InputError("compare", problems)
    runs = named([run_of(source) for source in sources])
    divided = ratios(runs, across_targets)
    between = advantages(runs, across_targets)
    quickest = fastest(runs)
    return Comparison(
        runs=runs,
        ratios=divided,
        at_batch_sizes=at_batch_sizes(runs, across_targets),
        advantages=between,
        fastest=quickest,
        sentences=sentences(divided, between, quickest, runs[0].label),
        cautions=cautions(runs, across_targets),
        assumed=ASSUMED,
    )


__all__ = ["ASSUMED", "Comparison", "compare"]
