"""How far is a run, which of its studies say something by now, and why is there no curve?"""

import math
import re
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd

from bcrit.analysis.curve.table import is_coarse
from bcrit.analysis.numbers import enumeration, readable
from bcrit.analysis.studies.boundary import StudyState, feasible, ran
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.space import hyperparameter
from bcrit.search_spaces.tables import TRIALS

FEWEST_STUDIES: Final = 2
"""Batch sizes that a curve needs: as many as it has parameters."""

_ENOUGH = 0.5  # of the first round's trials: the best of fewer says little. Chosen, not studied.
_FEWEST_CHOICES = 3  # studies; the choice of one or two shows chance. Chosen.
_SEEDS = 10  # so many seeds at most are halved in all ways. Chosen.
_LITTLE = 0.005  # of the steps: no word about less. Chosen.
_APART = 0.05  # of the steps, between evaluations: what our own grid never leaves near the target. Chosen.
_LIKE = ((True, True), (True, False), (False, True), (False, False))  # same study, same stage: which trials count
_ALIKE = 3  # trials that fail alike at their start, and none that trains: it is not their points' fault. Chosen.


@dataclass(frozen=True)
class StudyProgress:
    """How far one study is."""

    batch_size: int
    searched: int  # search trials that have finished
    to_search: int  # as many as there will be, but for draws that diverge and boxes that are widened
    rerun: int  # re-runs on fresh seeds that have finished
    to_rerun: int  # as many as there will be
    fewest: int | None  # steps to target of the best search trial so far; None where none has reached
    # Seconds of a worker that its finished trials took, by stage.
    seconds: Mapping[Stage, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def left(self) -> Mapping[Stage, int]:
        """Trials that are still to come, by stage."""
        return {Stage.SEARCH: self.to_search - self.searched, Stage.CONFIRM: max(0, self.to_rerun - self.rerun)}

    @property
    def done(self) -> Mapping[Stage, int]:
        """Those that have finished."""
        return {Stage.SEARCH: self.searched, Stage.CONFIRM: self.rerun}


@dataclass(frozen=True)
class Progress:
    """How far a run is: it may be running, or was stopped, or is complete."""

    studies: tuple[StudyProgress, ...]
    searching: Mapping[int, float]  # studies whose search is not over: the share of the first round that has finished

    @property
    def finished(self) -> int:
        """Trials of the study that have finished."""
        return sum(study.searched + study.rerun for study in self.studies)

    @property
    def expected(self) -> int:
        """As many as there will be, but for draws that diverge and boxes that are widened."""
        return self.finished + sum(sum(study.left.values()) for study in self.studies)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run."""
        return not self.searching and self.finished == self.expected

    def seconds_left(self) -> float | None:
        """Seconds of one worker that what is left will take, as its like took so far; None where nothing has finished.

        That is trials of its study and stage, else of its study, else of its stage, else any. Studies differ more than
        stages: trials at a small batch size are longer.
        """
        if not self.finished:
            return None
        done = [(of, stage) for of in self.studies for stage, count in of.done.items() if count]
        total = 0.0
        for study, stage, left in ((of, stage, left) for of in self.studies for stage, left in of.left.items() if left):
            alike = ([(a, b) for a, b in done if (a is study) >= one and (b is stage) >= other] for one, other in _LIKE)
            like = next(filter(None, alike))
            total += left * sum(of.seconds[each] for of, each in like) / sum(of.done[each] for of, each in like)
        return total

    def sentence(self, place: str) -> str:
        """How far the run in a folder is, and how it goes on."""
        far = f"In progress: {self.finished:,} of about {self.expected:,} trials have finished."
        return f"{far} If nothing is running, `bcrit resume {place}` goes on."

    def notes(self, early: Sequence[int]) -> Iterator[str]:
        """What is not known yet; `early` as below."""
        open_ = [batch_size for batch_size in self.searching if batch_size not in early]
        for sizes, what in (
            (early, "too little has finished for a number: it is in no curve yet"),
            (open_, "the search is not over: fewer steps may be found, and what follows from them may change"),
        ):
            if sizes:
                yield f"At batch size {enumeration([f'{batch_size:,}' for batch_size in sizes])} {what}."

    def early(self, studies: pd.DataFrame) -> list[int]:
        """The studies of which nothing is known yet: too few trials, or none that reached and more to come."""
        unreached = set(studies.loc[studies["steps"].isna(), "batch_size"])
        return [b for b, share in self.searching.items() if share < _ENOUGH or b in unreached]


Finished = tuple[int, Stage, int | None, Hashable, float]
"""Of a trial: batch size, stage, steps to target, its point, and the seconds of a worker that it took."""


def how_far(experiment: Experiment, states: Mapping[int, StudyState], trials: Iterable[Finished]) -> Progress:
    """How far a run is by its finished trials; `states` are those of its studies, by batch size."""
    counts, seconds = Counter[tuple[int, Stage]](), dict[tuple[int, Stage], float]()
    fewest, reached = dict[int, int](), dict[int, set[Hashable]]()
    for batch_size, stage, steps, point, took in trials:
        counts[batch_size, stage] += 1
        seconds[batch_size, stage] = seconds.get((batch_size, stage), 0.0) + took
        if stage is Stage.SEARCH and steps is not None:
            fewest[batch_size] = min(steps, fewest.get(batch_size, steps))
            reached.setdefault(batch_size, set()).add(point)
    searching, studies = dict[int, float](), []
    for batch_size in experiment.batch_sizes:
        state, points = states[batch_size], experiment.confirm.points
        planned = searched = counts[batch_size, Stage.SEARCH]
        if state.searching:
            missing = min(state.draws.wanted - state.draws.feasible, state.draws.bound - state.draws.drawn)
            planned = max(planned, state.first + state.draws.drawn + missing)
            searching[batch_size] = 1.0 if state.round else state.draws.feasible / state.draws.wanted
        else:
            points = min(points, len(reached.get(batch_size, ())))
        rerun, to_rerun = counts[batch_size, Stage.CONFIRM], points * experiment.confirm.seeds
        own = {stage: seconds.get((batch_size, stage), 0.0) for stage in (Stage.SEARCH, Stage.CONFIRM)}
        studies.append(StudyProgress(batch_size, searched, planned, rerun, to_rerun, fewest.get(batch_size), own))
    return Progress(tuple(studies), searching)


def progress(trials: pd.DataFrame, experiment: Experiment, states: Mapping[int, StudyState]) -> Progress | None:
    """How far a run is by the table of its finished trials; None of an imported one, which is complete."""
    if experiment.imported is not None:
        return None
    point = TRIALS.beside(trials.columns)
    columns = ("batch_size", "stage", "steps_to_target", "ended_at", "started_at")
    rows = zip(*(trials[name] for name in columns), trials[point].to_numpy(dtype=object).tolist(), strict=True)
    return how_far(
        experiment,
        states,
        (
            (size, Stage(stage), None if pd.isna(steps) else int(steps), str(of), end - begin)
            for size, stage, steps, end, begin, of in rows
        ),
    )


Ended = tuple[int, Outcome, int, str | None]
"""Of a trial: batch size, outcome, optimizer updates and message."""


def failed_alike(trials: Iterable[Ended], n_sizes: int) -> str | None:
    """The message with which trials fail alike before their first update, where that is all that is known of a run.

    Three with one message are enough, at as many batch sizes where the run has them (`n_sizes`): what goes wrong at one
    size alone is no reason to stop the others.
    """
    found: dict[str, tuple[str | None, list[int]]] = {}
    for batch_size, outcome, steps, message in trials:
        if steps > 0:
            return None
        if outcome is Outcome.FAILED:
            # At which step a first report was wrong may go with the batch size.
            found.setdefault(re.sub(r"step \d+", "step", message or ""), (message, []))[1].append(batch_size)
    enough = (m for m, of in found.values() if len(of) >= _ALIKE and len(set(of)) >= min(_ALIKE, n_sizes))
    return next(enough, None)


def headline(trials: pd.DataFrame, underway: Progress | None, place: str) -> tuple[str, ...]:
    """What comes first of a run that is not complete, or in which nothing ever trained; nothing of another."""
    ended = trials[["batch_size", "outcome", "steps", "message"]].itertuples(index=False, name=None)
    n_sizes = trials["batch_size"].nunique()
    alike = failed_alike(((size, Outcome(o), steps, why) for size, o, steps, why in ended), n_sizes)
    if alike is not None:
        again = f"Mend that, and `bcrit resume {place} --retry-failed` goes on."
        return (f"No trial trained: they failed alike before their first update. {alike[0].upper()}{alike[1:]}.", again)
    return () if underway is None else (underway.sentence(place),)


def failures(trials: pd.DataFrame, experiment: Experiment) -> Iterator[str]:
    """Which searches, and which re-runs, say nothing because they failed: a sentence each."""
    for _, own in trials.groupby(["batch_size", "stage"]):
        batch_size, stage = int(own["batch_size"].iloc[0]), own["stage"].iloc[0]
        lost, budget = own[~ran(own)], experiment.budget.max_steps(batch_size)
        if lost.empty or (stage == Stage.SEARCH and len(lost) < max(len(own), _ALIKE)):
            continue  # a search passes over points that fail, and draws others
        what = "search trials" if stage == Stage.SEARCH else "re-runs"
        why = lost["message"].value_counts().index[0] if lost["message"].notna().any() else "no reason is known"
        yield f"At batch size {batch_size:,} {len(lost)} of {len(own)} {what} failed: {why}."
        search = trials[(trials["batch_size"] == batch_size) & (trials["stage"] == Stage.SEARCH)]
        if stage == Stage.CONFIRM and ran(search).all() and (lost["max_steps"] > budget).all():
            yield (
                f"Re-runs may train beyond the budget of {budget:,} steps at batch size {batch_size:,}. A training "
                "function whose schedule ends there says so by its attribute: train.ends_at_budget = True."
            )


def coarse_notes(studies: pd.DataFrame, ties: pd.DataFrame) -> Iterator[str]:
    """Where evaluations are too far apart to know a number, or to tell trials apart that share the fewest steps."""
    columns = ("batch_size", "steps", "steps_resolution")
    rows = [row for row in zip(*(studies[name] for name in columns), strict=True) if is_coarse(row[2], row[1])]
    if rows:
        known = [f"{size:,} (steps {readable(steps - w + 1)} to {readable(steps)})" for size, steps, w in rows]
        yield (
            f"At batch size {enumeration(known)} the target was crossed somewhere between two evaluations that are far "
            "apart, and the curve is fitted to such intervals; evaluate more often for a number."
        )
    width = ties["steps_to_target"] - ties["steps_to_target_low"]
    apart = ties.loc[width > np.maximum(1, _APART * ties["steps_to_target"]), "batch_size"]
    if sizes := [f"{size:,}" for size in sorted(set(apart))]:
        yield (
            f"At batch size {enumeration(sizes)} several trials crossed the target at the same evaluation, the fewest "
            "steps of all: evaluations are too far apart to tell them apart, and the better value there is taken."
        )


def choice_notes(trials: pd.DataFrame) -> Iterator[str]:
    """By how much the best of several points is too good, as the seeds that chose it make its number too.

    Half of the seeds choose a point and the other half read it, in all ways; the mean of log(read / chosen), over
    sqrt(2) as halves are noisier than the whole, is averaged over the studies. Of three points on five seeds that
    scatter by 10 %, with 8 studies: 4.1 +- 0.8 % where 4.5 % is true (equal points), 1.3 where 0.9 is (20 % apart);
    on three or two seeds 6.2 +- 0.9 and 6.2 +- 2.4 % where 5.4 and 5.7 are.
    """
    losses, most, n_studies = list[float](), 0, 0
    confirm = trials[(trials["stage"] == Stage.CONFIRM) & ran(trials)]
    for _, study in confirm.groupby("batch_size"):
        steps = study.pivot_table("steps_to_target", "repeats", "seed").dropna(axis=1).to_numpy(dtype=float)
        steps = steps[:, :_SEEDS]  # (n_points, n_seeds), of seeds that all points reached with
        n_points, n_seeds = steps.shape
        if min(n_points, n_seeds) < 2:
            continue
        most, n_studies = max(most, n_points), n_studies + 1
        for half in map(list, combinations(range(n_seeds), n_seeds // 2)):
            chosen, other = (
                np.log(np.median(part, axis=1)) for part in (steps[:, half], np.delete(steps, half, axis=1))
            )
            losses.append(float(other[chosen.argmin()] - chosen.min()))
    if n_studies >= _FEWEST_CHOICES and (loss := float(np.mean(losses)) / math.sqrt(2)) > _LITTLE:
        yield (
            f"The best of up to {most} points is chosen by the same seeds that make its number: steps are too few by "
            f"about {100 * loss:.2g} % for that (as seen where one half of the seeds chooses and the other reads)."
        )


def widened_notes(studies: pd.DataFrame, trials: pd.DataFrame, boundary: pd.DataFrame) -> Iterator[str]:
    """Where the best point lies in what its box was last widened by, and few trials of the search do."""
    widened = boundary[boundary["widened_to"].notna()]
    best, sizes = dict(zip(studies["batch_size"], studies["best_trial"], strict=True)), dict[int, str]()
    for row in widened[widened["round"] == widened.groupby("batch_size")["round"].transform("max")].to_dict("records"):
        size = int(row["batch_size"])
        search = trials[(trials["batch_size"] == size) & (trials["stage"] == Stage.SEARCH)]
        values = search[hyperparameter(row["dimension"])].astype(float)
        beyond = values < row["low"] if row["side"] == "low" else values > row["high"]
        first = int((search["round"] == 0).sum())
        if (search["trial_id"][beyond] == best[size]).any() and beyond.sum() < _ENOUGH * first:
            sizes[size] = f"{size:,} ({int(beyond.sum())} trials there, {first} in the first box)"
    if sizes:
        yield (
            f"At batch size {enumeration(list(sizes.values()))} the best point lies in what its box was widened by "
            "last, which was searched less than the first box: fewer steps may be possible. 'boundary.trials' says how "
            "many trials follow a widening."
        )


def why_no_curve(studies: pd.DataFrame, trials: pd.DataFrame, underway: Progress | None) -> str | None:
    """What a run without a curve lacks, and what its trials say about it; None where enough studies reached.

    `studies` are those that may enter a fit; `underway` is None where the run is complete.
    """
    reached = studies.loc[studies["steps"].notna(), "batch_size"]
    if len(reached) >= FEWEST_STUDIES:
        return None
    rule = f"a curve needs {FEWEST_STUDIES} batch sizes that reached the target, better 6"
    there = "is 1" if len(reached) == 1 else f"are {len(reached)}"
    if underway is not None:
        return f"{rule}, with half of their search finished; so far there {there}"
    found = causes(trials, set(trials["batch_size"]) - set(reached))
    return "; ".join([f"{rule}, but there {there}", *(f"{said[0].lower()}{said[1:-1]}" for said in found)])


def causes(trials: pd.DataFrame, missed: Collection[int]) -> Iterator[str]:
    """What kept batch sizes from the target, where it is one thing: most trials of half of them ended by it."""
    search = trials[(trials["stage"] == Stage.SEARCH) & trials["batch_size"].isin(missed)]
    for which, what in ((~ran(search), "failed"), (ran(search) & ~feasible(search), "diverged")):
        share = pd.Series(which, index=search.index).groupby(search["batch_size"]).mean()
        sizes = share[share > 0.5].index
        if 0 < len(share) <= 2 * len(sizes):
            own = search[which & search["batch_size"].isin(sizes)]
            at = enumeration([f"{size:,}" for size in sizes])
            most = own["message"].value_counts().head(1).items()
            said = "".join(f", {count} of them with: {message}" for message, count in most)
            yield f"At batch size {at} most trials {what} ({len(own)} in all){said}."
