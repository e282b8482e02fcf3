"""One-step line searches: on a data set whose noise scale is exact, and that they leave no trace."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from examples.papers.line_search import LineFit, LineSearch, best_step, fit_line_search, line_search

N, H = 512, torch.tensor([1.0, 0.3, 0.1, 0.03], dtype=torch.float64)
A = torch.randn(N, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 * H.sqrt()
A -= A.mean(0)


class Quadratic(nn.Module):
    """Example k has the loss 1/2 x'Hx + a_k'x, and the a_k have mean 0 exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([1.0, -2.0, 1.0, 3.0], dtype=torch.float64))

    def forward(self, rows: Tensor) -> Tensor:
        return 0.5 * H @ self.x.square() + A[rows].mean(0) @ self.x

    @property
    def exact(self) -> tuple[float, float, float]:
        """b_noise, lr_max and gain_max of the data set."""
        g, sigma = H * self.x.detach(), A.T @ A / (N - 1)
        g_h_g, g_sq = float(g @ (H * g)), float(g @ g)
        return float((H * sigma.diag()).sum()) / g_h_g, g_sq / g_h_g, g_sq**2 / (2 * g_h_g)


def of_batch(model: nn.Module, rows: Tensor) -> Tensor:
    loss: Tensor = model(rows)
    return loss


@torch.no_grad()
def of_all(model: nn.Module) -> float:
    return float(model(torch.arange(N)))


def searched(n_samples: int = 24, seed: int = 0) -> LineSearch:
    lrs = [0.01 * 1.6**k for k in range(14)]
    return line_search(Quadratic(), of_batch, of_all, N, [2, 8, 32, 128, 512], lrs, n_samples=n_samples, seed=seed)


def test_the_fit_has_the_exact_noise_scale_of_the_data_set() -> None:
    b_noise, lr_max, gain_max = Quadratic().exact
    found = fit_line_search(searched(n_samples=100))
    assert found.low is not None and found.high is not None and found.b_noise is not None
    assert found.low < b_noise < found.high < 2 * found.low
    assert found.lr_max == pytest.approx(lr_max, rel=0.05)
    assert found.gain_max == pytest.approx(gain_max, rel=0.05)
    # Without noise, in a batch of all examples, the parabola is exact.
    assert found.lr_opt[-1] == pytest.approx(lr_max, rel=1e-9)
    assert found.gain_opt[-1] == pytest.approx(gain_max, rel=1e-9)
    assert not found.set_aside


@pytest.mark.parametrize(
    ("seeds", "least", "most"), [(20, 0.8, 1.0), pytest.param(120, 0.92, 0.98, marks=pytest.mark.long)]
)
def test_the_interval_covers_as_often_as_it_says(seeds: int, least: float, most: float) -> None:
    b_noise = Quadratic().exact[0]
    found = [fit_line_search(searched(seed=seed)) for seed in range(seeds)]
    assert all(f.b_noise is not None for f in found)
    assert least < np.mean([(f.low or np.inf) <= b_noise <= (f.high or 0.0) for f in found]) <= most
    assert np.median([f.b_noise or np.nan for f in found]) == pytest.approx(b_noise, rel=0.1)


