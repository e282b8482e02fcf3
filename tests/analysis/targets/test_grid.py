"""The grid of targets, and another one in place of the run's own, on made-up runs whose whole curves are known."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.questions.targets import ask, at
from bcrit.analysis.report import Plot
from bcrit.analysis.run import Run
from bcrit.analysis.targets.grid import PowerLaw, TargetGrid, fit_power_law
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.search_spaces.target import Target
from tests.analysis.folders import Made, experiment, measurement, write_run
from tests.analysis.report.runs import answered

SIZES = (8, 32, 128, 512)
WHOLE = 4000  # steps


def tempo(batch_size: int) -> float:
    """Steps to loss 1 of the best trial: a hyperbola with s_min 50 and b_crit 64."""
    return 50 * (1 + 64 / batch_size)


def whole_curve(batch_size: int, quality: float, power: float = 1.0) -> list[tuple[int, float]]:
    """Loss 4 / (1 + 3 (step / (tempo quality))^power): 1 at step tempo x quality."""
    steps = np.unique(np.geomspace(1, WHOLE, 400).round())
    return [(int(s), float(4 / (1 + 3 * (s / (tempo(batch_size) * quality)) ** power))) for s in steps]


def cut(curve: list[tuple[int, float]], spec: Experiment, until: int = WHOLE) -> list[tuple[int, float]]:
    """What is left of a curve when the run stops at its target."""
    found = []
    for step, value in curve:
        if step > until:
            break
        found.append((step, value))
        if spec.target.crosses(step, value):
            break
    return found


def grid(path: Path, spec: Experiment, runs: dict[str, Made], *given: str) -> TargetGrid:
    run = Run(write_run(path, spec, runs, parts=3))
    found = at(run, given) if given else run.targets
    assert found is not None
    return found


def study(batch_size: int, stop: Callable[[list[tuple[int, float]]], list[tuple[int, float]]]) -> dict[str, Made]:
    """Trials whose curves cross: the one that is best early is not the one that is best late."""
    qualities = {"a": (1.0, 1.0), "b": (1.2, 0.8), "c": (1.1, 1.3), "d": (3.0, 1.0)}
    return {
        f"b{batch_size}-{name}": Made(batch_size, stop(whole_curve(batch_size, *of))) for name, of in qualities.items()
    }


def stopping(spec: Experiment) -> dict[str, Made]:
    """All studies, every trial stopped at the target."""
    return {name: run for b in SIZES for name, run in study(b, lambda curve: cut(curve, spec)).items()}


def steps_of(found: TargetGrid) -> pd.DataFrame:
    return found.cells.pivot(index="threshold", columns="batch_size", values="steps")


def test_a_run_with_whole_curves_says_of_every_target_what_a_run_made_for_it_says(tmp_path: Path) -> None:
    never = experiment(SIZES, "loss < 0.0001")
    runs = {name: run for b in SIZES for name, run in study(b, lambda c: c).items()}
    whole = grid(tmp_path / "whole", never, runs, "2", "1", "0.5", "0.25")
    assert set(whole.cells["status"]) == {"valid"}
    for threshold in (2, 1, 0.5, 0.25):
        spec = experiment(SIZES, f"loss < {threshold}")
        direct = stopping(spec)
        own = grid(tmp_path / f"direct-{threshold}", spec, direct, str(threshold))
        assert list(steps_of(own).loc[threshold]) == list(steps_of(whole).loc[threshold])
    assert [round(c.fit.b_crit) for c in whole.curves if c.fit] == pytest.approx([64] * 4, rel=0.1)


def test_a_run_that_stops_at_its_target_is_valid_at_looser_and_bounds_stricter_ones(tmp_path: Path) -> None:
    spec = experiment(SIZES, "loss < 1")
    runs = stopping(spec)
    found = grid(tmp_path / "run", spec, runs, "2", "1", "0.5")
    never = experiment(SIZES, "loss < 0.0001")
    whole = {name: run for b in SIZES for name, run in study(b, lambda c: c).items()}
    truth = steps_of(grid(tmp_path / "whole", never, whole, "2", "1", "0.5"))
    status = found.cells.pivot(index="threshold", columns="batch_size", values="status")
    assert set(status.loc[2]) == set(status.loc[1]) == {"valid"}
    assert set(status.loc[0.5]) == {"lower"}
    assert steps_of(found).loc[[2, 1]].equals(truth.loc[[2, 1]])
    assert (steps_of(found).loc[0.5] < truth.loc[0.5]).all()
    (strict,) = [curve for curve in found.curves if curve.target.threshold == 0.5]
    assert strict.fit is None and strict.no_fit is not None and strict.n_lower == len(SIZES)


def test_a_trial_that_was_pruned_behind_leaves_the_cell_in_the_fit_and_one_ahead_does_not(tmp_path: Path) -> None:
    spec = experiment([8], "loss < 0.1")
    winner = Made(8, [(10, 3.0), (20, 2.0), (30, 0.9), (40, 0.05)])
    behind = Made(8, [(10, 3.5)], "pruned")
    ahead = Made(8, [(10, 2.9)], "pruned")
    for name, pruned, n_ahead in (("behind", behind, 0), ("ahead", ahead, 1)):
        cells = grid(tmp_path / name, spec, {"w": winner, "p": pruned}, "1", "0.1").cells
        own, other = (cells[cells["threshold"] == threshold].iloc[0] for threshold in (0.1, 1))
        assert (other["status"], other["n_cut"], other["n_ahead"], other["fits"]) == ("upper", 1, n_ahead, not n_ahead)
        assert own["fits"], "at its own target the search's decisions stand"


def test_seeds_make_the_number_where_their_point_is_near_optimal_at_every_batch_size(tmp_path: Path) -> None:
    spec = experiment([8, 16], "loss < 1")
    runs = {}
    for b in (8, 16):
        runs[f"b{b}-good"] = Made(b, [(10, 3.0), (20, 1.5), (30, 0.9)])
        runs[f"b{b}-early"] = Made(b, [(5, 2.5), (20, 2.0), (40, 0.9)])
        for seed, shift in enumerate((0, 2, 4)):
            runs[f"b{b}-seed-{seed}"] = Made(
                b, [(10 + shift, 3.0), (22 + shift, 1.5), (32 + shift, 0.9)], repeats=f"b{b}-good"
            )
    cells = grid(tmp_path / "run", spec, runs, "3.5", "2.8", "1.8", "1").cells.set_index(["threshold", "batch_size"])
    assert list(cells["source"]) == ["search"] * 4 + ["confirm"] * 4  # at 3.5 and 2.8 the early trial was faster
    assert cells.loc[(1.8, 8), "steps"] == 24 and cells.loc[(1.0, 8), "steps"] == 34
    assert (cells.loc[(1.0, 8), "steps_low"], cells.loc[(1.0, 8), "steps_high"]) == (32, 36)
    assert cells.loc[(2.8, 8), "steps"] == 5


def test_seeds_that_stopped_at_the_own_target_do_not_claim_a_stricter_one(tmp_path: Path) -> None:
    spec = experiment([8], "loss < 1")
    runs = {"s": Made(8, [(10, 2.0), (20, 0.4)])}
    runs |= {
        f"r{n}": Made(8, [(10 + n, 2.0), (20 + n, value)], repeats="s") for n, value in enumerate((0.9, 0.8, 0.45))
    }
    own, strict = grid(tmp_path / "run", spec, runs, "0.5", "1").cells.to_dict("records")
    assert (own["steps"], own["source"], own["status"]) == (21, "confirm", "valid")
    assert (strict["steps"], strict["source"]) == (20, "search")


def test_an_imported_trial_that_diverged_reached_nothing(tmp_path: Path) -> None:
    curve = [(10, 0.5), (20, 99.0)]
    runs = {"x": Made(8, curve, "diverged"), "y": Made(8, [(10, 3.0), (30, 0.4)])}
    own = grid(tmp_path / "own", experiment([8], "loss < 0.1"), runs, "1").cells.iloc[0]
    imported = experiment([8], "loss < 0.1", imported={"format": "x", "source": "y"})
    other = grid(tmp_path / "imported", imported, runs, "1").cells.iloc[0]
    assert (own["steps"], other["steps"]) == (10, 30)


def test_imported_steps_without_curves_stand_at_the_own_target(tmp_path: Path) -> None:
    spec = experiment([8], "loss < 1", imported={"format": "x", "source": "y"})
    folder = write_run(tmp_path / "run", spec, {"a": Made(8, [(10, 2.0), (50, 0.5)]), "b": Made(8, [(40, 0.5)])})
    for part in (tmp_path / "run/measurements").iterdir():
        part.unlink()
    folder.append(MEASUREMENTS, [measurement("a", Made(8, []), s, v, spec) for s, v in ((10, 2.0), (50, 0.5))], 0)
    cells = at(Run(folder), ["1"]).cells
    assert cells["steps"].tolist() == [40]


def test_a_metric_to_be_maximised_works_but_has_no_power_law(tmp_path: Path) -> None:
    spec = experiment(SIZES, "accuracy > 0.9")
    runs = {}
    for b in SIZES:
        runs[f"b{b}"] = Made(b, cut([(s, 1 - v / 4) for s, v in whole_curve(b, 1.0)], spec))
    found = grid(tmp_path / "run", spec, runs)
    assert [target.threshold for target in found.targets] == sorted(target.threshold for target in found.targets)
    assert found.power_law is None and "minimised" in (found.no_power_law or "")
    assert set(found.cells["status"]) == {"valid"}
    assert found.curves[-1].fit is not None and found.curves[-1].fit.b_crit == pytest.approx(64, rel=0.1)


def test_the_law_compares_targets_of_one_source(tmp_path: Path) -> None:
    """Seeds need more steps than the lucky search trial at small batches; the law must not take that for a trend."""
    spec = experiment(SIZES, "loss < 1")
    runs = {}
    for b in SIZES:
        luck = 1.0 if b > 100 else 0.7
        runs[f"b{b}-lucky"] = Made(b, cut(whole_curve(b, luck), spec))
        runs[f"b{b}-early"] = Made(b, cut(whole_curve(b, 0.9 * luck, 0.9), spec, int(tempo(b) * luck)))
        for seed in range(3):
            runs[f"b{b}-seed{seed}"] = Made(b, cut(whole_curve(b, 1.0), spec), repeats=f"b{b}-lucky")
    found = grid(tmp_path / "run", spec, runs, "2.5", "2", "1.5", "1")
    own = found.curves[-1].fit
    assert found.own_by_search is not None and found.own_by_search.fit is not None and own is not None
    assert own.b_crit > 1.2 * found.own_by_search.fit.b_crit
    assert any("same source" in note for note in found.notes)
    assert found.power_law is None or abs(found.power_law.power) < 0.3


def test_at_the_own_target_the_grid_and_the_analysis_give_one_fit(tmp_path: Path) -> None:
    """Exact curves seen now and then: what the evaluations leave open is in both intervals."""
    spec = experiment(SIZES, "loss < 1")
    runs = {name: replace(run, curve=coarse(run)) for name, run in stopping(spec).items()}
    found = Run(write_run(tmp_path / "run", spec, runs))
    assert found.fit is not None and found.targets is not None
    own = found.targets.curves[-1].fit
    assert own is not None and found.targets.curves[-1].target == spec.target
    numbers = [(fit.b_crit, fit.b_crit_low, fit.b_crit_high, fit.s_min, fit.sigma) for fit in (found.fit, own)]
    assert numbers[0] == pytest.approx(numbers[1])
    assert own.b_crit_high > 1.01 * own.b_crit_low


def coarse(run: Made) -> list[tuple[int, float]]:
    """Every fifth evaluation, and the last."""
    return [*run.curve[:-1][::5], run.curve[-1]]


RUNS = {
    "stops": Made(8, [(10, 3.0), (20, 1.5), (30, 0.9)]),
    "pruned": Made(8, [(10, 1.9), (15, 1.95)], "pruned"),
    "diverged": Made(8, [(12, 1.2), (14, 99.0)], "diverged"),
    "slow": Made(8, [(10, 3.5), (90, 2.2)]),
    "other": Made(16, [(10, 3.0), (16, 0.9)]),
}


def test_columns_of_the_target_are_rewritten(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", experiment([8, 16]), RUNS)
    found = Run(folder, Target.model_validate("loss < 2"))
    trials = found.trials.set_index("trial_id")
    assert trials["steps_to_target"].dropna().to_dict() == {"stops": 20, "pruned": 10, "diverged": 12, "other": 16}
    assert trials["steps_to_target_low"].dropna().to_dict() == {"stops": 10, "pruned": 0, "diverged": 0, "other": 10}
    assert trials["outcome"].to_dict() == dict.fromkeys(RUNS, "reached") | {"slow": "exhausted"}
    assert found.experiment.target.threshold == 2
    assert found.studies["steps"].tolist() == [10, 16]
    assert found.notes[0] == "The run was made for loss < 1; this is what its curves say about loss < 2."


def test_of_a_stricter_target_the_notes_say_what_is_missing(tmp_path: Path) -> None:
    found = Run(write_run(tmp_path / "run", experiment([8, 16]), RUNS), Target.model_validate("loss < 0.5"))
    assert found.fit is None
    assert found.trials.set_index("trial_id").loc["stops", "outcome"] == "exhausted"
    assert "No trial at batch size 8, 16 went on until loss < 0.5." in found.notes


def test_the_own_target_again_is_the_plain_analysis(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", experiment([8, 16]), RUNS)
    plain, again = Run(folder), Run(folder, Target.model_validate("loss < 1"))
    assert plain.to_json()["studies"] == again.to_json()["studies"] and again.notes == plain.notes


def test_another_metric_is_another_target(tmp_path: Path) -> None:
    spec = experiment([8])
    folder = write_run(tmp_path / "run", spec, {"a": RUNS["stops"]})
    rows = [{**measurement("b", RUNS["stops"], s, 2.0, spec), "accuracy": s / 100} for s in (10, 20, 30)]
    folder.append(MEASUREMENTS, rows, 7)
    with pytest.raises(
        InputError, match="no finished trial has measurements of 'speed'; the run's metrics are loss, accuracy"
    ):
        _ = Run(folder, Target.model_validate("speed > 1")).trials
    with pytest.raises(InputError, match="no finished trial has measurements of 'accuracy'"):
        _ = Run(folder, Target.model_validate("accuracy > 0.15")).trials  # measured, but in no finished trial


BATCH = 2.0 ** np.arange(3, 13)


def curve(b_crit: float, noise: float = 0.0, rng: np.random.Generator | None = None) -> HyperbolaFit:
    steps = 100 * (1 + b_crit / BATCH)
    if rng is not None:
        steps = steps * np.exp(noise * rng.normal(size=len(BATCH)))
    return fit_hyperbola(pd.DataFrame({"batch_size": BATCH, "steps": steps}))


def targets(*thresholds: float, sign: str = "<") -> list[Target]:
    return [Target.model_validate(f"loss {sign} {threshold}") for threshold in thresholds]


def law(*thresholds: float, alpha: float = 0.21, b_star: float = 300.0) -> PowerLaw | str:
    fits = [curve(b_star / threshold ** (1 / alpha)) for threshold in thresholds]
    return fit_power_law(list(zip(targets(*thresholds), fits, strict=True)))


def test_exact_curves_give_the_law_that_was_put_in() -> None:
    found = law(1.3, 1.2, 1.1, 1.0)
    assert isinstance(found, PowerLaw)
    assert found.b_star == pytest.approx(300, rel=1e-4) and found.alpha == pytest.approx(0.21, rel=1e-4)
    assert (found.n_targets, found.strictest, found.loosest) == (4, 1.0, 1.3)
    assert found.b_crit(1.1) == pytest.approx(300 / 1.1 ** (1 / 0.21), rel=1e-4)
    assert "grows as the target gets stricter" in found.sentence


def test_the_interval_of_independent_targets_covers_the_exponent() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(40):
        thresholds = [2.0, 1.6, 1.3, 1.1, 0.9]
        fits = [curve(300 / t**1.5, 0.05, rng) for t in thresholds]
        found = fit_power_law(list(zip(targets(*thresholds), fits, strict=True)))
        assert isinstance(found, PowerLaw)
        covered.append(found.exponent.holds(1.5))
    assert np.mean(covered) >= 0.9


def test_no_trend_is_a_verdict() -> None:
    rng = np.random.default_rng(1)
    thresholds = [2.0, 1.6, 1.3]
    fits = [curve(100, 0.1, rng) for _ in thresholds]
    found = fit_power_law(list(zip(targets(*thresholds), fits, strict=True)))
    assert isinstance(found, PowerLaw) and found.alpha is None
    assert found.exponent.holds(0)
    assert "does not change with the target by more than its uncertainty" in found.sentence


def test_a_wide_interval_counts_less() -> None:
    thresholds = [2.0, 1.5, 1.2, 1.0]
    fits = [curve(300 / t, 0.01, np.random.default_rng(int(10 * t))) for t in thresholds]
    outlier = replace(fits[1], b_crit=3 * fits[1].b_crit)
    wide = replace(outlier, b_crit_low=outlier.b_crit / 3, b_crit_high=outlier.b_crit * 3)
    exponents = []
    for second in (outlier, wide):
        found = fit_power_law(list(zip(targets(*thresholds), [fits[0], second, *fits[2:]], strict=True)))
        assert isinstance(found, PowerLaw)
        exponents.append(abs(found.power - 1))
    assert exponents[1] < exponents[0] / 2


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (fit_power_law([]), "minimised"),
        (fit_power_law([(t, curve(50)) for t in targets(0.7, 0.8, 0.9, sign=">")]), "minimised"),
        (fit_power_law([(t, curve(50)) for t in targets(-1, 1, 2)]), "positive thresholds"),
        (fit_power_law([(t, curve(50)) for t in targets(1, 2)]), "needs 3 targets"),
        (fit_power_law([(t, curve(50)) for t in targets(1, 1.01, 1.02)]), "span a factor 1.05, but they span 1.02"),
        (fit_power_law([(t, curve(1e6)) for t in targets(1, 2, 3)]), "but there are 0"),
    ],
    ids=["nothing", "maximised", "not positive", "two targets", "too close", "not identified"],
)
def test_what_cannot_be_said_is_refused_with_the_reason(found: PowerLaw | str, why: str) -> None:
    assert isinstance(found, str) and why in found


def test_the_interval_is_no_smaller_than_the_curves_own_intervals_say() -> None:
    thresholds = [2.0, 1.5, 1.2, 1.0]
    wide = [replace(curve(300 / t, 0.01, np.random.default_rng(0)), b_crit=300 / t) for t in thresholds]
    wide = [replace(f, b_crit_low=f.b_crit / 2, b_crit_high=f.b_crit * 2) for f in wide]
    found = fit_power_law(list(zip(targets(*thresholds), wide, strict=True)))
    assert isinstance(found, PowerLaw) and found.rms_log_residual == pytest.approx(0, abs=1e-9)
    spread = np.std(np.log(thresholds)) * math.sqrt(len(thresholds))
    # b_crit of ten studies has an interval with 10 - 3 degrees of freedom, the law of four targets one with 4 - 2.
    error = math.log(2) / stats.t.ppf(0.975, 7) / spread
    assert (found.exponent.high or 0) - found.power == pytest.approx(stats.t.ppf(0.975, 2) * error)


# --- what is drawn and written of it ---


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    spec = experiment(SIZES, "loss < 1")
    made = stopping(spec) | {"b8-pruned": Made(8, [(10, 3.99)], "pruned")}
    return Run(write_run(tmp_path_factory.mktemp("run") / "run", spec, made))


def test_a_law_is_drawn_only_where_there_is_one(run: Run) -> None:
    assert run.targets is not None
    for grid in (run.targets, replace(run.targets, power_law=None, no_power_law="Too few.")):
        (plot,) = [
            p for p in answered(ask, run.but(targets=grid)).parts if isinstance(p, Plot) and p.name == "targets-b-crit"
        ]
        drawn = [trace["name"] for trace in plot.figure["data"]]
        assert ("power law" in drawn) == (grid.power_law is not None)


def test_one_target_is_no_section_of_the_report(tmp_path: Path) -> None:
    one = write_run(tmp_path / "run", experiment([8], "loss < 1"), {"a": Made(8, [(1, 0.5)])})
    assert not answered(ask, Run(one)).on_page
