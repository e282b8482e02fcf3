"""Bad experiments, and models that every trial would fail on: all that is wrong with one, in one message."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Direction
from bcrit.tuner.check import check_experiment
from bcrit.tuner.protocol.protocol import plan, resolved
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.digits import DigitsMLP
from bcrit.tuner.workloads.places import reach
from bcrit.tuner.workloads.supervised import SupervisedWorkload
from tests.scripted import ExactHyperbola
from tests.simulate import scripted
from tests.tuner.workloads.files import write_idx, write_text

# Workloads and functions of a user's.


class OwnOptimizer(ExactHyperbola):
    """A workload that makes its updates itself and says what it can."""

    optimizers = ("shampoo",)
    hyperparameters = ("block",)


class Named(DigitsMLP):
    metrics = {"val_loss": Direction.MINIMIZE, "temperature": Direction.MINIMIZE}


class Mixing(DigitsMLP):
    divisible = False


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Opaque(DigitsMLP):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(Once.apply(outputs), targets)  # type: ignore[no-untyped-call]


class OwnLoop(DigitsMLP):
    def begin(self, settings: Settings) -> Any:
        raise NotImplementedError


class Own:
    """A class of one's own, with nothing of SupervisedWorkload but what it declares."""

    unit, hyperparameters, divisible = "examples", (), True
    gives_model = our_loop = averages = True
    metrics = property(lambda self: self._digits.metrics)
    n_examples = property(lambda self: self._digits.n_examples)

    def __init__(self) -> None:
        self._digits = DigitsMLP()

    def __getattr__(self, name: str) -> Any:
        if name in ("model", "rows", "sample", "loss", "training_loss"):
            return getattr(self._digits, name)
        raise AttributeError(name)

    def begin(self, settings: Settings) -> Any:
        return self._digits.begin(settings)


class Silent(Own):
    our_loop = averages = False


BUILT: list[Any] = []


class Small(SupervisedWorkload):
    hyperparameters = ("layer", "width")

    def model(self, settings: Settings) -> nn.Module:
        layer, width = settings.hyperparameters.get("layer"), int(settings.number("width", 4))
        BUILT.append((layer, width))
        if layer == "missing":
            raise KeyError(layer)
        norms: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "groups": partial(nn.GroupNorm, 2)}
        return nn.Sequential(nn.Linear(3, width), norms.get(str(layer), nn.Identity)(width), nn.Linear(width, 2))

    def train_data(self) -> Examples:
        return torch.zeros(16, 3), torch.zeros(16, dtype=torch.int64)

    def validation_data(self) -> Examples:
        return self.train_data()


class OtherInputs(Small):
    def train_data(self) -> Examples:
        return torch.zeros(16, 5), torch.zeros(16, dtype=torch.int64)


class FloatClasses(Small):
    def train_data(self) -> Examples:
        return torch.zeros(16, 3), torch.zeros(16)


class LossOfEach(Small):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none")


class Pairs(Small):
    """Eight examples belong together."""

    divisible = False

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.view(-1, 8, 2).mean()


def train(config: Any, report: Any) -> None:
    pass


def declared(config: Any, report: Any) -> None:
    pass


declared.unit, declared.n_examples, declared.metrics = "tokens", 640, {"loss": "minimize"}  # type: ignore[attr-defined]
declared.ends_at_budget = True  # type: ignore[attr-defined]


def one_argument(config: Any) -> None:
    pass


async def asynchronous(config: Any, report: Any) -> None:
    pass


def generator(config: Any, report: Any) -> Iterator[int]:
    yield 1


class Asynchronous:
    async def __call__(self, config: Any, report: Any) -> None:
        pass


an_object = Asynchronous()


def wrongly_declared(config: Any, report: Any) -> None:
    pass


wrongly_declared.metrics = {"loss": "down"}  # type: ignore[attr-defined]


def ends_sometimes(config: Any, report: Any) -> None:
    pass


ends_sometimes.ends_at_budget = "yes"  # type: ignore[attr-defined]


# Experiments that are good, to be changed.


def own(name: str) -> str:
    return f"{__name__}:{name}"


