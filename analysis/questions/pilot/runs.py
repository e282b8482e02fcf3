"""What a pilot's two runs say, read from their folders, and the mean of the gradient noise along the first.

The theory of the critical batch size asks for that mean. With N(s) the noise scale along progress s, a run at batch
size B takes S = int (1 + N/B) ds updates (McCandlish et al. 2018, app. D). So s_min = int ds, e_min = int N ds, and

    b_crit = e_min / s_min = int N ds / int ds,    ds = dS B / (B + N).

The noise scale at the target alone is the largest of the run and overstates b_crit: on digits with momentum 0.9
B_simple was 5 to 9 times b_crit there, and 1.4 to 2.4 times it in this mean (batch sizes 8 to 64, five seeds each).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from bcrit.analysis.numbers import Estimate, Floats, Scale
from bcrit.analysis.questions.noise_scale import noise_scales
from bcrit.analysis.questions.pilot import Measured, Race, Spent, Tried
from bcrit.analysis.questions.pilot.study import OVERHEAD_SECONDS, Timing
from bcrit.analysis.run import Run
from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError

_THIRD: Final = 3.0  # of the budget: a target reached there leaves room for slower batch sizes; chosen
_WARM_UP: Final = 2  # updates that allocate and tune, which are not timed


def measured(
    run: Run, where: str, n_examples: int | None, chosen: Mapping[str, Value], no_noise: str, batch_size: int
) -> Measured:
    """The learning rates that were tried, and the re-runs of the best; the last four are as in `Measured`.

    That no rate trained is an InputError, of the file `where`.
    """
    experiment = run.experiment
    trials = run.trials[run.trials["batch_size"] == batch_size].sort_values("number")
    tried = [_tried(row) for row in trials[trials["stage"] == Stage.SEARCH].to_dict("records")]
    best = _best(run, tried, batch_size, where)
    confirm = trials[trials["stage"] == Stage.CONFIRM]
    n, nothing = len(confirm), "it was not measured"
    scales, heat, simple, noise = None, None, Estimate(None, n=n, why=nothing), Estimate(None, n=n, why=nothing)
    if n and run.probed is not None and (scales := noise_scales(run.probed, experiment, None)) is not None:
        no_noise = ""
        points = [*sorted(scales.along_steps, key=lambda point: point.step or 0.0), *scales.studies]
        heat = next((p.temperature for p in reversed(points) if p.temperature is not None and p.step), None)
        simple = run_mean(run.probed, "tr_sigma", "g_sq", batch_size)
        noise = run_mean(run.probed, "tr_h_sigma", "g_h_g", batch_size)
    looked = confirm if n else trials
    at = run.measurements(set(looked["trial_id"])).to_pandas().sort_values("step").groupby("trial_id")
    races = tuple(
        Race(int(row["batch_size"]), float(row["lr"]), _number(row["steps"]), _edge(run, int(row["batch_size"])))
        for row in run.studies.to_dict("records")
        if row["best_trial"] is not None and not pd.isna(row["lr"])
    )
    steps = next((race.steps for race in races if race.batch_size == batch_size), None)
    return Measured(
        target=str(experiment.target),
        unit=experiment.unit,
        n_examples=n_examples,
        batch_size=batch_size,
        chosen=chosen,
        tried=tuple(tried),
        lr=best.lr,
        edge=_edge(run, batch_size),
        steps=steps if n else None,
        steps_each=tuple(_whole(steps) for steps in confirm["steps_to_target"]),
        scales=scales,
        simple=simple,
        noise=noise,
        no_noise=no_noise,
        temperature=heat,
        evaluate_seconds=float(looked["evaluate_seconds"].sum()) / max(1, sum(map(len, at.groups.values()))),
        evaluate_every=int(at["step"].diff().max(skipna=True)) if at["step"].count().max() > 1 else 1,
        races=races,
        beside_seconds=max(OVERHEAD_SECONDS, float(_beside(looked).median())),
        easier=None if steps is not None else _easier(run, trials[trials["lr"] == best.lr]),
    )


def _beside(trials: pd.DataFrame) -> pd.Series[float]:
    """Seconds of trials that neither updates nor evaluations nor probes took."""
    took = trials[["train_seconds", "evaluate_seconds", "probe_seconds"]].sum(axis=1)
    return trials["ended_at"] - trials["started_at"] - took


def _edge(run: Run, batch_size: int) -> Literal["low", "high"] | None:
    """The end of its box that the best learning rate lies on."""
    edges = run.last_edges(batch_size)
    found = edges.loc[(edges["dimension"] == "lr") & (edges["kind"] == "box"), "side"].head(1).tolist()
    return found[0] if found else None


def _easier(run: Run, trials: pd.DataFrame) -> str | None:
    """A target that the first of some trials reached after a third of its horizon; None where it improved nothing."""
    if trials.empty:
        return None
    target, row = run.experiment.target, trials.iloc[0]
    curve = run.measurements({row["trial_id"]}).to_pandas().sort_values("step")
    values = curve.loc[(curve["step"] > 0) & (curve["step"] <= row["max_steps"] / _THIRD), target.metric]
    best = target.best(enumerate(values, start=1))
    return None if best is None else str(target.model_copy(update={"threshold": float(f"{best:.2g}")}))


def spent(run: Run) -> Spent:
    """What the trials of a run took."""
    took = run.trials[["steps", "examples", "train_seconds", "evaluate_seconds", "probe_seconds"]].sum()
    seconds = took["train_seconds"] + took["evaluate_seconds"] + took["probe_seconds"]
    return Spent(int(took["steps"]), int(took["examples"]), float(seconds), float(took["probe_seconds"]))


def timings(run: Run) -> tuple[Timing, ...]:
    """The time of an update at each batch size, or why there is none."""
    curves = run.measurements(set(run.trials["trial_id"])).to_pandas().sort_values("step").groupby("trial_id")
    found = []
    for row in run.trials.sort_values("batch_size").to_dict("records"):
        seconds = None
        if row["trial_id"] in curves.groups:
            curve = curves.get_group(row["trial_id"])
            later = curve[curve["step"] >= _WARM_UP] if curve["step"].max() > _WARM_UP else curve
            steps, took = (later[column].iloc[-1] - later[column].iloc[0] for column in ("step", "train_seconds"))
            seconds = float(took / steps) if steps > 0 else None
        why = _text(row["message"]) or Outcome(row["outcome"]).sentence
        problem = "" if seconds is not None else why
        found.append(Timing(int(row["batch_size"]), seconds, problem, _whole(row.get("memory"))))
    return tuple(found)


def _tried(row: Mapping[Any, Any]) -> Tried:
    facts = _whole(row["steps_to_target"]), _number(row["best_value"])
    return Tried(float(row["lr"]), Outcome(row["outcome"]), _text(row["message"]), int(row["steps"]), *facts)


def _best(run: Run, tried: list[Tried], batch_size: int, where: str) -> Tried:
    """The rate that was re-run: the first of those with the fewest steps; where none reached, the best metric's."""
    sound = [one for one in tried if one.outcome.feasible and one.best_value is not None]
    if not sound:
        rates = [one.lr for one in tried]
        why = next((one.message for one in tried if one.message), "no reason is known")
        rule = f"no learning rate from {min(rates):.3g} to {max(rates):.3g} trains at batch size {batch_size:,}"
        raise InputError(where, [f"'space.lr': {rule}: {why}; move the box"])
    if reached := [one for one in sound if one.steps_to_target is not None]:
        return min(reached, key=lambda one: one.steps_to_target or 0)
    return min(sound, key=lambda one: run.experiment.target.direction.sign * (one.best_value or 0.0))


