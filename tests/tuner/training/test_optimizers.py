"""Every optimizer against its definition, one number at a time."""

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.presets import EXTRAPOLATED, OPTIMIZERS
from bcrit.tuner.training.optimizers import (
    ELEMENTWISE,
    Lamb,
    Lars,
    arguments,
    bare_step,
    build_optimizer,
    class_of,
    groups,
    keywords_of,
    parameters_of,
)
from bcrit.tuner.training.settings import Settings

CURVATURE = torch.tensor([1.0, 0.3], dtype=torch.float64)
START = (2.0, -1.0)
BARE = [name for name in OPTIMIZERS if name not in EXTRAPOLATED]
# All of torch.optim that is not in the presets and can train by steps.
OTHERS = ["adadelta", "adafactor", "adamax", "asgd", "radam", "rprop"]


def trained(
    optimizer: str,
    steps: int = 7,
    start: tuple[float, ...] = START,
    curvature: Tensor = CURVATURE,
    **hyperparameters: Any,
) -> list[float]:
    """The end of a run on 1/2 sum_i h_i x_i^2."""
    x = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    built = build_optimizer([x], Settings(1, 0, optimizer, {"lr": 0.1, **hyperparameters}))
    for _ in range(steps):
        built.zero_grad()
        (0.5 * curvature * x**2).sum().backward()  # type: ignore[no-untyped-call]
        built.step()
    return [float(value) for value in x.detach()]


Move = Callable[[float, float, dict[str, float], int], float]
"""The new x from (x, gradient, memory, number of the update from 1), with lr 0.1."""


def by_hand(move: Move, steps: int = 7) -> list[float]:
    """The naive twin."""
    ends = []
    for h, x in zip(CURVATURE.tolist(), START, strict=True):
        memory: dict[str, float] = {"m": 0.0, "v": 0.0}
        for t in range(1, steps + 1):
            x = move(x, h * x, memory, t)
        ends.append(x)
    return ends


