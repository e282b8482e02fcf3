"""The answer says the ratio, its interval, and no more than the data show; its figures, tables, and when it is old."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bcrit.analysis.numbers.estimate import Estimate
from bcrit.analysis.questions.adaptive import answer_table, ask, rate_table, sentences, verdict
from bcrit.analysis.questions.adaptive.result import Adaptive
from bcrit.analysis.records.run_folder import ADAPTIVE
from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.report.build import build_report
from bcrit.analysis.run import Run
from tests.analysis.questions.adaptive.made_up import SIZES, adaptive
from tests.analysis.report import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return runs.stored(adaptive(), ADAPTIVE, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def answer(run: Run) -> Answer:
    return runs.answered(ask, run)


def test_the_first_sentence_is_the_verdict_over_all_exchange_rates() -> None:
    found = replace(adaptive(), pooled=0.93, pooled_low=0.85, pooled_high=1.02, pooled_predicted=0.97)
    assert sentences(found)[0] == (
        "Batch sizes that follow the noise scale need 0.93 (95 %: 0.85 to 1.02) times the steps and examples "
        "of their mean held fixed (mean of 3 exchange rates, 5 seeds): neither a gain nor a loss is shown. The "
        "theory predicts 0.97 from the noise scale along these runs."
    )


NOTHING = "neither a gain nor a loss is shown"
COARSE = f"{NOTHING}, because what fixed ones need is known no better"


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said"),
    [
        (0.8, 0.7, 0.9, "a gain"),
        (1.2, 1.1, 1.3, "a loss"),
        (0.9, 0.7, 1.1, NOTHING),
        (0.985, 0.98, 0.99, COARSE),  # nearer to 1 than the fixed batch sizes lie to their curve
        (0.8, None, None, f"without an interval, which needs three seeds, {NOTHING}"),
    ],
    ids=str,
)
def test_a_gain_is_one_that_interval_and_frontier_both_show(
    ratio: float, low: float | None, high: float | None, said: str
) -> None:
    assert verdict(replace(adaptive(), misfit=0.01), Estimate(ratio, low, high), [8e7]) == said


def test_a_model_without_chance_needs_no_interval_but_finer_steps_than_its_gain() -> None:
    exact = replace(adaptive(1, 0.0), deterministic=True, misfit=0.001)
    assert verdict(exact, Estimate(0.9), [8e7]) == "a gain"
    assert verdict(exact, Estimate(0.95), [15.0]) == COARSE


def test_every_schedule_has_its_sentence_and_the_notes_come_last() -> None:
    said = sentences(adaptive())
    assert [text.split(" ")[1:4] for text in said[1:4]] == [["r", "=", r] for r in ("16", "64", "256")]
    assert "With ramp 0:8 it took" in said[4] and said[-1] == "one note"
    assert "momentum 0.9 as at batch size 64" in " ".join(said)


def test_a_schedule_that_was_not_reached_says_so() -> None:
    found = adaptive()
    lost = replace(found.of("noise")[0], steps=None, examples=None, ratio=None, n_reached=3)
    answers = tuple(lost if one.schedule == lost.schedule else one for one in found.answers)
    assert "3 of 5 seeds reached the target, so it has no number" in sentences(replace(found, answers=answers))[1]


def test_without_any_number_nothing_is_claimed() -> None:
    assert sentences(replace(adaptive(), pooled=None))[0].startswith("No schedule that follows the noise scale has")


def test_every_figure_is_one_that_plotly_draws(answer: Answer) -> None:
    plots = {part.name: part for part in answer.parts if isinstance(part, Plot)}
    assert list(plots) == ["adaptive-frontier", "adaptive-batch-sizes"]
    legend = [t["name"] for t in plots["adaptive-frontier"].figure["data"] if t.get("showlegend", True)]
    assert legend == [
        *("curve through the fixed batch sizes", "hyperbola", "fixed batch size"),
        *("follows the noise scale", "ramp"),
    ]
    lines = plots["adaptive-batch-sizes"].figure["data"]
    assert len(lines) == 4 * 5 and [t["name"] for t in lines if t["showlegend"]] == [
        *("r = 16", "r = 64", "r = 256", "ramp 0:8")
    ]


def test_marks_stand_at_the_means(answer: Answer) -> None:
    [plot] = [part for part in answer.parts if isinstance(part, Plot) and part.name == "adaptive-frontier"]
    marks = next(t for t in plot.figure["data"] if t.get("name") == "follows the noise scale")
    assert marks["x"] == [one.steps for one in adaptive().of("noise")]


def test_the_table_has_a_row_a_schedule_with_intervals() -> None:
    table = answer_table(adaptive())
    assert len(table.rows) == len(SIZES) + 4
    row = dict(zip(table.head, next(row for row in table.rows if row[0] == "r = 64"), strict=True))
    assert row["reached"] == "5 of 5" and " to " in row["over fixed"] and row["gamma predicted"] == "0.96"
    assert rate_table(adaptive()).rows[0] == ("8", "0.08", "sgd")


def test_the_terminal_has_the_columns_that_it_has_room_for(answer: Answer) -> None:
    (short,) = (part.table for part in answer.terminal if isinstance(part, Rows))
    assert short.head == ("schedule", "reached", "steps", "examples", "over fixed", "predicted", "gamma")


def test_batch_sizes_that_were_confirmed_since_are_said(run: Run, answer: Answer, tmp_path: Path) -> None:
    text = "run `bcrit adaptive` again"
    assert any(text in said for said in answer.sentences)
    now = tuple(int(b) for b in run.studies["batch_size"])
    fresh = runs.answered(ask, runs.stored(adaptive(tuned_at=now, rates=(0.1,) * len(now)), ADAPTIVE, tmp_path))
    assert not any(text in said for said in fresh.sentences)


def test_the_page_has_it_and_escapes_what_comes_from_users(tmp_path: Path) -> None:
    page = build_report(runs.stored(adaptive(unit=runs.EVIL, notes=(runs.EVIL,)), ADAPTIVE, tmp_path))
    assert 'id="adaptive"' in page and "<script>alert" not in page


def test_what_is_stored_comes_back(run: Run) -> None:
    assert run.folder.read_result(ADAPTIVE, Adaptive) == adaptive()
