"""From trials to one row a study: the steps-to-target of its best point, its interval, its n and where it came from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from bcrit.analysis.curve.table import censored_median, is_coarse
from bcrit.analysis.numbers import Floats
from bcrit.analysis.studies.boundary import Flags, SearchedTrials, StudyState, Verdict, ran, study_state, touches
from bcrit.search_spaces.dimensions import Log
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.presets import derived
from bcrit.search_spaces.space import Point, SearchSpace, hyperparameter
from bcrit.search_spaces.tables import BOUNDARY, STEPS_TO_TARGET, TRIALS

# Nominal level of the interval of a study's median over seeds; 5 seeds give 94 % (their range), 3 only 75 %.
_MEDIAN_LEVEL = 0.90


def tied(trials: pd.DataFrame) -> pd.DataFrame:
    """The search trials that share the fewest steps of their study, where it has several."""
    search = trials[(trials["stage"] == Stage.SEARCH) & trials["steps_to_target"].notna()]
    fewest = search[search["steps_to_target"] == search.groupby("batch_size")["steps_to_target"].transform("min")]
    return fewest[fewest["batch_size"].duplicated(keep=False)]


def steps_to_target(
    trials: pd.DataFrame, experiment: Experiment, at_crossing: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Reduce trials to one row a study.

    The search picks points; each was re-run on fresh seeds. A point's number is the median over its seeds, where a seed
    that did not reach counts as infinite; the study's point is the one with the smallest median. Its interval is the
    narrowest pair of order statistics that covers the median with 90 % (the seeds' range where none does). A study
    without re-runs shows its best search trial, which is biased low by the luck of the search and has no interval, and
    says so in `source`. Of several with the same steps the better value at the crossing wins (`at_crossing`, by trial;
    the best value of a trial that is not there), then the earlier trial. Where the crossing is only known to lie
    between two evaluations that are far apart (`is_coarse`), the interval reaches from the one to the other.

    The columns are those of `STEPS_TO_TARGET` and the hyperparameters of the best point; `steps` is NaN for a study
    that did not reach the target in `max_steps`.
    """
    sign = experiment.target.direction.sign
    crossed = trials["trial_id"].map(at_crossing or {}).astype(float).fillna(trials["best_value"].astype(float))
    value: Floats = np.asarray(crossed, dtype=np.float64)
    studies = ((batch_size, trials["batch_size"] == batch_size) for batch_size in experiment.batch_sizes)
    rows = [_study_row(trials[mine], size, sign * value[mine]) for size, mine in studies if mine.any()]
    hyperparameters = TRIALS.beside(trials.columns)
    return pd.DataFrame(rows, columns=STEPS_TO_TARGET.names + hyperparameters)


def _study_row(study: pd.DataFrame, batch_size: int, value: Floats) -> dict[str, Any]:
    """One row; `value` at the crossing of every trial, the better the smaller."""
    searched = (study["stage"] == Stage.SEARCH).to_numpy(dtype=bool)
    search = study[searched]
    steps = search["steps_to_target"].to_numpy(dtype=float, na_value=math.nan)
    search = search.iloc[np.lexsort((search["number"], value[searched], steps))]
    confirm = study[study["stage"] == Stage.CONFIRM]
    reached = search[search["steps_to_target"].notna()]
    row: dict[str, Any] = {
        "batch_size": batch_size,
        "source": "search",
        "n_seeds": 0,
        "n_reached": 0,
        "n_trials": len(search),
        "search_steps": math.nan if reached.empty else reached["steps_to_target"].iloc[0],
        # Only of trials that trained: one that diverged does not show that a tuned one needs more steps.
        "max_steps": int(max(study["steps"][[Outcome(o).feasible for o in study["outcome"]]], default=0)),
        "step_seconds": _step_seconds(study),
        **dict.fromkeys(("steps", "steps_low", "steps_high", "steps_level"), math.nan),
        "best_trial": None,
    }
    best, resolution = None, math.nan
    if len(reached):
        best = made = reached.iloc[0]
        row |= {"steps": best["steps_to_target"], "best_trial": best["trial_id"]}
        resolution = best["steps_to_target"] - best["steps_to_target_low"]
        if is_coarse(resolution, best["steps_to_target"]):
            row |= {"steps_low": best["steps_to_target_low"] + 1, "steps_high": best["steps_to_target"]}
    confirm = confirm[ran(confirm)]  # a re-run that diverged says something of the point's steps, a failed one does not
    points = [group for _, group in confirm.groupby("repeats", sort=True)]
    if points:
        chosen = min(points, key=lambda group: (_median(group)[0], group["number"].min()))
        median, bound = _median(chosen)
        low, high, level = median_interval(_steps(chosen))
        # Imported repeats may be of a point that was found elsewhere: the first of them then stands for it.
        found = search[search["trial_id"] == chosen["repeats"].iloc[0]]
        made = chosen.sort_values("number").iloc[0]  # a joint search ties what it runs again to a horizon of its own
        best = found.iloc[0] if len(found) else made
        resolution = (chosen["steps_to_target"] - chosen["steps_to_target_low"]).median()
        if is_coarse(resolution, median):
            before = (chosen["steps_to_target_low"] + 1).fillna(math.inf)
            low, high = (
                (median_interval(before.tolist())[0], high) if len(before) > 1 else (float(before.iloc[0]), median)
            )
        row |= {
            "source": "confirm",
            "n_seeds": len(chosen),
            "n_reached": int(chosen["steps_to_target"].notna().sum()),
            "steps": median if math.isfinite(median) else math.nan,
            "steps_low": low if math.isfinite(low) else math.nan,
            "steps_high": high if math.isfinite(high) else math.nan,
            "steps_level": level,
            "max_steps": int(chosen["max_steps"].max()) if math.isfinite(median) else int(bound),
            "best_trial": best["trial_id"],
        }
    if best is None:
        return row
    row |= {"examples": batch_size * row["steps"], "steps_resolution": resolution}
    return row | {name: made[name] for name in TRIALS.beside(study.columns)}


