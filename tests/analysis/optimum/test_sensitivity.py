from collections import Counter
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bcrit.analysis.optimum.sensitivity import (
    Sensitivity,
    Verdict,
    overall_verdicts,
    profile,
    sensitivity_of,
    study_verdicts,
    trend,
)
from bcrit.search_spaces.experiment import Experiment
from tests.analysis.optimum.surface import LR, PLANE, bowl, one, searched, sets, spec
from tests.analysis.report import runs


def measured(trials: pd.DataFrame, experiment: Experiment, within: float = 0.2) -> Sensitivity:
    return sensitivity_of(sets(trials, experiment, within), experiment.target)


@cache
def found() -> Sensitivity:
    experiment = spec(LR, (4, 16, 64, 256, 1024))

    def narrowing(batch_size: int, point: object) -> float:
        return bowl(lambda b: 0.1, curvature=0.05 * batch_size**0.4)(batch_size, point)  # type: ignore[arg-type]

    trials = searched(experiment, narrowing, np.random.default_rng(0), adaptive=False, early=False)
    return measured(trials, experiment)


def test_a_region_that_shrinks_is_said_to_shrink() -> None:
    assert found().trend.kind == "shrinks"
    assert found().trend.slope.holds(-0.2)  # the share goes like curvature^-1/2
    assert any("shrinks with the batch size" in sentence for sentence in found().sentences)


def test_a_wider_tolerance_gives_a_larger_share() -> None:
    experiment = spec(LR, (64,))
    trials = searched(experiment, bowl(lambda b: 0.1), np.random.default_rng(0), adaptive=False, early=False)
    shares = [measured(trials, experiment, within).studies[0].share.value for within in (0.1, 0.3, 1.0)]
    assert None not in shares and shares == sorted(shares, key=lambda share: share or 0)


def test_the_share_of_the_range_is_named_so_where_no_space_was_declared() -> None:
    experiment = spec(LR, (4, 64))
    trials = searched(experiment, bowl(lambda b: 0.1), np.random.default_rng(1), adaptive=False, early=False)
    imported = Experiment.model_validate(
        {**experiment.to_dict(), "space": {}, "imported": {"format": "csv", "source": "x.csv"}}
    )
    text = " ".join(measured(trials, imported).sentences)
    assert "of the range that was tried" in text


def test_volumes_are_in_units_of_the_first_studys_box() -> None:
    one = runs.widened().sensitivity.studies[0]
    assert one.share.value is not None and one.volume == pytest.approx(one.share.value)


def test_a_profile_is_the_least_of_each_bin_and_counts_every_point() -> None:
    experiment = spec(PLANE, (8,))
    trials = searched(experiment, bowl(lambda b: 0.05, others=0.2), np.random.default_rng(0), noise=0.05)
    found = one(trials, experiment)
    for coordinate in found.axes.coordinates:
        mine = profile(found, coordinate)
        assert mine.n.sum() == len(found.points.rows)
        assert mine.n_reached.sum() == np.isfinite(found.points.steps).sum()
        assert np.nanmin(mine.ratio) == pytest.approx(np.nanmin(found.points.steps) / found.steps)
        assert (np.isnan(mine.ratio) == (mine.n_reached == 0)).all()
        assert mine.high[:-1] == pytest.approx(mine.low[1:]) and (mine.high > mine.low).all()


SIZES = [8, 16, 32, 64, 128, 256]


@pytest.mark.parametrize(("slope", "kind"), [(-0.5, "shrinks"), (0.5, "grows")])
def test_a_trend_is_found_with_its_sign(slope: float, kind: str) -> None:
    noise = np.exp(0.1 * np.random.default_rng(0).normal(size=6))
    found = trend(SIZES, list(0.1 * np.array(SIZES, dtype=float) ** slope * noise))
    assert found.kind == kind and found.slope.holds(slope)
    assert found.rank_correlation == pytest.approx(np.sign(slope), abs=0.1)


def test_the_interval_is_that_of_the_regression() -> None:
    volumes = [0.2, 0.1, 0.3, 0.15, 0.25, 0.1]
    found = trend(SIZES, volumes)
    line = stats.linregress(np.log(SIZES), np.log(volumes))
    reach = stats.t.ppf(0.975, 4) * line.stderr
    ends = [line.slope, line.slope - reach, line.slope + reach]
    assert found.kind == "no trend" and list(found.slope.json().values()) == pytest.approx(ends)


def test_three_studies_or_equal_volumes_have_no_trend() -> None:
    assert trend(SIZES[:3], [0.1, 0.2, 0.3]).kind == "not known"
    same = trend(SIZES, [0.1] * 6)
    assert (same.kind, same.rank_correlation) == ("no trend", 0.0)


SPACE = {**LR, "irrelevant": "linear from 0 to 1", "flavour": "choice of a, b"}


def by_study(adaptive: bool, seed: int) -> list[dict[str, Verdict]]:
    experiment = spec(SPACE, (4, 32, 256))
    rng = np.random.default_rng(seed)
    trials = searched(
        experiment, bowl(lambda b: 0.1, curvature=0.1), rng, noise=0.05, adaptive=adaptive, early=adaptive, trials=60
    )
    return [study_verdicts(found) for found in sets(trials, experiment).studies]


def test_what_matters_is_sensitive_and_what_does_not_is_insensitive_in_an_even_search() -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    for seed in range(3):
        found = overall_verdicts(by_study(adaptive=False, seed=seed))
        kinds.update((name, verdict.kind) for name, verdict in found.items())
    assert kinds["lr", "sensitive"] == 3
    assert kinds["irrelevant", "insensitive"] >= 2 and kinds["flavour", "insensitive"] >= 2
    assert kinds["irrelevant", "sensitive"] == kinds["flavour", "sensitive"] == 0


def test_a_search_that_closes_in_does_not_make_everything_sensitive() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(3):
        found = overall_verdicts(by_study(adaptive=True, seed=seed))
        assert found["lr"].kind == "sensitive"
        kinds[found["irrelevant"].kind] += 1
    assert kinds["sensitive"] <= 1


def test_too_few_near_optimal_points_are_not_known() -> None:
    found = runs.usual().sets.studies[0]
    assert {verdict.kind for verdict in study_verdicts(found).values()} == {"not known"}


def test_nothing_reached_has_no_verdicts() -> None:
    found = runs.partly(()).sets.studies[0]
    assert study_verdicts(found) == {} and overall_verdicts([]) == {}


def test_p_values_are_combined_by_fishers_method() -> None:
    values = [0.04, 0.2, 0.009]
    found = overall_verdicts([{"lr": Verdict("not known", p, 3, 0.1)} for p in values])["lr"]
    assert found.p_value == pytest.approx(stats.combine_pvalues(values).pvalue)
    assert (found.n, found.span) == (9, 0.1)