def test_the_model_is_what_it_was_bit_for_bit_and_the_same_seed_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
    x, y = torch.randn(64, 3), torch.randn(64, 1)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        return nn.functional.mse_loss(model(x[rows]), y[rows])

    @torch.no_grad()
    def whole(model: nn.Module) -> float:
        model.eval()
        value = float(nn.functional.mse_loss(model(x), y))
        model.train()
        return value

    state, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    a, b, c = (
        line_search(model, loss, whole, 64, [4, 16], [0.01, 0.1, 1.0], n_samples=3, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(a.gains, b.gains) and not np.array_equal(a.gains, c.gains)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and torch.equal(torch.get_rng_state(), stream)
    model.train()  # A gain is the loss before minus the loss after one step: of all examples, by hand.
    once = line_search(model, loss, whole, 64, [64], [0.1, 0.2, 0.4], n_samples=1, seed=1)
    rng = torch.get_rng_state()
    torch.manual_seed(1)
    order = torch.from_numpy(np.random.default_rng(1).permutation(64))
    step = torch.autograd.grad(loss(model, order), list(model.parameters()))
    model.load_state_dict(state)
    before = whole(model)
    with torch.no_grad():
        for p, g in zip(model.parameters(), step, strict=True):
            p.sub_(g, alpha=0.2)
    assert once.gains[0, 0, 1] == pytest.approx(before - whole(model), abs=1e-6)
    torch.set_rng_state(rng)


@pytest.mark.parametrize(
    ("sizes", "lrs", "message"),
    [
        ([4, N + 1], [0.1, 0.2, 0.3], "1 <= batch size <= n_train must hold"),
        ([4], [0.1, 0.2], "three or more learning rates"),
        ([4], [0.0, 0.1, 0.2], "three or more learning rates above 0"),
    ],
    ids=["too large", "too few", "zero"],
)
def test_impossible_grids_are_refused(sizes: list[int], lrs: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        line_search(Quadratic(), of_batch, of_all, N, sizes, lrs)


LRS = tuple(1e-4 * 1.5**k for k in range(28))


def made_up(
    b_noise: float, sizes: tuple[int, ...], lrs: tuple[float, ...] = LRS, n_examples: int | None = None
) -> LineSearch:
    """Gains lr - lr^2/2 (1 + b_noise / B), so that lr_max = 1 and gain_max = 1/2."""
    lr = np.array(lrs)
    x = np.array([1 / b - (0 if n_examples is None else 1 / n_examples) for b in sizes])
    return LineSearch(sizes, lrs, np.tile(lr - lr**2 / 2 * (1 + b_noise * x)[:, None], (20, 1, 1)), n_examples)


@pytest.mark.parametrize("n_examples", [None, 4096])
@pytest.mark.parametrize("b_noise", [3.0, 100.0, 5000.0])
def test_exact_gains_give_the_exact_scale(b_noise: float, n_examples: int | None) -> None:
    found = fit_line_search(made_up(b_noise, (4, 32, 256, 2048, 4096), n_examples=n_examples))
    for value in (found.b_noise, found.b_noise_of_lr, found.b_noise_of_gain, found.low, found.high):
        assert value == pytest.approx(b_noise, rel=1e-2)
    assert found.lr_max == pytest.approx(1.0, rel=1e-2) and found.gain_max == pytest.approx(0.5, rel=1e-2)
    assert str(found).startswith("b_noise = ")


def test_the_best_step_is_the_vertex_of_the_parabola_also_below_the_first_learning_rate() -> None:
    lr = np.array([0.3, 0.5, 0.9])
    best, gain = best_step(lr - lr**2 * 2.0, tuple(lr))  # 1/4 and 1/8
    assert (float(best), float(gain)) == pytest.approx((0.25, 0.125), rel=1e-9)
    # A neighbour that diverges leaves the best measured point.
    best, gain = best_step(np.array([0.1, 0.2, -np.inf]), (0.1, 0.2, 0.4))
    assert (float(best), float(gain)) == (0.2, 0.2)


def test_a_batch_size_without_a_best_step_is_set_aside_with_the_reason() -> None:
    found = fit_line_search(made_up(100.0, (4, 8, 16, 32, 4096), lrs=tuple(0.01 * 1.3**k for k in range(15))))
    assert list(found.set_aside) == [4096] and "larger ones are needed" in found.set_aside[4096]
    assert found.batch_sizes == (4, 8, 16, 32) and found.b_noise == pytest.approx(100.0, rel=0.02)
    measured = made_up(100.0, (4, 8, 16, 32))
    measured.gains[:, 0] = -1.0
    found = fit_line_search(measured)
    assert "no step gains anything" in found.set_aside[4] and found.b_noise is not None


def unresolved(found: LineFit, message: str) -> None:
    assert found.b_noise is None and found.low is None
    assert message in found.reason and str(found) == f"b_noise = not resolved: {found.reason}"


@pytest.mark.parametrize(("b_noise", "side"), [(1e-5, "smaller"), (1e9, "larger")])
def test_laws_that_do_not_bend_say_where_to_look(b_noise: float, side: str) -> None:
    lrs = LRS if b_noise < 1 else tuple(1e-10 * 1.5**k for k in range(40))
    unresolved(fit_line_search(made_up(b_noise, (16, 64, 256), lrs=lrs)), f"add {side} ones")
    unresolved(fit_line_search(made_up(100.0, (16, 256))), "2 batch sizes with a best learning rate")
