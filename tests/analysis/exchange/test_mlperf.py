"""MLPerf's reference convergence points: units, rounding, groups, targets; numbers from the published files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.mlperf import (
    BENCHMARKS,
    Benchmark,
    Counted,
    as_told,
    benchmark_of,
    evaluation_interval,
    import_mlperf,
    read_points,
)
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Direction, Target
from tests.analysis.exchange.made import EVIL, b_crit, written

# mlcommons/logging, rcp_checker/training_4.0.0/rcps_resnet.json, five of its points.
RESNET = {
    1632: [34, 34, 34, 35, 35, 37, 35, 35, 33, 35, 35, 37, 37, 35, 35, 34, 35],
    4096: [39, 42, 40, 41, 39, 40, 41, 39, 40, 39],
    8192: [42, 44, 43, 41, 41, 41, 42, 42, 43, 41],
    32768: [56, 56, 55, 56, 56, 56, 56, 56, 57, 56],
    65536: [83, 85, 84, 86, 85, 85, 83, 84, 85, 85],
}
# The same, rcps_llama2_70b_lora.json, its first seeds; the key says samples, and 8848 is no multiple of 384.
LLAMA = {8: [3840, 4224, 4608, 3840], 16: [5376, 5760, 5760, 6144], 32: [9600, 10368, 8064, 8848]}
ACCURACY = Target.model_validate("accuracy > 0.7")


def point(
    benchmark: str, batch_size: int, lengths: Sequence[float], key: str = "Epochs to converge", **more: Any
) -> Any:
    """A point as mlcommons/logging writes it."""
    head = {"Benchmark": benchmark, "Creator": "NVIDIA", "When": "At 1.0 submission", "Platform": "TBD"}
    return {**head, "BS": batch_size, "Hyperparams": more, key: lengths}


def rcp_file(folder: Path, version: str, points: dict[str, Any]) -> Path:
    path = folder / f"training_{version}" / "rcps.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(points))
    return path


def resnet(folder: Path) -> Path:
    settings: dict[str, Any] = {"optimizer": "lars", "opt_base_learning_rate": 7.4, "betas": [0.9, 0.99]}
    return rcp_file(folder, "4.0.0", {f"ref_{b}": point("resnet", b, of, **settings) for b, of in RESNET.items()})


def test_epochs_become_steps_of_the_median_seed(tmp_path: Path) -> None:
    (run,) = import_mlperf(resnet(tmp_path))
    assert run.experiment.name == "resnet_training_4.0.0"
    census, analysis = written(run, tmp_path / "run")
    assert census.outcomes["reached"] == census.trials == sum(map(len, RESNET.values()))
    studies = analysis.studies.set_index("batch_size")
    for batch_size, lengths in RESNET.items():
        expected = float(np.median([round(epochs * 1_281_167 / batch_size) for epochs in lengths]))
        assert list(studies.loc[batch_size, ["steps", "n_seeds"]]) == [expected, len(lengths)]
        # Whole epochs: the interval is one.
        assert studies.loc[batch_size, "steps_resolution"] == pytest.approx(1_281_167 / batch_size, abs=1)
    assert (studies["source"] == "confirm").all() and (studies["n_trials"] == 0).all()
    assert analysis.experiment.optimizer == "lars"
    assert analysis.experiment.imported and analysis.experiment.imported.names["lr"] == "opt_base_learning_rate"
    assert set(analysis.trials["betas"]) == {"[0.9, 0.99]"}
    # All ten points of the file give 46,726 (40,172 to 54,823).
    assert 40_172 < b_crit(analysis) < 54_823
    (tenfold,) = import_mlperf(resnet(tmp_path), examples_per_epoch=12_811_670.0)
    _, other = written(tenfold, tmp_path / "tenfold")
    assert b_crit(other) == pytest.approx(b_crit(analysis), rel=1e-3)
    assert analysis.fit and other.fit
    assert other.fit.to_json()["s_min"] == pytest.approx(10 * analysis.fit.to_json()["s_min"], rel=1e-3)


def test_a_list_of_samples_counts_samples_and_is_rounded_to_whole_steps(tmp_path: Path) -> None:
    points = {f"ref_{b}": point("llama2_70b_lora", b, list(v), "samples to converge") for b, v in LLAMA.items()}
    (run,) = import_mlperf(rcp_file(tmp_path, "4.0.0", points))
    trials = run.trials().to_pandas()
    assert trials.loc[trials["batch_size"] == 8, "steps_to_target"].tolist() == [480, 528, 576, 480]
    assert trials.loc[trials["batch_size"] == 32, "steps_to_target"].tolist() == [300, 324, 252, 276]  # 276.5
    assert trials.loc[trials["batch_size"] == 16, "steps_to_target_low"].tolist() == [312, 336, 336, 360]  # 384 less


def test_the_unit_of_a_benchmark_changes_with_its_version(tmp_path: Path) -> None:
    # 2,620 epochs of 168 volumes at batch size 84 in 3.0.0 are the 440,160 samples of 3.1.0.
    for version, length in (("3.0.0", 2620), ("3.1.0", 440_160)):
        (run,) = import_mlperf(rcp_file(tmp_path, version, {"r": point("unet3d", 84, [length, length])}))
        assert set(run.trials()["steps_to_target"].to_pylist()) == {5240}


def test_several_points_at_one_batch_size_compete_by_their_medians(tmp_path: Path) -> None:
    points = {"slow": point("bert", 256, [2_560_000, 2_816_000]), "fast": point("bert", 256, [2_304_000, 2_304_000])}
    (run,) = import_mlperf(rcp_file(tmp_path, "5.0.0", points))
    assert "Batch sizes with several reference points: the smallest median counts (1)" in run.notes.sentences()
    row = written(run, tmp_path / "run")[1].studies.iloc[0]
    assert (row["steps"], row["n_seeds"], row["best_trial"]) == (9000, 2, "fast/0")


def test_a_flat_table_gives_one_run_for_each_benchmark_and_version(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    rows = ["version,benchmark,ref,batch_size,epochs_list,hyperparams"]
    for version in ("training_1.0.0", "training_2.0.0"):
        rows.append(f'{version},bert,ref_256,256,"[2560000, 2560000]","{{""lr"": 0.1}}"')
    path.write_text("\n".join([*rows, "training_2.0.0,llama2_70b_lora,ref_8,8,[],{}"]))
    runs = import_mlperf(path)
    assert [run.experiment.name for run in runs] == ["bert_training_1.0.0", "bert_training_2.0.0"]
    assert any("llama2_70b_lora training_2.0.0" in note for note in runs[0].notes.sentences())
    assert import_mlperf(path, "bert", "2.0.0")[0].experiment == runs[1].experiment
    for chosen, message in {
        ("resnet", None): "no benchmark 'resnet'; there are bert, llama2_70b_lora",
        ("bert", "9.9.9"): "no version '9.9.9' of it; there are training_1.0.0, training_2.0.0",
        ("llama2_70b_lora", None): "has a list to converge",
    }.items():
        with pytest.raises(InputError, match=message):
            import_mlperf(path, *chosen)


def test_a_benchmark_of_tomorrow_needs_its_unit_and_its_quality(tmp_path: Path) -> None:
    path = rcp_file(tmp_path, "9.0.0", {"r": point("tomorrow", 8, [80, 88])})
    with pytest.raises(InputError, match=r"not among those known here; say what its lists count \(--unit\)"):
        import_mlperf(path)
    with pytest.raises(InputError, match="add --examples-per-epoch N"):
        import_mlperf(path, target=ACCURACY, unit=Counted.EPOCHS)
    (run,) = import_mlperf(path, target=ACCURACY, unit=Counted.STEPS)
    assert run.trials()["steps_to_target"].to_pylist() == [80, 88]
    (run,) = import_mlperf(path, target=ACCURACY, examples_per_epoch=16)
    assert run.trials()["steps_to_target"].to_pylist() == [160, 176]


def test_what_the_user_says_goes_first() -> None:
    facts, target = as_told("resnet", "4.0.0", ACCURACY, None, 1000)
    assert (facts.examples, target) == (1000, ACCURACY)
    assert as_told("resnet", "4.0.0", None, Counted.STEPS, None)[0].examples is None
    with pytest.raises(InputError, match="it must be a positive number, but it is -1"):
        as_told("resnet", "4.0.0", None, None, -1)
    with pytest.raises(InputError, match="divide the lists by it"):
        as_told("resnet", "4.0.0", None, Counted.TOKENS, None)


def test_names_and_values_of_any_kind_are_only_data(tmp_path: Path) -> None:
    wild = {EVIL: EVIL, "batch_size": 3, "trial_id": "x", "mixed": "none", "opt.a/b": True, "nested": {"a": [1]}}
    points = {f"{EVIL}{i}": point("bert", 256 * 2**i, [2_560_000, 2_586_000]) for i in range(3)}
    for i, of in enumerate(points.values()):
        of["Hyperparams"] = {**wild, "mixed": 1.5} if i == 0 else wild
    (run,) = import_mlperf(rcp_file(tmp_path, "5.0.0", points))
    trials = written(run, tmp_path / "run")[1].trials
    assert {"batch_size_in_source", "trial_id_in_source", EVIL, "opt_a/b"} <= set(trials.columns)
    assert set(trials["mixed"]) == {"1.5", "none"}


@settings(deadline=None)
@given(
    interval=st.integers(1, 500),
    offset=st.integers(0, 10_000),
    counts=st.lists(st.integers(0, 6), min_size=15, max_size=40),
    typo=st.integers(-(10**6), 10**6),
)
def test_the_interval_is_read_off_seeds_whatever_one_wrong_number_says(
    interval: int, offset: int, counts: list[int], typo: int
) -> None:
    lengths = [float(offset + interval * k) for k in [*range(7), *counts]]
    assert evaluation_interval([lengths]) == evaluation_interval([[*lengths, typo + 0.5]]) == interval
    assert evaluation_interval([lengths[:1] * 5]) is None


GOOD = {"Benchmark": "bert", "BS": 256, "Hyperparams": {}, "Epochs to converge": [1, 2.5]}


def test_both_spellings_of_the_list_are_read_and_the_folder_names_the_version(tmp_path: Path) -> None:
    samples = {k: v for k, v in GOOD.items() if k != "Epochs to converge"} | {"samples to converge": [256]}
    first, second = read_points(rcp_file(tmp_path, "5.0.0", {"a": GOOD, "b": samples}))
    assert (first.version, first.lengths, first.counts_samples) == ("training_5.0.0", (1.0, 2.5), False)
    assert (second.name, second.lengths, second.counts_samples) == ("b", (256.0,), True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "a JSON object of objects"),
        ("{}", "holds no reference point"),
        ({"BS": 0}, "point 'a': the batch size must be a whole number"),
        ({"BS": "many"}, "point 'a': could not convert"),
        ({"Epochs to converge": [1, -1]}, "positive numbers only"),
        ({"Epochs to converge": [1, None]}, "positive numbers only"),
        ({"Hyperparams": [1]}, "must be a mapping"),
        ('{"a": {"Benchmark": "bert"}}', "point 'a': it lacks 'epochs to converge'"),
        ("benchmark,bs\nbert,1\n", "columns batch_size, epochs_list are missing; the columns are benchmark, bs"),
        (
            'benchmark,batch_size,epochs_list\nbert,1,"[1, 2]"\nbert,x,[1]\nbert,2,[1\n',
            r"2 problems(.|\n)*line 3(.|\n)*line 4",
        ),
    ],
)
def test_a_broken_file_is_one_message(tmp_path: Path, content: str | dict[str, Any], message: str) -> None:
    path = tmp_path / ("rcps.csv" if str(content).startswith("benchmark") else "rcps.json")
    path.write_text(content if isinstance(content, str) else json.dumps({"a": {**GOOD, **content}}))
    with pytest.raises(InputError, match=message):
        read_points(path)


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
