"""What every workload promises, checked on each of ours: the same tests for all, a table of what is its own."""

import inspect
import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.options import Probes
from bcrit.search_spaces.target import Target
from bcrit.tuner.training.batch_schedule import BatchPlan, Fixed, TunedRates
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.protocol import Workload, gives_model, our_loop, says, unfit
from bcrit.tuner.workloads.registry import WORKLOADS, load_workload
from tests.tuner.workloads.files import write_idx, write_text

_FOLDER = tempfile.TemporaryDirectory()  # gone at the end of the process
_PLACE = Path(_FOLDER.name)
write_idx(_PLACE / "pictures", n=120)
write_text(_PLACE / "words.txt", lines=120)
PICTURES, WORDS = (
    {"source": str(_PLACE / name), "cache": str(_PLACE / "cache"), "validation": part}
    for name, part in (("pictures", 24), ("words.txt", 0.2))
)
TRAIN_LOSS: Mapping[str, tuple[dict[str, Any], str]] = {
    f"train loss {wrong}": ({"train_loss_examples": wrong}, "'train_loss_examples' must be a whole number from 0")
    for wrong in (-1, True, "5", 2.0)
}


@dataclass(frozen=True)
class Case:
    """A small one of a built-in workload, or of a user's."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    lr: float = 0.1  # at which, with momentum 0.9 and batches of 16, it is trained for `steps`
    steps: int = 60
    least: float = 0.8  # of the target's metric, as it was at the start, is left or less
    space: dict[str, Value] = field(default_factory=dict)  # hyperparameters of its own that it must read
    unfit: tuple[int, str] | None = None  # a batch size that it cannot make, and why
    refused: Mapping[str, tuple[dict[str, Any], str]] = field(default_factory=dict)

    def made(self, **others: Any) -> Workload:
        return load_workload(self.name, {**self.options, **others})


CNN = {"name": "simple_cnn", "filters": [3, 4], "hidden": 8}
GPT = {"name": "gpt", "layers": 1, "width": 16, "hidden": 32, "heads": 2}
LSTM = {"name": "lstm", "embedding": 8, "hidden": 16}
CODE = {"filters": [3, 4], "hidden": 16, "code": 4}
SMOOTHED: dict[str, Value] = {"label_smoothing": 0.3, "dropout": 0.3}
NUMBER = "must be a finite number of at least 0, but it is"
COUNT = "must be a whole number from 1 to 1,000,000, but it is"


def images(model: Any, **others: Any) -> Case:
    return Case("image_classifier", {"data": PICTURES, "model": model}, **others)


def text(model: Any, **others: Any) -> Case:
    return Case("language_model", {"data": WORDS, "model": model, "sequence_length": 8}, **others)


CASES: dict[str, Case] = {
    "digits": Case("digits_mlp", lr=0.03, steps=240, least=0.063, refused={"any": ({"width": 1}, "it has no options")}),
    "convolutions": images(
        CNN,
        space=SMOOTHED,
        refused={
            "smoothing": ({"label_smoothing_over": "some"}, "'label_smoothing_over' is 'some', but must be one of all"),
            "a list": ({"label_smoothing_over": [1]}, "'label_smoothing_over' is [1], but must be one of all: eps"),
            "no normalisation": ({"ghost_batch_size": 8}, "has no batch normalisation; remove 'ghost_batch_size'"),
            "model": ({"model": "cnn"}, "there is no model 'cnn'"),
            "data": ({"data": {"sauce": "mnist"}}, "option 'data'"),
            **TRAIN_LOSS,
        },
    ),
    "fully connected": images("fc_16", space=SMOOTHED),
    "residual": images("resnet_8", steps=20, space={"label_smoothing": 0.3}),
    "ghosts": Case(
        "image_classifier",
        {"data": PICTURES, "model": "resnet_8", "ghost_batch_size": 8},
        steps=20,
        unfit=(12, "'ghost_batch_size' must divide every batch size, but 8 does not divide 12"),
        refused={
            f"ghosts {wrong}": ({"ghost_batch_size": wrong}, f"must be a whole number from 1, but it is {wrong!r}")
            for wrong in (4.0, "four", 0)
        },
    ),
    "lstm": text(
        LSTM,
        lr=0.3,
        steps=80,
        space=SMOOTHED,
        refused={
            "unit": ({"unit": "words"}, "'unit' must be sequences or tokens, but it is 'words'"),
            "length": ({"sequence_length": 0}, "'sequence_length' must be a whole number from 1, but it is 0"),
            "validation": ({"validation_sequences": -1}, "'validation_sequences' must be a whole number from 1"),
            "model": ({"model": "rnn"}, "there is no model 'rnn'"),
            **TRAIN_LOSS,
        },
    ),
    "gpt": text(GPT, lr=0.3, steps=80, space=SMOOTHED),
    "transformer": text({**GPT, "name": "transformer"}, lr=0.02, steps=80, space=SMOOTHED),
    "tokens": Case(
        "language_model",
        {"data": WORDS, "model": LSTM, "sequence_length": 8, "unit": "tokens"},
        lr=0.3,
        steps=160,
        unfit=(30, "but 30 tokens are no multiple of sequence_length=8; choose batch sizes that are"),
    ),
    "autoencoder": Case(
        "autoencoder",
        {"data": PICTURES, "model": {"name": "autoencoder", **CODE}},
        lr=0.002,
        steps=80,
        least=0.9,
        refused={"model": ({"model": "resnet_8"}, "there is no model 'resnet_8'"), **TRAIN_LOSS},
    ),
    "variational": Case(
        "autoencoder", {"data": PICTURES, "model": {"name": "vae", **CODE}}, lr=0.002, steps=80, least=0.9
    ),
    "policy": Case(
        "policy_gradient",
        {"rollout_length": 4, "evaluation_episodes": 4, "evaluation_steps": 60},
        lr=0.01,
        steps=5,
        least=math.inf,  # such small batches may learn nothing; the example's do
        unfit=(18, "a batch of frames must be whole rollouts, but 18 frames are no multiple of rollout_length=4"),
        refused={
            "rollout": ({"rollout_length": 0}, "'rollout_length' must be a whole number from 1, but it is 0"),
            "episodes": (
                {"evaluation_episodes": True},
                "'evaluation_episodes' must be a whole number from 1, but it is",
            ),
            "switch": ({"clip_rewards": 1}, "'clip_rewards' must be true or false, but it is 1"),
            "gamma": ({"gamma": 1.5}, "'gamma' must lie in [0, 1], but it is 1.5"),
            "a word": ({"gamma": "x"}, "'gamma' must be a number, but it is 'x'"),
            "nothing": ({"entropy_coefficient": None}, "'entropy_coefficient' must be a number, but it is None"),
            "model": ({"model": "resnet_8"}, "there is no model 'resnet_8'; the models are mlp, cnn"),
            "size": ({"model": {"name": "mlp", "hidden": 3}}, "option 'model': there is no key 'hidden'"),
            "environment": ({"environment": 3}, "'environment' must be an id such as CartPole-v1, but it is 3"),
            "its options": ({"environment_options": [1]}, "'environment_options' must be a mapping, but it is [1]"),
        },
    ),
    "quadratic": Case(
        "noisy_quadratic",
        {"dimensions": 20, "evaluation_noise": 0.1, "seed_noise": 0.1},
        refused={
            "no dimensions": ({"dimensions": 0}, f"'dimensions' {COUNT} 0"),
            "half of one": ({"dimensions": 2.5}, f"'dimensions' {COUNT} 2.5"),
            "true": ({"dimensions": True}, f"'dimensions' {COUNT} True"),
            "more than memory holds": ({"dimensions": 10**9}, f"'dimensions' {COUNT} 1000000000"),
            "a word": ({"spectrum_exponent": "steep"}, f"'spectrum_exponent' {NUMBER} 'steep'"),
            "empty": ({"dimensions": None, "spectrum": []}, "'spectrum' must be a list of numbers, but it is []"),
            "no list": ({"dimensions": None, "spectrum": 3.0}, "'spectrum' must be a list of numbers, but it is 3.0"),
            "negative": ({"dimensions": None, "spectrum": [1.0, -1.0]}, f"'spectrum[1]' {NUMBER} -1.0"),
            "twice": ({"spectrum": [1.0], "dimensions": 1}, "'spectrum' and 'dimensions' exclude each other"),
            "noise": ({"noise": [1.0], "noise_exponent": 1.0}, "'noise' and 'noise_exponent' exclude each other"),
            "length": ({"noise": [1.0]}, "must have one number for each dimension, but it has 1 for 20 dimensions"),
            "nan": ({"noise_scale": math.nan}, f"'noise_scale' {NUMBER} nan"),
            "inf": ({"start": math.inf}, f"'start' {NUMBER} inf"),
            "below 0": ({"evaluation_noise": -0.1}, f"'evaluation_noise' {NUMBER} -0.1"),
            "none": ({"seed_noise": None}, f"'seed_noise' {NUMBER} None"),
        },
    ),
    "exact quadratic": Case("noisy_quadratic", {"dimensions": 20}),
    "scripted": Case("tests.scripted:ExactHyperbola", lr=0.02),
}
MADE = {name: case.made() for name, case in CASES.items()}


def settings(case: Case, batch_size: Any = 16, seed: Any = 1, **others: Any) -> Settings:
    return Settings(batch_size, seed, "momentum", {"lr": case.lr, "momentum": 0.9, **others})


def metric_of(case: Case) -> str:
    entry = WORKLOADS.get(case.name)
    return "loss" if entry is None else Target.model_validate(entry.target).metric


def test_every_built_in_workload_is_checked_here() -> None:
    assert set(WORKLOADS) < {case.name for case in CASES.values()}


@pytest.mark.parametrize("name", CASES)
class TestContract:
    def test_it_is_what_its_entry_says(self, name: str) -> None:
        case, workload = CASES[name], MADE[name]
        if (entry := WORKLOADS.get(case.name)) is None:
            return
        target = Target.model_validate(entry.target)
        assert workload.metrics[target.metric] is target.direction
        assert set(entry.metrics) == set(workload.metrics)
        assert entry.unit == load_workload(case.name, {}).unit

    def test_it_learns_and_every_evaluation_gives_the_declared_metrics(self, name: str) -> None:
        case, workload, metric = CASES[name], MADE[name], metric_of(CASES[name])
        run = workload.begin(settings(case))
        before = run.evaluate()
        run.train(case.steps)
        after = run.evaluate()
        for metrics in (before, after):
            assert set(metrics) == set(workload.metrics)
            assert all(type(value) is float and math.isfinite(value) for value in metrics.values())
        falls = workload.metrics[metric] == "minimize"
        ratio = after[metric] / before[metric] if falls else before[metric] / after[metric]
        assert ratio < case.least, (before, after)

    def test_a_run_depends_on_its_settings_alone(self, name: str) -> None:
        case, workload = CASES[name], MADE[name]
        schedule = {"schedule": "linear", "end_factor": 0.1, "decay_steps": 10, **case.space}
        curves = []
        for chunks in ([1] * 12, [5, 7], [12]):
            run, other = workload.begin(settings(case, **schedule)), workload.begin(settings(case, seed=2, **schedule))
            for chunk in chunks:
                other.train(chunk)  # runs share nothing
                run.evaluate()
                run.train(chunk)
            curves.append(run.evaluate())
        assert curves[0] == curves[1] == curves[2]
        same = says(workload, "deterministic") or name == "scripted"
        assert (other.evaluate() == curves[0]) == same

    def test_the_seed_decides_the_start_and_the_batch_size_does_not(self, name: str) -> None:
        starts = [MADE[name].begin(settings(CASES[name], batch_size)).evaluate() for batch_size in (16, 40, 16)]
        assert starts[0] == starts[1] == starts[2]

    def test_hyperparameters_of_its_own_change_the_run_and_not_its_start(self, name: str) -> None:
        case, workload = CASES[name], MADE[name]
        assert set(case.space) <= set(workload.hyperparameters)
        plain = workload.begin(settings(case))
        runs = {own: workload.begin(settings(case, **{own: value})) for own, value in case.space.items()}
        assert all(run.evaluate() == plain.evaluate() for run in runs.values())
        for run in (plain, *runs.values()):
            run.train(8)
        ends = [tuple(run.evaluate().values()) for run in (plain, *runs.values())]
        assert len(set(ends)) == len(ends)

    def test_what_it_declares_it_can(self, name: str) -> None:
        case, workload = CASES[name], MADE[name]
        if says(workload, "averages"):
            plain, run = workload.begin(settings(case)), workload.begin(settings(case, ema_decay=0.5))
            for each in (plain, run):
                each.train(2)
            found = run.evaluate()
            assert set(found) == {f"{metric}{end}" for metric in workload.metrics for end in ("", "_ema")}
            assert {metric: found[metric] for metric in workload.metrics} == plain.evaluate()
        if says(workload, "batch_plan"):
            begin: Any = workload.begin
            assert begin(settings(case)).progress is None
            planned = begin(replace(settings(case), batches=BatchPlan(Fixed(32), TunedRates((32,), (0.1,)))))
            planned.train(2)
            assert planned.progress is not None and planned.progress.examples == 2 * 32
        if gives_model(workload):
            model = workload.model(settings(case))
            inputs, targets = workload.sample("train", 8, seed=0)
            assert workload.training_loss(settings(case))(model(inputs), targets).numel() == 1
        if our_loop(workload):
            probed = workload.begin(replace(settings(case), probes=Probes(measure=("weight_distance",))))
            probed.train(1)
            assert (probed.probe(last=True)["weight_distance"] or 0) > 0

    def test_data_are_not_looked_for_before_they_are_asked_for(self, name: str) -> None:
        if "data" in CASES[name].options:
            workload = CASES[name].made(data={"source": "/not/there"})
            with pytest.raises(ValueError, match="there is no file or folder '/not/there'"):
                _ = workload.n_examples

    def test_train_loss_is_one_more_metric_and_changes_no_other(self, name: str) -> None:
        case = CASES[name]
        if "train_loss_examples" in inspect.signature(type(MADE[name])).parameters:
            both = []
            for workload in (MADE[name], case.made(train_loss_examples=10)):
                run = workload.begin(settings(case))
                run.train(3)
                both.append(dict(run.evaluate()))
                assert set(workload.metrics) == set(both[-1])
            assert both[1].pop("train_loss") not in both[0].values()
            assert both[1] == pytest.approx(both[0])

    def test_a_batch_that_it_cannot_make_is_refused(self, name: str) -> None:
        case, workload = CASES[name], MADE[name]
        assert unfit(workload, 16) is None
        if case.unfit is not None:
            size, why = case.unfit
            assert why in str(unfit(workload, size))
            with pytest.raises(ValueError, match=re.escape(why)):
                workload.begin(settings(case, size))


REFUSED = {f"{name}: {why}": (name, *pair) for name, case in CASES.items() for why, pair in case.refused.items()}


@pytest.mark.parametrize(("name", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_option_is_refused_by_name_and_value(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CASES[name].made(**options)


def test_runs_do_not_change_the_data() -> None:
    workload = MADE["convolutions"]
    assert gives_model(workload)
    before = workload.sample("train", 1000, 0)[0].clone()
    workload.begin(settings(CASES["convolutions"])).train(20)
    assert workload.sample("train", 1000, 0)[0].equal(before)


def test_dropout_comes_from_the_settings_before_the_model() -> None:
    workload = MADE["fully connected"]
    assert gives_model(workload)
    model = workload.model(settings(CASES["fully connected"], dropout=0.5))
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.5]
