"""How much better an action was than expected: n-step returns and their generalisation."""

from __future__ import annotations

import torch
from torch import Tensor


def advantages(
    rewards: Tensor, values: Tensor, terminated: Tensor, ended: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16, cut at the end of the rollout).

        delta_t = r_t + gamma V(s_{t+1}) - V(s_t),    V(s_{t+1}) = 0 where the episode terminated at t
        A_t = delta_t + gamma lambda A_{t+1},         A_{t+1} = 0 where the episode ended at t, and after the last step

    At lambda 1 this is R_t - V(s_t) with the return R_t = r_t + gamma R_{t+1} of Mnih et al. 2016 (algorithm S3): it
    runs to the end of the rollout, at most `rollout_length` steps, and is continued by V of the state found there.
    Where an episode is only truncated, by a time limit, it is continued by V of its last state too, because the task
    would have gone on (Pardo et al. 2018); a terminated one is not.

    Args:
        rewards: r_t, shape (steps, environments).
        values: V(s_0) to V(s_steps), shape (steps + 1, environments). Where an episode ended at t, s_{t+1} is its last
            state.
        terminated: whether the episode terminated at t, of the rewards' shape.
        ended: whether it terminated or was truncated at t.
        gamma: discount.
        gae_lambda: lambda in [0, 1].

    Returns:
        A_t, of the rewards' shape.
    """
    found = rewards + gamma * values[1:] * ~terminated - values[:-1]
    carried = gamma * gae_lambda * (~ended).to(found.dtype)
    for t in reversed(range(len(found) - 1)):
        torch.addcmul(found[t], carried[t], found[t + 1], out=found[t])
    return found