def _steps(group: pd.DataFrame) -> list[float]:
    return [float(s) if s == s else math.inf for s in group["steps_to_target"]]


def _median(group: pd.DataFrame) -> tuple[float, float]:
    """The median over seeds, infinite where half did not reach, and what it then is at least."""
    return censored_median(np.array(_steps(group)), group["steps"].to_numpy())


def median_interval(values: Sequence[float], level: float = _MEDIAN_LEVEL) -> tuple[float, float, float]:
    """Interval of a median by order statistics: no assumption on the distribution; infinite values are allowed.

    The pair (x_(k), x_(n+1-k)) covers the median with probability 1 - 2 F(k - 1; n, 1/2). The answer is (lower end,
    upper end, coverage) of the narrowest such pair with at least this coverage, or the range of the values where none
    has it; NaN for a single value, which says nothing of the spread.
    """
    if len(values) < 2:
        return math.nan, math.nan, math.nan
    ordered = sorted(values)
    n = len(ordered)
    coverage = {k: 1 - 2 * float(special.bdtr(k - 1, n, 0.5)) for k in range(1, n // 2 + 1)}
    k = max((k for k in coverage if coverage[k] >= level), default=1)
    return ordered[k - 1], ordered[n - k], coverage[k]


def _step_seconds(study: pd.DataFrame) -> float:
    """Median over trials of the time of one update; the first steps of a process are slow, a median does not mind.

    Trials without seconds (many imported ones) have none: their time is unknown, not zero.
    """
    trained = study[(study["steps"] > 0) & (study["train_seconds"] > 0)]
    return float((trained["train_seconds"] / trained["steps"]).median())


def that_count(trials: pd.DataFrame) -> Flags:
    """Which trials speak for their study: those of its search, or the re-runs of one without any; none that failed."""
    runs, batch = ran(trials), trials["batch_size"].to_numpy()
    search = (trials["stage"] == Stage.SEARCH).to_numpy(dtype=bool) & runs
    return np.asarray(search | (~np.isin(batch, batch[search]) & runs))


def stopped_at_target(trials: pd.DataFrame) -> Flags:
    """Which trials ended because they reached the target that they were run to; (n_trials,).

    Trials may have gone on beyond it: imported ones, and those of a search with the stopping rule `full`, whose re-runs
    stop. If most of a stage's trials that reached did, then one that reached it with its last evaluation did not end
    because of that.
    """
    reached = trials["outcome"].to_numpy(dtype=str) == Outcome.REACHED.value
    own = trials["steps_to_target"].to_numpy(dtype=float)
    ended: Flags = reached & (trials["steps"].to_numpy(dtype=float) <= own)
    stages = trials["stage"].to_numpy(dtype=str)
    for stage in Stage:
        mine = stages == stage.value
        if 2 * int(ended[mine].sum()) <= int(reached[mine].sum()):
            ended[mine] = False
    return ended


def outcome_counts(trials: pd.DataFrame, batch_size: int) -> dict[str, int]:
    """How the search trials of a study ended; every outcome is listed."""
    study = trials[(trials["batch_size"] == batch_size) & (trials["stage"] == Stage.SEARCH)]
    counts = study["outcome"].value_counts()
    return {outcome.value: int(counts.get(outcome.value, 0)) for outcome in Outcome}


@dataclass(frozen=True)
class _SearchTrial:
    """A row of the trials table as `bcrit.analysis.studies.boundary` reads it."""

    number: int
    round: int
    outcome: Outcome
    point: Point
    steps_to_target: int | None
    best_value: float | None


def study_states(trials: pd.DataFrame, experiment: Experiment) -> dict[int, StudyState]:
    """The state of every study's search after its last complete round, by batch size; of a run that was made here."""
    names = TRIALS.beside(trials.columns)
    needed = trials[[*("number", "round", "outcome", "steps_to_target", "best_value"), *names]]
    states = {}
    for batch_size in () if experiment.imported else experiment.batch_sizes:
        search = needed[(trials["batch_size"] == batch_size) & (trials["stage"] == Stage.SEARCH)]
        searched = (_search_trial(row, names) for row in search.to_dict("records"))
        states[batch_size] = study_state(experiment, batch_size, searched)
    return states


def boundary_table(
    trials: pd.DataFrame, experiment: Experiment, states: Mapping[int, StudyState] | None = None
) -> pd.DataFrame:
    """The boundary verdicts of every study after every complete round of its search.

    An imported study was searched in one round, which is over; where its space is not known, the learning rates that
    were tried are its box (`_tried`). The columns are those of `BOUNDARY`. `states` are the
    `study_states` of these trials, where they are known.
    """
    names = TRIALS.beside(trials.columns)
    states = study_states(trials, experiment) if states is None else states
    rows: list[dict[str, Any]] = []
    for batch_size in experiment.batch_sizes:
        if experiment.imported:
            search = trials[(trials["batch_size"] == batch_size) & (trials["stage"] == Stage.SEARCH)]
            seen = SearchedTrials.in_frame(search, names, experiment.target.threshold)
            space = experiment.space_at(batch_size)
            touched = touches(space if space.root else _tried(search), seen, experiment.boundary)
            edges = tuple(Verdict(0, touch, None) for touch in touched)
        else:
            edges = states[batch_size].edges
        for verdict in edges:
            touch = verdict.touch
            row = {"batch_size": batch_size, "round": verdict.round, "low": touch.box.low, "high": touch.box.high}
            row |= {name: getattr(touch, name) for name in ("dimension", "side", "kind", "optimum")}
            rows.append({**row, "widened_to": np.nan if verdict.widened_to is None else verdict.widened_to})
    return pd.DataFrame(rows, columns=BOUNDARY.names)


def _tried(search: pd.DataFrame) -> SearchSpace:
    """The learning rates that were tried, where they are a search: three or more.

    Of other hyperparameters the best of a few trials often stands at an end by chance.
    """
    rates = pd.to_numeric(search["lr"], errors="coerce").dropna() if "lr" in search else pd.Series(dtype=float)
    if rates.nunique() < 3 or not 0 < rates.min() < rates.max() < math.inf:
        return SearchSpace({})
    return SearchSpace({"lr": Log(low=float(rates.min()), high=float(rates.max()))})


def box_edges(edges: pd.DataFrame) -> str:
    """The edges of a boundary table that bind, for people: `lr high, momentum low`; empty where none does."""
    binding = edges[edges["kind"] == "box"]
    named = zip(binding["dimension"], binding["side"], strict=True)
    return ", ".join(f"{hyperparameter(address)} {side}" for address, side in named)


def searched_spaces(experiment: Experiment, boundary: pd.DataFrame, batch_size: int) -> list[SearchSpace]:
    """The search space of a study as it was declared, and after each round that widened it."""
    space = experiment.space_at(batch_size)
    found = [space]
    widened = boundary[(boundary["batch_size"] == batch_size) & boundary["widened_to"].notna()]
    for _, rows in widened.groupby("round", sort=True):
        for row in rows.to_dict("records"):
            box = space.box(row["dimension"]).model_copy(update={row["side"]: row["widened_to"]})
            space = space.replace(row["dimension"], box)
        found.append(space)
    return found


def _search_trial(row: dict[Any, Any], names: list[str]) -> _SearchTrial:
    steps, best = row["steps_to_target"], row["best_value"]
    return _SearchTrial(
        number=int(row["number"]),
        round=int(row["round"]),
        outcome=Outcome(row["outcome"]),
        point={name: row[name] for name in names if name not in derived(row) and not pd.isna(row[name])},
        steps_to_target=None if pd.isna(steps) else int(steps),
        best_value=None if pd.isna(best) else float(best),
    )
