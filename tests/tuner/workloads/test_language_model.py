from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.check import check_experiment
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.language_model import LanguageModel, NextToken
from tests.tuner.workloads.files import write_text

GPT = {"name": "gpt", "layers": 1, "width": 16, "hidden": 32, "heads": 2}
LSTM = {"name": "lstm", "embedding": 8, "hidden": 16}


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    write_text(tmp_path / "text.txt", lines=120)
    return {"source": str(tmp_path / "text.txt"), "cache": str(tmp_path / "cache"), "validation": 0.2}


def settings(batch_size: int = 8, lr: float = 0.3, **others: Value) -> Settings:
    return Settings(batch_size, 0, "momentum", {"lr": lr, "momentum": 0.9, **others})


@pytest.mark.parametrize("model", [GPT, LSTM, {**GPT, "name": "transformer"}], ids=["gpt", "lstm", "transformer"])
def test_it_learns_to_predict(source: dict[str, Any], model: Any) -> None:
    workload = LanguageModel(source, model, sequence_length=8)
    run = workload.begin(settings(lr=0.02 if model["name"] == "transformer" else 0.3))
    before = run.evaluate()["val_loss"]
    run.train(80)
    after = run.evaluate()["val_loss"]
    assert after < min(2.0, 0.8 * before)


def test_the_loss_is_in_nats_a_token(source: dict[str, Any]) -> None:
    workload = LanguageModel(source, LSTM, sequence_length=8)
    model = workload.model(settings()).eval()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    losses = model(workload.validation_examples())
    torch.testing.assert_close(losses, torch.full_like(losses, math.log(workload._tokens.n_kinds)))


def test_every_token_but_the_first_is_predicted_once(source: dict[str, Any]) -> None:
    workload = LanguageModel(source, LSTM, sequence_length=8)
    text = torch.from_numpy(workload._tokens.train)
    kept = round(len(text) * 0.8)
    sequences = workload.train_examples()
    n = (kept - 1) // 8
    assert sequences.shape == (n, 9)
    assert torch.equal(sequences[:, 1:].reshape(-1), text[1 : 8 * n + 1])
    assert torch.equal(sequences[:, :-1].reshape(-1), text[: 8 * n])
    assert sequences.data_ptr() == text.data_ptr()  # a view: nothing is copied


def test_the_end_of_the_text_validates_and_is_never_trained_on(source: dict[str, Any]) -> None:
    workload = LanguageModel(source, LSTM, sequence_length=8)
    text = torch.from_numpy(workload._tokens.train)
    held_out = round(0.2 * len(text))
    first = workload.validation_examples()
    assert first[0].tolist() == text[-held_out:][:9].tolist()
    assert len(workload.train_examples()) * 8 + 1 <= len(text) - held_out
    with pytest.raises(ValueError, match="one part has 1; shorten the sequences"):  # and not the training text
        LanguageModel({**source, "validation": 1e-9}, LSTM, sequence_length=8).validation_examples()
    counted = LanguageModel({**source, "validation": 5}, LSTM, sequence_length=8)
    assert counted.validation_examples().shape == (5, 9)
    few = LanguageModel(source, LSTM, sequence_length=8, validation_sequences=3).validation_examples()
    assert torch.equal(few, first[:3])


def test_a_batch_of_tokens_is_a_batch_of_so_many_sequences(source: dict[str, Any]) -> None:
    by_sequences = LanguageModel(source, LSTM, sequence_length=8)
    by_tokens = LanguageModel(source, LSTM, sequence_length=8, unit="tokens")
    assert (by_sequences.unit, by_tokens.unit) == ("sequences", "tokens")
    assert by_sequences.n_examples is not None
    assert by_tokens.n_examples == 8 * by_sequences.n_examples
    curves = []
    for workload, batch_size in ((by_sequences, 4), (by_tokens, 32)):
        run = workload.begin(settings(batch_size))
        run.train(5)
        curves.append(run.evaluate())
    assert curves[0] == curves[1]
    with pytest.raises(ValueError, match="30 tokens are no multiple of sequence_length=8; choose batch sizes that are"):
        by_tokens.begin(settings(30))


