"""What warm starts say in sentences, with and without numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bcrit.analysis.landscape.sentences import sentences
from bcrit.analysis.landscape.warm_sentences import warm_sentences
from tests.analysis.landscape.made_up import landscape, warm_starts


def test_what_was_trained_comes_first() -> None:
    assert warm_sentences(warm_starts())[0] == (
        "Warm starts (Keskar et al. 2016, Figure 5): batch size 8 trains for 12.5 epochs; from 3 of its iterates, the "
        "initialisation among them, batch size 256 goes on for 100 epochs; 2 seeds. The target ends none of these "
        "runs, so their training losses differ."
    )


def test_both_ends_are_compared_with_the_small_batch_itself() -> None:
    _, accuracy, sharpness = warm_sentences(warm_starts())
    assert accuracy == (
        "From no warm start to one after all the epochs of the small batch, val_accuracy of batch size 256 goes from "
        "0.865 (0.86 to 0.87) to 0.905 (0.9 to 0.91) tuned, from 0.805 (0.8 to 0.81) to 0.885 (0.88 to 0.89) un-tuned; "
        "batch size 8 itself ends at 0.905 (0.9 to 0.91)."
    )
    assert "sharpness (the full space, eps 0.001) of batch size 256 goes from 1.9 (1.4 to 2.4) to 1.5" in sharpness


def test_one_seed_has_no_range() -> None:
    warm = warm_starts()
    one = replace(warm, states=tuple(state for state in warm.states if state.number == 0))
    text = " ".join(warm_sentences(one))
    assert "; 1 seed." in text and "goes from 0.86 to 0.9 tuned" in text


def test_a_kind_that_is_not_there_is_not_spoken_of() -> None:
    warm = warm_starts()
    only = replace(warm, states=tuple(state for state in warm.states if state.kind != "un-tuned"))
    assert "un-tuned" not in " ".join(warm_sentences(only))


def test_networks_without_numbers_are_counted() -> None:
    warm = warm_starts()
    bare: dict[str, Any] = {"last": {}, "sharpness": None, "problem": "its weights are not finite"}
    lost = replace(warm, states=tuple(replace(state, **bare) for state in warm.states))
    assert warm_sentences(lost)[1:] == ["18 of 18 of these networks could not be measured."]


def test_the_landscape_says_it_only_where_there_are_warm_starts() -> None:
    assert warm_sentences(warm_starts())[1] in sentences(landscape(warm_starts=warm_starts()))
    assert not any("Warm starts" in sentence for sentence in sentences(landscape()))
