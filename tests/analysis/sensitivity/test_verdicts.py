from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bcrit.analysis.optimum.near_optimal import near_optimal_sets
from bcrit.analysis.sensitivity.verdicts import Verdict, overall_verdicts, study_verdicts
from tests.analysis.optimum.surface import LR, bowl, searched, spec, tables
from tests.analysis.report import runs

SPACE = {**LR, "irrelevant": "linear from 0 to 1", "flavour": "choice of a, b"}


def by_study(adaptive: bool, seed: int) -> list[dict[str, Verdict]]:
    experiment = spec(SPACE, (4, 32, 256))
    rng = np.random.default_rng(seed)
    trials = searched(
        experiment, bowl(lambda b: 0.1, curvature=0.1), rng, noise=0.05, adaptive=adaptive, early=adaptive, trials=60
    )
    return [study_verdicts(found) for found in near_optimal_sets(*tables(trials, experiment))[0]]


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
    analysis = runs.usual()
    found = near_optimal_sets(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment)[0][0]
    assert {verdict.kind for verdict in study_verdicts(found).values()} == {"not known"}


def test_nothing_reached_has_no_verdicts() -> None:
    analysis = runs.partly(())
    found = near_optimal_sets(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment)[0][0]
    assert study_verdicts(found) == {} and overall_verdicts([]) == {}


def test_p_values_are_combined_by_fishers_method() -> None:
    from scipy import stats

    values = [0.04, 0.2, 0.009]
    found = overall_verdicts([{"lr": Verdict("not known", p, 3, 0.1)} for p in values])["lr"]
    assert found.p_value == pytest.approx(stats.combine_pvalues(values).pvalue)
    assert (found.n, found.span) == (9, 0.1)
