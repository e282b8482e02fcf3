"""The noisy quadratic model: the exact expected risk of stochastic training, without sampling and without data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.batch_schedule import Progress, State
from bcrit.tuner.training.noise_scale.ratio import ExactScale, of_quadratic
from bcrit.tuner.training.reported import RunState, load_state, state_of
from bcrit.tuner.training.settings import Settings, learning_rate

# How one update moves the second moments of a quadratic's coordinate and velocity, for each optimizer: in each
# dimension the gradient is g = h x + xi with E xi = 0, E xi^2 = n, independent of (x, v). Every optimizer here is a
# linear map of (x, v) and xi, so its second moments follow a linear map of their own, exactly. The velocity is
# PyTorch's, v' = momentum v + g, and holds no learning rate, so the maps hold under any schedule. Notation as in Zhang
# et al. 2019, whose own recursion for the heavy ball has the learning rate in the velocity and holds it constant.

Vector = NDArray[np.float64]
"""One number for each dimension, shape (dimensions,)."""

Update = tuple[Vector, Vector]
"""m' = matrix m + noise, for k moments: matrix (k, k, dimensions) and noise (k, dimensions)."""

_MOST = 1_000_000
"""Dimensions, a hundred times as many as the paper's; 10^9 filled the memory before anything ran. Chosen."""


def _sgd(lr: float, momentum: float, h: Vector, n: Vector) -> Update:
    """Plain: x' = (1 - lr h) x - lr xi, so that E x'^2 = (1 - lr h)^2 E x^2 + lr^2 n needs no other moment."""
    return ((1.0 - lr * h) ** 2)[None, None], (lr**2 * n)[None]


def _momentum(lr: float, momentum: float, h: Vector, n: Vector) -> Update:
    """Heavy ball: v' = momentum v + g and x' = x - lr v' = (1 - lr h) x - lr momentum v - lr xi."""
    return _pair(x=(1.0 - lr * h, -lr * momentum, -lr), v=(h, momentum, 1.0), n=n)


def _nesterov(lr: float, momentum: float, h: Vector, n: Vector) -> Update:
    """Nesterov: v' = momentum v + g and x' = x - lr (g + momentum v') = x - lr (1 + momentum) g - lr momentum^2 v."""
    ahead = lr * (1.0 + momentum)
    return _pair(x=(1.0 - ahead * h, -lr * momentum**2, -ahead), v=(h, momentum, 1.0), n=n)


def _pair(x: tuple[Vector, float, float], v: tuple[Vector, float, float], n: Vector) -> Update:
    """The moments (E x^2, E x v, E v^2) of the map x' = p x + q v + e xi, v' = r x + s v + f xi, with E xi^2 = n.

    They are the products of the two lines, term by term; those with a single xi have mean 0.
    """
    (p, q, e), (r, s, f) = x, v
    matrix, noise = np.empty((3, 3, len(n))), np.empty((3, len(n)))
    matrix[0, 0], matrix[0, 1], matrix[0, 2], noise[0] = p * p, 2.0 * p * q, q * q, e * e * n
    matrix[1, 0], matrix[1, 1], matrix[1, 2], noise[1] = p * r, p * s + q * r, q * s, e * f * n
    matrix[2, 0], matrix[2, 1], matrix[2, 2], noise[2] = r * r, 2.0 * r * s, s * s, f * f * n
    return matrix, noise


MOMENTS: Final[dict[str, Callable[[float, float, Vector, Vector], Update]]] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
}
"""By optimizer, the update of (learning rate, momentum, h, n), of `E x^2` first; named as in training."""