def heavy_ball(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["v"] = 0.9 * memory["v"] + g
    return x - 0.1 * memory["v"]


def nesterov(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["v"] = 0.9 * memory["v"] + g
    return x - 0.1 * (g + 0.9 * memory["v"])


def adam(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["m"] = 0.8 * memory["m"] + 0.2 * g
    memory["v"] = 0.95 * memory["v"] + 0.05 * g * g
    return x - 0.1 * memory["m"] / (1 - 0.8**t) / (math.sqrt(memory["v"] / (1 - 0.95**t)) + 1e-3)


def rmsprop(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["v"] = 0.8 * memory["v"] + 0.2 * g * g
    return x - 0.1 * g / (math.sqrt(memory["v"]) + 1e-3)


def adagrad(x: float, g: float, memory: dict[str, float], t: int) -> float:
    memory["v"] += g * g
    return x - 0.1 * g / (math.sqrt(memory["v"]) + 1e-3)


BETAS: dict[str, Any] = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
CASES: dict[str, tuple[str, dict[str, Any], Move]] = {
    "sgd": ("sgd", {}, lambda x, g, memory, t: x - 0.1 * g),
    "momentum": ("momentum", {"momentum": 0.9}, heavy_ball),
    "momentum 0": ("momentum", {"momentum": 0.0}, lambda x, g, memory, t: x - 0.1 * g),
    "nesterov": ("nesterov", {"momentum": 0.9}, nesterov),
    "nesterov 0": ("nesterov", {"momentum": 0.0}, lambda x, g, memory, t: x - 0.1 * g),
    "adam": ("adam", BETAS, adam),
    "rmsprop": ("rmsprop", {"alpha": 0.8, "eps": 1e-3}, rmsprop),
    "adagrad": ("adagrad", {"eps": 1e-3}, adagrad),
}


def coupled(move: Move) -> Move:
    return lambda x, g, memory, t: move(x, g + 0.5 * x, memory, t)


def decoupled(move: Move) -> Move:
    def shrunk(x: float, g: float, memory: dict[str, float], t: int) -> float:
        step = move(x, g, memory, t) - x
        return (1 - 0.1 * 0.5) * x + step

    return shrunk


DECAYS: dict[str, tuple[dict[str, Any], Callable[[Move], Move]]] = {
    "none": ({"width": 3}, lambda move: move),  # and a hyperparameter of others is passed over
    "in the gradient": ({"weight_decay": 0.5}, coupled),
    "of the weights": ({"decoupled_weight_decay": 0.5}, decoupled),
}


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("case", CASES)
def test_updates_are_those_of_the_definition_with_either_decay(case: str, decay: str) -> None:
    (optimizer, hyperparameters, move), (more, decayed) = CASES[case], DECAYS[decay]
    assert trained(optimizer, **hyperparameters, **more) == pytest.approx(by_hand(decayed(move)), rel=1e-12)


def test_the_weight_decay_of_adamw_is_decoupled() -> None:
    ends = trained("adamw", **BETAS, weight_decay=0.5)
    assert ends == pytest.approx(by_hand(decoupled(adam)), rel=1e-12)


@pytest.mark.parametrize("name", [*BARE, *OTHERS])
def test_the_decay_of_every_optimizer_is_what_we_say(name: str) -> None:
    needed: dict[str, Any] = {"momentum": 0.9} if "momentum" in OPTIMIZERS.get(name, OPTIMIZERS["sgd"]).needed else {}
    assert trained(name, 3, (0.0, 0.0), **needed) == [0.0, 0.0], "without weight decay nothing decays"
    assert trained(name, 3, **needed, weight_decay=0.0) == trained(name, 3, **needed)
    if name in ("adamw", "adafactor", "muon"):
        # One update: x shrinks by lr weight_decay x and nothing else changes.
        kept = trained(name, 1, **needed)
        ends = trained(name, 1, **needed, weight_decay=0.5)
        assert [e - k for e, k in zip(ends, kept, strict=True)] == pytest.approx([-0.05 * x for x in START], rel=1e-6)
    elif name in ("lars", "lamb", "rprop"):
        assert trained(name, 1, **needed) == trained(name, 1, **needed, weight_decay=0.5), "biases do not decay"
    else:
        # A quadratic with curvature h + decay is the coupled decay itself.
        ends = trained(name, **needed, weight_decay=0.5)
        assert ends == pytest.approx(trained(name, curvature=CURVATURE + 0.5, **needed), rel=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "hyperparameters", "entry"),
    [
        ("adam", {"amsgrad": True}, ("amsgrad", True)),
        ("rmsprop", {"centered": True}, ("centered", True)),
        ("radam", {"beta2": 0.9}, ("betas", (0.9, 0.9))),
        ("rprop", {"eta2": 1.5}, ("etas", (0.5, 1.5))),
        ("adafactor", {"eps2": 0.01}, ("eps", (None, 0.01))),
        ("adam", {"warmup_steps": 2}, ("lr", 0.1 / 3)),  # the schedule's first
        ("adamw", {}, ("weight_decay", 0.0)),
        ("adamw", {}, ("fused", True)),
    ],
    ids=str,
)
def test_hyperparameters_reach_the_class_under_its_own_names(
    optimizer: str, hyperparameters: dict[str, Any], entry: tuple[str, object]
) -> None:
    built = build_optimizer([nn.Parameter(torch.zeros(2))], Settings(1, 0, optimizer, {"lr": 0.1, **hyperparameters}))
    assert built.param_groups[0][entry[0]] == entry[1]


OURS = {"decoupled_weight_decay", "extrapolation", "extrapolation_lr", "local_batch_size"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_presets_have_the_parameters_of_the_class(name: str) -> None:
    named, keywords = set(OPTIMIZERS[name].names), set(keywords_of(class_of(name)))
    assert named - OURS <= keywords
    if name not in {"sgd", "momentum", "nesterov", *EXTRAPOLATED}:  # one class, of which each takes a part
        assert keywords <= named


def test_parameters_of_a_class_beyond_the_presets_are_read_from_its_signature() -> None:
    assert parameters_of("adamax").names == ("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled_weight_decay")
    assert "decoupled_weight_decay" not in parameters_of("adafactor").names
    assert all(parameters_of(name).needed == ("lr",) for name in OTHERS)
    assert parameters_of("rprop").optional[:4] == ("eta1", "eta2", "step_size1", "step_size2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lbfgs", "evaluates the loss many times an update"),
        ("sparseadam", "sparse gradients only; choose adam"),
        ("adamm", "no optimizer 'adamm'; did you mean 'adam.*choose one of .*radam"),
        ("lr_scheduler", "no optimizer 'lr_scheduler'"),
    ],
)
def test_what_cannot_train_by_steps_is_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_of(name)


@pytest.mark.parametrize("value", ["true", 1, 0.0])
def test_a_flag_that_is_no_flag_is_refused(value: str | float) -> None:
    with pytest.raises(ValueError, match=f"'amsgrad' is true or false, .* but it is {value!r}"):
        arguments(torch.optim.Adam, {"amsgrad": value})


NEEDS: dict[str, dict[str, Value]] = {
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9},
    "lars": {"momentum": 0.9},
    "muon": {"momentum": 0.9},
}


def optimizer_and_model(name: str, **more: Value) -> tuple[torch.optim.Optimizer, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    settings = Settings(4, 0, name, {"lr": 0.01, **NEEDS.get(name, {}), **more})
    return build_optimizer(model, settings), model


def weights_after(updates: int, name: str, bare: bool, **more: Value) -> list[Tensor]:
    optimizer, model = optimizer_and_model(name, **more)
    step = bare_step(optimizer) if bare else optimizer.step
    inputs = torch.randn(updates, 4, 6, generator=torch.Generator().manual_seed(1))
    for batch in inputs:
        for parameter in model.parameters():
            parameter.grad = None
        model(batch).square().mean().backward()
        step()
    assert all(p.grad_fn is None and p.requires_grad for p in model.parameters())
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize(
    "name",
    ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam"]
    + ["asgd", "rprop", "adafactor", "muon", "lars", "lamb", "adam with decoupled decay"],
)
def test_the_weights_are_those_of_the_whole_step(name: str) -> None:
    more: dict[str, Value] = {"decoupled_weight_decay": 0.5} if " " in name else {}
    bare, whole = (weights_after(5, name.split()[0], bare, **more) for bare in (True, False))
    assert all(map(torch.equal, bare, whole)) and torch.is_grad_enabled()
    assert not more or not torch.equal(bare[0], weights_after(5, "adam", True)[0])


@pytest.mark.parametrize("name", sorted({*ELEMENTWISE, "muon", "lars", "lamb", "adafactor"}))
def test_parts_of_weights_are_updated_as_the_whole_by_those_that_we_say_do(name: str) -> None:
    whole = nn.Parameter(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)))
    halves = [nn.Parameter(half.detach().clone()) for half in whole.chunk(2)]
    for weights in (halves, [whole]):
        settings = Settings(4, 0, name, {"lr": 0.01, **NEEDS.get(name, {})})
        optimizers = [build_optimizer([weight], settings) for weight in weights]
        for gradient in torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(1)):
            for weight, part, optimizer in zip(weights, gradient.chunk(len(weights)), optimizers, strict=True):
                weight.grad = part.clone()
                optimizer.step()
    assert torch.equal(torch.cat([*halves]), whole) == (name in ELEMENTWISE)


