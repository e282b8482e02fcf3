"""The search protocol: ledger in, next trial out. It sees all studies at once and keeps no state of its own.

What it proposes is a pure function of the experiment and of the finished trials. Trial k of a study may know of trials
0 ... k - parallel_per_study and waits for all of them; so the proposals do not depend on how many workers there are or
which of them is fast, and after a kill the same ledger gives the same proposals again. A protocol that searches the
batch sizes jointly is one more class with the same `next_trial`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from analysis.studies.rounds import StudyState, draws_needed, study_state
from search_spaces.experiment import Experiment
from search_spaces.outcome import Stage
from search_spaces.space import Point
from tuner.protocol.proposal import Proposal, Records, TrialRecord, trial_name
from tuner.protocol.response import merit
from tuner.protocol.samplers import SAMPLERS, Question
from tuner.protocol.stopping import plan_stopping


class SearchProtocol(Protocol):
    """Ledger in, next trial out."""

    def next_trial(self, records: Records, running: Collection[str]) -> Proposal | None:
        """Propose the next trial.

        Args:
            records: the finished trials of every study.
            running: names of the trials that were proposed and have not finished.

        Returns:
            The proposal; None when nothing can be proposed before a running trial ends. With nothing running, None
            means that the experiment is complete.
        """
        ...


@dataclass(frozen=True)
class PerStudyProtocol:
    """Every study searches on its own, widens its box, and confirms its best points; round-robin over studies."""

    experiment: Experiment

    def next_trial(self, records: Records, running: Collection[str]) -> Proposal | None:
        """Take the study that has started the fewest trials; smaller batch sizes, whose trials are longer, first."""
        started = {b: len(records.get(b, ())) for b in self.experiment.batch_sizes}
        for name in running:
            started[_batch_size(name)] += 1
        for batch_size in sorted(started, key=lambda b: (started[b], b)):
            proposal = self._next_of_study(batch_size, records.get(batch_size, ()), running)
            if proposal is not None:
                return proposal
        return None

    def _next_of_study(
        self, batch_size: int, records: Sequence[TrialRecord], running: Collection[str]
    ) -> Proposal | None:
        search = _of_stage(records, Stage.SEARCH)
        state = study_state(self.experiment, batch_size, search)
        if state.searching:
            return self._search(batch_size, state, search, running)
        return self._confirm(batch_size, state, search, _of_stage(records, Stage.CONFIRM), running)

    def _search(
        self, batch_size: int, state: StudyState, search: Sequence[TrialRecord], running: Collection[str]
    ) -> Proposal | None:
        experiment = self.experiment
        finished = {record.number: record for record in search}
        number = state.first
        while number in finished or trial_name(batch_size, Stage.SEARCH, number) in running:
            number += 1
        before = [finished[n].outcome if n in finished else None for n in range(state.first, number)]
        if draws_needed(before, state.wanted, experiment, optimistic=True) is not None:
            return None  # if all that run turn out feasible, the round is complete
        horizon = number - experiment.search.parallel_per_study
        if any(n not in finished for n in range(state.first, horizon + 1)):
            return None
        known = [record for record in search if record.number <= horizon or record.number < state.first]
        budget_steps = experiment.budget.max_steps(batch_size)
        question = Question(
            space=state.space,
            optimizer=experiment.optimizer,
            known=known,
            number=number,
            batch_size=batch_size,
            seed=experiment.seed,
            start=experiment.search.start,
            trials=experiment.search.trials,
            budget_steps=budget_steps,
            target=experiment.target,
        )
        plan = plan_stopping(known, budget_steps, experiment.search.stopping, experiment.target, experiment.resolution)
        return Proposal(
            trial_id=trial_name(batch_size, Stage.SEARCH, number),
            batch_size=batch_size,
            stage=Stage.SEARCH,
            number=number,
            round=state.round,
            repeats=None,
            seed=trial_seed(experiment.seed, Stage.SEARCH, number),
            point=SAMPLERS[experiment.search.protocol](question),
            budget_steps=budget_steps,
            max_steps=plan.max_steps,
            capped=plan.capped,
            rungs=plan.rungs,
            stop_at_target=plan.stop_at_target,
        )

    def _confirm(
        self,
        batch_size: int,
        state: StudyState,
        search: Sequence[TrialRecord],
        confirm: Sequence[TrialRecord],
        running: Collection[str],
    ) -> Proposal | None:
        experiment, wanted = self.experiment, self.experiment.confirm
        taken = {record.trial_id for record in confirm} | set(running)
        budget_steps = experiment.budget.max_steps(batch_size)
        for place, winner in enumerate(best_trials(search, experiment)):
            assert winner.steps_to_target is not None
            for i in range(wanted.seeds):
                number = place * wanted.seeds + i
                name = trial_name(batch_size, Stage.CONFIRM, number)
                if name not in taken:
                    return Proposal(
                        trial_id=name,
                        batch_size=batch_size,
                        stage=Stage.CONFIRM,
                        number=number,
                        round=state.round,
                        repeats=winner.trial_id,
                        seed=trial_seed(experiment.seed, Stage.CONFIRM, i),
                        point=dict(winner.point),
                        budget_steps=budget_steps,
                        max_steps=max(budget_steps, int(np.ceil(wanted.horizon * winner.steps_to_target))),
                        stop_at_target=not wanted.beyond_target,
                    )
        return None


def best_trials(search: Sequence[TrialRecord], experiment: Experiment) -> list[TrialRecord]:
    """The search trials whose points are confirmed: the best that reached, one for each different point."""
    chosen: list[TrialRecord] = []
    points: list[Point] = []
    for record in sorted(search, key=lambda record: merit(record, experiment.target)):
        if record.steps_to_target is None or len(chosen) == experiment.confirm.points:
            break
        if record.point not in points:
            chosen.append(record)
            points.append(record.point)
    return chosen


def trial_seed(seed: int, stage: Stage, number: int) -> int:
    """The seed of a trial: the same for the same number at every batch size, fresh for every stage."""
    words = np.random.SeedSequence([seed, list(Stage).index(stage), number]).generate_state(1)
    return int(words[0])


def _of_stage(records: Sequence[TrialRecord], stage: Stage) -> list[TrialRecord]:
    return sorted((record for record in records if record.stage is stage), key=lambda record: record.number)


def _batch_size(trial_id: str) -> int:
    return int(trial_id.split("-", 1)[0].removeprefix("b"))
