"""The loss of actor-critic training, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Coefficients:
    """What decides the loss beside the frames.

    Attributes:
        gamma: discount of rewards, a frame.
        gae_lambda: see `advantages`; 1 = n-step returns.
        value: factor of the critic's squared error.
        entropy: factor of the policy's entropy.
    """

    gamma: float
    gae_lambda: float
    value: float
    entropy: float

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ValueError: a number is out of its range.
        """
        for name, number in (("gamma", self.gamma), ("gae_lambda", self.gae_lambda)):
            if not 0.0 <= number <= 1.0:
                raise ValueError(f"'{name}' must lie in [0, 1], but it is {number!r}; 0.99 and 1 are usual")
        for name, number in (("value_coefficient", self.value), ("entropy_coefficient", self.entropy)):
            if not 0.0 <= number < float("inf"):
                raise ValueError(f"'{name}' must be a finite number from 0, but it is {number!r}; try 0.5 and 0.01")


def losses(
    logits: Tensor, values: Tensor, actions: Tensor, advantages: Tensor, returns: Tensor, coefficients: Coefficients
) -> Tensor:
    """The loss of each frame (Mnih et al. 2016, section 4 and algorithm S3).

        -log pi(a|s) A + value_coefficient (R - V(s))^2 - entropy_coefficient H(pi(.|s))

    A and R are constants: they were computed from the values at the weights that acted.

    Args:
        logits: of the policy, shape (n, n_actions).
        values: V(s), shape (n,).
        actions: those taken, shape (n,).
        advantages: A, shape (n,).
        returns: R = A + V(s) at the weights that acted, shape (n,).
        coefficients: as above.

    Returns:
        Shape (n,); H is in nats.
    """
    log_policy = logits.log_softmax(dim=1)
    taken = log_policy.gather(1, actions[:, None]).squeeze(1)
    entropy = -(log_policy.exp() * log_policy).sum(dim=1)
    return coefficients.value * (returns - values).square() - taken * advantages - coefficients.entropy * entropy
