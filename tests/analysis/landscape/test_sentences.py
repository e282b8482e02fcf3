"""The sentences say what the numbers are, how far training went, and whether the record came back."""

from __future__ import annotations

from dataclasses import replace

from bcrit.analysis.landscape.result import Landscape
from bcrit.analysis.landscape.sentences import sentences
from tests.analysis.landscape.made_up import landscape


def said(found: Landscape) -> str:
    return "\n".join(sentences(found))


def test_the_first_sentence_compares_the_ends_tuned_and_un_tuned() -> None:
    first = sentences(landscape())[0]
    assert first == (
        "Sharpness (the full space, eps 0.001) of the tuned winners goes from 1.25 at batch size 8 to 1.25 at 256 "
        "(the seeds' ranges overlap); with the hyperparameters of batch size 8 kept it is 10.2 at 256 (the seeds' "
        "ranges are apart) (medians of up to 2 seeds)."
    )


def test_the_eigenvalue_is_compared_likewise() -> None:
    assert "The top eigenvalue of the Hessian of the tuned winners goes from 2.5 at batch size 8" in said(landscape())


def test_how_far_networks_were_trained_stands_beside_f() -> None:
    text = said(landscape())
    assert "trained to loss < 1" in text and "10 of 10 reached it" in text
    assert "f is the loss on 48 rows of the training set (of 64) and lies between 0.101 and 0.111" in text
    assert "(all of them)" in said(landscape(n_examples=64))


def test_a_barrier_on_the_line_is_told_from_none() -> None:
    lines = [sentence for sentence in sentences(landscape()) if sentence.startswith("On the straight line")]
    assert "to the tuned network at 256 the training loss rises to 0.7; at the ends it is 0.1 and 0.2." in lines[0]
    assert "stays below the higher of them; at the ends it is 0.1 and 0.2, and lower between them." in lines[1]


def test_a_faithful_record_and_another_one_are_told_apart() -> None:
    assert "The 6 confirmation runs, trained again for their weights, have the recorded curves" in said(landscape())
    networks = landscape().networks
    other = (replace(networks[0], same_curve=False, curve_difference=0.02), *networks[1:])
    assert "1 of the 6 confirmation runs" in said(landscape(networks=other))
    assert "(by up to 2 % of the metric)" in said(landscape(networks=other))
    lost = (replace(networks[0], same_curve=False, curve_difference=None), *networks[1:])
    assert "(beyond measure of the metric)" in said(landscape(networks=lost))


def test_one_batch_size_has_a_value_and_no_trend() -> None:
    networks = tuple(n for n in landscape().networks if n.batch_size == 8)
    assert "of the winner at batch size 8 is 1.25." in sentences(landscape(networks=networks, paths=()))[0]


def test_one_seed_is_said_and_nothing_of_ranges() -> None:
    networks = tuple(n for n in landscape().networks if n.number == 0)
    first = sentences(landscape(networks=networks))[0]
    assert "(one seed)" in first and "ranges" not in first


def test_networks_without_numbers_leave_their_sentences_out() -> None:
    empty = tuple(replace(n, rises=(), top_eigenvalue=None, train_loss=None) for n in landscape().networks)
    text = said(landscape(networks=empty, paths=()))
    assert "All networks were trained" in text and "goes from" not in text and "lies between" not in text


def test_notes_are_said_last() -> None:
    assert sentences(landscape())[-1] == "one note"
