from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.landscape.path import ALPHAS, has_batch_statistics, interpolate, recompute_batch_statistics
from bcrit.tuner.workloads.models.layers import GhostBatchNorm
from tests.tuner.training.landscape.quadratic import Quadratic, assert_untouched, examples, network

INPUTS, TARGETS = examples()


def evaluate(model: nn.Module) -> Mapping[str, float]:
    assert not any(module.training for module in model.modules())
    outputs = model(INPUTS)
    accuracy = (outputs.argmax(dim=1) == TARGETS).double().mean().item()
    return {"train_loss": nn.functional.cross_entropy(outputs, TARGETS).item(), "train_accuracy": accuracy}


@pytest.mark.parametrize("kind", ["line", "curve"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_ends_are_the_two_networks_to_the_bit(kind: str, dtype: torch.dtype) -> None:
    first, second = network(seed=0).to(dtype), network(seed=1).to(dtype)

    def weights(model: nn.Module) -> Mapping[str, float]:
        flat = torch.cat([p.reshape(-1) for p in model.parameters()])
        return {str(i): value for i, value in enumerate(flat.double().tolist())}

    path = interpolate(first, second, weights, alphas=(0, 1, 0.0, 1.0), kind="line" if kind == "line" else "curve")
    for point, model in zip(path.points, (first, second, first, second), strict=True):
        assert point.metrics == weights(model)


def test_the_metrics_at_the_ends_are_those_of_a_direct_evaluation_to_the_bit() -> None:
    first, second = network(seed=0).eval(), network(seed=1).eval()
    at = {point.alpha: point.metrics for point in interpolate(first, second, evaluate).points}
    assert tuple(at) == ALPHAS and (ALPHAS[0], ALPHAS[-1], len(ALPHAS)) == (-1, 2, 25)
    assert at[0.0] == evaluate(first) != at[0.5]
    assert at[1.0] == evaluate(second)


def test_a_quadratic_along_both_kinds_of_path_is_as_computed_by_hand() -> None:
    hessian = np.array([1.0, 4.0])
    first, second = (Quadratic(hessian, np.zeros(2), np.array(x)) for x in ([2.0, 0.0], [0.0, 1.0]))

    def loss(model: nn.Module) -> Mapping[str, float]:
        return {"loss": model(torch.zeros(1, 1)).item()}

    line = interpolate(first, second, loss, alphas=(-1, 0.5, 2))
    # x = ((1 - a) 2, a): 1/2 (1 - a)^2 4 + 1/2 4 a^2
    assert [p.metrics["loss"] for p in line.points] == pytest.approx([10, 1, 10])
    curve = interpolate(first, second, loss, alphas=(0.25, 0.5, 2), kind="curve")
    # 1/2 4 cos^2 + 1/2 4 sin^2 = 2: the curve keeps what the line loses between two networks of one size
    assert [p.metrics["loss"] for p in curve.points] == pytest.approx([2, 2, 2])
    assert line.distance == pytest.approx(5**0.5) and not line.batch_statistics


def test_running_statistics_are_those_of_each_point_and_never_a_mixture() -> None:
    first, second = network(normalised=True, seed=0), network(normalised=True, seed=1)
    path = interpolate(first, second, evaluate, alphas=(0, 0.5), train_inputs=INPUTS)
    assert path.batch_statistics
    for weights, point in zip((0.0, 0.5), path.points, strict=True):
        naive = network(normalised=True)
        with torch.no_grad():
            for p, a, b in zip(naive.parameters(), first.parameters(), second.parameters(), strict=True):
                p.copy_((1 - weights) * a + weights * b)
        recompute_batch_statistics(naive.eval(), INPUTS)
        assert point.metrics == pytest.approx(evaluate(naive), rel=1e-6)
    with pytest.raises(ValueError, match="give 'train_inputs'"):
        interpolate(first, second, evaluate)


def test_both_networks_are_untouched_to_the_bit() -> None:
    first, second = network(normalised=True, seed=0).train(), network(normalised=True, seed=1).eval()

    def work() -> None:
        assert_untouched(second, lambda: interpolate(first, second, evaluate, alphas=(0, 2), train_inputs=INPUTS))

    assert_untouched(first, work)


def test_networks_of_different_shapes_have_no_path() -> None:
    with pytest.raises(ValueError, match=r"same architecture, but they differ in 0\.bias, 0\.weight"):
        interpolate(network(), nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)), evaluate)


ROWS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 2


def statistics(layer: nn.Module) -> tuple[Tensor, Tensor]:
    mean, variance = layer.running_mean, layer.running_var
    assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
    return mean, variance


def test_in_one_chunk_they_are_those_of_the_whole_training_set() -> None:
    layer = nn.BatchNorm1d(3)
    recompute_batch_statistics(layer.eval(), ROWS)
    torch.testing.assert_close(statistics(layer), (ROWS.mean(dim=0), ROWS.var(dim=0)))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), GhostBatchNorm(3, ghost_size=16)], ids=["plain", "ghost"])
def test_in_chunks_they_are_the_means_over_chunks(layer: nn.Module) -> None:
    recompute_batch_statistics(layer.eval(), ROWS[:60], chunk=16)  # 12 examples at the end are left out
    chunks = torch.split(ROWS[:48], 16)
    expected = torch.stack([c.mean(dim=0) for c in chunks]), torch.stack([c.var(dim=0) for c in chunks])
    torch.testing.assert_close(statistics(layer), tuple(e.mean(dim=0) for e in expected))


def test_ghost_batches_decide_the_chunk_whatever_is_asked_for() -> None:
    layers = [GhostBatchNorm(3, ghost_size=8).eval() for _ in range(2)]
    recompute_batch_statistics(layers[0], ROWS)
    recompute_batch_statistics(layers[1], ROWS, chunk=8)
    torch.testing.assert_close(statistics(layers[0]), statistics(layers[1]), rtol=0, atol=0)


def test_modes_momentum_weights_and_random_numbers_stay_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout(0.5)).eval()
    random, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    recompute_batch_statistics(model, ROWS)
    assert not any(module.training for module in model.modules())
    assert isinstance(model[1], nn.BatchNorm1d) and model[1].momentum == 0.3
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_layers_without_running_statistics_have_none() -> None:
    assert has_batch_statistics(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    assert has_batch_statistics(GhostBatchNorm(3, ghost_size=4))
    assert not has_batch_statistics(nn.Sequential(nn.LayerNorm(3), nn.BatchNorm1d(3, track_running_stats=False)))