GOOD: dict[str, Any] = {
    "workload": "digits_mlp",
    "batch_sizes": [16, 64],
    "target": "val_loss < 0.15",
    "space": {"lr": "log from 0.01 to 1", "momentum": 0.9},
    "budget": {"steps": 100, "examples": 6400},
}
ADAMW: dict[str, Any] = {
    **GOOD,
    "optimizer": "adamw",
    "space": {"lr": "log from 1e-4 to 0.1", "beta2": "reverse_log from 0 to 0.999", "weight_decay": 0.1},
}
QUADRATIC: dict[str, Any] = {**GOOD, "workload": "noisy_quadratic", "target": "risk < 0.01", "budget": {"steps": 99}}
FRAMES = {**GOOD, "workload": "policy_gradient", "target": "val_return > 9", "batch_sizes": [20, 80]}
FRAMES |= {"resources": {"gpus": 2}}
NOISY = {**ADAMW, "workload": "noisy_quadratic", "target": "risk < 0.01"}
FUNCTION: dict[str, Any] = {
    "workload": own("train"),
    "batch_sizes": [16, 64],
    "target": "loss < 1",
    "space": {"lr": "log from 0.01 to 1"},
    "budget": {"steps": 100},
}
TEXT = {
    **GOOD,
    "workload": {"name": "language_model", "data": "text.txt", "model": "gpt", "sequence_length": 8, "unit": "tokens"},
    "batch_sizes": [32, 64],
}
PROBED: dict[str, Any] = {**GOOD, "probes": ["noise_scale", "weight_distance"]}


