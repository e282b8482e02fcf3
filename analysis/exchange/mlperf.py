"""MLPerf's reference convergence points as imported runs, one for each benchmark and version.

A reference point is one tuned setting on many seeds, all of which converged, so its runs are `confirm` and nothing was
searched. The number of a batch size is the smallest median of its points, as everywhere in the analysis.
"""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from bcrit.analysis.exchange import OptionalGoal
from bcrit.analysis.exchange import run as foreign
from bcrit.analysis.exchange.files import read_json, read_text
from bcrit.analysis.records.json_values import loaded
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target

# MLPerf's own names of what we call otherwise.
_NAMES = {
    "opt_base_learning_rate": "lr",
    "opt_lr": "lr",
    "opt_momentum": "momentum",
    "opt_name": "optimizer",
    "opt_weight_decay": "weight_decay",
}


class Counted(StrEnum):
    """What one unit of MLPerf's convergence lists is."""

    EPOCHS = "epochs"
    EXAMPLES = "examples"
    TOKENS = "tokens"
    STEPS = "steps"


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of MLPerf, from a version on: what its convergence lists count, and the quality they converge to.

    Sources, all of mlcommons: the rules of MLPerf Training 1.0 (training_policies, training_rules.adoc), the compliance
    checker (logging, compliance_checker/*/closed_*.yaml, key eval_accuracy) and the reference points themselves
    (logging, rcp_checker/*/rcps_*.json). Sizes that none of them states are marked "from memory". A wrong one
    multiplies s_min and e_min of a benchmark by the same factor, which `--examples-per-epoch` mends, and leaves their
    ratio b_crit as it is.
    """

    name: str  # as its reference points name it
    target: str  # at which a run counts as converged; the rule there is "at least", not "better than"
    counted: Counted  # what one unit of a convergence list is
    examples: float | None = 1.0  # training examples in one unit; None where a unit is a step
    note: str = ""  # what a reader must know of the numbers
    since: tuple[int, ...] = (0,)  # the first version for which this holds


@dataclass(frozen=True)
class ReferencePoint:
    """One tuned point: how long each of its seeds took to converge."""

    name: str  # such as `resnet_ref_4096`
    benchmark: str  # such as `resnet`
    version: str  # such as `training_4.0.0`; "" where the source does not say
    batch_size: int
    lengths: tuple[float, ...]  # one number a seed, in the unit of the benchmark
    counts_samples: bool  # whether the source itself says that they count samples
    settings: Mapping[str, Any]  # hyperparameters, lists among them


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
    """The facts of a benchmark in a version such as `training_5.0.0` ("" = the newest); None where none are known."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)) or (10**6,)
    return next((known for known in reversed(BENCHMARKS) if known.name == name and known.since <= numbers), None)


