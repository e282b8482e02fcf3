"""On the noisy quadratic everything is known: adaptive batch sizes gain what the theory predicts, in its limit.

With the greedy rate of every moment, lr = e lr_max / (1 + N/B), and e -> 0 the path of the weights depends on progress
alone, so that the theory is exact. At e = 1 a run takes a few large steps, and it is not.
"""

import math

import numpy as np
import pytest

from bcrit.analysis.questions.adaptive.measure import Frontier, frontier
from bcrit.analysis.questions.adaptive.result import Gain, gain, progress
from bcrit.tuner.training.batch_schedule import BatchPlan, ByNoise, Fixed, Ramp, Schedule, TunedRates
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic, NoisyQuadraticRun

ONE_CURVATURE = NoisyQuadratic(spectrum=[1.0] * 10, noise_scale=1000.0)
MANY = NoisyQuadratic(dimensions=50, noise_scale=1000.0)
SIZES = (500, 2000, 8000, 32000, 128000)


class Greedy(TunedRates):
    """A share e of the best rate of the moment, lr_max / (1 + N/B) (McCandlish et al. 2018, eq. 2.6).

    With it an update lowers the loss by (2 e - e^2) times what the best one does, at every N/B, so that the theory's
    frontier keeps its form.
    """

    share: float
    follows: NoisyQuadraticRun

    def rate(self, batch_size: int) -> float:
        scale = self.follows.scale
        return self.share * scale.lr_max / (1.0 + scale.b_noise / batch_size)


def run(model: NoisyQuadratic, schedule: Schedule, share: float, target: float) -> tuple[int, int, Gain]:
    """Steps, examples, and the gain that the exact noise scale along the run predicts."""
    greedy = Greedy((1,), (1.0,))
    made = model.begin(Settings(1, 0, "sgd", {"lr": 1.0}, batches=BatchPlan(schedule, greedy)))
    vars(greedy).update(share=share, follows=made)
    noise, sizes, used = [], [], 0
    while made.evaluate()["risk"] >= target:
        noise.append(made.scale.b_noise)
        made.train(1)
        assert made.progress is not None
        sizes.append(made.progress.examples - used)
        used = made.progress.examples
    steps = len(noise)
    rows = np.arange(1, steps + 1), [*noise[1:], made.scale.b_noise], [*sizes[1:], sizes[-1]]
    return steps, used, gain(progress(*rows), rows[1])


def by_noise(model: NoisyQuadratic, share: float, target: float) -> tuple[Frontier, list[tuple[float, float]]]:
    """The frontier, and (measured, predicted) gamma at three exchange rates about b_crit."""
    fixed = {b: float(run(model, Fixed(b), share, target)[0]) for b in SIZES}
    found = frontier(fixed)
    assert found is not None
    pairs = []
    for times in (0.25, 1.0, 4.0):
        r = times * found.hyperbola.b_crit
        first = round(math.sqrt(r * model.begin(Settings(1, 0, "sgd", {"lr": 1.0})).scale.b_noise))
        steps, examples, predicted = run(model, ByNoise(r, 1, 10**9, first), share, target)
        pairs.append((found.gamma(steps, examples), predicted.gamma))
    return found, pairs


def test_with_one_curvature_and_small_steps_gamma_is_the_closed_form() -> None:
    """L' = -k L / (1 + N/B) and N ~ 1/L, so N ~ e^(k s): gamma = (2 (e^(T/2) - 1))^2 / (T (e^T - 1)), T = log L_0/L."""
    found, pairs = by_noise(ONE_CURVATURE, 0.02, 0.05)
    t = math.log(5.0 / 0.05)
    exact = (2 * (math.exp(t / 2) - 1)) ** 2 / (t * (math.exp(t) - 1))
    assert found.scatter < 0.005
    for measured, predicted in pairs:
        assert predicted == pytest.approx(exact, rel=0.02)
        assert measured == pytest.approx(exact, rel=0.06)  # steps are whole, and there are few


def test_with_many_curvatures_and_small_steps_the_measured_gain_is_the_predicted_one() -> None:
    found, pairs = by_noise(MANY, 0.02, 0.5)
    assert found.scatter < 0.005
    for measured, predicted in pairs:
        assert predicted == pytest.approx(0.625, rel=0.02)
        assert measured == pytest.approx(predicted, rel=0.05)


def test_with_full_greedy_steps_the_theory_is_a_guide_only() -> None:
    """The noise of a step then stays in the weights: fixed batch sizes lie off the hyperbola, gamma is another."""
    found, pairs = by_noise(MANY, 1.0, 0.5)
    assert found.hyperbola.s_min < 6  # a handful of updates
    assert all(abs(math.log(measured / predicted)) > 0.2 for measured, predicted in pairs)


def test_a_fixed_plan_is_the_plain_run_to_the_bit() -> None:
    model, plain = NoisyQuadratic(dimensions=30), Settings(16, 0, "momentum", {"lr": 0.1, "momentum": 0.9})
    planned = Settings(
        99, 0, "momentum", plain.hyperparameters, batches=BatchPlan(Fixed(16), TunedRates((16,), (0.1,)))
    )
    ours, theirs = model.begin(planned), model.begin(plain)
    for _ in range(20):
        ours.train(1)
        theirs.train(1)
        assert ours.evaluate() == theirs.evaluate()
    assert ours.progress is not None and ours.progress.examples == 320 and theirs.progress is None


def test_the_noise_of_an_update_is_that_of_its_own_batch() -> None:
    """One dimension by hand: E x^2 = (1 - lr)^2 E x^2 + lr^2 / B with B = 4 and then 16."""
    plan = BatchPlan(Ramp(((0, 4), (1, 16))), TunedRates((4, 16), (0.5, 0.25)))
    made = NoisyQuadratic(dimensions=1, start=2.0).begin(Settings(4, 0, "sgd", {"lr": 9.0}, batches=plan))
    made.train(2)
    first = 0.25 * 2.0 + 0.25 / 4
    assert made.evaluate()["risk"] == pytest.approx(0.5 * (0.75**2 * first + 0.0625 / 16))
