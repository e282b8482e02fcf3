"""The facts of MLPerf's benchmarks: published targets, versions in order, every unit usable."""

from __future__ import annotations

import pytest

from bcrit.analysis.exchange import Counted
from bcrit.analysis.exchange.mlperf import BENCHMARKS, Benchmark, as_told, benchmark_of
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Direction, Target


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda b: f"{b.name}-{'.'.join(map(str, b.since))}")
def test_every_benchmark_has_a_readable_target_and_a_unit(benchmark: Benchmark) -> None:
    target = Target.model_validate(benchmark.target)
    lower_is_better = any(word in target.metric for word in ("loss", "perplexity", "error", "fid", "mae"))
    assert (target.direction is Direction.MINIMIZE) == lower_is_better
    assert (benchmark.examples is None) == (benchmark.counted is Counted.STEPS)
    assert benchmark.counted is not Counted.EXAMPLES or benchmark.examples == 1


@pytest.mark.parametrize(
    ("name", "version", "target"),
    [
        # MLPerf Training 1.0 rules (training_rules.adoc, 25 March 2021), table of quality targets.
        ("resnet", "1.0.0", "eval_accuracy > 0.759"),
        ("ssd", "training_1.1.0", "eval_accuracy > 0.23"),
        ("rnnt", "1.0.0", "word_error_rate < 0.058"),
        ("dlrm", "1.0.0", "auc > 0.8025"),
        # Compliance checker, closed_*.yaml of the version.
        ("ssd", "training_3.0.0", "eval_accuracy > 0.34"),
        ("gpt3", "training_3.0.0", "log_perplexity < 2.69"),
        ("llama31_405b", "training_5.1.0", "log_perplexity < 5.6"),
        ("llama2_70b_lora", "", "eval_loss < 0.925"),
    ],
)
def test_targets_are_the_published_ones(name: str, version: str, target: str) -> None:
    found = benchmark_of(name, version)
    assert found is not None and found.target == target


def test_a_version_that_is_not_known_is_taken_as_the_newest() -> None:
    units = {v: found.counted for v in ("1.0.0", "3.0.0", "3.1.0", "4.0.0", "") if (found := benchmark_of("unet3d", v))}
    assert [v for v, counted in units.items() if counted is Counted.EPOCHS] == ["1.0.0", "3.0.0"]
    assert benchmark_of("nothing", "1.0.0") is None


def test_what_the_user_says_goes_first() -> None:
    facts, target = as_told("resnet", "4.0.0", Target.model_validate("top1 > 0.7"), None, 1000)
    assert (facts.examples, str(target)) == (1000, "top1 > 0.7")
    assert as_told("resnet", "4.0.0", None, Counted.STEPS, None)[0].examples is None
    with pytest.raises(InputError, match="it must be a positive number, but it is -1"):
        as_told("resnet", "4.0.0", None, None, -1)
    with pytest.raises(InputError, match="divide the lists by it"):
        as_told("resnet", "4.0.0", None, Counted.TOKENS, None)
