"""How a text is cut, and the models by parameter counts worked out by hand; that none sees the future."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from bcrit.search_spaces.dimensions import Value
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.language_model import (
    FAMILIES,
    PRESETS,
    Block,
    LanguageModel,
    NextToken,
    TransformerSize,
    sinusoids,
)
from bcrit.tuner.workloads.protocol import read_model

GPT = {"name": "gpt", "layers": 1, "width": 16, "hidden": 32, "heads": 2}
LSTM = {"name": "lstm", "embedding": 8, "hidden": 16}


def settings(batch_size: int = 8, lr: float = 0.3, **others: Value) -> Settings:
    return Settings(batch_size, 0, "momentum", {"lr": lr, "momentum": 0.9, **others})


def test_the_loss_is_in_nats_a_token(written: dict[str, Any]) -> None:
    workload = LanguageModel(written, LSTM, sequence_length=8)
    model = workload.model(settings()).eval()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    losses = model(workload.validation_examples())
    torch.testing.assert_close(losses, torch.full_like(losses, math.log(workload._tokens.n_kinds)))


def test_every_token_but_the_first_is_predicted_once(written: dict[str, Any]) -> None:
    workload = LanguageModel(written, LSTM, sequence_length=8)
    text = torch.from_numpy(workload._tokens.train)
    kept = round(len(text) * 0.8)
    sequences = workload.train_examples()
    n = (kept - 1) // 8
    assert sequences.shape == (n, 9)
    assert torch.equal(sequences[:, 1:].reshape(-1), text[1 : 8 * n + 1])
    assert torch.equal(sequences[:, :-1].reshape(-1), text[: 8 * n])
    assert sequences.data_ptr() == text.data_ptr()  # a view: nothing is copied


def test_the_end_of_the_text_validates_and_is_never_trained_on(written: dict[str, Any]) -> None:
    workload = LanguageModel(written, LSTM, sequence_length=8)
    text = torch.from_numpy(workload._tokens.train)
    held_out = round(0.2 * len(text))
    first = workload.validation_examples()
    assert first[0].tolist() == text[-held_out:][:9].tolist()
    assert len(workload.train_examples()) * 8 + 1 <= len(text) - held_out
    with pytest.raises(ValueError, match="one part has 1; shorten the sequences"):  # and not the training text
        LanguageModel({**written, "validation": 1e-9}, LSTM, sequence_length=8).validation_examples()
    counted = LanguageModel({**written, "validation": 5}, LSTM, sequence_length=8)
    assert counted.validation_examples().shape == (5, 9)
    few = LanguageModel(written, LSTM, sequence_length=8, validation_sequences=3).validation_examples()
    assert torch.equal(few, first[:3])


@pytest.mark.parametrize(
    ("optimizer", "in_sequences", "in_tokens"),
    [
        ("momentum", {}, {}),
        ("momentum", {"ema_examples": 20.0}, {"ema_examples": 160.0}),
        ("extrap_momentum", {"local_batch_size": 2}, {"local_batch_size": 16}),
        ("extrap_momentum", {"local_batch_size": 6}, {"local_batch_size": 50}),  # above the batch: all of it
    ],
    ids=["plain", "average", "local batch", "large local batch"],
)
def test_with_batches_of_tokens_all_that_counts_like_the_batch_counts_tokens(
    written: dict[str, Any], optimizer: str, in_sequences: dict[str, Value], in_tokens: dict[str, Value]
) -> None:
    more: dict[str, Value] = {"lr": 0.3, "momentum": 0.9, "extrapolation_lr": 0.1}
    curves, sizes = [], []
    for unit, batch_size, own in (("sequences", 4, in_sequences), ("tokens", 32, in_tokens)):
        workload = LanguageModel(written, LSTM, sequence_length=8, unit=unit)
        run = workload.begin(Settings(batch_size, 0, optimizer, {**more, **own}))
        run.train(5)
        curves.append(run.evaluate())
        sizes.append(workload.n_examples or 0)
        assert workload.unit == unit
    assert curves[0] == curves[1] and sizes[1] == 8 * sizes[0]


def test_a_sequences_loss_is_the_mean_over_its_tokens() -> None:
    scores = torch.randn(7, 7)
    table = torch.nn.Embedding(7, 7, _weight=scores)
    model = NextToken(table, 0.0)
    sequences = torch.tensor([[0, 1, 2, 3], [6, 4, 0, 0]])
    expected = [torch.nn.functional.cross_entropy(scores[row[:-1]], row[1:]).item() for row in sequences]
    assert model(sequences)[:, 0].tolist() == pytest.approx(expected)


def test_a_text_too_short_for_a_sequence_is_refused(written: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match="at least sequence_length [+] 1 = 5001 tokens to train and as many to validate"
    ):
        _ = LanguageModel(written, LSTM, sequence_length=5000).n_examples


N_KINDS, LENGTH = 100, 16


def build(given: Any, n_kinds: int = N_KINDS, length: int = LENGTH) -> nn.Module:
    return read_model(given, FAMILIES, PRESETS).build(n_kinds, length)


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
        model = build(name)
        scores = model(torch.zeros(2, LENGTH, dtype=torch.long))
    assert scores.shape == (2, LENGTH, N_KINDS)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_the_count_by_hand_is_the_known_one() -> None:
    assert transformer(6, 512, 2048) == 18_914_304


def test_gpt_2_small_has_its_known_size() -> None:
    with torch.device("meta"):
        model = build({"name": "gpt", "layers": 12, "width": 768, "hidden": 3072, "heads": 12}, 50257, 1024)
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808


SMALL: dict[str, Any] = {
    "lstm": {"name": "lstm", "embedding": 8, "hidden": 8},
    "transformer": {"name": "transformer", "layers": 2, "width": 8, "hidden": 16, "heads": 2, "dropout": 0.0},
    "gpt": {"name": "gpt", "layers": 2, "width": 8, "hidden": 16, "heads": 2},
}


@pytest.mark.parametrize("name", SMALL.values(), ids=SMALL)
def test_a_score_depends_on_the_tokens_before_it_alone(name: Any) -> None:
    torch.manual_seed(0)
    model = build(name)
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
        scores = build(name)(tokens)
        assert scores.logsumexp(-1).mean().item() == pytest.approx(math.log(N_KINDS), abs=1.0)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="'width' must be an even multiple of 'heads', but width=10 .* choose width=8"):
        build({"name": "transformer", "width": 10, "heads": 4})