class NoisyQuadratic:
    """Loss 1/2 sum_i h_i x_i^2 with gradient h_i x_i + xi_i, xi_i ~ N(0, c_i / batch_size) (Zhang et al. 2019).

    The metric `risk` is the expectation of the loss over the gradient noise and the start, computed exactly from the
    second moments; infinite where it overflows. By default h_i = c_i = 1/i and E x_i(0)^2 = 1 as in the paper, in 1000
    dimensions instead of 10,000. Updates are those of PyTorch's SGD.

    Example:
        >>> nqm = NoisyQuadratic(dimensions=1, start=2.0)
        >>> run = nqm.begin(Settings(batch_size=4, seed=0, optimizer="sgd", hyperparameters={"lr": 0.5}))
        >>> run.evaluate()
        {'risk': 1.0}
        >>> run.train(1)  # E x^2 = (1 - lr)^2 2 + lr^2 / 4
        >>> run.evaluate()
        {'risk': 0.28125}
    """

    unit: str = "examples"
    metrics: Mapping[str, Direction] = {"risk": Direction.MINIMIZE}
    n_examples: int | None = None
    hyperparameters: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = tuple(MOMENTS)  # its updates are formulas of its own, which others have not
    batch_plan = True  # see `bcrit.tuner.workloads.protocol`

    def __init__(
        self,
        *,
        dimensions: int | None = None,  # how many; 1000, or as many as `spectrum` has
        spectrum_exponent: float | None = None,  # p in h_i = i^-p; 1 unless `spectrum` is given
        spectrum: Sequence[float] | None = None,  # the curvatures h_i themselves
        noise_exponent: float | None = None,  # q in c_i = noise_scale i^-q
        # the c_i themselves, variances of one example's gradient, before `noise_scale`; without both of these two,
        # c_i = noise_scale h_i
        noise: Sequence[float] | None = None,
        noise_scale: float = 1.0,  # factor on every c_i
        start: float | Sequence[float] = 1.0,  # E x_i(0)^2, one number for all or one for each
        # standard deviation of log(measured risk / risk), drawn anew at every step from the run's seed
        evaluation_noise: float = 0.0,
        seed_noise: float = 0.0,  # the same, drawn once for the whole run
    ) -> None:
        """Check the options, of which some exclude each other, and fill in what is not given."""
        for name, value, other, excluded in (
            ("spectrum", spectrum, "dimensions", dimensions),
            ("spectrum", spectrum, "spectrum_exponent", spectrum_exponent),
            ("noise", noise, "noise_exponent", noise_exponent),
        ):
            if value is not None and excluded is not None:
                raise ValueError(f"'{name}' and '{other}' exclude each other, but both are given; remove one")
        if dimensions is not None and (type(dimensions) is not int or not 1 <= dimensions <= _MOST):
            rule = f"'dimensions' must be a whole number from 1 to {_MOST:,}"
            raise ValueError(f"{rule}, but it is {dimensions!r}; try 1000")
        if spectrum is not None:
            self.spectrum = _each("spectrum", spectrum)
        else:
            n = 1000 if dimensions is None else dimensions
            self.spectrum = _powers(n, "spectrum_exponent", 1.0 if spectrum_exponent is None else spectrum_exponent)
        n, shape = len(self.spectrum), self.spectrum
        if noise is not None:
            shape = _each("noise", noise, n)
        elif noise_exponent is not None:
            shape = _powers(n, "noise_exponent", noise_exponent)
        self.noise = _one("noise_scale", noise_scale) * shape
        self.start = _each("start", start, n) if isinstance(start, Sequence) else np.full(n, _one("start", start))
        self.evaluation_noise = _one("evaluation_noise", evaluation_noise)
        self.seed_noise = _one("seed_noise", seed_noise)

    @property
    def deterministic(self) -> bool:
        """Without noises of its own every seed has the same run."""
        return self.evaluation_noise == self.seed_noise == 0

    def begin(self, settings: Settings) -> NoisyQuadraticRun:
        """Start a run."""
        return NoisyQuadraticRun(self, settings)


