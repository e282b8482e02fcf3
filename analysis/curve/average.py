"""Steps read off a fit: by curves whose shape is free, so that intervals hold what the hyperbola leaves out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from bcrit.analysis.curve.interval import BEND_FREEDOM, rounding
from bcrit.analysis.curve.likelihood import EXACT
from bcrit.analysis.curve.other_curves import Model
from bcrit.analysis.numbers import Floats, t_quantile

if TYPE_CHECKING:
    from bcrit.analysis.curve import HyperbolaFit

_POWERS: Final = {"c": 0, "s_min": 0, "a": 1, "e_min": 1, "e": 1, "q": 2}
"""The power of 1/B that each coefficient of a `Model` stands with."""


@dataclass(frozen=True)
class _Member:
    """S^p = sum_i (c_i B^-i)^p with its covariance: all candidates of `other_curves.models` have this form."""

    logs: Floats  # log c_i; (k,)
    powers: Floats  # i; (k,)
    p: float
    free: bool  # whether p was fitted: then the last of the parameters is log p
    root: Floats  # s (J'J)^-1/2: the covariance of the parameters is root root'
    sigma: float  # s, of log S about this curve
    freedom: int  # reached studies less the parameters
    weight: float  # of all members: 1 in sum

    def log_steps(self, log_batch: Floats) -> tuple[Floats, Floats]:
        """Log S and its derivatives with respect to (log c_i, log p); (n,), (n, k)."""
        terms = self.p * (self.logs - self.powers * log_batch[:, None])
        total, shares = special.logsumexp(terms, axis=-1), special.softmax(terms, axis=-1)
        sharper = ((shares * terms).sum(-1) - total) / self.p
        return total / self.p, np.column_stack([shares, sharper]) if self.free else shares


@dataclass(frozen=True)
class AveragedSteps:
    """Steps to target as a function of the batch size, averaged over curves."""

    members: tuple[_Member, ...]
    level: float

    @property
    def sigma(self) -> float:
        """Standard deviation of log S about the curves."""
        return sum(member.weight * member.sigma for member in self.members)

    def steps(self, batch_sizes: npt.ArrayLike) -> Floats:
        """S(B), in steps; shape of `batch_sizes`."""
        return np.asarray(np.exp(self.log_ratio(batch_sizes)[0]).reshape(np.shape(batch_sizes)))

    def log_ratio(self, batch_sizes: npt.ArrayLike, other: npt.ArrayLike | None = None) -> Floats:
        """Log S(B), or with others log S(B) - log S(other), and the ends of its interval; (3, n).

        The mean is that of the curves by their weights w. Beyond an end lies a share of (1 - level) / 2 of the curves'
        distributions together, sum_k w_k T_k((end - log S_k) / s_k) with Student's T: the tail area of Turek and
        Fletcher (2012). For one curve that is its own t-interval.
        """
        at = [np.log(np.atleast_1d(np.asarray(each, dtype=float))) for each in (batch_sizes, other) if each is not None]
        found, errors = [], []
        for member in self.members:
            value, slopes = member.log_steps(at[0])
            if other is not None:
                less, fewer = member.log_steps(at[1])
                value, slopes = value - less, slopes - fewer
            found.append(value)
            errors.append(np.linalg.norm(slopes @ member.root, axis=-1))
        values, scales = np.array(found), np.array(errors)  # (k, n)
        weights = np.array([member.weight for member in self.members])
        freedom = np.array([[member.freedom] for member in self.members])
        halves = np.array([[t_quantile(member.freedom, self.level)] for member in self.members]) * scales
        ends = [weights @ values]
        for sign in (-1, 1):
            own = values + sign * halves
            low, high = own.min(0), own.max(0)  # the end lies between those of the curves
            for _ in range(_HALVINGS if len(own) > 1 else 0):
                middle = (low + high) / 2
                beyond = weights @ special.stdtr(freedom, sign * (values - middle) / np.maximum(scales, _LEAST))
                upward = (beyond > (1 - self.level) / 2) == (sign > 0)
                low, high = np.where(upward, middle, low), np.where(upward, high, middle)
            ends.append((low + high) / 2)
        return np.array(ends)


_HALVINGS = 20  # an end is then good to 1e-6 of how far apart those of the curves are
_LEAST = 1e-300  # what is divided by where there is no error


def averaged_steps(fit: HyperbolaFit) -> AveragedSteps:
    """The p-norm, of which the hyperbola is the one with p = 1, so that its shape is a thing to be estimated.

    Where the fit is a U that is averaged with it. Both have k = 3 parameters, so that their weights are likelihoods in
    which these and the scatter are integrated out, s^-(m - k) with s^2 = RSS / (m - k) of m reached studies (flat in
    the parameters and in log sigma, as Student's t is): at their maximum, RSS^(-m/2), six studies would count as twelve
    do. A U that does not hold stays out: it fits a part of a sharp knee, and averaged with it wherever it could be
    fitted intervals covered 88 to 96 % where p is 1.2 to 1.4. Of studies of hyperbolas and p-norms up to 4 % are taken
    for a U, which is why the p-norm stays beside it.

    Where a free shape leaves fewer than `BEND_FREEDOM` degrees of freedom (four studies), and where the points lie on
    the fit to rounding, it is the fit alone. The interval is that of the tuned curve, median steps to target, not of
    one run.
    """
    named, m = {model.name: model for model in fit.models}, len(fit.reached)
    fitted = named["hyperbola" if fit.trough is None else "u_shape"]
    shapes = [model for model in fit.models if model.name == "p_norm"] + [fitted] * (fit.trough is not None)
    free = [model for model in shapes if model.n_parameters <= m + 1 - BEND_FREEDOM]
    if fitted.rms_log_residual < EXACT or not free:
        free = [fitted]
    logs = [(model.n_parameters - 1 - m) * math.log(max(model.rms_log_residual, EXACT)) for model in free]
    weights = special.softmax(logs).tolist()
    least = rounding(fit.studies)
    members = (_member(model, np.log(fit.reached), least, w) for model, w in zip(free, weights, strict=True))
    return AveragedSteps(tuple(members), fit.level)


def _member(model: Model, log_batch: Floats, least: float, weight: float) -> _Member:
    """A curve with the covariance s^2 (J'J)^-1 of its parameters, s^2 = RSS / (m - k) and at least `least`^2."""
    numbers = {name: value for name, value in model.parameters.items() if name in _POWERS and value > 0}
    m, k = len(log_batch), model.n_parameters - 1  # without sigma
    sigma = max(model.rms_log_residual * math.sqrt(m / (m - k)), least) if m > k else math.inf
    logs, powers = np.log(list(numbers.values())), np.array([_POWERS[name] for name in numbers], dtype=float)
    p, free = model.parameters.get("p", 1.0), "p" in model.parameters
    bare = _Member(logs, powers, p, free, np.eye(1), sigma, m - k, weight)
    return replace(bare, root=np.asarray(sigma * np.linalg.pinv(bare.log_steps(log_batch)[1]), dtype=float))
