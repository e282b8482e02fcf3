"""Policy gradients: an actor and a critic learn (A2C) in an environment of gymnasium; a batch is made of frames."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from torch import nn

from bcrit.search_spaces.presets import FROM_ZERO, SHARE, Domain
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.device import device_for
from bcrit.tuner.training.policy_gradient import METRIC, Coefficients, Episodes, PolicyGradientRun, Rollouts
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.environments import make_environments, shapes
from bcrit.tuner.workloads.models.actor_critic import read_actor_critic
from bcrit.tuner.workloads.options import number, whole


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

    Attributes:
        unit: frames.
        metrics: `val_return`.
        hyperparameters: those above.
        domains: what values they can have at all, so that a box is never widened beyond.
    """

    unit: str = "frames"
    metrics: Mapping[str, Direction] = {METRIC: Direction.MAXIMIZE}
    hyperparameters: tuple[str, ...] = ("gamma", "gae_lambda", "value_coefficient", "entropy_coefficient")
    domains: Mapping[str, Domain] = {
        "gamma": SHARE,
        "gae_lambda": SHARE,
        "value_coefficient": FROM_ZERO,
        "entropy_coefficient": FROM_ZERO,
    }

    def __init__(
        self,
        environment: str = "CartPole-v1",
        environment_options: Mapping[str, Any] | None = None,
        model: Any = "mlp",
        rollout_length: int = 5,
        gamma: float = 0.99,
        gae_lambda: float = 1.0,
        value_coefficient: float = 0.5,
        entropy_coefficient: float = 0.01,
        normalise_advantages: bool = False,
        clip_rewards: bool = False,
        evaluation_episodes: int = 32,
        evaluation_steps: int = 1000,
        greedy_evaluation: bool = False,
    ) -> None:
        """Read the options; no environment is made yet. Defaults without a source are those of OpenAI's baselines.

        Args:
            environment: id of an environment of gymnasium (`ALE/Pong-v5`, `my_module:MyEnvironment-v0`).
            environment_options: its keyword arguments.
            model: `mlp`, `cnn`, or a mapping of name and sizes (`bcrit.tuner.workloads.models.actor_critic`).
            rollout_length: steps of each environment an update; 5 in Mnih et al. 2016 and McCandlish et al. 2018.
            gamma: discount of rewards, a frame.
            gae_lambda: of generalised advantage estimation; 1 = n-step returns, as in Mnih et al. 2016.
            value_coefficient: factor of the critic's squared error.
            entropy_coefficient: factor of the policy's entropy.
            normalise_advantages: give those of a batch mean 0 and deviation 1.
            clip_rewards: cut training's rewards to [-1, 1], as for Atari (Mnih et al. 2015).
            evaluation_episodes: how many an evaluation has, all at once. Their length is what takes time and not their
                number, where they are vectorised: a step of 16 cart poles takes 68 us, of 64 takes 81.
            evaluation_steps: an episode is evaluated for at most so many; chosen, not studied.
            greedy_evaluation: evaluate the likeliest action. By default actions are sampled, as in training: the
                return of the sampled policy is what the gradient climbs.

        Raises:
            ValueError: an option is wrong.
        """
        counts = {
            "rollout_length": rollout_length,
            "evaluation_episodes": evaluation_episodes,
            "evaluation_steps": evaluation_steps,
        }
        for name, count in counts.items():
            whole(name, count)
        coefficients = {
            "gamma": gamma,
            "gae_lambda": gae_lambda,
            "value_coefficient": value_coefficient,
            "entropy_coefficient": entropy_coefficient,
        }
        for name, coefficient in coefficients.items():
            number(name, coefficient)
        switches = {
            "normalise_advantages": normalise_advantages,
            "clip_rewards": clip_rewards,
            "greedy_evaluation": greedy_evaluation,
        }
        for name, switch in switches.items():
            if not isinstance(switch, bool):
                raise ValueError(f"'{name}' must be true or false, but it is {switch!r}")
        if not isinstance(environment, str):
            raise ValueError(f"'environment' must be an id such as CartPole-v1, but it is {environment!r}")
        if not isinstance(environment_options, Mapping | None):
            raise ValueError(f"'environment_options' must be a mapping, but it is {environment_options!r}")
        self._environment, self._environment_options = environment, dict(environment_options or {})
        self._model = read_actor_critic(model)
        self._rollout_length = rollout_length
        self._coefficients = Coefficients(gamma, gae_lambda, value_coefficient, entropy_coefficient)
        self._normalise, self._clip = normalise_advantages, clip_rewards
        self._episodes, self._steps, self._greedy = evaluation_episodes, evaluation_steps, greedy_evaluation

    @cached_property
    def n_examples(self) -> int | None:
        """None: frames are made as they are needed. The first use makes the environment and a model for it."""
        self._model.build(*self._shapes)
        return None

    def rows(self, batch_size: int) -> int:
        """Rows of a batch: the batch size itself.

        Args:
            batch_size: in frames.

        Returns:
            The same.

        Raises:
            ValueError: it is no whole number of rollouts.
        """
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
        device = device_for(settings.gpus)
        n, length = self.rows(settings.batch_size) // self._rollout_length, self._rollout_length
        return PolicyGradientRun(
            settings,
            self.model,
            Rollouts(self._make(n), length, settings.seed, self._clip, device),
            Episodes(self._make(self._episodes), self._steps, self._greedy, device),
            Coefficients(
                gamma=settings.number("gamma", self._coefficients.gamma),
                gae_lambda=settings.number("gae_lambda", self._coefficients.gae_lambda),
                value=settings.number("value_coefficient", self._coefficients.value),
                entropy=settings.number("entropy_coefficient", self._coefficients.entropy),
            ),
            self._normalise,
            device,
        )

    @cached_property
    def _shapes(self) -> tuple[tuple[int, ...], int]:
        return shapes(self._environment, self._environment_options)

    def _make(self, n: int) -> Any:
        return make_environments(self._environment, self._environment_options, n)
