"""The search protocol: ledger in, next trial out. It sees all studies at once and decides by the ledger alone.

What it proposes is a pure function of the experiment and of the finished trials. Trial k of a study may know of trials
0 ... k - parallel_per_study and waits for all of them; so the proposals do not depend on how many workers there are or
which of them is fast, and after a kill the same ledger gives the same proposals again.

Only the horizon may be decided later, where many of a study run at once: trial k is then cut at what trials 0 ... k - 2
allow, though it begins before these have finished (`revised`, `settled`; `bcrit.tuner.dispatch` cuts). Otherwise all
that run beside the first one to reach the target would train to the budget (`benchmarks.idle_workers`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from bcrit.analysis.studies.boundary import StudyState
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Stage
from bcrit.tuner.protocol.joint import JointProtocol
from bcrit.tuner.protocol.known import Study, study_of
from bcrit.tuner.protocol.proposal import Proposal, Proposals, Records, blank, trial_name, trial_seed
from bcrit.tuner.protocol.samplers import Question, point_of

# A trial's horizon knows of all but this many of its predecessors, so that two of a study may run without waiting.
_LAG = 2


@dataclass(frozen=True)
class PerStudyProtocol:
    """Every study searches on its own, widens its box, and confirms its best points; round-robin over studies."""

    experiment: Experiment  # resolved
    # Whether a trial's horizon may fall while it runs, so that what it made is cut afterwards. Not where trials are
    # told it when they begin (training functions), nor where nobody cuts.
    horizon_falls: bool = False
    keeps: ClassVar[bool] = False
    # An index of the records, so that a proposal costs the same whatever has run; it decides nothing.
    _studies: dict[int, Study] = field(default_factory=dict, init=False, repr=False, compare=False)

    def next_trial(self, records: Records, running: Collection[str]) -> Proposal | None:
        """Propose a trial of the study that has started the fewest; smaller batch sizes, with longer trials, first.

        It depends on the finished trials of every study and on the names of those that are proposed and have not
        finished. None where nothing can be proposed before a running trial ends; with nothing running, None means that
        the experiment is complete.
        """
        started = {b: len(records.get(b, ())) for b in self.experiment.batch_sizes}
        for name in running:
            started[_batch_size(name)] += 1
        for batch_size in sorted(started, key=lambda b: (started[b], b)):
            study = study_of(self._studies, self.experiment, batch_size, records)
            propose = self._search if study.rounds.state.searching else self._confirm
            if proposal := propose(study, running):
                return proposal
        return None

    def revised(self, proposal: Proposal, records: Records, crossings: Iterable[tuple[int, int]] = ()) -> Proposal:
        """The proposal with its horizon as far as it is known by now; it only falls until it is `settled`.

        `crossings` are (number, steps-to-target) of search trials of its study that ended with a horizon that is not
        settled. That one may still fall below these steps, but then so does this proposal's.
        """
        if not self._falls(proposal):
            return proposal
        study = study_of(self._studies, self.experiment, proposal.batch_size, records)
        return self._revised(proposal, study, crossings)

    def settled(self, proposal: Proposal, records: Records) -> bool:
        """Whether the horizon that `revised` gives is the last: all trials have finished that it may know of."""
        if not self._falls(proposal):
            return True
        state = study_of(self._studies, self.experiment, proposal.batch_size, records).rounds.state
        return self._horizon_knows(proposal.number, state) <= state.first + state.draws.drawn

    def _falls(self, proposal: Proposal) -> bool:
        """Whether the horizon of a proposal may fall while it runs."""
        rule = self.experiment.search.stopping.rule
        return proposal.stage is Stage.SEARCH and rule in ("asha", "cap") and self.horizon_falls

    def _horizon_knows(self, number: int, state: StudyState) -> int:
        """How many search trials, from the first one on, decide a trial's horizon."""
        return max(number - min(_LAG, self.experiment.search.at_once) + 1, state.first)

    def _revised(self, proposal: Proposal, study: Study, crossings: Iterable[tuple[int, int]]) -> Proposal:
        if not self._falls(proposal):
            return proposal
        state = study.rounds.state
        knows = self._horizon_knows(proposal.number, state)
        heard = [steps for number, steps in crossings if number < knows]
        max_steps = study.cap(min(knows, state.first + state.draws.drawn), heard)
        return replace(proposal, max_steps=max_steps, capped=max_steps < proposal.budget_steps)

    def _search(self, study: Study, running: Collection[str]) -> Proposal | None:
        experiment, batch_size, state = self.experiment, study.batch_size, study.rounds.state
        draws = state.draws
        unbroken = number = state.first + draws.drawn
        while number in study.search or trial_name(batch_size, Stage.SEARCH, number) in running:
            finished = study.search.get(number)
            draws = draws.then(None if finished is None else finished.outcome)
            if draws.complete:
                return None  # if all that run turn out feasible, the round is complete
            number += 1
        n_known = max(number - experiment.search.at_once + 1, state.first)
        if n_known > unbroken:
            return None
        question = Question(experiment, batch_size, state.space, study.known(n_known), number, state.first)
        proposal = study.stops(n_known).limited(blank(experiment, batch_size, Stage.SEARCH, number, state.round))
        return self._revised(replace(proposal, point=point_of(question)), study, ())

    def _confirm(self, study: Study, running: Collection[str]) -> Proposal | None:
        experiment, batch_size, wanted = self.experiment, study.batch_size, self.experiment.confirm
        budget_steps = experiment.budget.max_steps(batch_size)
        for place, winner in enumerate(study.winners()):
            assert winner.steps_to_target is not None
            for i in range(wanted.seeds):
                number = place * wanted.seeds + i
                name = trial_name(batch_size, Stage.CONFIRM, number)
                if name not in study.confirmed and name not in running:
                    return replace(
                        blank(experiment, batch_size, Stage.CONFIRM, number, study.rounds.state.round),
                        repeats=winner.trial_id,
                        seed=trial_seed(experiment.seed, Stage.CONFIRM, i),  # the same ones for every point
                        point=dict(winner.point),
                        max_steps=max(budget_steps, int(np.ceil(wanted.horizon * winner.steps_to_target))),
                        stop_at_target=not wanted.beyond_target,
                    )
        return None