def test_an_optimizer_of_somebody_else_keeps_its_own_step() -> None:
    class Counting(torch.optim.SGD):
        steps = 0

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            self.steps += 1

    optimizer = Counting([nn.Parameter(torch.zeros(1))], lr=0.1)
    bare_step(optimizer)()
    assert optimizer.steps == 1


Vector = list[float]


def norm(values: Vector) -> float:
    return math.sqrt(sum(v * v for v in values))


def ratio(above: float, below: float) -> float:
    return above / below if above > 0 and below > 0 else 1.0


def lars_by_hand(x: Vector, gradients: list[Vector], adapted: bool) -> Vector:
    """You et al. 2017, algorithm 1, one number at a time: lr 0.5, momentum 0.9, eta 0.02, decay 0.3."""
    v = [0.0] * len(x)
    for g in gradients:
        decay = 0.3 if adapted else 0.0
        trust = ratio(0.02 * norm(x), norm(g) + decay * norm(x)) if adapted else 1.0
        v = [0.9 * a + 0.5 * trust * (b + decay * c) for a, b, c in zip(v, g, x, strict=True)]
        x = [a - b for a, b in zip(x, v, strict=True)]
    return x


def lamb_by_hand(x: Vector, gradients: list[Vector], adapted: bool) -> Vector:
    """You et al. 2019, algorithm 2, one number at a time: lr 0.5, betas 0.8 and 0.95, eps 1e-3, decay 0.3."""
    m, v = [0.0] * len(x), [0.0] * len(x)
    for t, g in enumerate(gradients, start=1):
        m = [0.8 * a + 0.2 * b for a, b in zip(m, g, strict=True)]
        v = [0.95 * a + 0.05 * b * b for a, b in zip(v, g, strict=True)]
        r = [
            a / (1 - 0.8**t) / (math.sqrt(b / (1 - 0.95**t)) + 1e-3) + (0.3 if adapted else 0.0) * c
            for a, b, c in zip(m, v, x, strict=True)
        ]
        trust = ratio(norm(x), norm(r)) if adapted else 1.0
        x = [a - 0.5 * trust * b for a, b in zip(x, r, strict=True)]
    return x


