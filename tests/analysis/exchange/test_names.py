"""Names from elsewhere fit beside ours, and every change can be undone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bcrit.analysis.exchange.run import hyperparameter_names, metric_names
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

ANY = st.lists(
    st.sampled_from(["lr", "learning_rate", "opt/lr", "a.b", "a_b", "steps", "step", "decay_steps", "x", "Momentum"])
)


@given(source=ANY)
def test_names_differ_from_each_other_and_from_columns(source: list[str]) -> None:
    names = hyperparameter_names(source)
    assert list(names) == list(dict.fromkeys(source))
    assert len(set(names.values())) == len(names)
    assert not set(names.values()) & {*TRIALS.names, *MEASUREMENTS.names, "decay_steps"}
    assert not any("." in name for name in names.values())


def test_a_learning_rate_is_called_lr_whatever_its_spelling() -> None:
    assert hyperparameter_names(["learning_rate", "momentum"]) == {"learning_rate": "lr", "momentum": "momentum"}
    assert hyperparameter_names(["base_lr", "lr"]) == {"base_lr": "base_lr", "lr": "lr"}
    assert hyperparameter_names(["optimizer/lr", "wd"]) == {"optimizer/lr": "lr", "wd": "wd"}
    assert hyperparameter_names(["alpha", "lr"], {"alpha": "lr"})["alpha"] == "lr"


def test_a_metric_keeps_its_name_unless_it_is_a_column_of_ours() -> None:
    assert metric_names(["val/error", "examples"]) == {"val/error": "val/error", "examples": "examples_in_source"}