def as_told(
    name: str, version: str, target: Target | None, counted: Counted | None, examples_per_epoch: float | None
) -> tuple[Benchmark, Target]:
    """The facts of a benchmark with what the user says of it, which goes first; None = as known here.

    `examples_per_epoch` makes the unit of the lists epochs where the user names no other.
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
        if unit is Counted.EPOCHS and examples_per_epoch is None:
            raise InputError(where, ["how many examples its epoch has is not known; add --examples-per-epoch N"])
        if unit is Counted.TOKENS:
            raise InputError(where, ["how many tokens its examples have is not known; divide the lists by it"])
        examples = {Counted.EPOCHS: examples_per_epoch, Counted.EXAMPLES: 1.0}.get(unit)
        facts = replace(facts, counted=unit, examples=examples, note="")
    return facts, target or Target.model_validate(facts.target)


def read_points(path: Path) -> list[ReferencePoint]:
    """Read every reference point of a file; one without a list has no lengths. All that is broken is named at once.

    The file is a `rcps_*.json` of mlcommons/logging, whose folder names the version, or a CSV with the columns
    benchmark, batch_size, epochs_list and perhaps version, ref, hyperparams (lists and mappings as JSON).
    """
    told: list[tuple[str, str, str, Mapping[str, Any]]] = []  # where it stands, its name, its version, the rest
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if not isinstance(content, Mapping) or not all(isinstance(point, Mapping) for point in content.values()):
            raise InputError(str(path), ["reference points are a JSON object of objects, one for each point"])
        version = path.parent.name if re.search(r"\d+\.\d+", path.parent.name) else ""
        told = [(f"point '{name}'", name, version, point) for name, point in content.items()]
    else:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        if missing := {"benchmark", "batch_size", "epochs_list"} - set(reader.fieldnames or ()):
            have = ", ".join(reader.fieldnames or ()) or "none"
            raise InputError(str(path), [f"columns {', '.join(sorted(missing))} are missing; the columns are {have}"])
        for row in reader:
            name = row.get("ref") or f"{row['benchmark']}_{row['batch_size']}"
            lists = {"epochs to converge": row["epochs_list"] or "[]", "hyperparams": row.get("hyperparams")}
            rest = {"benchmark": row["benchmark"], "bs": row["batch_size"], **lists}
            told.append((f"line {reader.line_num}", name, row.get("version") or "", rest))
    points, problems = [], []
    for where, name, version, point in told:
        try:
            points.append(_point(name, version, point))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            problems.append(f"{where}: {f'it lacks {error}' if isinstance(error, KeyError) else error}")
    if problems:
        raise InputError(str(path), problems[:10])
    if not points:
        raise InputError(str(path), ["it holds no reference point"])
    return points


def _point(name: str, version: str, point: Mapping[str, Any]) -> ReferencePoint:
    lists = {key.lower(): value for key, value in point.items()}
    # "Epochs to converge" is the name whatever the unit; some newer files say "samples to converge" instead.
    samples = "samples to converge" in lists
    lengths = lists["samples to converge" if samples else "epochs to converge"]
    settings = lists.get("hyperparams") or {}
    lengths, settings = (loaded(value) if isinstance(value, str) else value for value in (lengths, settings))
    size = float(lists["bs"])
    if not (size >= 1 and size == int(size)):
        raise ValueError(f"the batch size must be a whole number of at least 1, but it is {lists['bs']}")
    if not isinstance(lengths, list) or not all(type(n) in (int, float) and 0 < n < math.inf for n in lengths):
        raise ValueError("its list to converge must hold positive numbers only")
    if not isinstance(settings, Mapping):
        raise ValueError("its hyperparameters must be a mapping of names to values")
    lengths = tuple(map(float, lengths))
    return ReferencePoint(name, str(lists["benchmark"]), version, int(size), lengths, samples, settings)


def import_mlperf(
    source: Annotated[Path, "rcps_*.json of mlcommons/logging, or a flat CSV.", "FILE"],
    benchmark: Annotated[str | None, "Only this benchmark, such as resnet."] = None,
    version: Annotated[str | None, "Only this version, such as 5.0.0 or training_5.0.0."] = None,
    target: OptionalGoal = None,
    unit: Annotated[Counted | None, "What the lists to converge count. Default: as known for the benchmark."] = None,
    examples_per_epoch: Annotated[float | None, "Training examples in one epoch."] = None,
) -> list[foreign.ImportedRun]:
    """Import MLPerf's reference convergence points: a run folder for each benchmark and version.

    Every point is one tuned setting on many seeds, all of which reached the benchmark's quality. Nothing was searched.
    """
    points = read_points(source)
    benchmarks, versions = sorted({p.benchmark for p in points}), sorted({p.version for p in points} - {""})
    if benchmark is not None and benchmark not in benchmarks:
        raise InputError(str(source), [f"there is no benchmark '{benchmark}'; there are {', '.join(benchmarks)}"])
    of_it = [p for p in points if benchmark in (None, p.benchmark)]
    chosen = [p for p in of_it if version is None or p.version in ("", version) or p.version.endswith(f"_{version}")]
    if not chosen:
        theirs = sorted({p.version for p in of_it} - {""}) or versions or ["none"]
        raise InputError(str(source), [f"there is no version '{version}' of it; there are {', '.join(theirs)}"])
    groups: dict[tuple[str, str], list[ReferencePoint]] = {}
    for point in chosen:
        groups.setdefault((point.benchmark, point.version or (version or "")), []).append(point)
    told = {key: as_told(*key, target, unit, examples_per_epoch) for key in groups}
    runs: dict[str, foreign.ImportedRun] = {}
    empty = []
    for key, group in groups.items():
        if any(point.lengths for point in group):
            name = foreign.experiment_name("_".join(filter(None, key)), "mlperf")
            name = name if name not in runs else f"{name[:90]}-{len(runs)}"
            runs[name] = _run(name, group, *told[key], str(source), unit)
        else:
            empty.append(" ".join(key))
    if not runs:
        raise InputError(str(source), [f"no reference point of {', '.join(empty)} has a list to converge"])
    for run in runs.values():
        run.notes.among("Benchmarks without any list to converge were left out", empty)
    return list(runs.values())


def evaluation_interval(points: Sequence[Sequence[float]]) -> float | None:
    """How far apart evaluations stand, read off the lengths of the seeds of each point, in their unit.

    Runs end at evaluations, so neighbouring lengths differ by a whole number of intervals, and of many seeds most
    neighbours differ by one. The commonest difference is taken, the smaller one of equally common ones: a length that
    was noted wrongly then changes nothing. With few seeds it may be a multiple of the interval, never less. Where all
    seeds of a point agree nothing is known: None.
    """
    gaps: Counter[float] = Counter()
    for lengths in points:
        ordered = sorted(set(lengths))
        gaps.update(round(b - a, 9) for a, b in zip(ordered, ordered[1:], strict=False))
    return min(gaps, key=lambda gap: (-gaps[gap], gap)) if gaps else None


def _run(
    name: str, points: Sequence[ReferencePoint], facts: Benchmark, target: Target, source: str, counted: Counted | None
) -> foreign.ImportedRun:
    notes = foreign.Notes()
    without = [point.name for point in points if not point.lengths]
    notes.among("Reference points without a list to converge were left out", without)
    points = [point for point in points if point.lengths]
    # Lists and mappings stand as JSON text; `global_batch_size` repeats the batch size.
    settings = [{n: v for n, v in point.settings.items() if n != "global_batch_size"} for point in points]
    plain = [{n: json.dumps(v) if isinstance(v, list | dict) else v for n, v in of.items()} for of in settings]
    there = foreign.setting_columns(plain, notes)
    # Of two spellings of one thing the later in `_NAMES` keeps its own name.
    known = {ours: name for name, ours in reversed(_NAMES.items()) if name in there and ours not in there}
    here = foreign.our_names(there, {name: ours for ours, name in known.items()})
    rows, seen = [], Counter[str]()
    # An epoch is the same at every batch size, and so, nearly, is the number of epochs between two evaluations.
    together = evaluation_interval([p.lengths for p in points]) if facts.counted is Counted.EPOCHS else None
    for i, point in enumerate(points):
        seen[point.name] += 1
        label = point.name if seen[point.name] == 1 else f"{point.name} #{seen[point.name]}"
        # Optimizer updates in one unit of the list; what the source says of its unit goes before what is known.
        examples = 1.0 if point.counts_samples and counted is None else facts.examples
        unit = 1.0 if examples is None else examples / point.batch_size
        grid = together or evaluation_interval([point.lengths])
        of_point: foreign.Row = {here[name]: values[i] for name, values in there.items()}
        of_point |= {"stage": "confirm", "repeats": label, "outcome": Outcome.REACHED.value}
        for seed, length in enumerate(point.lengths):
            steps = max(1, round(length * unit))
            low = None if grid is None else max(0, min(steps - 1, round((length - grid) * unit)))
            reached = {"steps": steps, "steps_to_target": steps, "steps_to_target_low": low}
            rows.append(foreign.trial_row(f"{label}/{seed}", point.batch_size, seed=seed, **reached, **of_point))

    samples = all(point.counts_samples for point in points)
    what = Counted.EXAMPLES if samples else facts.counted
    size = "" if samples or facts.examples in (None, 1.0) else f" of {facts.examples:,.12g} examples each"
    notes.add(f"The lists to converge count {what}{size}")
    notes.add(
        "Steps are epochs times the epoch's size over the batch size, to whole steps; whether a last partial batch "
        "was trained on is not known. A wrong size multiplies s_min and e_min alike and leaves b_crit as it is"
        if what is Counted.EPOCHS
        else "Steps are rounded to whole numbers"
    )
    if facts.note:
        notes.add(facts.note[0].upper() + facts.note[1:])
    notes.add(f"MLPerf counts a run as converged at the threshold too, not only beyond it: {target}")
    notes.add("An evaluation interval is read off the lengths of the seeds; where all agree it is not known")
    named = {row.get("optimizer") for row in rows}
    if len(named) > 1:
        notes.add("The optimizer is not the same at all batch sizes; it is kept as a hyperparameter")
    several = [size for size, count in Counter(point.batch_size for point in points).items() if count > 1]
    notes.add("Batch sizes with several reference points: the smallest median counts", len(several))

    optimizers = named - {None}
    optimizer = "not recorded" if not optimizers else str(*optimizers) if len(optimizers) == 1 else "several"
    workload = f"MLPerf {points[0].benchmark} {points[0].version}".strip()
    experiment: foreign.Row = {
        "name": name,
        "workload": workload,
        "optimizer": optimizer,
        "target": target,
        "space": {},
    }
    return foreign.foreign_run("mlperf", source, notes, rows, tuple, here, **experiment)
