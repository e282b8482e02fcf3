"""The search protocol: ledger in, next trial out. It sees all studies at once and decides by the ledger alone.

What it proposes is a pure function of the experiment and of the finished trials. Trial k of a study may know of trials
0 ... k - parallel_per_study and waits for all of them; so the proposals do not depend on how many workers there are or
which of them is fast, and after a kill the same ledger gives the same proposals again. A protocol that searches the
batch sizes jointly is one more class with the same `next_trial`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from search_spaces.experiment import Experiment
from search_spaces.outcome import Stage
from tuner.protocol.known import Study
from tuner.protocol.proposal import Proposal, Records, TrialRecord, trial_name
from tuner.protocol.samplers import SAMPLERS, Question


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
    # An index of the records, so that a proposal costs the same whatever has run; it decides nothing.
    _studies: dict[int, Study] = field(default_factory=dict, init=False, repr=False, compare=False)

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

    def _study(self, batch_size: int, records: Sequence[TrialRecord]) -> Study:
        study = self._studies.get(batch_size)
        if study is None or not study.follows(records):
            study = self._studies[batch_size] = Study(self.experiment, batch_size, records)
        study.catch_up()
        return study

    def _next_of_study(
        self, batch_size: int, records: Sequence[TrialRecord], running: Collection[str]
    ) -> Proposal | None:
        study = self._study(batch_size, records)
        if study.rounds.state.searching:
            return self._search(batch_size, study, running)
        return self._confirm(batch_size, study, running)

    def _search(self, batch_size: int, study: Study, running: Collection[str]) -> Proposal | None:
        experiment, state = self.experiment, study.rounds.state
        draws = state.draws
        unbroken = number = state.first + draws.drawn
        while number in study.search or trial_name(batch_size, Stage.SEARCH, number) in running:
            finished = study.search.get(number)
            draws = draws.then(None if finished is None else finished.outcome)
            if draws.complete:
                return None  # if all that run turn out feasible, the round is complete
            number += 1
        n_known = number - experiment.search.parallel_per_study + 1
        if n_known > unbroken:
            return None
        n_known = max(n_known, state.first)
        budget_steps = experiment.budget.max_steps(batch_size)
        question = Question(
            space=state.space,
            optimizer=experiment.optimizer,
            known=study.known(n_known),
            number=number,
            batch_size=batch_size,
            seed=experiment.seed,
            start=experiment.search.start,
            trials=experiment.search.trials,
            budget_steps=budget_steps,
        )
        plan = study.stops(n_known).plan()
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

    def _confirm(self, batch_size: int, study: Study, running: Collection[str]) -> Proposal | None:
        experiment, wanted = self.experiment, self.experiment.confirm
        budget_steps = experiment.budget.max_steps(batch_size)
        for place, winner in enumerate(study.winners()):
            assert winner.steps_to_target is not None
            for i in range(wanted.seeds):
                number = place * wanted.seeds + i
                name = trial_name(batch_size, Stage.CONFIRM, number)
                if name not in study.confirmed and name not in running:
                    return Proposal(
                        trial_id=name,
                        batch_size=batch_size,
                        stage=Stage.CONFIRM,
                        number=number,
                        round=study.rounds.state.round,
                        repeats=winner.trial_id,
                        seed=trial_seed(experiment.seed, Stage.CONFIRM, i),
                        point=dict(winner.point),
                        budget_steps=budget_steps,
                        max_steps=max(budget_steps, int(np.ceil(wanted.horizon * winner.steps_to_target))),
                        stop_at_target=not wanted.beyond_target,
                    )
        return None


def trial_seed(seed: int, stage: Stage, number: int) -> int:
    """The seed of a trial: the same for the same number at every batch size, fresh for every stage."""
    words = np.random.SeedSequence([seed, list(Stage).index(stage), number]).generate_state(1)
    return int(words[0])


def _batch_size(trial_id: str) -> int:
    return int(trial_id.split("-", 1)[0].removeprefix("b"))
