"""Where runs end: means, intervals and differences against SciPy, and what is refused."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from bcrit.analysis.questions.finals import ask
from bcrit.analysis.report import Answer, Rows
from bcrit.analysis.run import Run
from bcrit.search_spaces.problems import InputError
from tests.analysis.folders import Made, experiment, write_run


def made(path: Path, ends: Mapping[int, Sequence[float]], beyond: bool = True, lost: Sequence[float] = ()) -> Run:
    """Re-runs that reach at step 10 and end at step 40 with these values; those in `lost` break off at step 20."""
    runs = {}
    for batch_size, values in ends.items():
        runs[f"s{batch_size}"] = Made(batch_size, [(0, 5.0), (10, 0.5)], "reached", max_steps=40)
        for name, step, reported in (("c", 40, values), ("d", 20, lost)):
            for i, value in enumerate(reported):
                curve = [(0, 5.0), (10, 0.5), (step, value)]
                runs[f"{name}{batch_size}-{i}"] = Made(batch_size, curve, "reached", f"s{batch_size}", max_steps=40)
    confirm = {"points": 1, "beyond_target": beyond}
    return Run(write_run(path, experiment(list(ends), confirm=confirm), runs))


def finals(*runs: Run, metric: str | None = None) -> Answer:
    answer = ask(runs, metric)
    assert isinstance(answer, Answer)
    return answer


def rows(answer: Answer) -> list[dict[str, Any]]:
    return list(answer.facts["rows"])


def test_a_mean_over_re_runs_has_students_interval(tmp_path: Path) -> None:
    values = [0.2, 0.3, 0.7]
    (row,) = rows(finals(made(tmp_path / "a", {8: values})))
    low, high = stats.t.interval(0.95, 2, loc=0.4, scale=stats.sem(values))
    assert low < 0  # where no loss is
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.4, 0, high))
    (below,) = rows(finals(made(tmp_path / "b", {8: [-0.1, *values]})))
    assert below["low"] == pytest.approx(stats.t.interval(0.95, 3, loc=0.275, scale=stats.sem([-0.1, *values]))[0])
    assert [row[name] for name in ("batch_size", "steps", "examples", "n", "n_lost")] == [8, 40, 320, 3, 0]
    assert row["values"] == pytest.approx(values)


def test_differences_are_welchs_and_corrected_over_the_table(tmp_path: Path) -> None:
    a, b, c = [0.2, 0.3, 0.7], [0.1, 0.12, 0.08, 0.1], [0.9, 0.91, 0.92]
    found = finals(made(tmp_path / "a", {8: a}), made(tmp_path / "b", {8: b, 64: c}))
    gaps = found.facts["gaps"]
    assert [(gap["row"], gap["other"]) for gap in gaps] == [(1, 0), (2, 0), (2, 1)]
    pairs = [stats.ttest_ind(x, y, equal_var=False) for x, y in ((b, a), (c, a), (c, b))]
    by_size = sorted(pair.pvalue for pair in pairs)
    assert gaps[2]["p_adjusted"] == pytest.approx(3 * by_size[0])  # the smallest of three counts three times
    assert gaps[0]["p_adjusted"] == pytest.approx(max(2 * by_size[1], by_size[2]))
    interval = pairs[2].confidence_interval(0.95)
    assert (gaps[2]["low"], gaps[2]["high"]) == pytest.approx((interval.low, interval.high))
    assert found.sentences[0].startswith("From row 1 to row 2 loss changes by -0.3 (")
    assert found.sentences[0].endswith("within chance.") and found.sentences[1].endswith("more than chance.")
    assert len(found.sentences) == 2
    differences = found.parts[1]
    assert isinstance(differences, Rows)
    assert [[("*" in cell) for cell in row[1:]] for row in differences.table.rows] == [[False, False], [True, False]]


def test_what_did_not_train_to_the_end_is_counted_and_in_no_mean(tmp_path: Path) -> None:
    found = finals(made(tmp_path / "a", {8: [0.2, 0.4]}, lost=[9.0]))
    (row,) = rows(found)
    assert (row["n"], row["n_lost"]) == (2, 1) and row["mean"] == pytest.approx(0.3)
    assert found.sentences == ("1 of 3 re-runs of row 1 did not get to step 40: its mean is of the others.",)
    (none,) = rows(finals(made(tmp_path / "b", {8: []}, lost=[9.0])))
    assert (none["n"], none["n_lost"], none["mean"], none["values"]) == (0, 1, None, [])


def test_one_re_run_has_no_interval_and_no_difference(tmp_path: Path) -> None:
    found = finals(made(tmp_path / "a", {8: [0.2]}), made(tmp_path / "b", {8: [0.2, 0.3]}))
    assert (rows(found)[0]["low"], rows(found)[0]["high"]) == (None, None)
    assert (found.facts["gaps"], found.sentences) == ([], ())


def test_what_cannot_be_compared_is_refused_for_all_runs_at_once(tmp_path: Path) -> None:
    stopped = made(tmp_path / "stopped", {8: [0.2]}, beyond=False)
    without = made(tmp_path / "without", {8: []})
    with pytest.raises(InputError, match=re.escape("set 'confirm: {beyond_target: true}'")) as caught:
        finals(stopped, without)
    assert len(caught.value.problems) == 2 and "set 'confirm.seeds'" in caught.value.problems[1]
