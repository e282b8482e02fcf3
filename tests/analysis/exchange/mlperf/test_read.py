"""MLPerf's reference convergence points: units, rounding, groups, targets; numbers from the published files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange import Counted
from bcrit.analysis.exchange.mlperf import evaluation_interval, import_mlperf
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.planted import EVIL, written


def point(
    benchmark: str, batch_size: int, lengths: Sequence[float], key: str = "Epochs to converge", **more: Any
) -> Any:
    """A point as mlcommons/logging writes it."""
    head = {"Benchmark": benchmark, "Creator": "NVIDIA", "When": "At 1.0 submission", "Platform": "TBD"}
    return {**head, "BS": batch_size, "Hyperparams": more, key: lengths}


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


def rcp_file(folder: Path, version: str, points: dict[str, Any]) -> Path:
    path = folder / version / "rcps.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(points))
    return path


def resnet(folder: Path, version: str = "training_4.0.0") -> Path:
    points = {
        f"resnet_ref_{b}": point("resnet", b, lengths, optimizer="lars", opt_base_learning_rate=7.4, betas=[0.9, 0.99])
        for b, lengths in RESNET.items()
    }
    return rcp_file(folder, version, points)


def test_epochs_become_steps_of_the_median_seed(tmp_path: Path) -> None:
    runs = import_mlperf(resnet(tmp_path))
    assert list(runs) == ["resnet_training_4.0.0"]
    census, analysis = written(runs["resnet_training_4.0.0"], tmp_path / "run")
    assert census.outcomes["reached"] == census.trials == sum(map(len, RESNET.values()))
    studies = analysis.studies.set_index("batch_size")
    for batch_size, lengths in RESNET.items():
        expected = float(np.median([round(epochs * 1_281_167 / batch_size) for epochs in lengths]))
        assert studies.loc[batch_size, "steps"] == expected
        assert studies.loc[batch_size, "n_seeds"] == len(lengths)
        # Whole epochs: the interval is one.
        assert studies.loc[batch_size, "steps_resolution"] == pytest.approx(1_281_167 / batch_size, abs=1)
    assert (studies["source"] == "confirm").all() and (studies["n_trials"] == 0).all()
    assert str(analysis.experiment.target) == "eval_accuracy > 0.759"
    assert analysis.experiment.optimizer == "lars"
    assert analysis.experiment.imported is not None
    assert analysis.experiment.imported.names["lr"] == "opt_base_learning_rate"
    assert set(analysis.trials["betas"]) == {"[0.9, 0.99]"}
    # All ten points of the file give 46,726 (40,172 to 54,823).
    assert analysis.fit is not None and 40_172 < analysis.fit.to_json()["b_crit"] < 54_823


def test_the_size_of_an_epoch_leaves_b_crit_as_it_is(tmp_path: Path) -> None:
    path, found = resnet(tmp_path), []
    for size in (None, 12_811_670.0):
        (run,) = import_mlperf(path, examples_per_epoch=size).values()
        fit = written(run, tmp_path / str(size))[1].fit
        assert fit is not None
        found.append(fit.to_json())
    assert found[1]["b_crit"] == pytest.approx(found[0]["b_crit"], rel=1e-3)
    assert found[1]["s_min"] == pytest.approx(10 * found[0]["s_min"], rel=1e-3)


def test_a_list_of_samples_counts_samples_and_is_rounded_to_whole_steps(tmp_path: Path) -> None:
    points = {f"ref_{b}": point("llama2_70b_lora", b, list(v), "samples to converge") for b, v in LLAMA.items()}
    (run,) = import_mlperf(rcp_file(tmp_path, "training_4.0.0", points)).values()
    trials = run.trials().to_pandas()
    assert trials.loc[trials["batch_size"] == 8, "steps_to_target"].tolist() == [480, 528, 576, 480]
    assert trials.loc[trials["batch_size"] == 32, "steps_to_target"].tolist() == [300, 324, 252, 276]  # 276.5
    assert trials.loc[trials["batch_size"] == 16, "steps_to_target_low"].tolist() == [312, 336, 336, 360]  # 384 less


def test_the_unit_of_a_benchmark_changes_with_its_version(tmp_path: Path) -> None:
    steps = []
    # 2,620 epochs of 168 volumes at batch size 84 in 3.0.0 are the 440,160 samples of 3.1.0.
    for version, length in (("training_3.0.0", 2620), ("training_3.1.0", 440_160)):
        (run,) = import_mlperf(rcp_file(tmp_path, version, {"r": point("unet3d", 84, [length, length])})).values()
        steps.append(set(run.trials()["steps_to_target"].to_pylist()))
    assert steps == [{5240}, {5240}]


def test_several_points_at_one_batch_size_compete_by_their_medians(tmp_path: Path) -> None:
    points = {"slow": point("bert", 256, [2_560_000, 2_816_000]), "fast": point("bert", 256, [2_304_000, 2_304_000])}
    (run,) = import_mlperf(rcp_file(tmp_path, "training_5.0.0", points)).values()
    assert "Batch sizes with several reference points: the smallest median counts (1)" in run.notes.sentences()
    _, analysis = written(run, tmp_path / "run")
    row = analysis.studies.iloc[0]
    assert (row["steps"], row["n_seeds"], row["best_trial"]) == (9000, 2, "fast/0")


def test_a_flat_table_gives_one_run_for_each_benchmark_and_version(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    rows = ["version,benchmark,ref,batch_size,epochs_list,hyperparams"]
    for version in ("training_1.0.0", "training_2.0.0"):
        rows.append(f'{version},bert,ref_256,256,"[2560000, 2560000]","{{""lr"": 0.1}}"')
    rows.append("training_2.0.0,llama2_70b_lora,ref_8,8,[],{}")
    path.write_text("\n".join(rows))
    runs = import_mlperf(path)
    assert list(runs) == ["bert_training_1.0.0", "bert_training_2.0.0"]
    assert any("llama2_70b_lora training_2.0.0" in note for note in runs["bert_training_1.0.0"].notes.sentences())
    assert list(import_mlperf(path, "bert", "2.0.0")) == ["bert_training_2.0.0"]
    with pytest.raises(InputError, match="no benchmark 'resnet'; there are bert, llama2_70b_lora"):
        import_mlperf(path, "resnet")
    with pytest.raises(InputError, match="no version '9.9.9' of it; there are training_1.0.0, training_2.0.0"):
        import_mlperf(path, "bert", "9.9.9")
    with pytest.raises(InputError, match="has a list to converge"):
        import_mlperf(path, "llama2_70b_lora")


def test_a_benchmark_of_tomorrow_needs_its_unit_and_its_quality(tmp_path: Path) -> None:
    path = rcp_file(tmp_path, "training_9.0.0", {"r": point("tomorrow", 8, [80, 88])})
    with pytest.raises(InputError, match=r"not among those known here; say what its lists count \(--unit\)"):
        import_mlperf(path)
    target = Target.model_validate("accuracy > 0.7")
    with pytest.raises(InputError, match="add --examples-per-epoch N"):
        import_mlperf(path, target=target, counted=Counted.EPOCHS)
    (run,) = import_mlperf(path, target=target, counted=Counted.STEPS).values()
    assert run.trials()["steps_to_target"].to_pylist() == [80, 88]
    (run,) = import_mlperf(path, target=target, examples_per_epoch=16).values()
    assert run.trials()["steps_to_target"].to_pylist() == [160, 176]


def test_names_and_values_of_any_kind_are_only_data(tmp_path: Path) -> None:
    wild = {EVIL: EVIL, "batch_size": 3, "trial_id": "x", "mixed": "none", "opt.a/b": True, "nested": {"a": [1]}}
    points = {f"{EVIL}{i}": point("bert", 256 * 2**i, [2_560_000, 2_586_000]) for i in range(3)}
    for i, of in enumerate(points.values()):
        of["Hyperparams"] = {**wild, "mixed": 1.5} if i == 0 else wild
    (run,) = import_mlperf(rcp_file(tmp_path, "training_5.0.0", points)).values()
    _, analysis = written(run, tmp_path / "run")
    assert {"batch_size_in_source", "trial_id_in_source", EVIL, "opt_a/b"} <= set(analysis.trials.columns)
    assert set(analysis.trials["mixed"]) == {"1.5", "none"}


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
    assert evaluation_interval([lengths]) == interval
    found = evaluation_interval([[*lengths, typo + 0.5]])
    assert found == interval
    assert evaluation_interval([lengths[:1] * 5]) is None