def _number(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: float | None) -> int | None:
    return None if value is None or pd.isna(value) else int(value)


def run_mean(measured: pd.DataFrame, numerator: str, denominator: str, batch_size: float) -> Estimate:
    """Average a noise scale along runs that differ in their seed alone.

    Both parts are averaged over runs at every step first (a ratio of averages); the ends of the runs, which stand at
    steps of their own, count as one place. Between the places N is taken to be straight. The interval is the
    jackknife's over runs, in the logarithm. It is not resolved where fewer than two places have positive averages, or
    the end has not.
    """
    runs = list(measured["trial_id"].unique())
    value = _mean(measured, numerator, denominator, batch_size)
    if value is None:
        return Estimate(None, n=len(runs), why="noise hides the gradient along the run or at its end")
    if len(runs) < 2:
        return Estimate(value, n=len(runs), why="one run has no interval")
    left_out = [_mean(measured[measured["trial_id"] != r], numerator, denominator, batch_size) for r in runs]
    without = [part for part in left_out if part is not None]
    if len(without) < len(runs):
        return Estimate(value, n=len(runs), why="it hangs on a single run")
    return Estimate.jackknife(value, without, scale=Scale.LOG)


def _mean(measured: pd.DataFrame, numerator: str, denominator: str, batch_size: float) -> float | None:
    steps, scale = _curve(measured, numerator, denominator)
    if len(steps) < 2:
        return None
    middle = (scale[1:] + scale[:-1]) / 2
    progress = np.diff(steps) * batch_size / (batch_size + middle)
    return float(np.sum(middle * progress) / np.sum(progress))


def _curve(measured: pd.DataFrame, numerator: str, denominator: str) -> tuple[Floats, Floats]:
    """Steps and noise scale, where both averages are positive; nothing where they are not at the end."""
    last = measured.groupby("trial_id")["step"].transform("max") == measured["step"]
    place = measured["step"].astype(float).where(~last, float(measured.loc[last, "step"].median()))
    columns = measured[[numerator, denominator]].astype(float)
    # Before the end only places that every run passed, so that the average does not change its members.
    counts = columns.dropna().groupby([place, last]).size()
    averages = columns.dropna().groupby([place, last]).mean()
    at_end = averages.index.get_level_values(1).to_numpy(dtype=bool)
    whole = averages[(counts == counts.max()).to_numpy() | at_end]
    positive = whole[(whole > 0).all(axis=1)]
    ends = positive.index.get_level_values(1).to_numpy(dtype=bool)
    if not ends.any():
        return np.empty(0), np.empty(0)
    steps = positive.index.get_level_values(0).to_numpy(dtype=np.float64)
    kept = ends | (steps < steps[ends][0])
    ratio = (positive[numerator] / positive[denominator]).to_numpy(dtype=np.float64)
    return steps[kept], ratio[kept]
