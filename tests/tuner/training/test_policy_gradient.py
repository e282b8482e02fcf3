import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.policy_gradient import (
    ACTIONS,
    ENVIRONMENTS,
    Coefficients,
    Episodes,
    PolicyGradientRun,
    Rollouts,
    advantages,
    as_tensor,
    losses,
    sampled,
    stream,
)
from bcrit.tuner.training.settings import Settings
from tests.tuner.training.made_up_environments import Counting, Linear

CPU = torch.device("cpu")
GIVEN = Coefficients(gamma=0.9, gae_lambda=1.0, value=0.5, entropy=0.01)
LENGTHS = (2, 7, 3, 5)


class Network(nn.Module):
    """A small policy and critic with weights from PyTorch's global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.logits, self.value = nn.Linear(1, 8), nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        features = self.hidden(observations / 10.0).tanh()
        return self.logits(features), self.value(features).squeeze(1)


def begin(
    steps: int = 5,
    seed: int = 0,
    optimizer: str = "sgd",
    normalise: bool = False,
    lengths: tuple[int, ...] = LENGTHS,
    model: Any = Network,
    **hyperparameters: Value,
) -> PolicyGradientRun:
    settings = Settings(steps * len(lengths), seed, optimizer, {"lr": 0.1, **hyperparameters})
    rollouts = Rollouts(Counting(*lengths), steps, seed, False, CPU)
    episodes = Episodes(Counting(4, 6), 20, False, CPU)
    return PolicyGradientRun(settings, lambda _: model(), rollouts, episodes, GIVEN, normalise, CPU)


def weights(run: PolicyGradientRun) -> list[float]:
    return torch.cat([parameter.detach().flatten() for parameter in run._parameters]).tolist()


def by_hand(run: PolicyGradientRun, lengths: tuple[int, ...], steps: int, actions: Any, skipped: int) -> list[Tensor]:
    """The gradient of the next update by loops over environments and time, frame after frame, returns written out.

    Args:
        run: before that update.
        lengths: of the environments' episodes.
        steps: of the rollout.
        actions: those that were taken, shape (steps, environments).
        skipped: steps that the environments had made before.
    """
    total, frames = torch.zeros(()), 0
    for i, length in enumerate(lengths):
        period = length + 1  # the episode's steps and the one that resets
        for t in range(steps):
            place = (skipped + t) % period
            if place == length:
                continue
            frames += 1
            rewards, k = 0.0, 0
            while True:
                rewards += 0.9**k * (1.0 + i)
                k += 1
                if place + k == length or t + k == steps:
                    break
            now, then = (torch.tensor([[float(s)]]) for s in (place, place + k))
            terminated = place + k == length and i % 2 == 0
            with torch.no_grad():
                later = 0.0 if terminated else float(run._model(then)[1])
                advantage = rewards + 0.9**k * later - float(run._model(now)[1])
            logits, value = run._model(now)
            policy = logits[0].softmax(dim=0)
            entropy = -(policy * policy.log()).sum()
            critic = (rewards + 0.9**k * later - value[0]) ** 2
            total = total - policy[actions[t][i]].log() * advantage + 0.5 * critic - 0.01 * entropy
    return list(torch.autograd.grad(total / frames, run._parameters))


@pytest.mark.parametrize("updates", [0, 1, 3])
def test_an_update_follows_the_mean_gradient_over_the_frames(updates: int) -> None:
    run = begin()
    run.train(updates)
    environments = run._rollouts._environments
    assert isinstance(environments, Counting)
    before = [parameter.detach().clone() for parameter in run._parameters]
    twin = begin()  # its next actions, taken without learning from them
    twin.train(updates)
    actions = twin._rollouts.collect(twin._model).actions
    expected = by_hand(run, LENGTHS, 5, actions, 5 * updates)
    run.train(1)
    assert environments.taken[-5:] == actions.tolist()
    for old, new, gradient in zip(before, run._parameters, expected, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_pieces_of_a_batch_have_its_gradient_as_their_mean() -> None:
    whole = begin()
    rows = whole._rows(whole._rollouts.collect(whole._model))
    whole._gradient(rows, torch.arange(20))
    expected = [parameter.grad for parameter in whole._parameters]
    pieces = []
    for piece in torch.split(torch.arange(20), 5):
        whole._gradient(rows, piece)
        pieces.append([parameter.grad for parameter in whole._parameters])
    for k, gradient in enumerate(expected):
        mean = torch.stack([piece[k] for piece in pieces if piece[k] is not None]).mean(dim=0)  # type: ignore[misc]
        torch.testing.assert_close(mean, gradient)


def test_a_piece_is_what_an_environment_saw() -> None:
    run = begin()
    observations, *_ = run._rows(run._rollouts.collect(run._model))
    assert observations.flatten().tolist()[:10] == [0, 1, 2, 0, 1, 0, 1, 2, 3, 4]  # of lengths 2 and 7


def test_a_batch_that_is_only_a_reset_changes_nothing() -> None:
    run = begin(steps=1, lengths=(2,))
    run.train(2)
    before = weights(run)
    run.train(1)
    assert weights(run) == before
    run.train(1)
    assert weights(run) != before


def test_the_curve_depends_on_the_settings_alone_and_the_process_keeps_its_random_numbers() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    straight, cut = begin(seed=4, optimizer="adam"), begin(seed=4, optimizer="adam")
    straight.train(12)
    straight.evaluate()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before  # type: ignore[index]
    for part in (1, 4, 0, 7):
        torch.rand(part + 3)  # something else draws from the process' stream
        cut.evaluate()
        cut.train(part)
    assert weights(cut) == weights(straight)
    assert cut.evaluate() == straight.evaluate()


def test_normalised_advantages_have_mean_zero_and_deviation_one_over_the_frames() -> None:
    run = begin(normalise=True)
    rollout = run._rollouts.collect(run._model)
    _, _, advantages, returns, row_weights = run._rows(rollout)
    of_frames = advantages[row_weights > 0]
    assert of_frames.numel() == int(rollout.frames.sum()) < 20
    assert of_frames.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert of_frames.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    plain = begin()
    assert torch.equal(returns, plain._rows(plain._rollouts.collect(plain._model))[3])  # the critic's are as they were


def test_extrapolation_takes_the_same_frames_at_other_weights() -> None:
    base, none = begin(), begin(optimizer="extrap_sgd", extrapolation_lr=0.0)
    far = begin(optimizer="extrap_sgd", extrapolation_lr=0.5, extrapolation="fresh", local_batch_size=10)
    for run in (base, none, far):
        run.train(4)
    assert weights(none) == weights(base) != weights(far)
    assert (base.gradients_per_example, far.gradients_per_example) == (1, 2)


def test_averaged_weights_are_evaluated_beside_the_last() -> None:
    run = begin(ema_decay=0.9)
    assert run.evaluate() == {"val_return": 8.0, "val_return_ema": 8.0}  # (4 x 1 + 6 x 2) / 2 whatever the actions
    run.train(3)
    assert run._updates.average is not None
    with torch.no_grad():
        for parameter in run._updates.average.parameters():
            parameter.fill_(torch.nan)
    metrics = run.evaluate()
    assert metrics["val_return"] == 8.0
    assert np.isnan(metrics["val_return_ema"])


def rollouts(environments: Any, steps: int = 4, seed: int = 0, clip: bool = False) -> Rollouts:
    return Rollouts(environments, steps, seed, clip, CPU)


def test_the_step_that_only_resets_is_no_frame() -> None:
    # An episode of 2 steps: 0 -> 1 -> 2, the reset 2 -> 0, then 0 -> 1 of the next episode.
    found = rollouts(Counting(2)).collect(Linear())
    assert found.observations.flatten().tolist() == [0, 1, 2, 0, 1]
    assert found.values.flatten().tolist() == [0, 10, 20, 0, 10]  # that of the episode's last state among them
    assert found.rewards.flatten().tolist() == [1, 1, 0, 1]
    assert found.frames.flatten().tolist() == [True, True, False, True]
    assert found.terminated.flatten().tolist() == found.ended.flatten().tolist() == [False, True, False, False]


def test_a_truncated_episode_has_ended_and_not_terminated() -> None:
    found = rollouts(Counting(3, 3)).collect(Linear())
    assert found.ended[2].tolist() == [True, True]
    assert found.terminated[2].tolist() == [True, False]
    assert found.ended.sum() == 2


def test_episodes_go_on_from_one_rollout_to_the_next() -> None:
    environments = Counting(3, 5, 4)
    cut = rollouts(environments, steps=3)
    first, second = cut.collect(Linear()), cut.collect(Linear())
    whole = rollouts(Counting(3, 5, 4), steps=6).collect(Linear())
    assert torch.equal(torch.cat([first.observations[:-1], second.observations]), whole.observations)
    for part in ("actions", "rewards", "terminated", "ended", "frames"):
        assert torch.equal(torch.cat([getattr(first, part), getattr(second, part)]), getattr(whole, part))
    assert first.ended[2, 0] and not second.frames[0, 0]  # the reset fell into the next rollout
    assert len(environments.seeds) == 1


def test_the_actions_are_those_that_the_environment_took() -> None:
    environments = Counting(9, 9, 9)
    found = rollouts(environments).collect(Linear())
    assert found.actions.tolist() == environments.taken
    certain = rollouts(Counting(9, 9)).collect(Linear(second=50.0))
    assert certain.actions.tolist() == [[1, 1]] * 4


def test_other_seeds_act_and_start_otherwise() -> None:
    several = [Counting(50, 50, 50, 50) for _ in range(3)]
    actions = [
        rollouts(environments, 20, seed).collect(Linear()).actions.tolist()
        for environments, seed in zip(several, (0, 0, 1), strict=True)
    ]
    assert actions[0] == actions[1] != actions[2]
    assert several[0].seeds == several[1].seeds != several[2].seeds


def test_rewards_are_clipped_where_asked() -> None:
    plain, clipped = (rollouts(Counting(9, 9, 9), clip=clip).collect(Linear()).rewards for clip in (False, True))
    assert plain[0].tolist() == [1, 2, 3]
    assert clipped[0].tolist() == [1, 1, 1]


def test_an_environment_may_use_one_array_for_all_its_observations() -> None:
    class InPlace(Counting):
        def _seen(self) -> Any:
            self.array = getattr(self, "array", super()._seen())
            self.array[:] = self.now[:, None]
            return self.array.view()

    plain, in_place = (rollouts(kind(3, 4)) for kind in (Counting, InPlace))
    for _ in range(3):
        assert torch.equal(plain.collect(Linear()).observations, in_place.collect(Linear()).observations)


def episodes(environments: Counting, steps: int = 100, greedy: bool = False) -> Episodes:
    return Episodes(environments, steps, greedy, CPU)


@pytest.mark.parametrize(
    ("lengths", "most", "expected"),
    [((2, 3, 20), 20, (1 * 2 + 2 * 3 + 3 * 20) / 3), ((2, 50), 10, (2 + 2 * 10) / 2), ((2, 7), 7, (2 + 14) / 2)],
    ids=["the short begin anew while the longest goes on", "a long one is cut", "it stops when all are over"],
)
def test_the_return_is_that_of_the_first_episode_of_each_environment(
    lengths: tuple[int, ...], most: int, expected: float
) -> None:
    environments = Counting(*lengths)  # environment i pays 1 + i a step
    assert episodes(environments, steps=10 if most == 10 else 100).mean_return(Linear()) == expected
    assert len(environments.taken) == most


def test_every_evaluation_is_the_same() -> None:
    environments = Counting(20, 20)
    one = episodes(environments)
    one.mean_return(Linear())
    one.mean_return(Linear())
    assert environments.taken[:20] == environments.taken[20:]
    assert len(set(environments.seeds)) == 1


def test_actions_are_sampled_or_the_likeliest() -> None:
    sampled, greedy = Counting(200), Counting(200)
    episodes(sampled, 200).mean_return(Linear(second=1.0))
    episodes(greedy, 200, greedy=True).mean_return(Linear(second=1.0))
    share = sum(action for (action,) in sampled.taken) / 200
    assert share == pytest.approx(1 / (1 + math.exp(-1)), abs=0.12)
    assert greedy.taken == [[1]] * 200


@pytest.mark.parametrize(
    "model", [Linear(second=math.nan), Linear(worth=math.nan), Linear(second=math.inf)], ids=["nan", "critic", "inf"]
)
def test_a_model_that_is_no_number_has_no_return(model: Linear) -> None:
    assert math.isnan(episodes(Counting(5)).mean_return(model))


def test_actions_are_drawn_with_the_policys_probabilities() -> None:
    policy = torch.tensor([0.5, 0.3, 0.15, 0.05])
    n = 40_000
    drawn = sampled(policy.log().expand(n, 4), torch.Generator().manual_seed(1))
    shares = torch.bincount(drawn, minlength=4) / n
    errors = (policy * (1 - policy) / n).sqrt()
    assert ((shares - policy).abs() < 4 * errors).all()


def test_a_policy_that_is_no_number_still_gives_an_action() -> None:
    drawn = sampled(torch.tensor([[float("nan"), 0.0], [0.0, float("inf")]]), torch.Generator())
    assert set(drawn.tolist()) <= {0, 1}


def test_streams_of_neighbouring_seeds_and_uses_do_not_overlap() -> None:
    starts = sorted(stream(seed, which) for seed in range(20) for which in (ACTIONS, ENVIRONMENTS))
    assert min(np.diff(starts)) > 10_000  # environments take consecutive seeds from a start
    assert 0 <= starts[0] and starts[-1] < 2**30


@pytest.mark.parametrize(
    ("kind", "read_as"), [(np.uint8, torch.uint8), (np.float64, torch.float32), (np.int64, torch.float32)]
)
def test_bytes_stay_bytes_and_other_numbers_become_floats(kind: type, read_as: torch.dtype) -> None:
    tensor = as_tensor(np.arange(3, dtype=kind), torch.device("cpu"))
    assert tensor.dtype == read_as
    assert tensor.tolist() == [0, 1, 2]


def made(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn((7, 4), generator=generator, dtype=torch.float64)
    values = torch.randn((8, 4), generator=generator, dtype=torch.float64)
    terminated, truncated = (torch.rand((7, 4), generator=generator) < 0.2 for _ in range(2))
    return rewards, values, terminated, terminated | truncated


def sum_of_deltas(
    rewards: Tensor, values: Tensor, terminated: Tensor, ended: Tensor, gamma: float, lam: float, t: int, i: int
) -> float:
    """Schulman et al. 2016, eq. 16 as it is written: sum_l (gamma lambda)^l delta_{t+l}, to the episode's end."""
    total = 0.0
    for power, k in enumerate(range(t, len(rewards))):
        after = 0.0 if terminated[k, i] else gamma * float(values[k + 1, i])
        total += (gamma * lam) ** power * (float(rewards[k, i]) + after - float(values[k, i]))
        if ended[k, i]:
            break
    return total


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_they_are_the_papers_sum(seed: int, lam: float) -> None:
    parts = made(seed)
    # Among them: a time limit, which goes on with the value of the last state, an end, which does not, and a rollout
    # that ends in the midst of an episode.
    assert parts[2].any() and (parts[3] & ~parts[2]).any() and not parts[3][-1].all()
    found = advantages(*parts, gamma=0.9, gae_lambda=lam)
    naive = [[sum_of_deltas(*parts, 0.9, lam, t, i) for i in range(4)] for t in range(7)]
    torch.testing.assert_close(found, torch.tensor(naive, dtype=torch.float64))


def test_it_is_the_papers_formula_frame_by_frame() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((6, 3), generator=generator, dtype=torch.float64)
    values, advantages, returns = torch.randn((3, 6), generator=generator, dtype=torch.float64)
    actions = torch.tensor([0, 2, 1, 1, 0, 2])
    found = losses(logits, values, actions, advantages, returns, GIVEN)
    for i in range(6):
        weights = [math.exp(float(logit)) for logit in logits[i]]
        policy = [weight / sum(weights) for weight in weights]
        actor = -math.log(policy[int(actions[i])]) * float(advantages[i])
        critic = (float(returns[i]) - float(values[i])) ** 2
        entropy = -sum(p * math.log(p) for p in policy)
        assert float(found[i]) == pytest.approx(actor + 0.5 * critic - 0.01 * entropy)


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", 1.1), ("gae_lambda", -0.1), ("value", -1.0), ("entropy", float("inf")), ("gamma", float("nan"))],
)
def test_what_has_no_meaning_is_refused(name: str, value: float) -> None:
    given = {"gamma": 0.9, "gae_lambda": 1.0, "value": 0.5, "entropy": 0.0, name: value}
    with pytest.raises(ValueError, match=f"'{name}.*' must .*, but it is {value}; "):
        Coefficients(**given)
