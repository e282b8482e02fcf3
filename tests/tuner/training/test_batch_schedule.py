"""What batch size each schedule wants."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bcrit.search_spaces.options import Probes
from bcrit.tuner.training.batch_schedule import (
    BatchPlan,
    ByNoise,
    Fixed,
    Ramp,
    RunningNoise,
    State,
    TunedRates,
)
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from tests.tuner.stages.small import Blobs

R16 = ByNoise(16.0, low=8, high=256)


def test_a_fixed_one_never_changes() -> None:
    assert [Fixed(24).wanted(State(step, 24 * step, 24, 1e9)) for step in (0, 5)] == [24, 24]


def test_a_ramp_changes_at_its_steps_or_examples() -> None:
    by_steps, by_examples = Ramp(((0, 8), (10, 32))), Ramp(((0, 8), (100, 32)), by="examples")
    assert [by_steps.wanted(State(step, 0)) for step in (0, 9, 10, 99)] == [8, 8, 32, 32]
    assert [by_examples.wanted(State(0, used)) for used in (0, 99, 100)] == [8, 8, 32]


@pytest.mark.parametrize("noise_scale", [9.0, 16.0, 100.0])
def test_with_noise_it_is_the_root_of_rate_times_noise_scale(noise_scale: float) -> None:
    wanted = math.sqrt(16.0 * noise_scale)
    assert R16.wanted(State(5, 0, round(wanted), noise_scale)) == pytest.approx(wanted)
    doubled = ByNoise(16.0, 8, 256, factor=4.0).wanted(State(5, 0, round(2 * wanted), noise_scale))
    assert doubled == pytest.approx(2 * wanted)


def test_it_changes_by_a_factor_of_two_at_most_and_stays_within_its_range() -> None:
    assert R16.wanted(State(5, 0, 16, 1e6)) == 32 and R16.wanted(State(5, 0, 128, 1e-6)) == 64
    assert R16.wanted(State(5, 0, 256, 1e6)) == 256 and R16.wanted(State(5, 0, 8, 1e-6)) == 8


def test_it_stays_where_the_noise_scale_is_not_known() -> None:
    assert R16.wanted(State(5, 0, 40, None)) == 40
    assert R16.wanted(State(0, 0)) == 8 and ByNoise(16.0, 8, 256, first=999).wanted(State(0, 0)) == 256


def test_in_rows_of_several_items_the_same_rows_are_wanted() -> None:
    tokens = ByNoise(48.0, low=64, high=4096, first=128)
    rows = tokens.in_rows(lambda batch_size: batch_size // 16, 16.0)
    assert (rows.low, rows.high, rows.first) == (4, 256, 8)
    in_tokens, in_rows = tokens.wanted(State(3, 0, 512, 4800.0)), rows.wanted(State(3, 0, 32, 300.0))
    assert in_tokens == pytest.approx(16 * in_rows)
    ramp = Ramp(((0, 64), (160, 128)), by="examples").in_rows(lambda batch_size: batch_size // 16, 16.0)
    assert ramp.stages == ((0, 4), (10, 8)) and Fixed(64).in_rows(lambda b: b // 16, 16.0) == Fixed(4)


def test_the_first_batch_size_is_rounded_to_rows_where_the_workload_makes_whole_ones_only() -> None:
    def rows(batch_size: int) -> int:
        if batch_size % 16:
            raise ValueError("tokens do not fill whole sequences")
        return batch_size // 16

    assert ByNoise(48.0, low=64, high=4096, first=137).in_rows(rows, 16.0).first == 9
    assert ByNoise(48.0, low=64, high=4096).in_rows(rows, 16.0).first is None


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((), "begin at 0"),
        (((5, 8),), "begin at 0"),
        (((0, 8), (0, 9)), "begin at 0 and rise"),
        (((0, 0),), "at least 1"),
    ],
    ids=str,
)
def test_stages_that_are_no_ramp_are_refused(stages: tuple[tuple[int, int], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ramp(stages)


@pytest.mark.parametrize(
    ("rate", "low", "high", "message"),
    [(0.0, 1, 2, "must be positive"), (math.inf, 1, 2, "must be positive"), (1.0, 4, 2, "low <= high")],
    ids=str,
)
def test_impossible_values_are_refused(rate: float, low: int, high: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ByNoise(rate, low, high)


TABLE = TunedRates((8, 32, 128), (0.1, 0.4, 0.3))


def test_at_tuned_batch_sizes_the_rate_is_the_tuned_one_to_the_bit() -> None:
    assert [TABLE.rate(b) for b in (8, 32, 128)] == [0.1, 0.4, 0.3]


def test_between_them_it_is_straight_in_logarithms_and_beyond_them_constant() -> None:
    assert TABLE.rate(16) == pytest.approx(0.2)
    assert TABLE.rate(64) == pytest.approx((0.4 * 0.3) ** 0.5)
    assert (TABLE.rate(2), TABLE.rate(999)) == (0.1, 0.3)


def test_in_rows_sizes_that_become_one_keep_the_first() -> None:
    rows = TunedRates((16, 32, 48), (0.1, 0.2, 0.3)).in_rows(lambda b: max(1, b // 32))
    assert rows == TunedRates((1,), (0.1,))


@pytest.mark.parametrize(
    ("sizes", "rates", "message"),
    [
        ((), (), "one for each batch size"),
        ((8, 8), (0.1, 0.1), "rising order"),
        ((8,), (0.1, 0.2), "2 for"),
        ((8,), (0.0,), "positive"),
    ],
    ids=str,
)
def test_what_is_no_table_is_refused(sizes: tuple[int, ...], rates: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TunedRates(sizes, rates)


RATES = TunedRates((8, 64), (0.1, 0.8))


def test_a_size_that_follows_the_noise_is_a_multiple_of_the_micro_batch_and_at_least_two() -> None:
    plan = BatchPlan(ByNoise(1.0, 1, 512), RATES, micro_batch=8)
    sizes = [plan.decide(State(9, 0, b, float(b * b)))[0] for b in (1, 12, 20, 43, 100)]
    assert sizes == [16, 16, 16, 40, 96]


def test_the_rate_is_that_of_the_rounded_size() -> None:
    decision = BatchPlan(ByNoise(1.0, 1, 512), RATES, micro_batch=32).decide(State(9, 0, 60, 3600.0))
    assert decision == (64, 0.8)


def test_a_fixed_size_is_kept_as_it_is() -> None:
    assert BatchPlan(Fixed(13), RATES, micro_batch=8).decide(State(0, 0)) == (13, RATES.rate(13))


def test_no_batch_is_larger_than_the_training_set() -> None:
    assert BatchPlan(Fixed(500)).decide(State(0, 0), most=100) == (100, None)


def test_in_rows_everything_counts_rows() -> None:
    plan = BatchPlan(Fixed(64), RATES, micro_batch=16).in_rows(lambda b: b // 8, 8.0)
    assert plan == BatchPlan(Fixed(8), TunedRates((1, 8), (0.1, 0.8)), micro_batch=2)


def after(pairs: list[tuple[float, float]]) -> float | None:
    noise = RunningNoise()
    for pair in pairs:
        noise.take(*pair)
    return noise.value


def test_at_first_it_is_the_ratio_of_the_plain_means() -> None:
    assert after([(4.0, 1.0), (8.0, -0.5), (3.0, 2.5)]) == pytest.approx(15 / 3)


def test_it_is_not_known_before_anything_is_or_while_an_average_is_not_positive() -> None:
    assert after([]) is None and after([(4.0, -1.0)]) is None and after([(-4.0, 1.0)]) is None


def test_what_is_not_finite_is_set_aside() -> None:
    assert after([(4.0, 1.0), (math.inf, 1.0), (2.0, math.nan)]) == 4.0


@pytest.mark.parametrize("a", [0.0, 0.5, 1.0])
def test_behind_a_power_of_the_steps_it_is_by_a_fixed_factor(a: float) -> None:
    found = after([(t**a, 1.0) for t in np.arange(1.0, 4001.0)])
    assert found == pytest.approx(4 / (4 + a) * 4000**a, rel=0.01)


def test_it_forgets_the_start() -> None:
    assert after([(1e3, 1.0)] * 20 + [(1.0, 1.0)] * 2000) == pytest.approx(1.0, rel=0.01)


PLAIN = Settings(
    12, 3, "momentum", {"lr": 0.3, "momentum": 0.9, "schedule": "linear", "end_factor": 0.1, "decay_steps": 9}
)


def begin(plan: BatchPlan | None, settings: Settings = PLAIN) -> SupervisedRun:
    return Blobs().begin(replace(settings, batches=plan))


def curve(run: SupervisedRun, steps: int = 15) -> list[Mapping[str, float]]:
    found = []
    for _ in range(steps):
        run.train(1)
        found.append(run.evaluate())
    return found


def test_a_fixed_plan_is_the_plain_run_to_the_bit() -> None:
    """Batches of 12 of 64 examples: over three epochs, of which each leaves 4 out."""
    assert curve(begin(BatchPlan(Fixed(12)))) == curve(begin(None))


def test_a_fixed_plan_with_its_tuned_rate_is_the_plain_run_to_the_bit() -> None:
    constant = replace(PLAIN, hyperparameters={"lr": 0.3, "momentum": 0.9})
    table = TunedRates((6, 12, 24), (0.1, 0.3, 0.4))
    assert curve(begin(BatchPlan(Fixed(12), table), constant)) == curve(begin(None, constant))


def test_micro_batches_change_the_curve_by_rounding_only() -> None:
    ours, plain = curve(begin(BatchPlan(Fixed(12), None, micro_batch=3))), curve(begin(None))
    assert ours != plain
    assert [m["val_loss"] for m in ours] == pytest.approx([m["val_loss"] for m in plain], rel=1e-4)


def test_a_ramp_uses_the_examples_that_it_says() -> None:
    run = begin(BatchPlan(Ramp(((0, 4), (3, 20)))))
    seen = []
    for _ in range(5):
        run.train(1)
        assert run.progress is not None
        seen.append((run.progress.examples, run.progress.batch_size))
    assert seen == [(4, 4), (8, 4), (12, 4), (32, 20), (52, 20)] and begin(None).progress is None


def test_a_plan_by_noise_knows_its_noise_scale_and_depends_on_its_settings_alone() -> None:
    plan = BatchPlan(ByNoise(4.0, 4, 32), TunedRates((4, 32), (0.1, 0.4)), micro_batch=2)
    runs = [begin(plan), begin(plan)]
    for run in runs:
        run.train(10)
    runs[0].evaluate()
    for run in runs:
        run.train(10)
    first, second = (run.progress for run in runs)
    assert first == second and first is not None and first.noise_scale is not None and first.noise_scale > 0
    assert runs[0].evaluate() == runs[1].evaluate()


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"optimizer": "extrap_sgd", "hyperparameters": {"lr": 0.1, "extrapolation_lr": 0.1}}, "extrap_sgd"),
        ({"probes": Probes(measure=("noise_scale",))}, "probes"),
        ({"hyperparameters": {"lr": 0.1, "momentum": 0.9, "ema_decay": 0.9}}, "ema_decay"),
    ],
    ids=["extrapolation", "probes", "averaged weights"],
)
def test_what_needs_one_batch_size_is_refused(more: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"batch sizes cannot change along a run with {name}"):
        begin(BatchPlan(Fixed(8)), replace(PLAIN, **more))
