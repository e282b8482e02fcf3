"""How do the weights move away from their start: with log t or with sqrt t (Hoffer, Hubara and Soudry 2017)?"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bcrit.analysis import report as draw
from bcrit.analysis.curve.other_curves import CLEARLY
from bcrit.analysis.numbers import (
    LEVEL,
    Estimate,
    Floats,
    Line,
    enumeration,
    readable,
    straight_line,
    t_quantile,
    value_text,
)
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.report import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.run import Run

Law = Literal["log", "sqrt"]

FITS = 0.05
"""A law fits if its residuals are at most this share of the distance's range (root mean square): for points spread
evenly over that range R^2 >= 0.97. Chosen, not studied."""

FEWEST = 8
"""Measurements of a run: two parameters, and what is left must show a trend in the residuals. Chosen, not studied."""

SPAN = 10.0
"""Last over first update at least: over less than a decade log t and sqrt t are nearly the same line. Chosen."""

_POINTS = 60  # of one line of the figure; chosen, not studied


def ask(run: Run) -> Answer | str:
    """Show how far the weights moved from their start along the confirming runs, and by which law.

    Distances go with log t in Hoffer et al. 2017, and with sqrt t in a plain random walk. They are measured where the
    experiment has 'weight_distance' among its 'probes.measure'.
    """
    rows = run.probed
    measured = None if rows is None else rows[rows["weight_distance"].notna() & (rows["step"] > 0)]
    if measured is None or measured.empty:
        return "no distance was measured; it takes 'weight_distance' in 'probes.measure' of the experiment"
    known = run.studies[run.studies["lr"].notna()].to_dict("records") if "lr" in run.studies else []
    movements, slopes, said = weight_movement(measured, {int(row["batch_size"]): float(row["lr"]) for row in known})
    caption = (
        "|w_t - w_0| against the step, the mean over the confirming runs of each batch size as far as all of them "
        "went. On this axis log t is a straight line and sqrt t bends up."
    )
    parts: list[Plot | Rows] = [Plot("weight_distance", _plot(measured), caption)]
    if movements:
        parts.append(Rows("Laws of the movement", _table(movements), folded=True))
    facts = {"movements": [each.to_json() for each in movements], "slopes": slopes and slopes.to_json()}
    title = "Distance of the weights from their start"
    return Answer("weight_distance", title, said, tuple(parts), plain({**facts, "sentences": said}))


@dataclass(frozen=True)
class LawLine:
    """distance = intercept + slope g(t), least squares for each run, then averaged over runs."""

    law: Law  # g: `log` (natural) or `sqrt`
    intercept: float  # mean over runs, in units of the weights
    slope: Estimate  # mean over runs, per unit of g
    misfit: float  # root mean square residual over the range of the distances; the largest of the runs

    def to_json(self) -> dict[str, Any]:
        """As `--json` has it."""
        return {"law": self.law, "intercept": self.intercept, **self.slope.flat("slope"), "misfit": self.misfit}


@dataclass(frozen=True)
class Movement:
    """The weights' movement at one batch size."""

    batch_size: int
    law: Law | None  # the one that the runs follow; None = not identified, and `reason` says why
    reason: str  # the verdict in a sentence
    log: LawLine  # in log t: ultra-slow diffusion, what Hoffer et al. find
    sqrt: LawLine  # in sqrt t: ordinary diffusion
    # AIC of sqrt less AIC of log: positive speaks for log t. Both have two parameters a run, so it is the sum over runs
    # of n' log(RSS_sqrt / RSS_log), n' being the measurements that count as independent.
    aic_difference: float
    # Vuong's statistic (1989, section 5) of the same difference: the sum over its standard deviation, which is that of
    # the measurements' contributions. About standard normal where both laws are equally far off.
    vuong: float
    n_runs: int  # with a seed each
    n_points: int  # measurements used
    level: float  # confidence of the slopes' intervals

    def to_json(self) -> dict[str, Any]:
        """As `--json` has it."""
        return {**asdict(self), "log": self.log.to_json(), "sqrt": self.sqrt.to_json()}


@dataclass(frozen=True)
class SlopeLaw:
    """slope = factor batch_size^exponent over batch sizes with one law, least squares of the logarithms.

    Hoffer et al.: with one learning rate for all, larger batches move slower; with lr proportional to sqrt(B) the
    slopes agree, an exponent of 0.
    """

    law: Law  # of the distances
    exponent: Estimate  # per cent by which the slope grows when the batch grows by one per cent
    n_batch_sizes: int  # used

    def to_json(self) -> dict[str, Any]:
        """As `--json` has it."""
        counts = {"n_batch_sizes": self.n_batch_sizes, "level": self.exponent.level}
        return {"law": self.law, **self.exponent.flat("exponent"), **counts}


