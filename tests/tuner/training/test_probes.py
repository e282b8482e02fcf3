"""Probes measure on the side: training does not notice, and what they say is what the libraries say."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from bcrit.search_spaces.options import Probes
from bcrit.search_spaces.tables import NOISE_SCALE, WEIGHT_DISTANCE
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.training import probes
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.noise_scale.per_example import example_loss, measure_b_noise, parameters_of
from bcrit.tuner.training.probes import RunProbes, WeightDistance, effective_lr, is_due
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import SupervisedRun
from bcrit.tuner.training.trial import Ending, Limits, Measurement, Trial, as_row
from bcrit.tuner.workloads.supervised import SupervisedWorkload
from tests.tuner.training.landscape.quadratic import assert_untouched, network

BOTH = Probes(measure=("noise_scale", "weight_distance"), examples=40, per_decade=1)
SETTINGS = Settings(16, 3, "momentum", {"lr": 0.05, "momentum": 0.5})


class Noisy(SupervisedWorkload):
    """A small classifier with dropout, which draws from the stream that a probe must leave alone."""

    def model(self, settings: Settings) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))

    def train_data(self) -> Examples:
        inputs = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
        return inputs, inputs[:, :3].argmax(dim=1)

    def validation_data(self) -> Examples:
        return self.train_data()


class Pairs(Noisy):
    """The same data, of which a batch counts two items a row."""

    unit = "tokens"

    def rows(self, batch_size: int) -> int:
        return batch_size // 2


def with_probes(settings: Settings = SETTINGS, chosen: Probes = BOTH) -> Settings:
    return Settings(**{**vars(settings), "probes": chosen})


def trained(settings: Settings, threshold: float = 0.01, max_steps: int = 60) -> tuple[Ending, list[Measurement]]:
    target = Target(metric="val_loss", threshold=threshold, direction=Direction.MINIMIZE)
    trial = Trial(lambda: Noisy().begin(settings), target, Limits(max_steps, False, (), 0.02))
    made: list[Measurement] = []
    while trial.ending is None:
        made += trial.advance(0)
    return trial.ending, made


def test_training_is_the_same_bit_for_bit_with_probes_and_without() -> None:
    (_, plain), (_, probed) = trained(SETTINGS), trained(with_probes())
    assert [m.metrics for m in plain] == [m.metrics for m in probed]
    assert [m.step for m in probed if "g_sq" in m.probes] == [0, 1, 10, 60]
    assert all(m.probes == {} for m in plain)


def test_the_same_seed_measures_the_same_and_the_run_is_untouched_to_the_bit() -> None:
    first, second = (Noisy().begin(with_probes()) for _ in range(2))
    other = Noisy().begin(with_probes(Settings(16, 4, "momentum", SETTINGS.hyperparameters)))
    for run in (first, second, other):
        run.train(1)
    assert_untouched(first.model, lambda: first.probe(last=True))
    assert first.probe(last=True) == second.probe(last=True) != other.probe(last=True)


def test_a_noise_scale_is_that_of_the_training_set_and_the_library() -> None:
    workload = Noisy()
    run = workload.begin(with_probes(chosen=Probes(measure=("noise_scale",), examples=500)))  # more than there are
    found = run.probe(last=False)
    loss, at = example_loss(run.model.eval(), workload.loss), parameters_of(run.model)
    exact = measure_b_noise(loss, at, workload.train_data(), n_examples=120)
    run.model.train()
    assert found["g_sq"] == pytest.approx(exact.simple.denominator, rel=1.0)  # dropout is noise of training's own
    assert found["tr_sigma"] is not None and found["tr_sigma"] > exact.simple.numerator


def test_the_columns_are_those_of_the_table() -> None:
    found = Noisy().begin(with_probes()).probe(last=True)
    assert set(found) == {column.name for column in (*NOISE_SCALE, *WEIGHT_DISTANCE)}
    assert found["weight_distance"] == 0.0
    row = as_row(trained(with_probes(), max_steps=1)[1][0], "t", 16)
    assert row["step"] == 0 and set(row) > {column.name for column in NOISE_SCALE}


def test_noise_scales_count_what_a_batch_counts() -> None:
    settings = Settings(32, 3, "momentum", SETTINGS.hyperparameters)
    rows, items = Noisy().begin(with_probes()).probe(last=True), Pairs().begin(with_probes(settings)).probe(last=True)
    for name in ("b_simple_low", "tr_sigma", "tr_h_sigma"):
        assert items[name] == pytest.approx(2 * (rows[name] or math.nan))
    assert (items["g_sq"], items["temperature"]) == (rows["g_sq"], rows["temperature"])


def test_distances_are_measured_at_every_evaluation_and_noise_at_few_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RunProbes, "_noise_scale", lambda self, step: {"g_sq": float(step)})
    _, made = trained(with_probes(chosen=BOTH.model_copy(update={"per_decade": 4})), max_steps=57)
    assert all(m.probes["weight_distance"] is not None for m in made)
    assert [m.step for m in made if "g_sq" in m.probes] == [0, 1, 2, 4, 6, 10, 18, 32, 57]


def test_the_noise_scale_at_the_target_is_always_measured() -> None:
    ending, made = trained(with_probes(), threshold=1.0)
    assert ending.crossing is not None
    assert made[-1].step == ending.crossing.steps and "g_sq" in made[-1].probes


def test_time_in_probes_is_neither_training_nor_evaluation() -> None:
    plain, probed = trained(SETTINGS)[0], trained(with_probes())[0]
    assert plain.probe_seconds is None
    assert probed.probe_seconds is not None and probed.probe_seconds > probed.evaluate_seconds
    spent = probed.train_seconds + probed.evaluate_seconds + probed.probe_seconds
    assert spent <= probed.ended_at - probed.started_at


def test_a_scale_that_is_not_a_number_is_an_empty_cell_and_no_divergence() -> None:
    class Broken(Noisy):
        def training_loss(self, settings: Settings) -> Any:
            return lambda outputs, targets: nn.functional.cross_entropy(outputs, targets) * 1e30

    found = Broken().begin(with_probes()).probe(last=True)  # its squares overflow
    assert found["tr_sigma"] is None and found["b_simple"] is None


def test_a_metric_that_is_not_a_number_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SupervisedRun, "evaluate", lambda self: {"val_loss": math.nan})
    ending, made = trained(with_probes())
    assert ending.outcome == "diverged" and made[0].probes == {}


def test_want_of_memory_makes_the_pieces_smaller_and_ends_no_run_as_other_errors_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chunks: list[int] = []

    def narrow(*arguments: Any, chunk: int, **more: Any) -> Any:
        chunks.append(chunk)
        if room is None:
            raise RuntimeError("no second derivative")
        if chunk > room:
            raise torch.OutOfMemoryError("no room")
        return measure_b_noise(*arguments, chunk=chunk, **more)

    monkeypatch.setattr(probes, "measure_b_noise", narrow)
    room: int | None = 8
    assert Noisy().begin(with_probes()).probe(last=True)["g_sq"] is not None
    assert chunks == [32, 16, 8]
    room = 0
    assert "g_sq" not in Noisy().begin(with_probes()).probe(last=True)
    room = None
    ending, _ = trained(with_probes())
    assert (ending.outcome, ending.message) == ("failed", "RuntimeError: no second derivative")


@pytest.mark.parametrize(
    ("last", "step", "due"),
    [(None, 0, True), (0, 1, True), (1, 2, True), (2, 3, False), (9, 10, True), (10, 11, False), (990, 1010, True)]
    + [(10**k - 1, 10**k, True) for k in range(3, 9)],  # whatever rounding does
)
def test_an_evaluation_is_due_at_or_after_a_point_of_the_grid(last: int | None, step: int, due: bool) -> None:
    assert is_due(step, last, per_decade=4) is due


@pytest.mark.parametrize(
    ("optimizer", "given", "rate"),
    [
        ("sgd", {"lr": 0.2}, 0.2),
        ("momentum", {"lr": 0.2, "momentum": 0.9}, 2.0),
        ("extrap_momentum", {"lr": 0.2, "momentum": 0.9}, 2.0),
        ("momentum", {"lr": 0.2, "momentum": 0.5, "schedule": "linear", "decay_steps": 20, "end_factor": 0.0}, 0.2),
        ("adam", {"lr": 0.2}, None),
    ],
)
def test_the_effective_rate_is_that_of_the_schedule_and_the_heavy_ball(
    optimizer: str, given: Mapping[str, Any], rate: float | None
) -> None:
    assert effective_lr(Settings(16, 0, optimizer, given), step=10) == (None if rate is None else pytest.approx(rate))


def test_the_distance_is_that_of_what_trains_from_copies_that_were_kept_by_hand() -> None:
    model = network()
    assert isinstance(model, nn.Sequential)
    model[0].requires_grad_(False)
    start, distance = [p.detach().clone() for p in model.parameters()], WeightDistance(model)
    assert distance.now() == 0.0
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    trained = list(zip(model.parameters(), start, strict=True))[2:]
    assert distance.now() == pytest.approx(
        math.sqrt(sum((p.detach() - s).norm().item() ** 2 for p, s in trained)), rel=1e-6
    )


def test_half_precision_weights_are_measured_in_single_precision() -> None:
    model = nn.Linear(300, 300, bias=False, dtype=torch.bfloat16)
    distance = WeightDistance(model)
    with torch.no_grad():
        model.weight.copy_(model.weight + 1)
    assert distance.now() == pytest.approx(300, rel=1e-3)
