"""What is known of the named hyperparameters: their natural domains, which optimizer has them, and default boxes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal


@dataclass(frozen=True)
class Domain:
    """The values that a hyperparameter can have at all: (low, high], [low, high) and so on.

    Nothing lies beyond a natural domain, so an optimum on its edge is a finding and not a fault of the box.
    """

    low: float
    high: float
    includes_low: bool
    includes_high: bool

    def __str__(self) -> str:
        opening, closing = "[" if self.includes_low else "(", "]" if self.includes_high else ")"
        return f"{opening}{self.low:g}, {self.high:g}{closing}"

    def contains(self, value: float) -> bool:
        """Whether a value is possible."""
        above = value >= self.low if self.includes_low else value > self.low
        return above and (value <= self.high if self.includes_high else value < self.high)


_INFINITY = float("inf")
_POSITIVE = Domain(0.0, _INFINITY, includes_low=False, includes_high=False)
FROM_ZERO: Final = Domain(0.0, _INFINITY, includes_low=True, includes_high=False)
_BELOW_ONE = Domain(0.0, 1.0, includes_low=True, includes_high=False)
_FROM_ONE = Domain(1.0, _INFINITY, includes_low=True, includes_high=False)
SHARE: Final = Domain(0.0, 1.0, includes_low=True, includes_high=True)

DOMAINS: Final = {
    "lr": _POSITIVE,
    "momentum": _BELOW_ONE,
    "beta1": _BELOW_ONE,
    "beta2": _BELOW_ONE,
    "eps": _POSITIVE,
    "weight_decay": FROM_ZERO,
    "decoupled_weight_decay": FROM_ZERO,
    "trust_coefficient": _POSITIVE,
    "extrapolation_lr": FROM_ZERO,
    "local_batch_size": _FROM_ONE,
    "end_factor": SHARE,
    "decay_fraction": _POSITIVE,
    "warmup_fraction": SHARE,
    "warmup_steps": FROM_ZERO,
    "stable_share": _BELOW_ONE,
    "drop_factor": SHARE,
    "drops": _FROM_ONE,
    "first_drop": SHARE,
    "ema_decay": _BELOW_ONE,
    "ema_examples": _POSITIVE,
    "label_smoothing": _BELOW_ONE,
    "dropout": _BELOW_ONE,
}


@dataclass(frozen=True)
class Parameters:
    """The hyperparameters of an optimizer."""

    needed: tuple[str, ...]  # those that a search space must hold
    # Those that it may hold; without them the optimizer takes PyTorch's defaults, but no weight decay.
    optional: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return self.needed + self.optional


# Coupled: L2 in the gradient, g + weight_decay x. Decoupled: x is first multiplied by 1 - lr decoupled_weight_decay
# (Loshchilov and Hutter 2017). Where only `weight_decay` stands beside an optimizer, the comment says which it is.
_DECAYS = ("weight_decay", "decoupled_weight_decay")
_ADAM = ("beta1", "beta2", "eps")
_PLAIN: Final = {
    "sgd": Parameters(("lr",), _DECAYS),
    "momentum": Parameters(("lr", "momentum"), _DECAYS),
    "nesterov": Parameters(("lr", "momentum"), _DECAYS),
    "adam": Parameters(("lr",), (*_ADAM, *_DECAYS, "amsgrad")),
    "adamw": Parameters(("lr",), (*_ADAM, "weight_decay", "amsgrad")),  # decoupled
    "nadam": Parameters(("lr",), (*_ADAM, *_DECAYS, "momentum_decay")),
    "rmsprop": Parameters(("lr",), ("alpha", "eps", *_DECAYS, "momentum", "centered")),
    "adagrad": Parameters(("lr",), ("lr_decay", *_DECAYS, "initial_accumulator_value", "eps")),
    "muon": Parameters(  # decoupled
        ("lr",), ("momentum", "nesterov", "ns_steps", "adjust_lr_fn", *_ADAM, "weight_decay")
    ),
    "lars": Parameters(("lr", "momentum"), ("trust_coefficient", "weight_decay")),  # coupled, inside the trust ratio
    "lamb": Parameters(("lr",), (*_ADAM, "weight_decay")),  # beside Adam's direction, inside the trust ratio
}

EXTRAPOLATED: Final = {f"extrap_{base}": base for base in ("sgd", "momentum", "adam", "adamw")}
"""The optimizers that take their gradient at an extrapolated point (Lin et al. 2020), and what each is built on."""

EXTRAPOLATIONS: Final = {"past": 1, "fresh": 2, "gaussian": 1, "velocity": 1}
"""Whereto a gradient is extrapolated, and how many gradients of each example one update then takes;
`bcrit.tuner.training.updates` has the formulas."""

OPTIMIZERS: Final = _PLAIN | {
    name: Parameters(
        (*_PLAIN[base].needed, "extrapolation_lr"), (*_PLAIN[base].optional, "extrapolation", "local_batch_size")
    )
    for name, base in EXTRAPOLATED.items()
}
"""The hyperparameters of the well-known optimizers (sgd, momentum, nesterov as in Shallue et al. 2018).

`momentum` is the heavy ball. Any other class of `torch.optim` can be named too; PyTorch knows what it takes.
"""

OWN: Final = "own"
"""The optimizer of an experiment whose training function has its own: any name in the space is the function's."""

_SUMMED: Final = {"momentum", "nesterov", "lars", "rmsprop", "extrap_momentum", OWN}