def weight_movement(
    measured: pd.DataFrame, rates: Mapping[int, float]
) -> tuple[list[Movement], SlopeLaw | None, tuple[str, ...]]:
    """The movement of every study with enough measurements, the law of their speeds, and the verdicts in words.

    `measured` has one row an evaluation after step 0: `trial_id`, `batch_size`, `step`, `weight_distance`; `rates` the
    learning rates of the batch sizes, where they are known.
    """
    movements, sentences = [], []
    for batch_size, study in measured.groupby("batch_size"):
        runs = [(run["step"], run["weight_distance"]) for _, run in study.groupby("trial_id")]
        found = fit_movement(int(batch_size), runs)  # type: ignore[arg-type]
        sentences.append(found if isinstance(found, str) else found.reason)
        if not isinstance(found, str):
            movements.append(found)
    laws = Counter(movement.law for movement in movements if movement.law is not None)
    law: Law = laws.most_common(1)[0][0] if laws else "log"
    slopes = fit_slopes(movements, law)
    mean_speed = fit_slopes(movements, all_the_same=True) if isinstance(slopes, str) else slopes
    said = (_laws(laws, len(sentences)), _speeds(slopes, mean_speed, rates), *sentences)
    return movements, None if isinstance(slopes, str) else slopes, said


def _laws(laws: Counter[Law], n: int) -> str:
    if not laws:
        return (
            "At no batch size is it identified whether the weights move away from their start with log t (Hoffer et "
            "al. 2017) or with sqrt t."
        )
    parts = [f"with {law} t at {count} of {n} batch sizes" for law, count in laws.most_common()]
    found = "Hoffer et al. 2017 found log t; a plain random walk would go with sqrt t."
    return f"The weights move away from their start {enumeration(parts)}. {found}"


def _speeds(slopes: SlopeLaw | str, mean_speed: SlopeLaw | str, rates: Mapping[int, float]) -> str:
    """The speed by batch size, and how lr goes with it; of all batch sizes where too few follow one law."""
    if isinstance(mean_speed, str):
        return mean_speed
    rate = ""
    if len(rates) > 1:
        x, y = (np.log(np.array(list(values), dtype=np.float64)) for values in (rates.keys(), rates.values()))
        power = 0.0 if np.ptp(y) < 1e-9 else _straight(x, y).slope
        rate = ", lr being the same at all" if np.ptp(y) < 1e-9 else f", and lr to the power {readable(power)}"
    said = f"Under {mean_speed.law} t" if slopes is mean_speed else f"{slopes} Read as log t all the same,"
    return (
        f"{said} their speed goes with the batch size to the power {mean_speed.exponent}{rate}; "
        "Hoffer et al. 2017 find 0 where lr grows with the root of the batch size, and less where it stays."
    )


def fit_movement(batch_size: int, runs: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]) -> Movement | str:
    """Fit both laws to (updates, |w_t - w_0|) of the runs at one batch size and compare them, or say why not.

    Neighbouring measurements of a run are not independent; with rho the residuals' correlation from one to the next
    under the better law, n points count as n' = n (1 - rho) / (1 + rho). A law is named where it fits (`FITS`), its AIC
    is better by more than 6 (`other_curves.CLEARLY`), and Vuong's test finds that beyond chance at the level. Where the
    truth lay halfway between the laws, runs of 11 points over one decade named one in up to 16 % of 300 simulations,
    and runs of 38 points over four decades in none. With two runs or more the slope's interval comes from the scatter
    between runs (Student's t), with one from its residuals and n'.
    """
    kept = []
    for steps, distances in runs:
        t, y = np.asarray(steps, dtype=np.float64), np.asarray(distances, dtype=np.float64)
        within = (t >= 1) & np.isfinite(y)
        kept.append((t[within], y[within]))
    problem = next((sentence for t, y in kept if (sentence := _too_little(t, y))), None if kept else "there is no run.")
    if problem is not None:
        return f"Batch size {batch_size}: {problem}"
    fits: dict[Law, list[Line]] = {
        "log": [_straight(np.log(t), y) for t, y in kept],
        "sqrt": [_straight(np.sqrt(t), y) for t, y in kept],
    }
    contrasts = [_contrast(log, sqrt) for log, sqrt in zip(fits["log"], fits["sqrt"], strict=True)]
    difference, variance, independent = (sum(column) for column in zip(*contrasts, strict=True))
    vuong = difference / math.sqrt(variance)
    lines: dict[Law, LawLine] = {
        law: _line(law, found, [float(np.ptp(y)) for _, y in kept]) for law, found in fits.items()
    }
    chance = t_quantile(max(independent - 2 * len(kept), 1.0))
    law, reason = _verdict(batch_size, lines, difference, abs(vuong) > chance)
    n_points = sum(len(t) for t, _ in kept)
    return Movement(batch_size, law, reason, lines["log"], lines["sqrt"], difference, vuong, len(kept), n_points, LEVEL)


def _too_little(t: Floats, y: Floats) -> str | None:
    if len(t) < FEWEST or t.max() < SPAN * t.min():
        return (
            f"log t and sqrt t cannot be told apart from {len(t)} measurements of a run; it takes {FEWEST} that span "
            f"a factor {SPAN:g} of updates."
        )
    return "the weights of a run did not move." if np.ptp(y) == 0 else None


