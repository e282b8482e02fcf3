"""One-step line searches: on a data set whose noise scale is exact, and that they leave no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from examples.papers.line_search import LineFit, LineSearch, best_step, fit_line_search, line_search

N, H = 512, torch.tensor([1.0, 0.3, 0.1, 0.03], dtype=torch.float64)


class Quadratic(nn.Module):
    """Example k has the loss 1/2 x'Hx + a_k'x, and the a_k have mean 0 exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([1.0, -2.0, 1.0, 3.0], dtype=torch.float64))
        a = torch.randn(N, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 * H.sqrt()
        self.a = a - a.mean(0)

    def loss(self, rows: Tensor) -> Tensor:
        return 0.5 * H @ self.x.square() + self.a[rows].mean(0) @ self.x

    def gradient(self, rows: Tensor) -> None:
        self.zero_grad()
        self.loss(rows).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def whole(self) -> float:
        return float(self.loss(torch.arange(N)))

    def search(self, n_samples: int = 24, seed: int = 0) -> LineSearch:
        lrs = [0.01 * 1.6**k for k in range(14)]
        return line_search(
            self, self.gradient, self.whole, N, [2, 8, 32, 128, 512], lrs, n_samples=n_samples, seed=seed
        )

    @property
    def exact(self) -> tuple[float, float, float]:
        """b_noise, lr_max and gain_max of the data set."""
        g, sigma = H * self.x.detach(), self.a.T @ self.a / (N - 1)
        g_h_g, g_sq = float(g @ (H * g)), float(g @ g)
        return float((H * sigma.diag()).sum()) / g_h_g, g_sq / g_h_g, g_sq**2 / (2 * g_h_g)


def test_the_fit_has_the_exact_noise_scale_of_the_data_set() -> None:
    model = Quadratic()
    b_noise, lr_max, gain_max = model.exact
    found = fit_line_search(model.search(n_samples=100))
    assert found.low is not None and found.high is not None and found.b_noise is not None
    assert found.low < b_noise < found.high < 2 * found.low
    assert found.lr_max == pytest.approx(lr_max, rel=0.05)
    assert found.gain_max == pytest.approx(gain_max, rel=0.05)
    # Without noise, in a batch of all examples, the parabola is exact.
    assert found.lr_opt[-1] == pytest.approx(lr_max, rel=1e-9)
    assert found.gain_opt[-1] == pytest.approx(gain_max, rel=1e-9)
    assert not found.set_aside and max(map(abs, found.lr_residuals[1:] + found.gain_residuals[1:])) < 0.1


@pytest.mark.parametrize(
    ("seeds", "least", "most"), [(20, 0.8, 1.0), pytest.param(120, 0.92, 0.98, marks=pytest.mark.long)]
)
def test_the_interval_covers_as_often_as_it_says(seeds: int, least: float, most: float) -> None:
    model = Quadratic()
    found = [fit_line_search(model.search(seed=seed)) for seed in range(seeds)]
    assert all(f.b_noise is not None for f in found)
    covered = [f.low <= model.exact[0] <= f.high for f in found if f.low is not None and f.high is not None]
    assert least < np.mean(covered) <= most
    assert np.median([f.b_noise or np.nan for f in found]) == pytest.approx(model.exact[0], rel=0.1)


def normalised() -> tuple[nn.Sequential, Callable[[Tensor], None], Callable[[], float]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
    x, y = torch.randn(64, 3), torch.randn(64, 1)

    def gradient(rows: Tensor) -> None:
        model.zero_grad()
        nn.functional.mse_loss(model(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def loss() -> float:
        model.eval()
        value = float(nn.functional.mse_loss(model(x), y))
        model.train()
        return value

    return model, gradient, loss


def test_the_model_is_what_it_was_bit_for_bit_and_the_same_seed_gives_the_same_bits() -> None:
    model, gradient, loss = normalised()
    gradient(torch.arange(10))
    gradients = [p.grad for p in model.parameters()]
    values = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model[2].eval()
    state, modes, stream = (
        copy.deepcopy(model.state_dict()),
        [m.training for m in model.modules()],
        torch.get_rng_state(),
    )
    a, b, c = (
        line_search(model, gradient, loss, 64, [4, 16], [0.01, 0.1, 1.0], n_samples=3, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(a.gains, b.gains) and not np.array_equal(a.gains, c.gains)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is before for p, before in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(p.grad, v) for p, v in zip(model.parameters(), values, strict=True) if p.grad is not None)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), stream)


def test_it_is_undone_even_when_the_loss_fails() -> None:
    model, gradient, loss = normalised()
    state, calls = copy.deepcopy(model.state_dict()), iter(range(3))

    def failing() -> float:
        if next(calls) == 2:
            raise RuntimeError("out of memory")
        return loss()

    with pytest.raises(RuntimeError, match="out of memory"):
        line_search(model, gradient, failing, 64, [4], [0.1, 0.2, 0.3])
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_gain_is_the_loss_before_minus_the_loss_after_one_step() -> None:
    model = Quadratic()
    found = line_search(model, model.gradient, model.whole, N, [N], [0.1, 0.2, 0.4], n_samples=1)
    twin = Quadratic()
    twin.gradient(torch.arange(N))
    assert twin.x.grad is not None
    with torch.no_grad():
        twin.x.sub_(twin.x.grad, alpha=0.2)
    assert found.gains[0, 0, 1] == pytest.approx(found.loss - twin.whole(), rel=1e-12)


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
    model = Quadratic()
    with pytest.raises(ValueError, match=message):
        line_search(model, model.gradient, model.whole, N, sizes, lrs)


LRS = tuple(1e-4 * 1.5**k for k in range(28))


def search(
    b_noise: float,
    sizes: tuple[int, ...],
    *,
    lrs: tuple[float, ...] = LRS,
    n_examples: int | None = None,
    noise: float = 0,
) -> LineSearch:
    """Gains lr - lr^2/2 (1 + b_noise / B), so that lr_max = 1 and gain_max = 1/2."""
    rng, lr = np.random.default_rng(0), np.array(lrs)
    x = np.array([1 / b - (0 if n_examples is None else 1 / n_examples) for b in sizes])
    factor = 1 + noise * rng.normal(size=(20, len(sizes), 1))
    return LineSearch(sizes, lrs, lr * factor - lr**2 / 2 * (1 + b_noise * x)[:, None], n_examples, 1.0)


@pytest.mark.parametrize("n_examples", [None, 4096])
@pytest.mark.parametrize("b_noise", [3.0, 100.0, 5000.0])
def test_exact_gains_give_the_exact_scale(b_noise: float, n_examples: int | None) -> None:
    found = fit_line_search(search(b_noise, (4, 32, 256, 2048, 4096), n_examples=n_examples))
    for value in (found.b_noise, found.b_noise_of_lr, found.b_noise_of_gain, found.low, found.high):
        assert value == pytest.approx(b_noise, rel=1e-2)
    assert found.lr_max == pytest.approx(1.0, rel=1e-2) and found.gain_max == pytest.approx(0.5, rel=1e-2)
    assert max(map(abs, found.lr_residuals + found.gain_residuals)) < 0.01
    assert str(found).startswith("b_noise = ")


def test_the_best_step_is_the_vertex_of_the_parabola_also_below_the_first_learning_rate() -> None:
    lr = np.array([0.3, 0.5, 0.9])
    best, gain = best_step(lr - lr**2 * 2.0, tuple(lr))  # 1/4 and 1/8
    assert (float(best), float(gain)) == pytest.approx((0.25, 0.125), rel=1e-9)


def test_a_neighbour_that_diverges_leaves_the_best_measured_point() -> None:
    best, gain = best_step(np.array([0.1, 0.2, -np.inf]), (0.1, 0.2, 0.4))
    assert (float(best), float(gain)) == (0.2, 0.2)


def unresolved(found: LineFit, message: str) -> None:
    assert found.b_noise is None and found.low is None
    assert message in found.reason and str(found) == f"b_noise = not resolved: {found.reason}"


def test_a_best_learning_rate_at_the_edge_is_set_aside_with_the_reason() -> None:
    found = fit_line_search(search(100.0, (4, 8, 16, 32, 4096), lrs=tuple(0.01 * 1.3**k for k in range(15))))
    assert list(found.set_aside) == [4096] and "larger ones are needed" in found.set_aside[4096]
    assert found.batch_sizes == (4, 8, 16, 32) and found.b_noise == pytest.approx(100.0, rel=0.02)


def test_a_batch_size_at_which_no_step_gains_is_set_aside() -> None:
    measured = search(100.0, (4, 8, 16, 32))
    gains: NDArray[np.float64] = measured.gains.copy()
    gains[:, 0] = -1.0
    found = fit_line_search(LineSearch(measured.batch_sizes, LRS, gains, None, 1.0))
    assert "no step gains anything" in found.set_aside[4] and found.b_noise is not None


def test_two_batch_sizes_are_too_few() -> None:
    unresolved(fit_line_search(search(100.0, (16, 256))), "2 batch sizes with a best learning rate")


@pytest.mark.parametrize(("b_noise", "side"), [(1e-5, "smaller"), (1e9, "larger")])
def test_laws_that_do_not_bend_say_where_to_look(b_noise: float, side: str) -> None:
    lrs = LRS if b_noise < 1 else tuple(1e-10 * 1.5**k for k in range(40))
    unresolved(fit_line_search(search(b_noise, (16, 64, 256), lrs=lrs)), f"add {side} ones")


def test_the_interval_is_the_jackknifes_over_noise_samples() -> None:
    measured = search(50.0, (4, 16, 64, 256), noise=0.3)
    found = fit_line_search(measured)
    # Without one sample all four batch sizes get nearly the same weights, so refitting is nearly the same jackknife.
    fits = [
        fit_line_search(LineSearch(measured.batch_sizes, LRS, np.delete(measured.gains, k, axis=0), None, 1.0))
        for k in range(20)
    ]
    error = np.sqrt(19 * np.var([np.log(fit.b_noise or np.nan) for fit in fits]))
    assert found.b_noise is not None and found.high is not None and found.low is not None
    assert np.log(found.high / found.b_noise) == pytest.approx(2.093 * error, rel=0.2)
    assert found.low * found.high == pytest.approx(found.b_noise**2)
