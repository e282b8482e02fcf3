"""The gradient noise scale, in anybody's training loop (`NoiseScale`) or at one checkpoint.

Words: G is the mean gradient and Sigma the covariance of one example's, H the Hessian of the mean loss, lr a learning
rate of plain SGD. b_simple = tr(Sigma) / |G|^2 and b_noise = tr(H Sigma) / (G'HG) (McCandlish et al. 2018, eqs 2.9 and
2.8). Both are in the unit of the rows counted: examples, or tokens where a row is one.
"""

from bcrit.tuner.training.noise_scale.monitor import NoiseScale
from bcrit.tuner.training.noise_scale.per_example import (
    CurvedScale,
    example_loss,
    measure_b_noise,
    measure_b_simple,
    mixing_layer,
    parameters_of,
)
from bcrit.tuner.training.noise_scale.ratio import ExactScale, Ratio, SimpleScale, of_quadratic, unbiased_pair

__all__ = [
    # along training, from the micro-batches or ranks of each step
    "NoiseScale",
    # at one checkpoint: from single examples
    "example_loss",
    "mixing_layer",
    "parameters_of",
    "measure_b_simple",
    "measure_b_noise",
    # what they return
    "Ratio",
    "SimpleScale",
    "CurvedScale",
    # formulas
    "unbiased_pair",
    "ExactScale",
    "of_quadratic",
]
