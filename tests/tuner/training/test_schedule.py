import math
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.presets import SCHEDULES, WARMUP
from bcrit.tuner.training.schedule import DECAYS, learning_rate

# Every schedule's own parameters, at values that tell them apart.
OWN: dict[str, dict[str, Value]] = {
    "constant": {},
    "linear": {"end_factor": 0.2, "decay_steps": 100},
    "cosine": {"end_factor": 0.2, "decay_steps": 100},
    "step": {"drop_factor": 0.1, "drops": 3, "first_drop": 0.5, "decay_steps": 100},
    "wsd": {"stable_share": 0.8, "end_factor": 0.2, "decay_steps": 100},
}


def test_every_schedule_of_the_presets_has_a_formula_and_no_other() -> None:
    assert {"constant", *DECAYS} == set(SCHEDULES) == set(OWN)


@pytest.mark.parametrize("schedule", OWN)
def test_the_presets_name_the_parameters_that_a_formula_reads(schedule: str) -> None:
    shares = {"decay_steps": "decay_fraction"}
    assert {shares.get(name, name) for name in OWN[schedule]} == set(SCHEDULES[schedule]) - set(WARMUP)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        pytest.param("linear", 0, 0.5, id="linear starts at lr"),
        pytest.param("linear", 25, 0.5 - 0.8 * 0.5 * 0.25, id="linear, a quarter of the way"),
        pytest.param("linear", 100, 0.1, id="linear ends at end_factor lr"),
        pytest.param("linear", 1000, 0.1, id="linear stays there"),
        pytest.param("cosine", 0, 0.5, id="cosine starts at lr"),
        pytest.param("cosine", 50, 0.3, id="cosine is half-way at half the time"),
        pytest.param("cosine", 25, 0.5 * (0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2), id="cosine, a quarter"),
        pytest.param("cosine", 100, 0.1, id="cosine ends at end_factor lr"),
        pytest.param("cosine", 1000, 0.1, id="cosine stays there"),
        pytest.param("step", 49, 0.5, id="step before the first drop"),
        pytest.param("step", 50, 0.05, id="step at the first drop"),
        pytest.param("step", 74, 0.05, id="step before the second drop"),
        pytest.param("step", 75, 0.005, id="step at the second drop"),
        pytest.param("step", 100, 0.0005, id="step at the last drop"),
        pytest.param("step", 1000, 0.0005, id="step stays there"),
        pytest.param("wsd", 80, 0.5, id="wsd is stable"),
        pytest.param("wsd", 90, 0.3, id="wsd is half-way in the middle of its decay"),
        pytest.param("wsd", 100, 0.1, id="wsd ends at end_factor lr"),
        pytest.param("wsd", 1000, 0.1, id="wsd stays there"),
        pytest.param("constant", 1000, 0.5, id="constant"),
    ],
)
def test_the_rate_is_the_published_formula(schedule: str, step: int, expected: float) -> None:
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": schedule, **OWN[schedule]}
    assert learning_rate(hyperparameters, step) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("schedule", OWN)
def test_a_warm_up_rises_in_equal_parts_and_the_schedule_begins_after_it(schedule: str) -> None:
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": schedule, **OWN[schedule]}
    warm = {**hyperparameters, "warmup_steps": 4}
    rates = [learning_rate(warm, step) for step in range(200)]
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5], rel=1e-14)
    assert rates[4:] == [learning_rate(hyperparameters, step) for step in range(196)]
    assert learning_rate({**warm, "warmup_steps": 0}, 7) == learning_rate(hyperparameters, 7)


def torch_rates(
    make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler], steps: int
) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SequentialLR calls its own deprecated interface
            scheduler.step()
    return rates


L = torch.optim.lr_scheduler
TWINS: dict[str, Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]] = {
    "constant": lambda o: L.ConstantLR(o, factor=1.0, total_iters=1),
    "linear": lambda o: L.LinearLR(o, 1.0, 0.2, total_iters=100),
    "step": lambda o: L.MultiStepLR(o, [50, 75, 100], gamma=0.1),
    "wsd": lambda o: L.SequentialLR(o, [L.ConstantLR(o, 1.0, 1), L.LinearLR(o, 1.0, 0.2, 20)], [80]),
}