def optimizers(parameters: list[nn.Parameter]) -> dict[str, torch.optim.Optimizer]:
    return {
        "lars": Lars(parameters, lr=0.5, momentum=0.9, trust_coefficient=0.02, weight_decay=0.3),
        "lamb": Lamb(parameters, lr=0.5, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
    }


@pytest.mark.parametrize("name", ["lars", "lamb"])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_matrices_follow_the_paper_and_vectors_take_no_part(name: str, start: str) -> None:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    starts = [draw(3, 4), draw(2, 3, 2), draw(5)]
    unused = nn.Parameter(torch.ones(2, 2))
    if start == "zero":
        starts = [torch.zeros_like(s) for s in starts]
    parameters = [nn.Parameter(s.clone()) for s in starts]
    gradients = [[draw(*s.shape) for _ in range(6)] for s in starts]
    optimizer = optimizers([*parameters, unused])[name]
    for t in range(6):
        for parameter, series in zip(parameters, gradients, strict=True):
            parameter.grad = series[t].clone()
        optimizer.step()
    twin = {"lars": lars_by_hand, "lamb": lamb_by_hand}[name]
    for parameter, begun, series in zip(parameters, starts, gradients, strict=True):
        expected = twin(begun.flatten().tolist(), [g.flatten().tolist() for g in series], begun.ndim > 1)
        assert parameter.detach().flatten().tolist() == pytest.approx(expected, rel=1e-10)
    assert torch.equal(unused, torch.ones(2, 2)), "it had no gradient"
    still = nn.Parameter(torch.zeros(2, 2))
    still.grad = torch.zeros(2, 2)
    optimizers([still])[name].step()
    assert not still.any(), "a gradient of 0 is no NaN"


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_hidden_matrices_are_muon_s_and_all_else_is_adamw_s(tied: bool) -> None:
    layers = {"embedding": nn.Embedding(7, 4), "convolution": nn.Conv1d(4, 4, 3), "hidden": nn.Linear(4, 4)}
    model: Any = nn.ModuleDict({**layers, "norm": nn.LayerNorm(4), "head": nn.Linear(4, 7, bias=False)})
    if tied:
        model["head"].weight = model["embedding"].weight
    hidden, rest = (group["params"] for group in groups(model))
    assert [id(p) for p in hidden] == [id(model["hidden"].weight)]
    assert {id(p) for p in rest} == {id(p) for p in model.parameters()} - {id(model["hidden"].weight)}
    bare, vectors = (group["params"] for group in groups(nn.Linear(3, 2).parameters()))
    assert [p.ndim for p in bare] == [2] and [p.ndim for p in vectors] == [1], "of bare parameters all matrices"
    built = build_optimizer(nn.Linear(3, 2), Settings(1, 0, "muon", {"lr": 0.1}))
    assert [len(group["params"]) for group in built.param_groups] == [2], "without hidden matrices all is AdamW's"


def test_both_parts_are_pytorch_s_own_at_the_learning_rate_that_is_set() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    twin: Any = copy.deepcopy(model)
    hyperparameters: dict[str, Value] = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.3, "beta1": 0.7, "eps": 1e-4}
    built = build_optimizer(model, Settings(1, 0, "muon", hyperparameters))
    matrix = twin[0].weight
    others = [p for p in twin.parameters() if p is not matrix]
    apart = [
        torch.optim.Muon([matrix], momentum=0.8, weight_decay=0.3, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.7, 0.999), eps=1e-4, weight_decay=0.3, fused=True),
    ]
    inputs = torch.randn(8, 5)
    for t in range(5):
        for network, optimizers in ((model, [built]), (twin, apart)):
            network.zero_grad()
            network(inputs).square().mean().backward()
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = 0.1 / (t + 1)
                optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_no_optimizer_loads_the_compiler() -> None:
    """In a process of its own: it takes longer than all else that a worker loads."""
    script = (
        "import sys, torch\n"
        "from bcrit.search_spaces.presets import OPTIMIZERS\n"
        "from bcrit.tuner.training.optimizers import bare_step, build_optimizer\n"
        "from bcrit.tuner.training.settings import Settings\n"
        "for name, has in OPTIMIZERS.items():\n"
        "    model = torch.nn.Linear(2, 2)\n"
        "    values = {key: 0.01 for key in has.needed} | {'local_batch_size': 8}\n"
        "    optimizer = build_optimizer(model, Settings(8, 0, name, values))\n"
        "    model(torch.ones(1, 2)).sum().backward()\n"
        "    bare_step(optimizer)()\n"
        "    optimizer.load_state_dict(optimizer.state_dict())\n"
        "    optimizer.zero_grad()\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
