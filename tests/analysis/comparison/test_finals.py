"""Where runs end: means, intervals and differences against SciPy, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from scipy import stats

from bcrit.analysis.comparison.finals import finals
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.problems import InputError
from tests.analysis.folders import Made, experiment, write_run

BEYOND = {"points": 1, "beyond_target": True}


def made(path: Path, ends: Mapping[int, Sequence[float]], beyond: bool = True, lost: Sequence[float] = ()) -> RunFolder:
    """Re-runs that reach at step 10 and end at step 40 with these values; those in `lost` break off at step 20."""
    runs = {}
    for batch_size, values in ends.items():
        runs[f"s{batch_size}"] = Made(batch_size, [(0, 5.0), (10, 0.5)], "reached", max_steps=40)
        for i, value in enumerate(values):
            curve = [(0, 5.0), (10, 0.5), (40, value)]
            runs[f"c{batch_size}-{i}"] = Made(batch_size, curve, "reached", f"s{batch_size}", max_steps=40)
        for i, value in enumerate(lost):
            curve = [(0, 5.0), (10, 0.5), (20, value)]
            runs[f"d{batch_size}-{i}"] = Made(batch_size, curve, "reached", f"s{batch_size}", max_steps=40)
    confirm = {**BEYOND, "beyond_target": beyond}
    return write_run(path, experiment(list(ends), confirm=confirm), runs)


def test_a_mean_over_re_runs_has_students_interval(tmp_path: Path) -> None:
    values = [0.2, 0.3, 0.7]
    (row,) = finals([made(tmp_path / "a", {8: values})]).rows
    low, high = stats.t.interval(0.95, 2, loc=0.4, scale=stats.sem(values))
    assert (row.mean, row.low, row.high) == pytest.approx((0.4, low, high))
    assert (row.batch_size, row.steps, row.examples, row.n, row.n_lost) == (8, 40, 320, 3, 0)
    assert row.values == pytest.approx(values)


def test_differences_are_welchs_and_corrected_over_the_table(tmp_path: Path) -> None:
    a, b, c = [0.2, 0.3, 0.7], [0.1, 0.12, 0.08, 0.1], [0.9, 0.91, 0.92]
    found = finals([made(tmp_path / "a", {8: a}), made(tmp_path / "b", {8: b, 64: c})])
    assert [(gap.row, gap.other) for gap in found.gaps] == [(1, 0), (2, 0), (2, 1)]
    pairs = [stats.ttest_ind(x, y, equal_var=False) for x, y in ((b, a), (c, a), (c, b))]
    by_size = sorted(pair.pvalue for pair in pairs)
    assert found.gaps[2].p_adjusted == pytest.approx(3 * by_size[0])  # the smallest of three counts three times
    assert found.gaps[0].p_adjusted == pytest.approx(max(2 * by_size[1], by_size[2]))
    interval = pairs[2].confidence_interval(0.95)
    assert (found.gaps[2].low, found.gaps[2].high) == pytest.approx((interval.low, interval.high))
    assert [gap.real for gap in found.gaps] == [False, False, True]
    assert found.sentences[0].startswith("From row 1 to row 2 loss changes by -0.3 (")
    assert found.sentences[0].endswith("within chance.") and found.sentences[1].endswith("more than chance.")
    assert len(found.sentences) == 2


def test_what_did_not_train_to_the_end_is_counted_and_in_no_mean(tmp_path: Path) -> None:
    found = finals([made(tmp_path / "a", {8: [0.2, 0.4]}, lost=[9.0])])
    (row,) = found.rows
    assert (row.n, row.n_lost) == (2, 1) and row.mean == pytest.approx(0.3)
    assert found.sentences == ("1 of 3 re-runs of row 1 did not get to step 40: its mean is of the others.",)


def test_one_re_run_has_no_interval_and_no_difference(tmp_path: Path) -> None:
    found = finals([made(tmp_path / "a", {8: [0.2]}), made(tmp_path / "b", {8: [0.2, 0.3]})])
    assert (found.rows[0].low, found.rows[0].high, found.gaps, found.sentences) == (None, None, (), ())


def test_the_answer_is_json(tmp_path: Path) -> None:
    answer = json.loads(json.dumps(finals([made(tmp_path / "a", {8: [0.2, 0.3], 64: [0.1, 0.3]})]).to_json()))
    assert [row["batch_size"] for row in answer["rows"]] == [8, 64] and answer["metric"] == "loss"
    assert answer["gaps"][0]["other"] == 0


def test_what_cannot_be_compared_is_refused_for_all_runs_at_once(tmp_path: Path) -> None:
    stopped = made(tmp_path / "stopped", {8: [0.2]}, beyond=False)
    without = made(tmp_path / "without", {8: []})
    with pytest.raises(InputError, match=re.escape("set 'confirm: {beyond_target: true}'")) as caught:
        finals([stopped, without])
    assert len(caught.value.problems) == 2 and "set 'confirm.seeds'" in caught.value.problems[1]


def test_a_metric_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be one that was measured, but it is 'speed'; choose one of loss"):
        finals([made(tmp_path / "a", {8: [0.2]})], "speed")
