"""Which networks are measured: the confirmed winner of every study, and beside it what un-tuned training finds.

Weights are made on demand rather than kept by every confirmation run: a trial depends on its settings alone, so one
training run a network gives them back, to the bit on the same machine. Kept checkpoints would cost every run of every
experiment the storage and the writing for a command that few of them see; what is made again is compared with the
recorded learning curve, and a difference is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.analysis.studies.steps_to_target import steps_to_target
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.training.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """One network to have.

    Attributes:
        tuned: whether with the hyperparameters of its own study's winner.
        number: which of the study's seeds, from 0.
        point: the search trial whose hyperparameters it has.
        trial_id: the confirmation run that it repeats; None where it is no run of the study.
        settings: all that decides the run.
        max_steps: how far it may train, in optimizer updates; it ends at the target.
    """

    tuned: bool
    number: int
    point: str
    trial_id: str | None
    settings: Settings
    max_steps: int

    @property
    def name(self) -> str:
        """Of its checkpoint."""
        return self.trial_id or f"b{self.settings.batch_size:07d}-untuned-{self.number:04d}"


@dataclass(frozen=True)
class Winners:
    """What is wanted, and what is not there to be wanted.

    Attributes:
        networks: by batch size, tuned before un-tuned, by seed.
        left_out: why studies are left out, a sentence each.
    """

    networks: tuple[Wanted, ...]
    left_out: tuple[str, ...]


def winners(trials: Sequence[Mapping[str, Any]], experiment: Experiment, seeds: int, gpus: float) -> Winners:
    """Name the networks of a run.

    Un-tuned means as in Keskar et al. 2016: the winning hyperparameters of the smallest batch size, the same numbers at
    every batch size, schedules with the same lengths in optimizer updates. They train to the same target, for which
    they have as many updates as the study's re-runs had; equal epochs would compare networks at different losses.

    Args:
        trials: rows of the trials table.
        experiment: that they are of.
        seeds: confirmation runs of each study, the first ones.
        gpus: that one run is given here.

    Returns:
        The networks; none where no study has a confirmed winner.
    """
    frame = to_arrow(TRIALS, trials).to_pandas()
    studies = {int(row["batch_size"]): row for row in steps_to_target(frame, experiment).to_dict("records")}
    left_out, networks, smallest = [], [], None
    for batch_size in sorted(experiment.batch_sizes):
        why = _unusable(studies.get(batch_size))
        if why is not None:
            left_out.append(f"batch size {batch_size:,} is left out: {why}")
            continue
        point = str(studies[batch_size]["best_trial"])
        runs = _reruns(trials, batch_size, point)[:seeds]
        smallest = smallest or (point, _hyperparameters(runs[0]))
        for number, run in enumerate(runs):
            settings = Settings(
                batch_size, run["seed"], experiment.optimizer, _hyperparameters(run), experiment.execution, gpus
            )
            networks.append(Wanted(True, number, point, run["trial_id"], settings, run["max_steps"]))
        if smallest[0] != point:
            for number, run in enumerate(runs):
                settings = Settings(
                    batch_size, run["seed"], experiment.optimizer, smallest[1], experiment.execution, gpus
                )
                networks.append(Wanted(False, number, smallest[0], None, settings, run["max_steps"]))
    return Winners(tuple(networks), tuple(left_out))


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
    """What a trial was trained with, lengths of its schedule in updates among them."""
    known = set(TRIALS.names)
    return {name: value for name, value in trial.items() if name not in known and value is not None}


__all__ = ["Wanted", "Winners", "winners"]
