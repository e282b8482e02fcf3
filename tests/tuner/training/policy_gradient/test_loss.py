from __future__ import annotations

import math

import pytest
import torch

from bcrit.tuner.training.policy_gradient import Coefficients, losses

GIVEN = Coefficients(gamma=0.99, gae_lambda=1.0, value=0.5, entropy=0.01)


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


def test_its_gradient_climbs_the_advantage() -> None:
    # For a softmax policy, d log pi(a) / d logit_k = [k = a] - pi(k).
    logits = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64, requires_grad=True)
    values, returns = torch.tensor([1.0], requires_grad=True), torch.tensor([3.0])
    without_entropy = Coefficients(gamma=0.99, gae_lambda=1.0, value=0.5, entropy=0.0)
    losses(logits, values, torch.tensor([2]), torch.tensor([4.0]), returns, without_entropy).sum().backward()  # type: ignore[no-untyped-call]
    expected = -4.0 * (torch.tensor([0.0, 0.0, 1.0]) - logits.detach().softmax(dim=1)[0])
    assert logits.grad is not None and values.grad is not None
    torch.testing.assert_close(logits.grad[0], expected)
    assert values.grad.item() == -0.5 * 2 * (3.0 - 1.0)


def test_the_entropy_draws_to_the_uniform_policy() -> None:
    logits = torch.tensor([[2.0, 0.0]], requires_grad=True)
    zero = torch.zeros(1)
    losses(logits, zero, torch.tensor([0]), zero, zero, GIVEN).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]  # a step down the gradient brings them together


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", 1.1), ("gae_lambda", -0.1), ("value", -1.0), ("entropy", float("inf")), ("gamma", float("nan"))],
)
def test_what_has_no_meaning_is_refused(name: str, value: float) -> None:
    given = {"gamma": 0.9, "gae_lambda": 1.0, "value": 0.5, "entropy": 0.0, name: value}
    with pytest.raises(ValueError, match=f"'{name}.*' must .*, but it is {value}; "):
        Coefficients(**given)