def images(model: Any = "resnet_8", changes: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    workload = {"name": "image_classifier", "data": "images", "model": model, **options}
    return {**GOOD, "workload": workload, "batch_sizes": [8, 32], **(changes or {})}


def small(workload: Any, **space: Any) -> dict[str, Any]:
    space = {"lr": 0.1, "momentum": 0.9, **space}
    return {**GOOD, "workload": workload, "batch_sizes": [8, 12], "target": "val_loss < 1", "space": space}


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    reach(Path(__file__).parents[2])
    write_idx(tmp_path / "images", n=120)
    write_text(tmp_path / "text.txt")


def in_parts(local: int) -> dict[str, Any]:
    """Batches of tokens, in local batches."""
    changes = {"optimizer": "extrap_sgd", "batch_sizes": [24, 48]}
    return {**TEXT, **changes, "space": {"lr": 1, "extrapolation_lr": 0.1, "local_batch_size": local}}


def of(optimizer: str, **space: Any) -> dict[str, Any]:
    return {**ADAMW, "optimizer": optimizer, "space": {"lr": 0.1, **space}}


ACCEPTED: dict[str, dict[str, Any]] = {
    "plain": GOOD,
    "adamw": ADAMW,
    "capitals": {**ADAMW, "optimizer": "AdamW"},
    "radam": of("RAdam", beta1="reverse_log from 0 to 0.99", decoupled_weight_decay=0.1),
    "adafactor": of("adafactor", beta2_decay=-0.8),
    "muon": of("muon", nesterov=False, ns_steps=4, adjust_lr_fn="original"),
    "lamb": of("lamb", beta1=0.9, weight_decay=0.1),
    "extrapolated": of("extrap_adamw", extrapolation_lr="log from 0.1 to 1"),
    "average": {**of("adamw", ema_decay="reverse_log from 0.5 to 0.99"), "target": "val_loss_ema < 0.15"},
    "warm-up": of("adamw", warmup_steps="integer from 0 to 20", schedule="choice of step, wsd"),
    "noisy": {**NOISY, "optimizer": "nesterov", "space": {"lr": 0.1, "momentum": 0.5, "schedule": "wsd"}},
    "own optimizer": {**of("shampoo", block=2), "workload": own("OwnOptimizer"), "target": "loss < 1"},
    "all of execution": {**GOOD, "execution": {"micro_batch": 10, "precision": "bfloat16", "compile": True}},
    "a share of a GPU": {**GOOD, "resources": {"gpus": 0.25}},
    "four processes": {**GOOD, "resources": {"processes": 4, "cpus": 4}},
    "more for large batches": {**GOOD, "resources": {"devices_by_batch_size": {64: 2}, "custom": {"TPU": 4}}},
    "as many as each batch size is worth": {
        **GOOD,
        "resources": {"processes": 4, "cpus": 4, "devices_by_batch_size": "auto"},
    },
    "a part of the model for each": {**GOOD, "execution": {"sharded": True}, "resources": {"processes": 2}},
    "a GPU for each of them": {**GOOD, "resources": {"gpus": 2, "processes": 2}},
    "ghost batches": images(ghost_batch_size=8, changes={"execution": {"micro_batch": 16}}),
    "never divided": images(changes={"execution": {"micro_batch": 32}}),
    "rows of tokens": {**TEXT, "execution": {"micro_batch": 3}},
    **{f"a local batch of {local}": in_parts(local) for local in (24, 8, 50)},
    "the defaults": {**QUADRATIC, "execution": {"precision": "float32"}, "resources": {"gpus": 2}},
    "probes": PROBED,
    "probed images": images("simple_cnn", changes={"probes": PROBED["probes"]}),
    "distances with batch norm": images(changes={"probes": ["weight_distance"]}),
    "no probes": {**QUADRATIC, "probes": []},
    "mixed examples are only built": small(own("Pairs")),
    "on a GPU it is only built": {**small(own("OtherInputs")), "resources": {"gpus": 1}},
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_what_fits_is_accepted_and_again_when_frozen(data: dict[str, Any]) -> None:
    found = check_experiment(data, "x")
    assert found.optimizer == data.get("optimizer", "momentum").lower()
    assert found.unit == ("tokens" if "'tokens'" in str(data) else "examples")
    assert found.execution.micro_batch == data.get("execution", {}).get("micro_batch")
    assert list(found.probes.measure) == data.get("probes", [])
    assert check_experiment(found.to_dict(), "again") == found


ITSELF = "computes its updates itself"
REFUSED: list[tuple[dict[str, Any], str]] = [
    # what the workload contradicts
    ({**GOOD, "workload": {"name": "digits_mlp", "depth": 3}}, "cannot be made with the options"),
    ({**GOOD, "workload": {"name": "noisy_quadratic", "dimensions": -1}}, "dimensions"),
    ({**GOOD, "batch_sizes": [16, 5000]}, "training set of 1437 examples, but 5000 is larger"),
    ({**GOOD, "target": "val_loss > 0.15"}, "val_loss improves by minimizing.*write 'val_loss < 0.15'"),
    ({**GOOD, "target": "val_accuracy < 0.9"}, "improves by maximizing"),
    ({**GOOD, "unit": "tokens"}, "counts examples, not 'tokens'"),
    ({**GOOD, "workload": "broken_workload:Thing"}, "importing it failed with OSError: no disk"),
    ({**GOOD, "imported": {"format": "table", "source": "a.csv"}}, "imported run .* cannot be run; remove 'imported'"),
    # budgets that the training set makes no sense of
    ({**GOOD, "budget": {"epochs": 2, "examples": 100}}, "2 epochs of 1437 are 2874 and examples=100; keep"),
    (
        {**QUADRATIC, "budget": {"epochs": 2}},
        "'noisy_quadratic' has no training set to pass over; write 'examples' or 'steps'",
    ),
    ({**GOOD, "budget": {"epochs": -1}}, "'budget.epochs' must be greater than 0"),
    (
        {**GOOD, "budget": {"epochs": 9, "regime_adaptation": 2000}},
        "'budget.regime_adaptation' is a batch size, at most the training set of 1437 examples, but it is 2000",
    ),
    ({**GOOD, "budget": {"epochs": 0.5, "regime_adaptation": 1000}}, "of 1000 make no whole update of 718 examples"),
    (
        {**QUADRATIC, "budget": {"examples": 99, "regime_adaptation": 100}},
        "batches of 100 make no whole update of 99 examples; choose a smaller one",
    ),
    # optimizers and the names in the space
    (of("LBFGS"), "'lbfgs' cannot be used here: it evaluates the"),
    (of("adamax", alpha=0.9), "'space.alpha': neither optimizer 'adamax' nor .*beta1"),
    (of("adamw", decoupled_weight_decay=0.9), "optimizer 'adamw' has no decoupled_weight_decay"),
    (of("adamw", amsgrad="yes"), "'amsgrad' is true or false, .* but it is 'yes'"),
    (of("muon", adjust_lr_fn="best"), "refuses a value: .*best is not supported"),
    (of("rmsprop", alpha="linear from -1 to 0.5"), "'alpha' lies in .*low=-1.0; choose a value inside"),
    ({**NOISY, "space": {"lr": 0.1}}, "'noisy_quadratic' knows sgd, momentum, nesterov, but not adamw"),
    ({**NOISY, "optimizer": "sgd", "space": {"lr": 0.1, "weight_decay": 0.1}}, "'space.weight_decay': neither"),
    (
        {**NOISY, "optimizer": "sgd", "target": "risk_ema < 1", "space": {"lr": 0.1, "ema_decay": 0.9}},
        "(?s)no metric 'risk_ema'.*'space.ema_decay': neither",
    ),
    ({**ADAMW, "target": "val_loss_ema < 0.15"}, "no metric 'val_loss_ema'"),
    ({**of("adamw", ema_decay=0.9), "target": "val_loss_ema > 0.15"}, "improves by minimizing"),
    (
        {**ADAMW, "workload": own("OwnOptimizer"), "target": "loss < 1", "space": {"lr": 1}},
        "knows shampoo, but not adamw",
    ),
    ({**GOOD, "optimizer": "own"}, "own is for a training function of"),
    (in_parts(12), "'space.local_batch_size': a batch of tokens must be whole sequences, but 12 tokens"),
    # training functions
    (
        {**FUNCTION, "workload": own("one_argument")},
        r"called as train\(config, report\), but its signature is \(config",
    ),
    (
        {**FUNCTION, "workload": own("wrongly_declared")},
        "'metrics' of .* says for each metric 'minimize' or 'maximize'",
    ),
    ({**FUNCTION, "workload": own("ends_sometimes")}, "ends_at_budget .True or False., but they are .* and 'yes'"),
    ({**FUNCTION, "workload": own("asynchronous")}, "called once and trains until .* it is 'async'; make"),
    ({**FUNCTION, "workload": own("an_object")}, "but it is 'async'"),
    ({**FUNCTION, "workload": own("generator")}, "but it is a generator, .* use report.* in the place of 'yield'"),
    ({**FUNCTION, "workload": own("trains")}, "has no class or function 'trains'; did you mean 'train'"),
    ({**FUNCTION, "workload": own("declared"), "target": "loss > 1"}, "improves by minimizing"),
    ({**FUNCTION, "workload": own("declared"), "target": "acc > 1"}, "no metric 'acc'; its metrics are loss"),
    ({**FUNCTION, "workload": own("declared"), "batch_sizes": [641]}, "training set of 640 tokens"),
    ({**FUNCTION, "space": {"lr": 0.1, "budget_steps": 3}}, "'space': budget_steps is what a trial decides"),
    ({**FUNCTION, "workload": {"name": own("train"), "lr": 3}}, "lr stands among the options and in 'space'"),
    ({**FUNCTION, "workload": {"name": own("train"), "seed": 3}}, "options seed are what a trial"),
    ({**FUNCTION, "budget": {"epochs": 3}}, "does not say how large .* set its attribute, 'train.n_examples"),
    ({**FUNCTION, "target": "step < 3"}, "'step' is a column of our own"),
    ({**FUNCTION, "optimizer": "momentum"}, "optimizer 'momentum' needs momentum"),
    ({**FUNCTION, "execution": {"micro_batch": 4}}, ITSELF),
    ({**FUNCTION, "resources": {"silence_seconds": 0}}, "silence_seconds"),
    # execution
    ({**QUADRATIC, "execution": {"micro_batch": 4}}, f"'execution.micro_batch': .* {ITSELF}"),
    ({**QUADRATIC, "execution": {"compile": True}}, r"'execution.compile': workload 'noisy_quadratic' .* remove it"),
    ({**GOOD, "workload": own("OwnLoop"), "execution": {"micro_batch": 8}}, f"OwnLoop' {ITSELF}"),
    ({**GOOD, "resources": {"gpus": 1.5}}, "more than one GPU are whole ones, but gpus is 1.5; write 1"),
    ({**GOOD, "resources": {"gpus": 2, "processes": 3}}, "3 processes for gpus=2; write one number for both"),
    (
        {**FUNCTION, "resources": {"processes": 3, "nodes": 2}},
        "a batch of [0-9]+ rows cannot be shared evenly by 6 processes",
    ),
    ({**QUADRATIC, "resources": {"nodes": 2}}, "'resources.nodes': .* cannot share them; remove it"),
    ({**QUADRATIC, "resources": {"processes": 2}}, "computes its updates itself and cannot share them; remove it"),
    (
        {**FUNCTION, "resources": {"processes": 3}},
        "'batch_sizes': a batch of [0-9]+ rows cannot be shared evenly by 3 pro",
    ),
    (
        {**GOOD, "resources": {"devices_by_batch_size": {64: 5}}},
        "'batch_sizes': a batch of 64 rows cannot be shared evenly by 5 processes",
    ),
    (
        {**QUADRATIC, "resources": {"devices_by_batch_size": {1: 2}}},
        "computes its updates itself and cannot share them; remove it",
    ),
    (
        {**GOOD, "resources": {"processes": 7, "devices_by_batch_size": "auto"}},
        "'batch_sizes': a batch of [0-9]+ rows cannot be shared evenly by 7 processes",
    ),
    (
        {**QUADRATIC, "resources": {"processes": 2, "devices_by_batch_size": "auto"}},
        "^.*1 problem\n.*computes its updates itself and cannot share them; remove it",
    ),
    (
        {**GOOD, "batch_sizes": [16, 5000], "resources": {"gpus": 2, "devices_by_batch_size": "auto"}},
        "^.*1 problem\n.*training set of 1437 examples, but 5000 is larger",
    ),
    ({**GOOD, "resources": {"gpus": 3}}, "'batch_sizes': a batch of 16 rows cannot be shared evenly by 3"),
    (images(changes={"resources": {"processes": 2}}), "with 2 processes a batch of 8 rows cannot .* batch normalis"),
    (
        {**GOOD, "execution": {"sharded": True}},
        "'execution.sharded' divides a model among the processes of a trial, but at batch size 16 a trial has one",
    ),
    (
        {**GOOD, "execution": {"sharded": True}, "resources": {"gpus": 2, "devices_by_batch_size": {1: 1, 64: 2}}},
        "but at batch size 16 a trial has one; give every batch size at least 2 'gpus'",
    ),
    (
        {**PROBED, "execution": {"sharded": True}, "resources": {"processes": 2}},
        "'sharded' divides every weight, which probes need whole; remove 'probes'",
    ),
    (
        {**of("lamb"), "execution": {"sharded": True}, "resources": {"gpus": 2}},
        "'sharded' divides every weight, which lamb needs whole; choose one of adadelta, ",
    ),
    ({**FUNCTION, "execution": {"sharded": True}, "resources": {"processes": 2}}, f"'execution.sharded': .* {ITSELF}"),
    (FRAMES, "trains on one GPU or a share of one, but gpus is 2; write 1, and more trials run at once"),
    (images(changes={"execution": {"micro_batch": 16}}), "32 rows cannot be computed 16 at a time: its batch normalis"),
    (images(ghost_batch_size=8, changes={"execution": {"micro_batch": 12}}), "ghost batches of 8 must stay whole"),
    ({**GOOD, "execution": {"micro_batch": 0}}, "micro_batch"),
    ({**GOOD, "execution": {"precision": "float16"}}, "float32.*bfloat16"),
    ({**GOOD, "execution": {"microbatch": 8}}, "microbatch"),
    # models that every trial would fail on
    (images("vgg_11"), "vgg_11 needs images of at least 32 x 32 pixels"),
    (images({"name": "simple_cnn", "filters": [4] * 6}), "6 convolutions needs images of at least 64 x 64"),
    (small({"name": "autoencoder", "data": "images", "model": {"name": "vae", "filters": [2] * 6}}), "divisible by 64"),
    (
        {**TEXT, "workload": {**TEXT["workload"], "model": {"name": "gpt", "heads": 5}}},
        "'width' must be an even multiple of 'heads', but width=64 and heads=5",
    ),
    (small(own("OtherInputs")), "giving its model 2 examples .* failed for '.*OtherInputs' with RuntimeError: .*5"),
    (small(own("FloatClasses")), "giving its model 2 examples .* with RuntimeError: expected .*; mend the class"),
    (small(own("LossOfEach")), r"the loss must be one number, .* but has the shape \[2\]"),
    (
        small(own("Small"), layer="choice of none, missing"),
        "building its model failed for '.*Small' with KeyError: 'missing'",
    ),
    (
        small(own("Small"), layer="groups", width="integer from 4 to 7"),
        "'.*Small': num_channels .* divisible by num_groups",
    ),
    # probes
    (
        {**QUADRATIC, "probes": PROBED["probes"]},
        f"'probes': workload 'noisy_quadratic' {ITSELF}, where nothing can be probed; remove it",
    ),
    ({**FUNCTION, "probes": PROBED["probes"]}, f"'probes': workload '.*train' {ITSELF}"),
    (images(changes={"probes": PROBED["probes"]}), r"\(BatchNorm\) normalises with the statistics of the batch"),
    (images(ghost_batch_size=8, changes={"probes": PROBED["probes"]}), "normalises with the statistics of the batch"),
    (
        {**PROBED, "workload": own("Mixing")},
        "noise_scale cannot be measured on workload '.*Mixing': it says that its loss or model mixes",
    ),
    ({**PROBED, "workload": own("Opaque")}, "workload '.*Opaque': RuntimeError: "),
    ({**PROBED, "workload": own("Named")}, "the metric 'temperature' of '.*Named' is a probe's"),
    ({**PROBED, "confirm": {"seeds": 0}}, "only confirming runs are probed, but 'confirm.seeds' is 0"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_fit_is_refused_with_the_reason(data: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "broken_workload.py").write_text("raise OSError('no disk')")
    with pytest.raises(InputError) as caught:
        check_experiment(data, "x")
    assert re.search(message, str(caught.value)), caught.value
    assert len(caught.value.problems) == 1 + ("(?s)" in message), caught.value


def test_problems_of_the_schema_and_of_the_workload_come_together() -> None:
    bad = {**GOOD, "batch_sizes": [16, 5000], "target": "val_loss > 1", "spase": {}, "budget": {"steps": -1}}
    with pytest.raises(InputError) as caught:
        check_experiment(bad, "x")
    assert len(caught.value.problems) == 4, caught.value


def test_a_function_that_cannot_be_loaded_is_one_problem() -> None:
    with pytest.raises(InputError) as caught:
        check_experiment({**FUNCTION, "workload": "no_such_module:train"}, "x")
    assert len(caught.value.problems) == 1 and "no_such_module" in str(caught.value)


def test_the_plan_bounds_what_a_run_may_cost() -> None:
    first, last = plan(check_experiment({**GOOD, "search": {"trials": 10}, "confirm": {"points": 1, "seeds": 2}}, "x"))
    assert (first.batch_size, first.max_steps, last.max_steps) == (16, 500, 200)
    assert first.steps == 10 * 500 + 2 * 4 * 500
    assert first.most_steps == 4 * (10 + 2 * 5) * 500 + 2 * 4 * 500
    assert first.examples == 16 * first.steps


def test_epochs_are_examples_in_the_frozen_experiment_which_can_be_run_again() -> None:
    experiment = check_experiment({**GOOD, "budget": {"epochs": 2, "regime_adaptation": 32}}, "x")
    assert experiment.budget.examples == 2 * 1437
    assert [study.max_steps for study in plan(experiment)] == [2 * 1437 // 32] * 2
    frozen = read_yaml(dump_experiment(experiment), "frozen")
    assert frozen["budget"] == {"steps": 0, "examples": 2874, "epochs": 2.0, "regime_adaptation": 32}
    assert check_experiment(frozen, "frozen") == experiment == parse_experiment(frozen, "frozen")


@pytest.mark.parametrize(
    ("changes", "optimizer"),
    [
        ({}, "own"),
        ({"optimizer": "adamw"}, "adamw"),
        ({"space": {}}, "own"),
        ({"space": {"width": "integer from 8 to 64"}}, "own"),
        ({"space": {"lr": 0.1, "momentum": "reverse_log from 0 to 0.9", "weight_decay": 0.1, "my_own": 3}}, "own"),
        ({"space": {"lr": 0.1, "optimizer": "choice of sgd, adam"}}, "own"),
        ({"space": {"lr": 0.1, "schedule": "choice of constant, cosine", "ema_decay": 0.9}}, "own"),
    ],
    ids=str,
)
def test_any_name_in_the_space_is_the_function_s(changes: dict[str, Any], optimizer: str) -> None:
    found = check_experiment({**FUNCTION, **changes}, "x")
    assert (found.optimizer, found.unit) == (optimizer, "examples")
    assert check_experiment(found.to_dict(), "again") == found


def test_what_a_function_says_of_itself_is_used() -> None:
    found = check_experiment({**FUNCTION, "workload": own("declared"), "budget": {"epochs": 2}}, "x")
    assert (found.unit, found.budget.examples) == ("tokens", 1280)
    # Its schedule ends at the budget, and so do its re-runs, whatever the point's steps are.
    assert found.confirm.horizon == 1 < check_experiment(FUNCTION, "x").confirm.horizon
    notes: list[str] = []
    asked = {**FUNCTION, "workload": own("declared"), "budget": {"epochs": 2}, "confirm": {"horizon": 3}}
    assert check_experiment(asked, "x", notes.append).confirm.horizon == 1
    assert any(note.startswith("'confirm.horizon' is 3, but re-runs train no longer than the budget") for note in notes)


def test_a_model_is_built_once_where_nothing_of_its_own_is_searched() -> None:
    BUILT.clear()
    check_experiment(small(own("Small"), lr="log from 0.1 to 1", schedule="choice of constant, linear"), "x")
    assert BUILT == [(None, 4)]


def test_statistics_of_the_whole_batch_are_noted_once_with_the_remedy() -> None:
    def notes(data: dict[str, Any]) -> list[str]:
        said: list[str] = []
        check_experiment(data, "x", said.append)
        return said

    (said,) = notes({**images(), "batch_sizes": [8, 12]})
    assert "the statistics of the whole batch" in said and "set the workload's 'ghost_batch_size', 4 for" in said
    (said,) = notes(small(own("Small"), layer="batch"))
    assert said.startswith("layer '1' (BatchNorm1d)") and said.endswith("layers.GhostBatchNorm keeps it the same")
    # Here the batch size does not change the model.
    for fine in (images(ghost_batch_size=4), images("fc_8"), images(changes={"batch_sizes": [8]})):
        assert notes(fine) == []


def test_a_class_of_the_user_s_own_can_offer_what_a_supervised_workload_does() -> None:
    asked = {"execution": {"micro_batch": 8}, "probes": ["noise_scale"], "target": "val_loss_ema < 0.15"}
    data = {**GOOD, **asked, "space": {**GOOD["space"], "ema_decay": 0.9}}
    assert check_experiment({**data, "workload": own("Own")}, "x").probes.measure == ("noise_scale",)
    with pytest.raises(InputError) as caught:
        check_experiment({**data, "workload": own("Silent")}, "x")
    for problem in ("no metric 'val_loss_ema'", "'space.ema_decay': neither", "'execution.micro_batch': workload"):
        assert problem in str(caught.value)


def experiment(studies: int, **search: Any) -> Experiment:
    return scripted(batch_sizes=[2**i for i in range(studies)], search=search)


@pytest.mark.parametrize(
    ("workers", "studies", "trials", "at_once"),
    [(1, 8, 40, 2), (2, 8, 40, 2), (2, 1, 40, 4), (16, 8, 40, 4), (64, 8, 40, 16), (64, 8, 20, 10), (64, 1, 3, 2)],
    ids=str,
)
def test_it_follows_from_workers_batch_sizes_and_trials(workers: int, studies: int, trials: int, at_once: int) -> None:
    search = resolved(experiment(studies, trials=trials), workers).search
    assert search.parallel_per_study == search.at_once == at_once


def test_a_number_that_was_given_stays() -> None:
    given = experiment(8, parallel_per_study=3)
    assert resolved(given, 64) is given
    frozen = resolved(experiment(8), 64)
    assert resolved(parse_experiment(frozen.to_dict(), "again"), 2) == frozen  # a run that is resumed elsewhere
