"""Whether an optimum lies on the edge of its search space, and what that edge is: the one boundary rule.

An optimum on the edge of the box means that a better point may lie outside (Shallue et al. 2018; Tuning Playbook, "bad
search space boundaries"). Four look-alikes are told apart: a *wall* of divergence, behind which nothing can be better;
a natural *limit*, behind which nothing exists (momentum 0); a *flat* axis, along which near-optimal trials are spread
so widely that the place of the best one says nothing; and a *turn* before the edge, after which steps rise again.

The rounds of a study are replayed from its search trials: draws until enough are feasible, a verdict, a wider box. Both
the search, which asks what comes next, and the analysis, which asks what was found, read them here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from bcrit.analysis.numbers import Floats
from bcrit.search_spaces.dimensions import Box, Side
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import BoundaryRule
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.presets import DOMAINS
from bcrit.search_spaces.space import Point, SearchSpace, hyperparameter

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
Kind = Literal["box", "wall", "limit", "flat"]
_SIDES: Final[tuple[Side, Side]] = ("low", "high")

# A wall: at least this many trials lie beyond the optimum, and at least this share diverged. Chosen, not studied.
_WALL_TRIALS = 3
_WALL_SHARE = 0.8
# Flat: at least this many near-optimal trials, spread (5th to 95th percentile) over this share of the box. Chosen.
_FLAT_TRIALS = 5
_FLAT_SPREAD = 0.5
# A turn: judged from the trials within this share of the best, at least this many, at this one-sided level. On the
# noisy quadratic model it told every box that bound from every optimum 1.25 times or more inside the edge.
_TURN_WITHIN = 0.25
_TURN_TRIALS = 6
_TURN_LEVEL = 0.975


def ran(trials: pd.DataFrame) -> Flags:
    """Which trials ran: one that failed or did not fit into memory says nothing of its point; (n_trials,)."""
    return ~trials["outcome"].isin([outcome for outcome in Outcome if outcome.broken]).to_numpy(dtype=bool)


def feasible(trials: pd.DataFrame) -> Flags:
    """Which of them did not diverge either; (n_trials,)."""
    return trials["outcome"].isin([outcome for outcome in Outcome if outcome.feasible]).to_numpy(dtype=bool)


@dataclass(frozen=True)
class SearchedTrials:
    """What the rule needs of search trials, in columns since large studies have thousands; arrays are (n_trials,)."""

    values: Mapping[str, npt.NDArray[np.object_]]  # hyperparameters by name; None or NaN where a point lacks one
    steps: Floats  # to target; NaN where not reached
    feasible: Flags  # False where it diverged
    shortfall: Floats  # how far the best value lies from the threshold, on whichever side; NaN where it has none

    @classmethod
    def of(cls, trials: Iterable[SearchTrial], threshold: float) -> SearchedTrials:
        """Finished trials without those that did not run."""
        told = [trial for trial in trials if not trial.outcome.broken]
        names = dict.fromkeys(name for trial in told for name in trial.point)
        return cls(
            {name: np.array([trial.point.get(name) for trial in told], dtype=object) for name in names},
            np.array([trial.steps_to_target for trial in told], dtype=float),
            np.array([trial.outcome.feasible for trial in told], dtype=bool),
            np.abs(np.array([trial.best_value for trial in told], dtype=float) - threshold),
        )

    @classmethod
    def in_frame(cls, trials: pd.DataFrame, names: Sequence[str], threshold: float) -> SearchedTrials:
        """Search trials of one study in a frame with the columns of `TRIALS`, without those that did not run."""
        trials = trials[ran(trials)]
        return cls(
            {name: trials[name].to_numpy(dtype=object) for name in names},
            trials["steps_to_target"].to_numpy(dtype=float, na_value=np.nan),
            feasible(trials),
            np.abs(trials["best_value"].to_numpy(dtype=float, na_value=np.nan) - threshold),
        )

    def point(self, place: int) -> dict[str, Any]:
        """The hyperparameters of one trial."""
        return {name: of[place] for name, of in self.values.items() if not pd.isna(of[place])}

    def on(self, address: str) -> Floats:
        """The values on one numeric axis; NaN where it does not exist."""
        values = self.values.get(hyperparameter(address))
        if values is None:
            return np.full(len(self.steps), np.nan)
        name, *inner = address.split(".")
        exists = self.values[name] == inner[0] if inner else np.ones(len(values), dtype=bool)
        return np.where(exists, values, np.nan).astype(float)

    def best_boxes(self, space: SearchSpace, best: int) -> dict[str, Box]:
        """The numeric axes that exist at one trial's point, by address."""
        point = self.point(best)
        active = space.active(point).items()
        return {address: box for address, box in active if isinstance(box, Box) and hyperparameter(address) in point}

    def near_optimal(self, within: float) -> Places:
        """The trials within this share of the fewest steps, the best first.

        While none has reached, those that came nearest to the target take their place: the nearest tenth, at least one.
        A box that lies wholly beside the optimum is then widened in the right direction.
        """
        reached = np.flatnonzero(~np.isnan(self.steps))
        if len(reached):
            limit = self.steps[reached].min() * (1 + within)
            near = reached[self.steps[reached] <= limit]
            # Of equally fast ones the better value first: `steps_to_target` takes it for the best.
            fastest_first: Places = near[np.lexsort((-self.shortfall[near], self.steps[near]))]
            return fastest_first
        known = np.flatnonzero(self.feasible & ~np.isnan(self.shortfall))
        nearest: Places = known[np.argsort(self.shortfall[known], kind="stable")]
        return nearest[: -(-len(known) // 10)]


@dataclass(frozen=True)
class Touch:
    """An edge near which the optimum of one study lies."""

    dimension: str  # address of the axis
    side: Side
    kind: Kind  # `box`: a better point may lie outside; otherwise none may
    box: Box  # as it was
    optimum: float  # the best trial's value
    widenable: bool  # kind `box`, and no hard limit reached


@dataclass(frozen=True)
class Verdict:
    """A touched edge after one round of search, and where the box was widened to, if it was."""

    round: int
    touch: Touch
    widened_to: float | None


def after_round(
    space: SearchSpace, trials: SearchedTrials, rule: BoundaryRule, round_number: int, tied: Collection[str] = ()
) -> tuple[SearchSpace, list[Verdict]]:
    """Judge a study after one round of search in a box, by all trials so far; the box of the next round, and why.

    The box is widened where a better point may lie outside; `round_number` is how often it was before; `tied` as below.
    """
    verdicts = []
    for touch in touches(space, trials, rule, tied):
        widened_to = None
        if touch.widenable and round_number < rule.max_rounds:
            space = space.widen(touch.dimension, touch.side, rule.widen)
            box = space.box(touch.dimension)
            widened_to = box.low if touch.side == "low" else box.high
        verdicts.append(Verdict(round_number, touch, widened_to))
    return space, verdicts


def touches(space: SearchSpace, trials: SearchedTrials, rule: BoundaryRule, tied: Collection[str] = ()) -> list[Touch]:
    """Find the edges that the optimum of one study touches.

    An axis is touched on a side when the best trial, or the median of the trials within `rule.within` of its
    steps-to-target, lies within `rule.margin` of that end of the box in the scaled coordinate, unless the steps
    significantly rise again before that end; or when a wall of divergence follows the best trial on that side. The
    trials are those from earlier and narrower boxes too; nothing is touched when none was feasible. Hyperparameters in
    `tied` follow the horizon and leave their box with it.
    """
    cluster = trials.near_optimal(rule.within)
    if not len(cluster):
        return []
    best, found = int(cluster[0]), []
    for address, box in trials.best_boxes(space, best).items():
        if hyperparameter(address) in tied:
            continue
        values = trials.on(address)
        optimum, units = float(values[best]), _units(box, values[cluster])
        for side in _SIDES:
            # Distance from the edge as a share of the box, of the best trial and of the middle of the cluster.
            own, middle = box.to_unit(optimum), float(np.median(units))
            near = min(own, middle) if side == "low" else min(1 - own, 1 - middle)
            # A wall: nearly all trials beyond the optimum diverged.
            beyond = ~trials.feasible[values < optimum if side == "low" else values > optimum]
            wall = len(beyond) >= _WALL_TRIALS and float(np.mean(beyond)) >= _WALL_SHARE
            if not wall and (near > rule.margin or _turns_before(box, values, trials, side)):
                continue
            kind = "wall" if wall else _kind(address, box, side, units)
            widenable = kind == "box" and not box.at_hard_limit(side)
            found.append(Touch(address, side, kind, box, optimum, widenable))
    return found


def _units(box: Box, values: Floats) -> Floats:
    """The scaled coordinates of those that lie on the axis."""
    return np.array([box.to_unit(float(value)) for value in values if not np.isnan(value)])


def _turns_before(box: Box, values: Floats, trials: SearchedTrials, side: Side) -> bool:
    """Whether steps-to-target rise again before the edge: a parabola through the near-optimal trials says so.

    Least squares of log(steps) on (1, d, d^2), d the distance from the edge; the optimum is inside when log(steps)
    falls with d at d = 0, significantly by its t-value.
    """
    near = trials.near_optimal(_TURN_WITHIN)
    near = near[(trials.steps[near] > 0) & ~np.isnan(values[near])]
    units = _units(box, values[near])
    if len(near) < _TURN_TRIALS or len(np.unique(units)) < 3:
        return False
    distance = units if side == "low" else 1 - units
    design = np.stack([np.ones_like(distance), distance, distance**2], axis=1)
    y = np.log(trials.steps[near])
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(near) - 3
    variance = float(np.sum((y - design @ coefficients) ** 2)) / freedom * np.linalg.pinv(design.T @ design)[1, 1]
    return bool(-coefficients[1] > special.stdtrit(freedom, _TURN_LEVEL) * np.sqrt(variance))


def _kind(address: str, box: Box, side: Side, cluster: np.ndarray) -> Kind:
    domain = DOMAINS.get(hyperparameter(address))
    if domain is not None and (
        (side == "low" and domain.includes_low and box.low <= domain.low)
        or (side == "high" and domain.includes_high and box.high >= domain.high)
    ):
        return "limit"
    spread = float(np.subtract(*np.percentile(cluster, [95, 5])))
    return "flat" if len(cluster) >= _FLAT_TRIALS and spread >= _FLAT_SPREAD else "box"


# A study whose first draws all fail in the training code (not by divergence) is given up after this many, or after as
# many as may run at once. Chosen.
_HOPELESS = 10


class SearchTrial(Protocol):
    """What the rounds need of a finished search trial; the columns of `bcrit.search_spaces.tables.TRIALS`."""

    @property
    def number(self) -> int: ...  # noqa: D102

    @property
    def round(self) -> int: ...  # noqa: D102

    @property
    def outcome(self) -> Outcome: ...  # noqa: D102

    @property
    def point(self) -> Point: ...  # noqa: D102

    @property
    def steps_to_target(self) -> int | None: ...  # noqa: D102

    @property
    def best_value(self) -> float | None: ...  # noqa: D102


@dataclass(frozen=True)
class Draws:
    """The draws of a round from its first one on: until enough are feasible, at most `max_draws` times as many."""

    wanted: int  # feasible trials wanted
    bound: int  # draws that are allowed
    patience: int  # draws after which a round is given up if none of them ran
    drawn: int = 0  # how many were counted
    feasible: int = 0  # among these
    ran: bool = False  # whether any of these did not fail in the training code

    @classmethod
    def of(cls, experiment: Experiment, wanted: int) -> Draws:
        """None drawn yet."""
        search = experiment.search
        return cls(wanted, int(wanted * search.draws), max(_HOPELESS, search.at_once))

    @property
    def complete(self) -> bool:
        """Whether the round needs no other draw."""
        hopeless = self.drawn == self.patience and not self.ran
        return self.feasible >= self.wanted or self.drawn >= self.bound or hopeless

    def then(self, outcome: Outcome | None) -> Draws:
        """With one more draw, by its outcome; None where it has not finished.

        It is counted as feasible then, so that `complete` is false only where another draw is needed for certain; but
        whether the first draws all fail is known only when they have ended, so the next one waits for them, and what is
        drawn does not depend on which trial ends first.
        """
        feasible, ran = (True, False) if outcome is None else (outcome.feasible, not outcome.broken)
        return replace(self, drawn=self.drawn + 1, feasible=self.feasible + feasible, ran=self.ran or ran)


@dataclass(frozen=True)
class StudyState:
    """What the finished trials of a study say about what comes next."""

    space: SearchSpace  # of the current round
    firsts: tuple[int, ...]  # number of each round's first trial, the current one's last
    first: int  # number of the current round's first trial; when nothing is searched, as many as were
    draws: Draws  # of the current round, as far as they have finished without a gap
    searching: bool  # whether the current round is unfinished
    edges: tuple[Verdict, ...]  # of all complete rounds

    @property
    def round(self) -> int:
        """How often the box was widened before."""
        return len(self.firsts) - 1


class Rounds:
    """A study's rounds, kept up with its search trials as they finish, in whatever order.

    `state` is that after the last complete round. The experiment is no imported one: of others' runs there is nothing
    to replay.
    """

    def __init__(self, experiment: Experiment, batch_size: int) -> None:
        self._experiment = experiment
        self._trials: dict[int, SearchTrial] = {}
        draws = Draws.of(experiment, experiment.trials_at(batch_size))
        self.state = StudyState(experiment.space_at(batch_size), (0,), 0, draws, searching=True, edges=())

    def add(self, trial: SearchTrial) -> None:
        """One more finished trial; those of a later round imply that all earlier rounds are complete."""
        self._trials[trial.number] = trial
        while self.state.searching:
            state = self.state
            following = self._trials.get(state.first + state.draws.drawn)
            if following is None or following.round != state.round:
                return
            self.state = replace(state, draws=state.draws.then(following.outcome))
            if self.state.draws.complete:
                self.state = self._after_round(self.state)

    def _after_round(self, state: StudyState) -> StudyState:
        first, experiment = state.first + state.draws.drawn, self._experiment
        before = (self._trials[number] for number in sorted(self._trials) if number < first)
        trials = SearchedTrials.of(before, experiment.target.threshold)
        space, verdicts = after_round(state.space, trials, experiment.boundary, state.round, experiment.tied)
        edges = (*state.edges, *verdicts)
        if all(verdict.widened_to is None for verdict in verdicts):
            return replace(state, space=space, first=first, searching=False, edges=edges)
        draws = Draws.of(experiment, experiment.later_trials)
        return StudyState(space, (*state.firsts, first), first, draws, searching=True, edges=edges)


def study_state(experiment: Experiment, batch_size: int, search: Iterable[SearchTrial]) -> StudyState:
    """The state of a study after the last complete round, replayed from its finished search trials."""
    rounds = Rounds(experiment, batch_size)
    for trial in search:
        rounds.add(trial)
    return rounds.state