def _batch_size(trial_id: str) -> int:
    return int(trial_id.split("-", 1)[0].removeprefix("b"))


def protocol_of(experiment: Experiment, horizon_falls: bool = False) -> Proposals:
    """The search protocol that an experiment names; `horizon_falls` as in `PerStudyProtocol`."""
    if experiment.search.protocol == "joint":
        return JointProtocol(experiment)
    return PerStudyProtocol(experiment, horizon_falls)


# What a run of it takes at most: computed without running anything.


@dataclass(frozen=True)
class StudyPlan:
    """What one study would run."""

    batch_size: int  # the study
    max_steps: int  # step budget of a search trial
    search_trials: int  # feasible trials wanted in the first round
    confirm_trials: int  # re-runs on fresh seeds
    # Bound on optimizer updates of the first round and the re-runs, if no trial diverges or is stopped early.
    steps: int
    most_steps: int  # bound on optimizer updates with all widening rounds and as many draws as are allowed

    @property
    def examples(self) -> int:
        """`steps` in training items."""
        return self.batch_size * self.steps

    @property
    def most_examples(self) -> int:
        """`most_steps` in training items."""
        return self.batch_size * self.most_steps


# Trials of a study that may be under way for each worker it has: some have ended and wait for one before them, or for
# their horizon. With 64 workers on 8 studies of 40 trials, 2 kept 86 % of the workers' time busy, 1.5 kept 82 %, and 3
# kept 90 % but found points that were 4 % slower (`benchmarks.idle_workers`, three seeds).
_UNDER_WAY = 2
# With more than half of a search under way, most of its points would be chosen before any trial is known. Chosen.
_SHARE = 2


def resolved(experiment: Experiment, workers: int) -> Experiment:
    """The experiment with `search.parallel_per_study` as a number, for a run that begins on so many workers.

    It is frozen so in the run folder; a number that was given stays.
    """
    search = experiment.search
    if search.parallel_per_study != "auto":
        return experiment
    under_way = 1 if search.protocol == "joint" else _UNDER_WAY  # its clock has as many trials under way as run at once
    wanted = math.ceil(under_way * workers / len(experiment.batch_sizes))
    number = max(search.at_once, min(wanted, search.trials // _SHARE))
    return experiment.model_copy(update={"search": search.model_copy(update={"parallel_per_study": number})})


def plan(experiment: Experiment) -> list[StudyPlan]:
    """Plan every study of a resolved experiment.

    A re-run trains at most `confirm.horizon` times its point's steps-to-target, which is at most the budget.
    """
    search, boundary, confirm = experiment.search, experiment.boundary, experiment.confirm
    plans = []
    for batch_size in experiment.batch_sizes:
        budget = experiment.budget.max_steps(batch_size)
        # A joint search runs one more point again where a study has no number yet.
        points = confirm.points + (search.protocol == "joint")
        reruns, trials = confirm.points * confirm.seeds, experiment.trials_at(batch_size)
        rerun_each = math.ceil(confirm.horizon * budget)
        rerun_steps = reruns * rerun_each
        later = boundary.max_rounds * experiment.later_trials
        plans.append(
            StudyPlan(
                batch_size=batch_size,
                max_steps=budget,
                search_trials=trials,
                confirm_trials=reruns,
                steps=trials * budget + rerun_steps,
                most_steps=int((trials + later) * search.draws) * budget + points * confirm.seeds * rerun_each,
            )
        )
    return plans
