from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.policy_gradient import Coefficients, Episodes, PolicyGradientRun, Rollouts
from bcrit.tuner.training.settings import Settings
from tests.tuner.training.policy_gradient.made_up import Counting

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


def test_the_curve_depends_on_the_settings_alone() -> None:
    straight, cut = begin(seed=4, optimizer="adam"), begin(seed=4, optimizer="adam")
    straight.train(12)
    for part in (1, 4, 0, 7):
        torch.rand(part + 3)  # something else draws from the process' stream
        cut.evaluate()
        cut.train(part)
    assert weights(cut) == weights(straight)
    assert cut.evaluate() == straight.evaluate()


def test_a_seed_has_its_own_start_at_every_batch_size() -> None:
    assert weights(begin(seed=1)) == weights(begin(seed=1, lengths=(3, 4))) != weights(begin(seed=2))


def test_the_process_keeps_its_random_numbers() -> None:
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].tolist()  # type: ignore[index]
    run = begin()
    run.train(3)
    run.evaluate()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before  # type: ignore[index]


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
    assert run._average is not None
    with torch.no_grad():
        for parameter in run._average.model.parameters():
            parameter.fill_(torch.nan)
    metrics = run.evaluate()
    assert metrics["val_return"] == 8.0
    assert np.isnan(metrics["val_return_ema"])


def test_a_run_without_numbers_says_so() -> None:
    run = begin(lr=1e38)
    run.train(3)
    assert np.isnan(run.evaluate()["val_return"])
