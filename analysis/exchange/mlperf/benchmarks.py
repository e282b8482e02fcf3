"""What the convergence lists of each MLPerf benchmark count, and the quality that they converge to.

Sources, all of mlcommons: the rules of MLPerf Training 1.0 (training_policies, training_rules.adoc), the compliance
checker (logging, compliance_checker/*/closed_*.yaml, key eval_accuracy) and the reference points themselves (logging,
rcp_checker/*/rcps_*.json). Sizes that none of them states are marked "from memory". A wrong one multiplies s_min and
e_min of a benchmark by the same factor, which `--examples-per-epoch` mends, and leaves their ratio b_crit as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target


class Counted(StrEnum):
    """What one unit of a convergence list is."""

    EPOCHS = "epochs"
    EXAMPLES = "examples"
    TOKENS = "tokens"
    STEPS = "steps"


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of MLPerf, from a version on.

    Attributes:
        name: as its reference points name it.
        target: the quality at which a run counts as converged; the rule there is "at least", not "better than".
        counted: what one unit of a convergence list is.
        examples: training examples in one unit; None where a unit is a step.
        note: what a reader must know of the numbers; "" where there is nothing.
        since: the first version for which this holds.
    """

    name: str
    target: str
    counted: Counted
    examples: float | None = 1.0
    note: str = ""
    since: tuple[int, ...] = (0,)


_MEMORY = "the size of its training set is quoted from memory"
_IMAGENET, _COCO, _OPEN_IMAGES, _CRITEO = 1_281_167, 117_266, 1_170_301, 4_195_197_692
_KITS19, _IGBH = 168, 94_605_581
_TWO_AIMS = "the benchmark asks for a second quality at the same time: "

BENCHMARKS: Final = (
    # 27,476 decay steps of 1,632 images are 35.0 epochs of this size (the reference point itself).
    Benchmark("resnet", "eval_accuracy > 0.759", Counted.EPOCHS, _IMAGENET),
    # Rules 1.0: targets. The sizes of COCO 2017 with boxes and of the 264 classes of Open Images: from memory.
    Benchmark("ssd", "eval_accuracy > 0.23", Counted.EPOCHS, _COCO, _MEMORY),
    Benchmark("ssd", "eval_accuracy > 0.34", Counted.EPOCHS, _OPEN_IMAGES, _MEMORY, (2, 0, 0)),
    Benchmark("retinanet", "eval_accuracy > 0.34", Counted.EPOCHS, _OPEN_IMAGES, _MEMORY),
    Benchmark("maskrcnn", "box_min_ap > 0.377", Counted.EPOCHS, _COCO, f"{_TWO_AIMS}mask_min_ap > 0.339; {_MEMORY}"),
    # 3.1.0 has the lists of 3.0.0 in examples: times 168 where the batch size divides that, 440,160 for 2,620 epochs.
    Benchmark("unet3d", "mean_dice > 0.908", Counted.EPOCHS, _KITS19, "its epochs were padded or cut to whole batches"),
    Benchmark("unet3d", "mean_dice > 0.908", Counted.EXAMPLES, since=(3, 1, 0)),
    # LibriSpeech without the longest recordings: from memory.
    Benchmark("rnnt", "word_error_rate < 0.058", Counted.EPOCHS, 278_528, _MEMORY),
    Benchmark("bert", "mlm_accuracy > 0.72", Counted.EXAMPLES),
    # Reference code of dlrm: _NUM_TRAIN_EXAMPLES.
    Benchmark("dlrm", "auc > 0.8025", Counted.EPOCHS, _CRITEO),
    Benchmark("dlrm_dcnv2", "auc > 0.80275", Counted.EPOCHS, _CRITEO),
    # 60 % of the 157,675,969 labelled papers: from memory.
    Benchmark("gnn", "eval_accuracy > 0.72", Counted.EPOCHS, _IGBH, _MEMORY),
    Benchmark("rgat", "eval_accuracy > 0.72", Counted.EPOCHS, _IGBH, _MEMORY),
    # Batch sizes count sequences, which the checker holds at 2,048 tokens; the lists divide by 2,048 x the batch size.
    Benchmark("gpt3", "log_perplexity < 2.69", Counted.TOKENS, 1 / 2048),
    # 2,500 at batch size 1,024 in 3.1.0 are 2,560,000 in 4.0.0.
    Benchmark("sd", "fid < 90", Counted.STEPS, None, f"{_TWO_AIMS}clip > 0.15"),
    Benchmark("stable_diffusion", "fid < 90", Counted.EXAMPLES, note=f"{_TWO_AIMS}clip > 0.15"),
    Benchmark("llama2_70b_lora", "eval_loss < 0.925", Counted.EXAMPLES),
    Benchmark("llama31_405b", "log_perplexity < 5.6", Counted.EXAMPLES),
    Benchmark("llama31_8b", "log_perplexity < 3.3", Counted.EXAMPLES),
    Benchmark("gpt_oss_20b", "log_perplexity < 3.34", Counted.EXAMPLES),
    Benchmark("flux1", "eval_loss < 0.586", Counted.EXAMPLES),
    # The checker asked for 3.6 in its first 6.0.0 files and for 4.05 in the last.
    Benchmark(
        "deepseekv3_671b", "eval_loss < 4.05", Counted.EXAMPLES, note="earlier drafts of the benchmark asked for 3.6"
    ),
    Benchmark("qwen35_397b_grpo", "eval_accuracy > 0.69", Counted.EXAMPLES),
    # MLPerf HPC. 31,252 warm-up steps of 256 structures are 4.0 epochs of two million (oc20's reference point).
    Benchmark("cosmoflow", "mean_absolute_error < 0.124", Counted.EPOCHS, 524_288, _MEMORY),
    Benchmark("deepcam", "mean_iou > 0.82", Counted.EPOCHS, 121_266),
    Benchmark("oc20", "forces_mae < 0.036", Counted.EPOCHS, 2_000_000),
    # All are multiples of 40 batches, the steps between two evaluations.
    Benchmark("openfold", "lddt_ca > 0.8", Counted.EXAMPLES),
)