class NoisyQuadraticRun:
    """Steps the second moments of all dimensions at once: 8 us in 1000 dimensions, 28 us where the rate changes."""

    changes = ("_moments", "_lr", "_batch_size", "_step", "_examples")  # see `bcrit.tuner.training.reported`

    def __init__(self, workload: NoisyQuadratic, settings: Settings) -> None:
        if settings.optimizer not in MOMENTS:
            raise ValueError(f"there is no optimizer {settings.optimizer!r}; choose one of {', '.join(MOMENTS)}")
        self._workload = workload
        self._settings = settings
        self._step = self._examples = 0
        self._batch_size = settings.batch_size
        self._use(learning_rate(settings.hyperparameters, 0))
        self._moments = np.zeros_like(self._noise)  # (1 or 3, dimensions): E x^2, and where needed E x v, E v^2
        self._moments[0] = workload.start
        self._products = np.empty_like(self._matrix)

    def _use(self, lr: float) -> None:
        self._lr = lr
        noise = self._workload.noise / self._batch_size
        update = MOMENTS[self._settings.optimizer]
        self._matrix, self._noise = update(lr, self._settings.number("momentum"), self._workload.spectrum, noise)

    def train(self, steps: int) -> None:
        """Make this many optimizer updates."""
        # A loop over the steps and not a power of the matrix: the same bits however the steps are divided into calls.
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging run overflows; `evaluate` says so
            for _ in range(steps):
                lr, batch_size = self._next()
                if lr != self._lr or batch_size != self._batch_size:
                    self._batch_size = batch_size
                    self._use(lr)
                np.multiply(self._matrix, self._moments, out=self._products)
                np.add.reduce(self._products, axis=1, out=self._moments)
                self._moments += self._noise
                self._step += 1
                self._examples += batch_size

    def _next(self) -> tuple[float, int]:
        """Learning rate and batch size of the next update."""
        plan, batch_size, lr = self._settings.batches, self._settings.batch_size, None
        if plan is not None:
            before = self._batch_size if self._step else None
            batch_size, lr = plan.decide(State(self._step, self._examples, before, self.scale.b_noise))
        return (learning_rate(self._settings.hyperparameters, self._step) if lr is None else lr), batch_size

    def state(self) -> RunState:
        """What decides how the run goes on."""
        return state_of(self)

    def load(self, state: RunState) -> None:
        """Go on from there."""
        load_state(self, state)
        self._use(self._lr)

    @property
    def scale(self) -> ExactScale:
        """The exact noise scales at the present second moments."""
        return of_quadratic(self._workload.spectrum, self._workload.noise, self._moments[0])

    @property
    def progress(self) -> Progress | None:
        """How far a run with a plan of batch sizes has come; None without one."""
        if self._settings.batches is None:
            return None
        return Progress(self._examples, self._batch_size if self._step else None, self.scale.b_noise)

    def evaluate(self) -> Mapping[str, float]:
        """The expected loss, times the log-normal noises; infinite where it overflows."""
        with np.errstate(over="ignore", invalid="ignore"):
            risk = 0.5 * float(self._workload.spectrum @ self._moments[0])
        if not math.isfinite(risk):
            return {"risk": math.inf}
        # Rounding can leave a risk that has fallen by 16 orders of magnitude just below 0.
        risk = max(risk, 0.0)
        # Keyed by the step, so that the noise depends neither on how often nor on when else the run was evaluated.
        seed = self._settings.seed
        run, evaluation = (np.random.default_rng(key).standard_normal() for key in ((seed, 0), (seed, 1, self._step)))
        exponent = self._workload.seed_noise * run + self._workload.evaluation_noise * evaluation
        return {"risk": risk * math.exp(exponent)}


def _one(name: str, value: float) -> float:
    """Check an option that is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
        raise ValueError(f"'{name}' must be a finite number of at least 0, but it is {value!r}; give 1.0, say")
    return float(value)


def _powers(dimensions: int, name: str, exponent: float) -> Vector:
    """The powers i^-exponent for i = 1 ... dimensions."""
    return np.asarray(np.arange(1.0, dimensions + 1.0) ** -_one(name, exponent))


def _each(name: str, values: Sequence[float], dimensions: int | None = None) -> Vector:
    """Check an option that is a list with one number for each dimension."""
    if not isinstance(values, Sequence) or len(values) == 0:
        raise ValueError(f"'{name}' must be a list of numbers, but it is {values!r}; write [1.0, 0.5], say")
    if dimensions is not None and len(values) != dimensions:
        raise ValueError(
            f"'{name}' must have one number for each dimension, but it has {len(values)} for {dimensions} dimensions; "
            "make the lists equally long"
        )
    return np.array([_one(f"{name}[{i}]", value) for i, value in enumerate(values)])