@pytest.mark.parametrize("schedule", TWINS)
def test_the_rates_are_those_of_pytorch_s_schedulers(schedule: str) -> None:
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": schedule, **OWN[schedule]}
    ours = [learning_rate(hyperparameters, step) for step in range(130)]
    assert ours == pytest.approx(torch_rates(TWINS[schedule], 130), rel=1e-9)


def test_cosine_is_pytorch_s_down_to_its_end() -> None:
    # Beyond T_max PyTorch's cosine rises again; ours stays.
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": "cosine", **OWN["cosine"]}
    ours = [learning_rate(hyperparameters, step) for step in range(101)]
    assert ours == pytest.approx(torch_rates(lambda o: L.CosineAnnealingLR(o, 100, eta_min=0.1), 101), rel=1e-9)


def test_a_warm_up_is_pytorch_s_linear_one() -> None:
    hyperparameters: dict[str, Value] = {"lr": 0.5, "schedule": "cosine", **OWN["cosine"], "warmup_steps": 9}
    ours = [learning_rate(hyperparameters, step) for step in range(109)]
    twin = torch_rates(
        lambda o: L.SequentialLR(
            o, [L.LinearLR(o, 1 / 10, 1.0, total_iters=9), L.CosineAnnealingLR(o, 100, eta_min=0.1)], [9]
        ),
        109,
    )
    assert ours == pytest.approx(twin, rel=1e-9)


def test_without_a_schedule_the_rate_is_constant() -> None:
    assert [learning_rate({"lr": 0.3}, step) for step in (0, 1, 10**9)] == [0.3] * 3


def test_wsd_that_is_never_stable_is_linear() -> None:
    rates = [
        [
            learning_rate(
                {"lr": 0.3, "schedule": name, "stable_share": 0.0, "end_factor": 0.1, "decay_steps": 37}, step
            )
            for step in range(50)
        ]
        for name in ("wsd", "linear")
    ]
    assert rates[0] == rates[1]


@given(drops=st.integers(1, 6), first=st.floats(0, 1), decay_steps=st.integers(1, 1000), step=st.integers(0, 1500))
def test_drops_are_counted_one_by_one(drops: int, first: float, decay_steps: int, step: int) -> None:
    hyperparameters: dict[str, Value] = {"lr": 1.0, "schedule": "step", "drop_factor": 0.5, "decay_steps": decay_steps}
    rate = learning_rate({**hyperparameters, "drops": drops, "first_drop": first}, step)
    places = [decay_steps] if drops == 1 else torch.linspace(first, 1, drops, dtype=torch.float64) * decay_steps
    made = sum(1 for place in places if step >= float(place) + 0.51)
    made_at_most = sum(1 for place in places if step >= float(place) - 0.51)
    assert 0.5**made_at_most <= rate <= 0.5**made
    assert math.log2(rate) == round(math.log2(rate))


@given(
    schedule=st.sampled_from(sorted(DECAYS)),
    lr=st.floats(1e-6, 1e3),
    end_factor=st.floats(0, 1),
    decay_steps=st.integers(1, 10_000),
    share=st.floats(0, 0.99),
    step=st.integers(0, 20_000),
)
def test_the_rate_never_rises_nor_leaves_its_ends(
    schedule: str, lr: float, end_factor: float, decay_steps: int, share: float, step: int
) -> None:
    hyperparameters: dict[str, Value] = {"lr": lr, "schedule": schedule, "end_factor": end_factor}
    hyperparameters |= {"decay_steps": decay_steps, "stable_share": share}
    hyperparameters |= {"drops": 1, "first_drop": share, "drop_factor": end_factor}
    now, later = learning_rate(hyperparameters, step), learning_rate(hyperparameters, step + 1)
    slack = 1e-15 * lr
    assert end_factor * lr - slack <= later <= now + slack
    assert now <= lr
    assert learning_rate(hyperparameters, decay_steps) == pytest.approx(end_factor * lr, abs=slack)


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no schedule 'stairs'; choose one of constant, linear, cosine, step, wsd"):
        learning_rate({"lr": 0.1, "schedule": "stairs"}, 0)