def has_effective_lr(optimizer: str) -> bool:
    """Whether lr / (1 - momentum) is what matters where steps are small: the velocity is a sum, v = momentum v + g.

    So it is for the heavy ball and Nesterov, for LARS, whose ratio stands inside the sum, and for RMSprop, whose
    velocity sums normalised gradients. A velocity that is a mean, v = momentum v + (1 - momentum) g, as Adam's, does
    not grow with momentum, and Muon's update has the same norm whatever its velocity's is. What a training function
    of the user's calls momentum is taken for SGD's. False also where nobody knows.
    """
    return optimizer in _SUMMED


# What PyTorch's formulas need, which is sometimes more than its classes check: at alpha or rho of 1 or more the mean of
# squares never moves, or its root does not exist.
_OF_OPTIMIZER: Final = {
    "rmsprop": {"alpha": _BELOW_ONE},
    "adagrad": {"lr_decay": FROM_ZERO, "initial_accumulator_value": FROM_ZERO},
    "adadelta": {"rho": _BELOW_ONE},
    "nadam": {"momentum_decay": FROM_ZERO},
    "muon": {"ns_steps": _FROM_ONE},
    "asgd": {"lambd": FROM_ZERO, "alpha": FROM_ZERO, "t0": FROM_ZERO},
    "rprop": {
        "eta1": Domain(0.0, 1.0, includes_low=False, includes_high=False),
        "eta2": Domain(1.0, _INFINITY, includes_low=False, includes_high=False),
        "step_size1": _POSITIVE,
        "step_size2": _POSITIVE,
    },
    "adafactor": {
        "beta2_decay": Domain(-_INFINITY, 0.0, includes_low=False, includes_high=True),
        "eps1": FROM_ZERO,
        "eps2": FROM_ZERO,
        "d": _FROM_ONE,
    },
}


def domains_of(optimizer: str) -> dict[str, Domain]:
    """The natural domains where this optimizer (in lower case) makes the updates; under another, `alpha` is free."""
    return {**DOMAINS, **_OF_OPTIMIZER.get(optimizer, {})}


# The end factor reaches down to 0 (a fixed 0.01 costs 4 to 110 % more steps) and the decay length is searched freely as
# a share of the study's step budget: measured on the noisy quadratic model.
_DECAY: Final[dict[str, str | float]] = {"end_factor": "linear from 0 to 1", "decay_fraction": "log from 0.05 to 1"}
SCHEDULES: Final[dict[str, dict[str, str | float]]] = {
    "constant": {},
    "linear": _DECAY,
    "cosine": _DECAY,
    # Drops at one half and at the end of the decay, as He et al. 2015 drop at 1/2 and 3/4 of a run that goes on.
    "step": {
        "drop_factor": "log from 0.01 to 0.5",
        "drops": 2,
        "first_drop": 0.5,
        "decay_fraction": "log from 0.05 to 1",
    },
    # At stable_share 0 it is `linear`; 0.8 to 0.9 is usual (Haegele et al. 2024). Where no warm-up is needed, fix it
    # at 0: searched in vain it cost 6 to 72 % more steps on the noisy quadratic model (medians of 5 seeds, 40 trials).
    "wsd": {"warmup_fraction": "linear from 0 to 0.1", "stable_share": "linear from 0 to 0.95", **_DECAY},
}
"""The default search space of each schedule's own parameters."""

WARMUP: Final = ("warmup_fraction", "warmup_steps")
"""Either may stand beside any schedule, or in the space itself for all of them; without one there is no warm-up."""

AVERAGING: Final = ("ema_decay", "ema_examples")
"""Either switches on weight averaging: every metric is then also measured at the average, with the suffix below."""

AVERAGED: Final = "_ema"
"""Suffix of the metrics of the averaged weights."""

STEPS_OF: Final = {"decay_fraction": "decay_steps", "warmup_fraction": "warmup_steps"}
"""Shares of a study's step budget, and the column that records each in optimizer updates."""


def derived(point: Mapping[str, Any]) -> set[str]:
    """The names in a point, or a row, that were computed from others of it and are no hyperparameters of their own.

    None and NaN stand for a name that is not there.
    """
    return {steps for share, steps in STEPS_OF.items() if (value := point.get(share)) is not None and value == value}


Scale = Literal["log", "reverse_log", "linear"]

# They average over 1 / (1 - value) steps, which is what is searched (Shallue et al. 2018: REVERSE_LOG for momentum).
_AVERAGES: Final = ("momentum", "beta1", "beta2", "beta_1", "beta_2", "ema_decay")
# Positive values that span this factor were chosen on a logarithmic scale, as learning rates and weight decays are.
# Chosen, not studied.
_WIDE: Final = 10.0


def tried_scale(name: str, low: float, high: float) -> Scale:
    """Guess the scale in which equal distances between values matter equally.

    Momentum and the like are on the scale of log(1 - value), learning rates on that of log(value), other positive
    values on the latter when they span a factor of ten. Shares, whose natural domain is [0, 1], are linear, as is all
    else whose smallest and largest values another scale cannot tell apart.
    """
    if name in _AVERAGES and 0 <= low and high < 1 and math.log1p(-high) < math.log1p(-low):
        return "reverse_log"
    domain = DOMAINS.get(name)
    if low <= 0 or (domain is not None and domain.includes_high):
        return "linear"
    span = math.log(high) - math.log(low)
    return "log" if span > 0 and (name == "lr" or high / low >= _WIDE) else "linear"