def benchmark_of(name: str, version: str) -> Benchmark | None:
    """The facts of a benchmark in a version such as `training_5.0.0`; None where they are not known here.

    Args:
        name: as its reference points name it.
        version: "" where it is not known, which is taken as the newest.
    """
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)) or (10**6,)
    return next((known for known in reversed(BENCHMARKS) if known.name == name and known.since <= numbers), None)


def as_told(
    name: str, version: str, target: Target | None, counted: Counted | None, examples_per_epoch: float | None
) -> tuple[Benchmark, Target]:
    """The facts of a benchmark with what the user says of it, which goes first.

    Args:
        name: of the benchmark.
        version: of MLPerf.
        target: None = as known here.
        counted: what one unit of the lists is; None = as known here.
        examples_per_epoch: training examples in an epoch; makes the unit epochs where the user names no other.

    Returns:
        (facts, target).

    Raises:
        InputError: something is neither known nor said.
    """
    facts, where = benchmark_of(name, version), f"MLPerf benchmark '{name}'"
    if examples_per_epoch is not None and not 0 < examples_per_epoch < 1e18:
        raise InputError("--examples-per-epoch", [f"it must be a positive number, but it is {examples_per_epoch:g}"])
    unit = counted or (None if examples_per_epoch is None else Counted.EPOCHS)
    if facts is None and (target is None or unit is None):
        known = ", ".join(dict.fromkeys(benchmark.name for benchmark in BENCHMARKS))
        what = "say what its lists count (--unit) and the quality they converge to (--target 'accuracy > 0.7')"
        raise InputError(where, [f"it is not among those known here; {what}; known are {known}"])
    facts = facts or Benchmark(name, str(target), Counted.EXAMPLES)
    if unit is not None and (unit is not facts.counted or examples_per_epoch is not None):
        facts = replace(facts, counted=unit, examples=_examples(unit, examples_per_epoch, where), note="")
    return facts, target or Target.model_validate(facts.target)


def _examples(unit: Counted, examples_per_epoch: float | None, where: str) -> float | None:
    """Training examples in one unit that the user named; None for a step.

    Raises:
        InputError: it is not known.
    """
    if unit is Counted.EPOCHS and examples_per_epoch is None:
        raise InputError(where, ["how many examples its epoch has is not known; add --examples-per-epoch N"])
    if unit is Counted.TOKENS:
        raise InputError(where, ["how many tokens its examples have is not known; divide the lists by it"])
    return {Counted.EPOCHS: examples_per_epoch, Counted.EXAMPLES: 1.0}.get(unit)


__all__ = ["BENCHMARKS", "Benchmark", "Counted", "as_told", "benchmark_of"]
