"""Policy gradients: an actor and a critic learn (A2C) in an environment of gymnasium; a batch is made of frames."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.presets import FROM_ZERO, SHARE, Domain
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.data import device_for
from bcrit.tuner.training.policy_gradient import METRIC, Coefficients, Episodes, PolicyGradientRun, Rollouts
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.data import library
from bcrit.tuner.workloads.places import check_place, reach
from bcrit.tuner.workloads.protocol import Width, Widths, number, read_model, switch, whole

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


class PolicyGradient:
    """Synchronous advantage actor-critic (Mnih et al. 2016) in one environment; its batch size counts frames.

    A batch is n_environments x rollout_length frames, n_environments = batch_size / rollout_length: a larger batch has
    more environments (McCandlish et al. 2018, appendix A.4) and never longer rollouts, which would change the returns.
    A frame is one action, also where the environment shows it for several screens. Of the environments' own resets, one
    step in an episode, nothing is learned; they count among the frames.

    `val_return` is the mean undiscounted return of whole episodes in environments of their own, with the same seeds at
    every evaluation, batch size and seed of a run. `gamma`, `gae_lambda`, `value_coefficient` and
    `entropy_coefficient` may be searched; the options are their values where they are not.

    Frames of one rollout follow from each other under one policy, so that a batch is worth fewer independent examples
    than it has frames: a gradient noise scale of this workload must compare whole environments, not single frames.
    """

    unit: str = "frames"
    averages = one_gpu = True  # see `bcrit.tuner.workloads.protocol`
    metrics: Mapping[str, Direction] = {METRIC: Direction.MAXIMIZE}
    hyperparameters: tuple[str, ...] = ("gamma", "gae_lambda", "value_coefficient", "entropy_coefficient")
    domains: Mapping[str, Domain] = {  # what values they can have at all, so that a box is never widened beyond
        "gamma": SHARE,
        "gae_lambda": SHARE,
        "value_coefficient": FROM_ZERO,
        "entropy_coefficient": FROM_ZERO,
    }

    def __init__(
        self,
        environment: str = "CartPole-v1",  # id of one of gymnasium's (`ALE/Pong-v5`, `my_module:MyEnvironment-v0`)
        environment_options: Mapping[str, Any] | None = None,  # its keyword arguments
        model: Any = "mlp",  # `mlp`, `cnn`, or a mapping of name and sizes (`Mlp`, `Cnn`)
        rollout_length: int = 5,  # steps of each environment an update; 5 in Mnih et al. 2016, McCandlish et al. 2018
        gamma: float = 0.99,  # discount of rewards, a frame
        gae_lambda: float = 1.0,  # of generalised advantage estimation; 1 = n-step returns, as in Mnih et al. 2016
        value_coefficient: float = 0.5,  # factor of the critic's squared error
        entropy_coefficient: float = 0.01,  # factor of the policy's entropy
        normalise_advantages: bool = False,  # give those of a batch mean 0 and deviation 1
        clip_rewards: bool = False,  # cut training's rewards to [-1, 1], as for Atari (Mnih et al. 2015)
        # How many an evaluation has, all at once. Their length is what takes time and not their number, where they are
        # vectorised: a step of 16 cart poles takes 68 us, of 64 takes 81.
        evaluation_episodes: int = 32,
        evaluation_steps: int = 1000,  # an episode is evaluated for at most so many; chosen, not studied
        # Evaluate the likeliest action. By default actions are sampled, as in training: the return of the sampled
        # policy is what the gradient climbs.
        greedy_evaluation: bool = False,
    ) -> None:
        """Read the options; no environment is made yet. Defaults without a source are those of OpenAI's baselines."""
        whole("rollout_length", rollout_length)
        whole("evaluation_episodes", evaluation_episodes)
        whole("evaluation_steps", evaluation_steps)
        coefficients = (gamma, gae_lambda, value_coefficient, entropy_coefficient)
        for name, coefficient in zip(self.hyperparameters, coefficients, strict=True):
            number(name, coefficient)
        switch("normalise_advantages", normalise_advantages)
        switch("clip_rewards", clip_rewards)
        switch("greedy_evaluation", greedy_evaluation)
        if not isinstance(environment, str):
            raise ValueError(f"'environment' must be an id such as CartPole-v1, but it is {environment!r}")
        if not isinstance(environment_options, Mapping | None):
            raise ValueError(f"'environment_options' must be a mapping, but it is {environment_options!r}")
        self._environment, self._environment_options = environment, dict(environment_options or {})
        self._model = read_model(model, FAMILIES, {})
        self._rollout_length, self._coefficients = rollout_length, Coefficients(*coefficients)
        self._normalise, self._clip = normalise_advantages, clip_rewards
        self._episodes, self._steps, self._greedy = evaluation_episodes, evaluation_steps, greedy_evaluation

    @cached_property
    def n_examples(self) -> int | None:
        """None: frames are made as they are needed. The first use makes the environment and a model for it."""
        self._model.build(*self._shapes)
        return None

    def rows(self, batch_size: int) -> int:
        """Rows of a batch: the batch size itself; where it is no whole number of rollouts, a ValueError says so."""
        if batch_size % self._rollout_length:
            raise ValueError(
                f"a batch of frames must be whole rollouts, but {batch_size} frames are no multiple of "
                f"rollout_length={self._rollout_length}; choose batch sizes that are, or another rollout_length"
            )
        return batch_size

    def model(self, settings: Settings) -> nn.Module:
        """A freshly initialised model for the environment's observations and actions."""
        return self._model.build(*self._shapes)

    def begin(self, settings: Settings) -> PolicyGradientRun:
        """Start a run, in environments of its own."""
        device, length = device_for(settings.gpus), self._rollout_length
        rollouts = self._made(self.rows(settings.batch_size) // length)
        coefficients = Coefficients(*map(settings.number, self.hyperparameters, astuple(self._coefficients)))
        return PolicyGradientRun(
            settings,
            self.model,
            Rollouts(rollouts, length, settings.seed, self._clip, device),
            Episodes(self._made(self._episodes), self._steps, self._greedy, device),
            coefficients,
            self._normalise,
            device,
        )

    def _made(self, n: int) -> "VectorEnv[Any, Any, Any]":
        return make_environments(self._environment, self._environment_options, n)

    @cached_property
    def _shapes(self) -> tuple[tuple[int, ...], int]:
        return shapes(self._environment, self._environment_options)


class ActorCritic(nn.Module):
    """Observations to the policy's logits, shape (n, n_actions), and the critic's values, shape (n,)."""

    def __init__(self, policy: nn.Module, critic: nn.Module | None, width: int, n_actions: int) -> None:
        """Put the heads on: both take features, shape (n, width); without a critic it shares the policy's."""
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
    """A model and its sizes."""

    shared: bool = True  # whether policy and critic share all layers but the last (Mnih et al. 2016)

    def build(self, shape: Sequence[int], n_actions: int) -> ActorCritic:
        """A freshly initialised model for observations of this shape; one that it cannot take is a ValueError."""
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
        """Screens (channels, height, width) of bytes, divided by 255."""
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


FAMILIES: Final[dict[str, type[Sizes]]] = {"mlp": Mlp, "cnn": Cnn}
"""By the name that an experiment gives."""


def make_environments(name: str, options: Mapping[str, Any], n: int) -> "VectorEnv[Any, Any, Any]":
    """Copies of an environment that step together in this process, vectorised where gymnasium has it so.

    Atari's games come vectorised with their preprocessing (as in Mnih et al. 2015: each action for 4 screens, the
    brighter of the last two, grey, 84 x 84, the last 4 stacked, up to 30 idle steps at the start). Rewards stay as the
    game gives them, and the emulators take as many threads as PyTorch; `options` can change both. All reset themselves
    as `bcrit.tuner.training.policy_gradient` says; any that do otherwise, or cannot be made, are a ValueError.

    The name is the environment's id, `module:Id-v0` for one that a module of the user's registers.
    """
    needs = f"the environment '{name}' needs the library"
    gymnasium = library("gymnasium", f"{needs} 'gymnasium'", "rl")
    if name.startswith("ALE/"):
        gymnasium.register_envs(library("ale_py", f"{needs} 'ale_py'", "atari"))
        options = {"reward_clipping": False, "num_threads": torch.get_num_threads(), **options}
    if ":" in name:  # as for a workload of the user's own
        reach(os.getcwd())
        check_place(name.partition(":")[0], f"environment '{name}'")
    try:
        made: VectorEnv[Any, Any, Any] = gymnasium.make_vec(name, n, **options)
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise ValueError(
            f"environment '{name}' cannot be made with the options {dict(options)}: {type(error).__name__}: {error}; "
            "correct its id or its options"
        ) from error
    if made.metadata.get("autoreset_mode") is not gymnasium.vector.AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"environments must reset themselves at the step after an episode's end (AutoresetMode.NEXT_STEP), but "
            f"'{name}' does not; remove its vector_entry_point, then gymnasium steps copies of it one by one"
        )
    return made


def shapes(name: str, options: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
    """What a model must read and give: the shape of an observation, and the number of actions."""
    from gymnasium.spaces import Box, Discrete

    made = make_environments(name, options, 1)
    seen, acted = made.single_observation_space, made.single_action_space
    made.close()
    if not isinstance(seen, Box):
        raise ValueError(f"observations must be arrays of numbers (Box), but '{name}' gives {seen}; choose another")
    if not isinstance(acted, Discrete) or acted.start != 0:
        raise ValueError(f"actions must be numbered from 0 (Discrete), but '{name}' takes {acted}; choose another")
    return seen.shape, int(acted.n)
