from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.fit.estimate import fit_hyperbola
from bcrit.analysis.fit.next_batch_size import FURTHEST, Measured, next_batch_size, sentence
from bcrit.analysis.fit.result import HyperbolaFit

B = 2.0 ** np.arange(4, 10)


def fit(batch: np.ndarray, rng: np.random.Generator, b_crit: float = 100.0, noise: float = 0.05) -> HyperbolaFit:
    steps = 50 * (1 + b_crit / batch) * np.exp(rng.normal(0, noise, batch.size))
    return fit_hyperbola(pd.DataFrame({"batch_size": batch, "steps": steps}))


def test_the_expected_variance_is_that_of_the_normal_equations() -> None:
    found = fit(B, np.random.default_rng(0))
    curve = found.curve

    def variance(batch: np.ndarray) -> float:
        share = curve.e_min / (batch * curve.steps(batch))
        rows = np.stack([1 - share, share], axis=-1)
        return float(np.array([-1.0, 1.0]) @ np.linalg.inv(rows.T @ rows) @ [-1.0, 1.0])

    candidates = Measured(found.reached, ()).candidates()
    gains = np.array([math.log(variance(B) / variance(np.append(B, size))) for size in candidates])
    for suggestion in found.next_batch_size():
        cost = curve.steps(candidates) * (candidates if suggestion.per == "examples" else 1)
        assert suggestion.batch_size == candidates[int(np.argmax(gains / cost))]
        assert suggestion.ratio_now == pytest.approx(found.b_crit_high / found.b_crit_low)


def test_steps_favour_large_batch_sizes_and_examples_small_ones() -> None:
    by_kind = {s.per: s for s in fit(B, np.random.default_rng(0)).next_batch_size()}
    assert by_kind["steps"].batch_size > B.max()
    assert by_kind["examples"].batch_size < B.min()


def test_seconds_count_what_the_step_time_says() -> None:
    found = fit(B, np.random.default_rng(0))
    flat = {s.per: s for s in found.next_batch_size(lambda size: np.full(np.shape(size), 0.01))}
    linear = {s.per: s for s in found.next_batch_size(lambda size: np.asarray(size, dtype=float))}
    assert flat["seconds"].batch_size == flat["steps"].batch_size
    assert flat["seconds"].cost == pytest.approx(0.01 * flat["steps"].cost)
    assert linear["seconds"].batch_size == linear["examples"].batch_size


def test_candidates_are_new_and_not_too_far_and_not_beyond_what_was_not_reached() -> None:
    found = Measured((16.0, 64.0, 100.0), (8.0, 512.0)).candidates()
    assert list(found) == [32, 128, 256]
    assert list(Measured((16.0, 64.0), ()).candidates()) == [4, 8, 32, 128, 256]
    assert max(found) <= 100 * FURTHEST


@pytest.mark.parametrize(
    ("b_crit", "outside"), [(10_000.0, "larger"), (0.3, "smaller")], ids=["before-the-knee", "beyond-the-knee"]
)
def test_where_b_crit_is_not_identified_it_goes_out_on_the_open_side(b_crit: float, outside: str) -> None:
    found = fit(B, np.random.default_rng(1), b_crit)
    assert not found.identified["b_crit"]
    suggestions = found.next_batch_size()
    assert {s.batch_size for s in suggestions} == {B.max() * FURTHEST if outside == "larger" else B.min() / FURTHEST}
    assert all(s.ratio_after is None and s.extrapolated for s in suggestions)
    assert outside in (sentence(suggestions, "examples") or "")


def test_computed_numbers_need_no_further_study() -> None:
    assert fit(B, np.random.default_rng(0), noise=0.0).next_batch_size() == ()
    assert sentence((), "examples") is None


def test_the_sentence_names_the_batch_sizes_and_what_they_bring() -> None:
    suggestions = fit(B, np.random.default_rng(0)).next_batch_size()
    text = sentence(suggestions, "tokens") or ""
    assert "2,048" in text and "tokens" in text and "factor" in text


def test_following_it_shrinks_the_interval_more_per_cost_than_the_middle_or_a_random_batch_size() -> None:
    rng = np.random.default_rng(4)
    batch = 2.0 ** np.arange(3, 10)
    per_cost: dict[str, list[float]] = {"suggested": [], "middle": [], "random": []}
    for _ in range(50):
        full = 2.0 ** np.arange(1, 12)
        steps = dict(zip(full, 50 * (1 + 64 / full) * np.exp(rng.normal(0, 0.05, full.size)), strict=True))
        have = batch[[0, 1, 3, 5, 6]]
        first = fit_hyperbola(pd.DataFrame({"batch_size": have, "steps": [steps[b] for b in have]}))
        suggested = next(s.batch_size for s in first.next_batch_size() if s.per == "steps")
        choices = {
            "suggested": suggested,
            "middle": 32.0,
            "random": rng.choice(Measured(first.reached, ()).candidates()),
        }
        for name, size in choices.items():
            more = np.append(have, size)
            then = fit_hyperbola(pd.DataFrame({"batch_size": more, "steps": [steps[b] for b in more]}))
            gained = math.log(first.b_crit_high / first.b_crit_low) - math.log(then.b_crit_high / then.b_crit_low)
            per_cost[name].append(gained / steps[size])
    means = {name: float(np.mean(gains)) for name, gains in per_cost.items()}
    assert means["suggested"] > 1.2 * max(means["middle"], means["random"])


def test_an_open_interval_with_everything_identified_is_not_computed_with() -> None:
    found = fit(B, np.random.default_rng(0))
    assert next_batch_size(found.curve, (0.0, 200.0), found.identified, Measured(found.reached, ()), 0.95) == ()
