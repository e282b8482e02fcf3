"""Environments of gymnasium by their id: many copies that step together, and Atari's games among them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

_ATARI = "ALE/"


def make_environments(name: str, options: Mapping[str, Any], n: int) -> VectorEnv[Any, Any, Any]:
    """Copies of an environment that step together in this process, vectorised where gymnasium has it so.

    Atari's games come vectorised with their preprocessing (as in Mnih et al. 2015: each action for 4 screens, the
    brighter of the last two, grey, 84 x 84, the last 4 stacked, up to 30 idle steps at the start). Rewards stay as the
    game gives them, and the emulators take as many threads as PyTorch; `options` can change both.

    Args:
        name: the environment's id, `module:Id-v0` for one that a module of the user's registers.
        options: keyword arguments of the environment.
        n: how many.

    Returns:
        The environments, which reset themselves as `bcrit.tuner.training.policy_gradient` says.

    Raises:
        ValueError: they cannot be made, or reset themselves otherwise.
    """
    gymnasium = _extra("gymnasium", "rl")
    if name.startswith(_ATARI):
        gymnasium.register_envs(_extra("ale_py", "atari"))
        options = {"reward_clipping": False, "num_threads": torch.get_num_threads(), **options}
    # Stays there, as for a workload of the user's own.
    if ":" in name and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
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
    """What a model must read and give.

    Args:
        name: as `make_environments`.
        options: likewise.

    Returns:
        Shape of an observation, and number of actions.

    Raises:
        ValueError: the environment cannot be made, or its observations or actions are of another kind.
    """
    from gymnasium.spaces import Box, Discrete

    made = make_environments(name, options, 1)
    seen, acted = made.single_observation_space, made.single_action_space
    made.close()
    if not isinstance(seen, Box):
        raise ValueError(f"observations must be arrays of numbers (Box), but '{name}' gives {seen}; choose another")
    if not isinstance(acted, Discrete) or acted.start != 0:
        raise ValueError(f"actions must be numbered from 0 (Discrete), but '{name}' takes {acted}; choose another")
    return seen.shape, int(acted.n)


def _extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"this environment needs the library '{module}', which cannot be imported ({error}); "
            f"pip install 'bcrit[{extra}]'"
        ) from error
