"""The gradient noise scale, in anybody's training loop: torch and numpy, no Ray, no files.

    from bcrit.tuner.training.noise_scale import NoiseScale

    noise = NoiseScale(model.parameters())
    for step, batch in enumerate(batches):
        for part in batch.split(32):
            (loss(model, part) * len(part) / len(batch)).backward()
            noise.micro_batch(len(part))
        noise.step()  # before clipping and the optimizer's step
        optimizer.step()
        optimizer.zero_grad()
    print(noise.estimate())

Words: G is the mean gradient and Sigma the covariance of one example's, H the Hessian of the mean loss, lr a learning
rate of plain SGD. b_simple = tr(Sigma) / |G|^2 and b_noise = tr(H Sigma) / (G'HG) (McCandlish et al. 2018, eqs 2.9 and
2.8). Both are in the unit of the rows counted: examples, or tokens where a row is one.
"""

from bcrit.tuner.training.noise_scale.curvature import CurvedScale, measure_b_noise
from bcrit.tuner.training.noise_scale.exact import ExactScale, of_quadratic
from bcrit.tuner.training.noise_scale.examples import example_loss, mixing_layer, parameters_of
from bcrit.tuner.training.noise_scale.line_fit import LineFit, fit_line_search
from bcrit.tuner.training.noise_scale.line_search import LineSearch, line_search
from bcrit.tuner.training.noise_scale.monitor import NoiseScale
from bcrit.tuner.training.noise_scale.pair import two_batches, unbiased_pair
from bcrit.tuner.training.noise_scale.per_example import measure_b_simple
from bcrit.tuner.training.noise_scale.ratio import Ratio, SimpleScale
from bcrit.tuner.training.noise_scale.temperature import optimal_lr, temperature

__all__ = [
    # along training, from the micro-batches or ranks of each step
    "NoiseScale",
    # at one checkpoint: from single examples, and from one-step line searches
    "example_loss",
    "mixing_layer",
    "parameters_of",
    "measure_b_simple",
    "measure_b_noise",
    "line_search",
    "fit_line_search",
    # what they return
    "Ratio",
    "SimpleScale",
    "CurvedScale",
    "LineSearch",
    "LineFit",
    # formulas
    "two_batches",
    "unbiased_pair",
    "optimal_lr",
    "temperature",
    "ExactScale",
    "of_quadratic",
]
