from __future__ import annotations

import pytest
import torch

from bcrit.tuner.workloads.models.actor_critic import Sizes, read_actor_critic


def n_parameters(sizes: Sizes, shape: tuple[int, ...], n_actions: int) -> int:
    return sum(parameter.numel() for parameter in sizes.build(shape, n_actions).parameters())


def test_the_small_network_has_the_parameters_of_two_hidden_layers_and_two_heads() -> None:
    hidden = 4 * 64 + 64 + 64 * 64 + 64
    heads = 64 * 2 + 2 + 64 + 1
    assert n_parameters(read_actor_critic("mlp"), (4,), 2) == hidden + heads
    assert n_parameters(read_actor_critic({"name": "mlp", "shared": False}), (4,), 2) == 2 * hidden + heads


def test_the_convolutions_are_those_of_the_paper() -> None:
    # Mnih et al. 2015: 84 x 84 x 4 becomes 20 x 20 x 32, 9 x 9 x 64 and 7 x 7 x 64, then 512 units.
    convolutions = 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64
    hidden = 7 * 7 * 64 * 512 + 512
    heads = 512 * 6 + 6 + 512 + 1
    assert n_parameters(read_actor_critic("cnn"), (4, 84, 84), 6) == convolutions + hidden + heads


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("given", "observations"),
    [
        ({"name": "mlp", "widths": [8]}, torch.randn(5, 2, 3)),
        ({"name": "cnn", "filters": [2, 3, 4], "hidden": 8}, torch.zeros(5, 4, 40, 36, dtype=torch.uint8)),
    ],
    ids=["mlp", "cnn"],
)
def test_it_gives_logits_and_values(given: dict[str, object], observations: torch.Tensor, shared: bool) -> None:
    model = read_actor_critic({**given, "shared": shared}).build(observations.shape[1:], 3)
    logits, values = model(observations)
    assert logits.shape == (5, 3)
    assert values.shape == (5,)
    values.sum().backward()
    touched = [parameter.grad is not None for parameter in model.policy.parameters()]
    assert all(touched) if shared else not any(touched)


def test_it_begins_with_nearly_equal_actions() -> None:
    logits, _ = read_actor_critic("mlp").build((4,), 2)(torch.randn(100, 4))
    torch.testing.assert_close(logits.softmax(dim=1), torch.full((100, 2), 0.5), atol=0.02, rtol=0)


def test_screens_are_divided_by_255() -> None:
    model = read_actor_critic({"name": "cnn", "filters": [2, 2, 2], "hidden": 4}).build((1, 36, 36), 2)
    screens = torch.randint(0, 256, (3, 1, 36, 36), dtype=torch.uint8)
    inner = model.policy[1:](screens / 255.0)  # type: ignore[index]
    assert torch.equal(model.policy(screens), inner)


@pytest.mark.parametrize("shape", [(4,), (84, 84, 3), (4, 84, 20)])
def test_what_is_no_stack_of_screens_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"model 'cnn' takes screens .* of at least 36 x 36 pixels, but .*; use model"):
        read_actor_critic("cnn").build(shape, 2)


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no model 'lstm'; the models are mlp, cnn"):
        read_actor_critic("lstm")
