"""Models of a policy and a critic by name, with the sizes that an experiment may change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor, nn

from bcrit.search_spaces.options import Frozen
from bcrit.tuner.workloads.models.catalogue import read_model
from bcrit.tuner.workloads.options import Width, Widths


class ActorCritic(nn.Module):
    """Observations to the policy's logits, shape (n, n_actions), and the critic's values, shape (n,)."""

    def __init__(self, policy: nn.Module, critic: nn.Module | None, width: int, n_actions: int) -> None:
        """Put the heads on.

        Args:
            policy: observations to features, shape (n, width).
            critic: the same for the critic; None = it shares the policy's.
            width: of the features.
            n_actions: of the environment.
        """
        super().__init__()
        self.policy, self.critic = policy, critic
        # The gains of OpenAI's baselines: nearly uniform actions at first.
        self.logits = _orthogonal(nn.Linear(width, n_actions), gain=0.01)
        self.value = _orthogonal(nn.Linear(width, 1), gain=1.0)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and values."""
        features = self.policy(observations)
        critic = features if self.critic is None else self.critic(observations)
        return self.logits(features), self.value(critic).squeeze(1)


class Sizes(Frozen):
    """A model and its sizes.

    Attributes:
        shared: whether policy and critic share all layers but the last (Mnih et al. 2016).
    """

    shared: bool = True

    def build(self, shape: Sequence[int], n_actions: int) -> ActorCritic:
        """A freshly initialised model for observations of this shape.

        Args:
            shape: of one observation.
            n_actions: of the environment.

        Returns:
            The model; a shape that it cannot take is a ValueError.
        """
        policy, width = self.features(shape)
        return ActorCritic(policy, None if self.shared else self.features(shape)[0], width, n_actions)

    def features(self, shape: Sequence[int]) -> tuple[nn.Module, int]:
        """All layers but the last, and how many features come out of them."""
        raise NotImplementedError


class Mlp(Sizes):
    """Hidden layers with tanh; 64-64 are those of OpenAI's baselines."""

    widths: Widths = (64, 64)

    def features(self, shape: Sequence[int]) -> tuple[nn.Module, int]:
        """Flat observations, and hidden layers of these widths."""
        layers: list[nn.Module] = [nn.Flatten()]
        before = math.prod(shape)
        for width in self.widths:
            layers += [_orthogonal(nn.Linear(before, width), math.sqrt(2.0)), nn.Tanh()]
            before = width
        return nn.Sequential(*layers), before


class Cnn(Sizes):
    """Three convolutions and a hidden layer with ReLU, for stacked screens of bytes (Mnih et al. 2015)."""

    filters: tuple[Width, Width, Width] = (32, 64, 64)
    hidden: Width = 512

    def features(self, shape: Sequence[int]) -> tuple[nn.Module, int]:
        """Screens (channels, height, width) of bytes, divided by 255.

        Args:
            shape: of one observation.

        Returns:
            The layers, and the width of the last.

        Raises:
            ValueError: observations are no screens, or too small for the convolutions.
        """
        if len(shape) != 3 or min(shape[1:]) < 36:
            raise ValueError(
                f"model 'cnn' takes screens (channels, height, width) of at least 36 x 36 pixels, but an observation "
                f"has the shape {tuple(shape)}; use model 'mlp'"
            )
        channels, height, width = shape
        layers: list[nn.Module] = [_Bytes()]
        for filters, size, stride in zip(self.filters, (8, 4, 3), (4, 2, 1), strict=True):
            layers += [_orthogonal(nn.Conv2d(channels, filters, size, stride), math.sqrt(2.0)), nn.ReLU()]
            channels, height, width = filters, (height - size) // stride + 1, (width - size) // stride + 1
        hidden = _orthogonal(nn.Linear(channels * height * width, self.hidden), math.sqrt(2.0))
        return nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU()), self.hidden


class _Bytes(nn.Module):
    """Screens stay bytes until the model reads them."""

    def forward(self, screens: Tensor) -> Tensor:
        """From 0 to 1."""
        return screens / 255.0


def _orthogonal(layer: nn.Linear | nn.Conv2d, gain: float) -> nn.Module:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


_FAMILIES: Final[dict[str, type[Sizes]]] = {"mlp": Mlp, "cnn": Cnn}


def read_actor_critic(given: Any) -> Sizes:
    """Find a model and its sizes.

    Args:
        given: `mlp` or `cnn`, or a mapping of `name` and sizes.

    Returns:
        The sizes; a model or size that does not exist is a ValueError.
    """
    return read_model(given, _FAMILIES, {})