@pytest.mark.parametrize(
    ("optimizer", "in_sequences", "in_tokens"),
    [
        ("momentum", {"ema_examples": 20.0}, {"ema_examples": 160.0}),
        ("extrap_momentum", {"local_batch_size": 2}, {"local_batch_size": 16}),
        ("extrap_momentum", {"local_batch_size": 6}, {"local_batch_size": 50}),  # above the batch: all of it
    ],
    ids=["average", "local batch", "large local batch"],
)
def test_with_batches_of_tokens_all_that_counts_like_the_batch_counts_tokens(
    source: dict[str, Any], optimizer: str, in_sequences: dict[str, Value], in_tokens: dict[str, Value]
) -> None:
    more: dict[str, Value] = {"lr": 0.3, "momentum": 0.9, "extrapolation_lr": 0.1}
    curves = []
    for unit, batch_size, own in (("sequences", 4, in_sequences), ("tokens", 32, in_tokens)):
        workload = LanguageModel(source, LSTM, sequence_length=8, unit=unit)
        run = workload.begin(Settings(batch_size, 0, optimizer, {**more, **own}))
        run.train(5)
        curves.append(run.evaluate())
    assert curves[0] == curves[1]


def test_a_local_batch_that_cuts_a_sequence_is_refused_before_anything_runs(source: dict[str, Any]) -> None:
    def problems(local: int) -> str:
        experiment = {
            "workload": {
                "name": "language_model",
                "data": source,
                "model": LSTM,
                "sequence_length": 8,
                "unit": "tokens",
            },
            "optimizer": "extrap_sgd",
            "batch_sizes": [24, 48],
            "target": "val_loss < 2",
            "space": {"lr": 1, "extrapolation_lr": 0.1, "local_batch_size": local},
            "budget": {"epochs": 1},
        }
        try:
            check_experiment(experiment, "x")
        except InputError as error:
            return str(error)
        return ""

    assert "'space.local_batch_size': a batch of tokens must be whole sequences, but 12 tokens" in problems(12)
    assert problems(24) == problems(8) == problems(50) == ""


def test_label_smoothing_and_dropout_change_training_only(source: dict[str, Any]) -> None:
    workload = LanguageModel(source, LSTM, sequence_length=8)
    plain, other = workload.begin(settings()), workload.begin(settings(label_smoothing=0.2, dropout=0.3))
    assert plain.evaluate() == other.evaluate()
    plain.train(3)
    other.train(3)
    assert plain.evaluate() != other.evaluate()


def test_train_loss_is_a_metric_where_it_is_wanted(source: dict[str, Any]) -> None:
    workload = LanguageModel(source, LSTM, sequence_length=8, train_loss_examples=10)
    run = workload.begin(settings())
    assert set(run.evaluate()) == set(workload.metrics) == {"val_loss", "train_loss"}


def test_a_sequences_loss_is_the_mean_over_its_tokens() -> None:
    scores = torch.randn(7, 7)
    table = torch.nn.Embedding(7, 7, _weight=scores)
    model = NextToken(table, 0.0)
    sequences = torch.tensor([[0, 1, 2, 3], [6, 4, 0, 0]])
    expected = [torch.nn.functional.cross_entropy(scores[row[:-1]], row[1:]).item() for row in sequences]
    assert model(sequences)[:, 0].tolist() == pytest.approx(expected)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unit": ({"unit": "words"}, "'unit' must be sequences or tokens, but it is 'words'"),
    "length": ({"sequence_length": 0}, "'sequence_length' must be a whole number from 1, but it is 0"),
    "validation": ({"validation_sequences": -1}, "'validation_sequences' must be a whole number from 1"),
    "model": ({"model": "rnn"}, "there is no model 'rnn'"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LanguageModel(**options)


def test_a_text_too_short_for_a_sequence_is_refused(source: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match="at least sequence_length [+] 1 = 5001 tokens to train and as many to validate"
    ):
        _ = LanguageModel(source, LSTM, sequence_length=5000).n_examples