def _contrast(log: Line, sqrt: Line) -> tuple[float, float, float]:
    """A run's AIC of sqrt t less that of log t, its variance, and the n' points that both are for."""
    n, independent = len(log.residuals), min(log, sqrt, key=lambda fit: fit.squares).independent
    squares = [fit.residuals**2 / (fit.squares / n) for fit in (log, sqrt)]
    scatter = float(np.var(squares[1] - squares[0]))
    return independent * math.log(sqrt.squares / log.squares), independent * max(scatter, 1e-12), independent


def _line(law: Law, fits: Sequence[Line], reaches: Sequence[float]) -> LawLine:
    slopes = np.array([fit.slope for fit in fits])
    if len(fits) > 1:
        error, freedom = float(slopes.std(ddof=1)) / math.sqrt(len(fits)), len(fits) - 1.0
    else:
        (fit,) = fits
        independent = fit.independent
        error, freedom = fit.slope_error() * math.sqrt(len(fit.residuals) / independent), max(independent - 2, 1.0)
    slope = Estimate.t(float(slopes.mean()), error, freedom)
    intercept = float(np.mean([fit.intercept for fit in fits]))
    misfits = [math.sqrt(fit.squares / len(fit.residuals)) / reach for fit, reach in zip(fits, reaches, strict=True)]
    return LawLine(law, intercept, slope, max(misfits))


def _verdict(
    batch_size: int, lines: dict[Law, LawLine], difference: float, beyond_chance: bool
) -> tuple[Law | None, str]:
    at = f"Batch size {batch_size}: "
    better: Law = "log" if difference > 0 else "sqrt"
    found = lines[better]
    if found.misfit > FITS:
        return None, (
            f"{at}the distance goes with neither log t nor sqrt t: the better one, {better} t, leaves residuals of "
            f"{found.misfit:.0%} of its range."
        )
    if abs(difference) <= CLEARLY or not beyond_chance:
        return None, (
            f"{at}log t and sqrt t fit alike: AIC differs by {readable(abs(difference))}, which "
            f"{'chance may explain' if abs(difference) > CLEARLY else 'is little'}."
        )
    return better, (
        f"{at}the distance grows with {better} t, by {found.slope} per unit of {better} t (AIC better by "
        f"{readable(abs(difference))})."
    )


def fit_slopes(movements: Sequence[Movement], law: Law = "log", *, all_the_same: bool = False) -> SlopeLaw | str:
    """How the speed of the movement goes with the batch size, from those that follow the law with a positive slope.

    There are to be three of them, or a sentence says that there are not. With `all_the_same` every batch size is used,
    whether its movement follows the law or not: a slope is then a mean speed.
    """
    slopes = [(m.batch_size, getattr(m, law).slope.value) for m in movements if all_the_same or m.law == law]
    used = [(batch_size, slope) for batch_size, slope in slopes if slope is not None and slope > 0]
    if len(used) < 3:
        are = f"is {len(used)}" if len(used) == 1 else f"are {len(used)}"
        return f"The slopes need three batch sizes whose weights move with {law} t; there {are}."
    x, y = np.log(np.array(used, dtype=np.float64)).T
    return SlopeLaw(law, _straight(x, y).slope_within(), len(used))


def _straight(x: Floats, y: Floats) -> Line:
    """The line, its residuals no smaller than the rounding of y to float32: exact numbers have a scale too."""
    return straight_line(x, y, rounding=1e-7 * max(float(np.ptp(y)), float(np.abs(y).max())))


def _plot(measured: pd.DataFrame) -> draw.Figure:
    studies, data = list(measured.groupby("batch_size")), []
    colors = draw.in_turn(size for size, _ in studies)
    for batch_size, study in studies:
        by_step = study.groupby("step")["weight_distance"].agg(["mean", "size"])
        shared = by_step[by_step["size"] == study["trial_id"].nunique()]
        steps = shared.index.to_numpy(dtype=float)
        if not len(steps):
            continue
        wanted = np.geomspace(steps[0], steps[-1], _POINTS)
        kept = shared.iloc[np.unique(np.minimum(np.searchsorted(steps, wanted), len(steps) - 1))]
        drawn = draw.line(
            list(kept.index), list(kept["mean"]), color=colors[batch_size], width=1.6, hoverinfo="x+y+name"
        )
        data.append({**drawn, "name": f"batch size {value_text(batch_size)}"})
    return draw.figure(
        data, draw.log_axis("step", measured["step"], pad=1.05), draw.linear_axis("|w_t - w_0|", rangemode="tozero")
    )


def _table(movements: Sequence[Movement]) -> Table:
    rows = [
        {
            "batch size": found.batch_size,
            "law": found.law or "not identified",
            "slope in log t": str(found.log.slope),
            "slope in sqrt t": str(found.sqrt.slope),
            "AIC of sqrt t less log t": found.aic_difference,
            "runs": found.n_runs,
        }
        for found in movements
    ]
    return table_of(rows)
