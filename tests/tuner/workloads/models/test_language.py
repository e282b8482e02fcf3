"""Shapes, parameter counts worked out by hand, and that no model sees the future."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from bcrit.tuner.workloads.models.language import (
    PRESETS,
    Block,
    TransformerSize,
    build_language_model,
    read_language_model,
    sinusoids,
)

N_KINDS, LENGTH = 100, 16


def transformer(layers: int, width: int, hidden: int) -> int:
    """Query, key, value and output; two linear layers; two normalisations: in each block."""
    attention = 4 * (width * width + width)
    network = width * hidden + hidden + hidden * width + width
    return layers * (attention + network + 2 * 2 * width)


COUNTS: dict[str, tuple[Any, int]] = {
    # An LSTM has four gates, each with weights of input and state and (PyTorch's) two biases.
    "lstm": ("lstm", N_KINDS * 512 + 4 * (512 * 2048 + 2048**2 + 2 * 2048) + 2048 * N_KINDS + N_KINDS),
    "small lstm": (
        {"name": "lstm", "embedding": 3, "hidden": 5, "layers": 2},
        N_KINDS * 3 + 4 * (3 * 5 + 25 + 10) + 4 * (25 + 25 + 10) + 5 * N_KINDS + N_KINDS,
    ),
    "transformer_base": ("transformer_base", 18_914_304 + N_KINDS * 512),  # the encoder of Vaswani et al.'s base model
    "transformer_wide": ("transformer_wide", transformer(6, 1024, 4096) + N_KINDS * 1024),
    "transformer_shallow": ("transformer_shallow", transformer(2, 512, 2048) + N_KINDS * 512),
    "transformer_narrow_and_shallow": ("transformer_narrow_and_shallow", transformer(2, 256, 1024) + N_KINDS * 256),
    # Learned positions, and a last normalisation.
    "gpt": ("gpt", transformer(2, 64, 256) + (N_KINDS + LENGTH) * 64 + 2 * 64),
}


@pytest.mark.parametrize(("name", "count"), COUNTS.values(), ids=COUNTS)
def test_shapes_and_parameter_counts(name: Any, count: int) -> None:
    with torch.device("meta"):
        model = build_language_model(read_language_model(name), N_KINDS, LENGTH)
        scores = model(torch.zeros(2, LENGTH, dtype=torch.long))
    assert scores.shape == (2, LENGTH, N_KINDS)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_the_count_by_hand_is_the_known_one() -> None:
    assert transformer(6, 512, 2048) == 18_914_304


def test_gpt_2_small_has_its_known_size() -> None:
    size = read_language_model({"name": "gpt", "layers": 12, "width": 768, "hidden": 3072, "heads": 12})
    with torch.device("meta"):
        model = build_language_model(size, 50257, 1024)
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808


SMALL: dict[str, Any] = {
    "lstm": {"name": "lstm", "embedding": 8, "hidden": 8},
    "transformer": {"name": "transformer", "layers": 2, "width": 8, "hidden": 16, "heads": 2, "dropout": 0.0},
    "gpt": {"name": "gpt", "layers": 2, "width": 8, "hidden": 16, "heads": 2},
}


@pytest.mark.parametrize("name", SMALL.values(), ids=SMALL)
def test_a_score_depends_on_the_tokens_before_it_alone(name: Any) -> None:
    torch.manual_seed(0)
    model = build_language_model(read_language_model(name), N_KINDS, LENGTH)
    tokens = torch.randint(N_KINDS, (1, LENGTH))
    changed = tokens.clone()
    changed[0, 7] = (changed[0, 7] + 1) % N_KINDS
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    for position in range(7, LENGTH):  # all later ones depend on it
        assert not torch.equal(before[0, position], after[0, position])


@pytest.mark.parametrize("gpt", [False, True], ids=["vaswani", "gpt"])
def test_a_block_is_pytorchs_own(gpt: bool) -> None:
    torch.manual_seed(0)
    block = Block(TransformerSize(layers=1, width=8, hidden=16, heads=2, dropout=0.0, gpt=gpt))
    activation = nn.functional.gelu if gpt else nn.functional.relu
    theirs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation, batch_first=True, norm_first=gpt)
    names = {
        "self_attn.in_proj_": "attention_in.", "self_attn.out_proj.": "attention_out.",
        "linear1.": "widen.", "linear2.": "narrow.", "norm1.": "norms.0.", "norm2.": "norms.1.",
    }  # fmt: skip
    ours = dict(block.named_parameters())
    theirs.load_state_dict(
        {their + kind: ours[our + kind].detach() for their, our in names.items() for kind in ("weight", "bias")}
    )
    states = torch.randn(3, 5, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    torch.testing.assert_close(block(states), theirs(states, src_mask=mask, is_causal=True))


def test_positions_are_the_papers_waves() -> None:
    waves = sinusoids(5, 6)
    assert waves.shape == (5, 6)
    assert waves[3, 2].item() == pytest.approx(math.sin(3 / 10000 ** (2 / 6)), rel=1e-5)
    assert waves[3, 3].item() == pytest.approx(math.cos(3 / 10000 ** (2 / 6)), rel=1e-5)


def test_scores_start_near_equal_chances() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(N_KINDS, (4, LENGTH))
    for name in SMALL.values():
        scores = build_language_model(read_language_model(name), N_KINDS, LENGTH)(tokens)
        assert scores.logsumexp(-1).mean().item() == pytest.approx(math.log(N_KINDS), abs=1.0)


def test_heads_must_divide_the_width() -> None:
    size = TransformerSize(width=10, heads=4)
    with pytest.raises(ValueError, match="'width' must be an even multiple of 'heads', but width=10 .* choose width=8"):
        build_language_model(size, N_KINDS, LENGTH)


def test_every_preset_can_be_read() -> None:
    for name in PRESETS:
        read_language_model(name)
