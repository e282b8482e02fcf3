"""Warm starts as facts: which states there are, and how many epochs came before."""

from __future__ import annotations

import json

import pytest

from bcrit.analysis.landscape.warm_start import warm_starts_from
from bcrit.analysis.records.json_values import plain
from tests.analysis.landscape.made_up import warm_starts


def test_states_are_found_by_kind_and_iterate_in_order_of_seeds() -> None:
    warm = warm_starts()
    assert warm.starts == [0, 10, 100]
    assert [state.number for state in warm.of("tuned", 10)] == [0, 1] and warm.of("tuned", 11) == []
    assert [state.large_steps for state in warm.of("small", 10)] == [0, 0]


def test_epochs_are_the_small_batch_s_examples_over_the_training_set() -> None:
    warm = warm_starts()
    assert [warm.epochs(warm.of("un-tuned", steps)[0]) for steps in warm.starts] == [0, 1.25, 12.5]


def test_what_is_stored_as_json_comes_back() -> None:
    assert warm_starts_from(json.loads(json.dumps(plain(warm_starts())))) == warm_starts()
    assert warm_starts_from(None) is None


def test_a_damaged_part_is_an_error_and_no_half_result() -> None:
    stored = plain(warm_starts())
    del stored["states"][0]["kind"]
    with pytest.raises(TypeError, match="kind"):
        warm_starts_from(stored)
