"""The noise scale in a training loop: against naive twins, closed forms, and the same loop without it."""

import copy
import math
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.noise_scale import Differences, Hooks, NoiseScale, norms
from bcrit.tuner.training.noise_scale.ratio import of_quadratic, unbiased_pair
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6, dtype=dtype), nn.Tanh(), nn.Linear(6, 2, dtype=dtype))


def data(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(n, k, generator=generator, dtype=dtype) for k in (4, 2))  # type: ignore[return-value]


def backward(model: nn.Module, part: Tensor, share: float, dtype: torch.dtype = torch.float64) -> None:
    x, y = data(200, dtype)
    (nn.functional.mse_loss(model(x[part]), y[part]) * share).backward()  # type: ignore[no-untyped-call]


def one_step(
    model: nn.Module,
    noise: NoiseScale,
    sizes: Sequence[int],
    first: int = 0,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
    told: Sequence[float | None] = (),
) -> None:
    for k, part in enumerate(torch.split(torch.arange(first, first + sum(sizes)), list(sizes))):
        backward(model, part, scale * len(part) / sum(sizes), dtype)
        noise.micro_batch(len(part), told[k] if told else None)
    noise.step(scale)


def naive(model: nn.Module, sizes: Sequence[int], first: int = 0) -> tuple[float, float]:
    """The pair from gradients that are computed one by one and kept."""
    twin, gradients = copy.deepcopy(model), []
    for part in torch.split(torch.arange(first, first + sum(sizes)), list(sizes)):
        twin.zero_grad()
        backward(twin, part, 1.0)
        gradients.append(torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None]).numpy())
    weights, table = np.array(sizes), np.array(gradients)
    mean = weights @ table / weights.sum()
    return unbiased_pair(float(weights @ (table**2).sum(1)), float(mean @ mean), int(weights.sum()), len(sizes))


@pytest.mark.parametrize("sizes", [[8, 8], [4, 4, 4, 4], [10, 3, 7]], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_a_step_is_the_pair_of_its_micro_batches_gradients(sizes: list[int], scale: float) -> None:
    model = network()
    noise = NoiseScale(model.parameters())
    one_step(model, noise, sizes, scale=scale)
    np.testing.assert_allclose(noise.series()[0], naive(model, sizes), rtol=1e-9)
    assert noise.estimate().rows == sum(sizes)


@pytest.mark.parametrize(
    ("shares", "told"),
    [((0.8, 0.2), None), ((0.5, 0.5), 0.5), ((1.0, 1.0), 1.0), ((0.2, 0.8), (0.2, 0.8)), ((0.5, 0.5), None)],
    ids=["rows / rows of the step", "1 / ACCUM", "no factor", "any", "1 / ACCUM, untold"],
)
def test_the_scale_is_right_whatever_mean_losses_were_multiplied_by_or_there_is_a_warning(
    shares: tuple[float, float], told: float | tuple[float, float] | None
) -> None:
    """Gradients with |G|^2 = 1 and tr(Sigma) = 24, of micro-batches of 8 and 2 rows."""
    x, generator = nn.Parameter(torch.zeros(6, dtype=torch.float64)), torch.Generator().manual_seed(0)
    noise, steps = NoiseScale([x], window=4000), 4000
    mean = torch.full((6,), 6**-0.5, dtype=torch.float64)
    for _ in range(steps):
        x.grad = torch.zeros_like(x)
        for k, (rows, share) in enumerate(zip((8, 2), shares, strict=True)):
            x.grad += share * (mean + torch.randn(6, generator=generator, dtype=torch.float64) * (4.0 / rows) ** 0.5)
            noise.micro_batch(rows, told[k] if isinstance(told, tuple) else told)
        noise.step()
    if told is None and shares == (0.5, 0.5):
        with pytest.warns(UserWarning, match=r"were not multiplied by rows / rows of the step.*share=1 / ACCUM"):
            assert noise.estimate().b_simple is None  # |G|^2 < 0: nobody would see what is wrong
        return
    found = noise.estimate().total
    assert found.low < 24 < (found.high or 0.0) < 40
    scale = sum(shares) if told is None else 1.0
    assert abs(found.denominator - scale**2) < 4 * found.denominator_error < 0.3


@pytest.mark.parametrize("wrong", [True, False])
def test_eight_short_micro_batches_are_enough_to_warn_and_nearly_equal_ones_are_not(wrong: bool) -> None:
    for seed in range(20):
        x, generator = nn.Parameter(torch.zeros(40)), torch.Generator().manual_seed(seed)
        noise = NoiseScale([x])
        for step in range(96 if wrong else 12):
            rows = [16, 16, 16, 16 if step % 12 else 2] if wrong else [15, 16]
            x.grad = torch.zeros_like(x)
            for b in rows:
                gradient = 40**-0.5 + torch.randn(40, generator=generator) * (24 / 40 / b) ** 0.5
                overflow = math.inf if step == 0 else 1.0
                x.grad += gradient * (0.25 if wrong else b / sum(rows)) * overflow
                noise.micro_batch(b)
            noise.step()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            noise.estimate()
        assert len(told) == wrong


@pytest.mark.parametrize("set_to_none", [True, False])
def test_training_computes_the_same_bits_with_and_without(set_to_none: bool) -> None:
    weights = []
    for probed in (False, True):
        model = network(torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        noise = NoiseScale(model.parameters()) if probed else None
        for step in range(20):
            for part in torch.split(torch.arange(8 * step, 8 * step + 8), 4):
                backward(model, part, 0.5, torch.float32)
                if noise is not None:
                    noise.micro_batch(4)
            if noise is not None:
                noise.step()
            optimizer.step()
            optimizer.zero_grad(set_to_none)
        if noise is not None:
            assert np.isfinite(noise.series()).all()
        weights.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_along_a_run_on_the_noisy_quadratic_it_is_the_scale_of_the_exact_moments() -> None:
    workload = NoisyQuadratic(dimensions=20, start=1.0)
    h, c = torch.from_numpy(workload.spectrum), torch.from_numpy(workload.noise)
    generator, lr, n_runs, steps = torch.Generator().manual_seed(0), 0.3, 60, 20
    pairs = []
    for _ in range(n_runs):
        x = nn.Parameter(torch.randn(20, generator=generator, dtype=torch.float64))
        optimizer, noise = torch.optim.SGD([x], lr), NoiseScale([x])
        for _ in range(steps):
            optimizer.zero_grad()
            for _ in range(2):  # two micro-batches of 4 rows
                xi = torch.randn(20, generator=generator, dtype=torch.float64) * (c / 4).sqrt()
                (0.5 * (0.5 * h @ x.square() + xi @ x)).backward()  # type: ignore[no-untyped-call]
                noise.micro_batch(4)
            noise.step()
            optimizer.step()
        pairs.append(noise.series())
    means, errors = np.mean(pairs, axis=0), np.std(pairs, axis=0) / n_runs**0.5  # (steps, 2)
    m = workload.start.copy()
    for t in range(steps):
        exact = of_quadratic(workload.spectrum, workload.noise, m)
        assert np.all(np.abs(means[t] - [exact.tr_sigma, exact.g_sq]) < 4.5 * errors[t]), t
        m = (1 - lr * workload.spectrum) ** 2 * m + lr**2 * workload.noise / 8


def test_the_data_set_has_the_scale_of_its_own_gradients() -> None:
    model, n = network(), 64
    noise, generator = NoiseScale(model.parameters(), n_examples=n, window=800), torch.Generator().manual_seed(0)
    for _ in range(800):
        model.zero_grad()
        for part in torch.split(torch.randperm(n, generator=generator)[:32], 16):
            backward(model, part, 0.5)
            noise.micro_batch(16)
        noise.step()
    model.zero_grad()
    noise.close()
    backward(model, torch.arange(n), 1.0)
    g_sq = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
    found = noise.estimate().total
    assert abs(found.denominator - g_sq) < 4 * found.denominator_error < 0.3 * g_sq


def test_the_window_keeps_the_last_steps_in_order() -> None:
    model = network()
    noise = NoiseScale(model.parameters(), window=5)
    for step in range(8):
        model.zero_grad()
        one_step(model, noise, [4, 4], first=8 * step)
    expected = [naive(model, [4, 4], first=8 * step) for step in range(3, 8)]
    np.testing.assert_allclose(noise.series(), expected, rtol=1e-9)
    noise.forget()
    assert noise.series().shape == (0, 2)
    assert "0 blocks are too few" in str(noise.estimate())


def test_a_step_that_overflowed_is_set_aside_and_half_precision_has_norms_in_single() -> None:
    model = network(torch.bfloat16)
    noise = NoiseScale(model.parameters())
    for step in range(12):
        model.zero_grad()
        one_step(model, noise, [4, 4], 8 * step, float("inf") if step == 5 else 1.0, torch.bfloat16)
    assert noise.estimate().total.n_set_aside == 1
    assert np.isfinite(noise.estimate().total.numerator)
    assert noise._pairs is not None and noise._pairs.dtype == torch.float32
    half = nn.Parameter(torch.empty(4, dtype=torch.float16))
    assert norms([half], [torch.full((4,), 3e4, dtype=torch.float16)]) == [torch.tensor(6e4).half().float()]


def test_a_parameter_that_had_no_gradient_adds_nothing_and_tied_weights_are_seen_once() -> None:
    model = network()
    unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    tied = nn.Sequential(nn.Linear(4, 4, bias=False, dtype=torch.float64), nn.Tanh(), model[0], model[2])
    tied.append(nn.Linear(2, 2, bias=False, dtype=torch.float64)).append(nn.Linear(2, 2, bias=False))
    tied[5].weight = tied[4].weight
    noise = NoiseScale([*tied.parameters(), unused])
    one_step(tied, noise, [5, 7])
    np.testing.assert_allclose(noise.series()[0], naive(tied, [5, 7]), rtol=1e-9)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda m: NoiseScale([]), "no parameter needs a gradient"),
        (lambda m: NoiseScale([*m.parameters(), *m[0].parameters()]), "a parameter is there twice"),
        (lambda m: NoiseScale(m.parameters(), window=0), "window >= 1 must hold, but window=0"),
        (lambda m: NoiseScale(m.parameters()).micro_batch(0), "rows >= 1 must hold, but rows=0"),
        (lambda m: NoiseScale(m.parameters()).micro_batch(2, share=0), "share > 0 must hold, but share=0"),
        (
            lambda m: one_step(m, NoiseScale(m.parameters()), [4, 4], told=[0.5, None]),
            "have a share and others have no",
        ),
        (lambda m: one_step(m, NoiseScale(m.parameters()), [8], told=[1.0]), "at least 2 micro-batches or ranks"),
        (lambda m: NoiseScale(m.parameters()).micro_batch(8), "no parameter has a gradient"),
        (lambda m: NoiseScale(m.parameters()).step(), "a step has no micro-batch"),
        (lambda m: one_step(m, NoiseScale(m.parameters()), [8]), "at least 2 micro-batches or ranks, but it has 1"),
    ],
    ids=lambda given: given[:20] if isinstance(given, str) else "",
)
def test_impossible_arguments_are_refused(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        build(network())


ways = pytest.mark.parametrize("way", [Differences, Hooks])


def of_batch(model: nn.Module, k: int) -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    model(x).square().mean().backward()


def alone(k: int) -> list[Tensor]:
    model = network()
    of_batch(model, k)
    parameters = list(model.parameters())
    return norms(parameters, [p.grad for p in parameters])


@ways
@pytest.mark.parametrize("set_to_none", [True, False])
def test_each_micro_batch_has_the_norms_of_its_own_gradient(
    way: type[Differences] | type[Hooks], set_to_none: bool
) -> None:
    model = network()
    increments = way(list(model.parameters()))
    for step in range(2):
        model.zero_grad(set_to_none)
        increments.begin()
        for k in range(3):
            of_batch(model, 3 * step + k)
            torch.testing.assert_close(increments.take(), alone(3 * step + k))
        increments.end()


@ways
def test_a_parameter_without_a_gradient_has_norm_0_until_it_has_one(way: type[Differences] | type[Hooks]) -> None:
    used, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    increments = way([used, late])
    for _ in range(2):
        used.grad = late.grad = None
        increments.begin()
        (2 * used).sum().backward()  # type: ignore[no-untyped-call]
        assert [float(norm) for norm in increments.take()] == pytest.approx([2 * 3**0.5, 0.0])
        (used.sum() + 3 * late.sum()).backward()  # type: ignore[no-untyped-call]
        assert [float(norm) for norm in increments.take()] == pytest.approx([3**0.5, 3 * 2**0.5])


def test_hooks_keep_no_gradient_and_autograd_still_hands_over_its_own() -> None:
    model, handed = network(), []
    hooks = Hooks(list(model.parameters()))
    for p in model.parameters():
        p.register_hook(lambda g: handed.append(g.data_ptr()))  # type: ignore[no-untyped-call]
    of_batch(model, 0)
    taken = {p.grad.data_ptr() for p in model.parameters() if p.grad is not None}
    assert len(taken & set(handed)) >= 2  # both matrices; a bias's gradient may be copied, with and without hooks
    assert all(norm.ndim == 0 for norm in hooks.take())


def test_hooks_refuse_passes_that_were_not_declared() -> None:
    model = network()
    hooks = Hooks(list(model.parameters()))
    with pytest.raises(ValueError, match="no gradient came since the last micro-batch"):
        hooks.take()
    of_batch(model, 0)
    with pytest.raises(ValueError, match="a backward pass after the last micro_batch"):
        hooks.end()
    of_batch(model, 1)
    with pytest.raises(ValueError, match="a second gradient came since the last micro-batch"):
        hooks.take()
    hooks.begin()
    hooks.remove()
    of_batch(model, 2)
    hooks.end()  # they hear nothing any more


ROOT = Path(__file__).parents[4]

# Two ranks, two micro-batches each, gradients averaged by DistributedDataParallel in the last one's backward pass; then
# as many rows as before on rank 0, in three, and fewer on rank 1.
RANK = """
import sys, torch, numpy as np
from torch import distributed as dist, nn
from bcrit.tuner.training.noise_scale import NoiseScale
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Linear(5, 3, dtype=torch.float64)
noise = NoiseScale(model.parameters(), process_group=dist.group.WORLD)
ranks = nn.parallel.DistributedDataParallel(model)
x, y = torch.randn(12, 24, 5, dtype=torch.float64), torch.randn(12, 24, 3, dtype=torch.float64)
def step(number, sizes):
    model.zero_grad()
    rows = torch.arange(24).chunk(2)[rank][: sum(sizes)].split(sizes)
    for k, part in enumerate(rows):
        ranks.require_backward_grad_sync = k == len(rows) - 1
        loss = nn.functional.mse_loss(ranks(x[number][part]), y[number][part])
        (loss * len(part) / sum(map(len, rows))).backward()
        noise.micro_batch(len(part), share=None if number % 2 else 1 / len(rows))
    noise.step()
for number in range(12):
    step(number, [6, 6])
np.save(f"{folder}/{rank}.npy", noise.series())
step(0, [6] if rank else [5, 5, 2])
try:
    noise.series()
except ValueError as error:
    print(error)
dist.destroy_process_group()
"""


def run(folder: Path) -> list[str]:
    """What both ranks print: first of an even division, then of an uneven one."""
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*command, rank, str(folder)], cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True)
        for rank in ("0", "1")
    ]
    done = [rank.communicate(timeout=120) for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), done
    return [out for out, _ in done]


def test_two_ranks_of_two_micro_batches_are_four_and_unequal_ones_are_refused_when_they_are_read(
    tmp_path: Path,
) -> None:
    said = run(tmp_path)
    torch.manual_seed(0)
    model = nn.Linear(5, 3, dtype=torch.float64)
    noise = NoiseScale(model.parameters())
    x, y = torch.randn(12, 24, 5, dtype=torch.float64), torch.randn(12, 24, 3, dtype=torch.float64)
    for step in range(12):
        model.zero_grad()
        for part in torch.split(torch.arange(24), 6):
            (nn.functional.mse_loss(model(x[step][part]), y[step][part]) / 4).backward()  # type: ignore[no-untyped-call]
            noise.micro_batch(6)
        noise.step()
    for rank in (0, 1):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), noise.series(), rtol=1e-9)
        assert "every rank must have as many rows and micro-batches as the others" in said[rank]
