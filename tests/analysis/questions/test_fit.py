"""The answer on the fit says what the fit says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.curve import fit_hyperbola
from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.questions import recommend
from bcrit.analysis.questions.fit import ask, key_numbers, residuals_plot
from bcrit.analysis.report import Answer, Plot, Rows
from bcrit.analysis.run import Run
from tests.analysis.report import runs
from tests.bcrit.command import Done, bcrit, refused

B = 2.0 ** np.arange(2, 12)


def answered(steps: np.ndarray, noise: float = 0.02, batch: np.ndarray = B) -> Answer:
    errors = np.random.default_rng(3).normal(0, noise, batch.size)
    fit = fit_hyperbola(pd.DataFrame({"batch_size": batch, "steps": steps * np.exp(errors)}), unit="tokens")
    found = ask(with_fit(fit))
    assert isinstance(found, Answer)
    return found


def with_fit(fit: object) -> Run:
    return runs.bent().but(fit=fit)


def tables(found: Answer) -> dict[str, tuple[tuple[str, ...], ...]]:
    return {part.heading: part.table.rows for part in found.parts if isinstance(part, Rows)}


def plots(found: Answer) -> dict[str, Plot]:
    return {part.name: part for part in found.parts if isinstance(part, Plot)}


def test_without_a_knee_in_sight_there_are_bounds_and_no_picture_of_regimes() -> None:
    found = answered(5e5 / B)
    assert set(plots(found)) == {"residuals"}
    assert "All batch sizes scale perfectly, up to the largest, 2,048." in found.sentences[1]
    first = tables(found)["What else is called the critical batch size"][0]
    assert first[1] == "not identified" and first[2].startswith("above")


def test_the_bands_leave_the_intervals_white_and_the_dots_are_the_studies() -> None:
    figure = plots(answered(50 * (1 + 100 / B)))["regimes"].figure
    (points,) = figure["data"]
    assert points["x"] == list(B)
    bands = [shape for shape in figure["layout"]["shapes"] if shape["type"] == "rect"]
    assert len(bands) == 3
    assert bands[0]["x1"] < bands[1]["x0"] < bands[1]["x1"] < bands[2]["x0"]


@pytest.mark.parametrize("question", [ask, recommend.ask], ids=["fit", "recommend"])
def test_of_a_run_without_a_curve_the_answer_is_no_and_why(question: Callable[[Run], Answer]) -> None:
    found = question(runs.partly(()))
    assert not found.yes and not found.on_page
    assert found.sentences[1].startswith("A curve needs 2") and found.facts["no_fit"].startswith("a curve needs 2")


def test_points_are_per_cent_above_the_curve() -> None:
    fit = runs.bent().fit
    assert fit is not None
    figure = residuals_plot(fit)
    (points,) = figure["data"]
    assert points["x"] == [study.batch_size for study in fit.studies]
    assert points["y"] == pytest.approx([100 * ((s.steps or 0) / s.fitted_steps - 1) for s in fit.studies])
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < min(points["y"]) < max(points["y"]) < high


DIGITS = "batch_size,steps\n16,140\n32,96\n64,55\n128,54\n256,41\n512,39\n1024,42\n"


def fit(folder: Path, *arguments: object, table: str = DIGITS) -> Done:
    (folder / "t.csv").write_text(table)
    return bcrit("fit", folder / "t.csv", *arguments)


def answer(folder: Path, *arguments: object, table: str = DIGITS) -> dict[str, Any]:
    done = fit(folder, *arguments, "--json", table=table)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_table_of_other_columns_gives_the_same(tmp_path: Path) -> None:
    other = DIGITS.replace("batch_size,steps", "# exported\nBS;N").replace(",", ";")
    assert answer(tmp_path, "--columns", "batch_size=bs,steps=n", table=other)["b_crit"] == answer(tmp_path)["b_crit"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "steps"], "it reads NAME=COLUMN,NAME=COLUMN, but 'steps' has no '='"),
        (["--columns", "steps=loss"], "there is no column 'loss'; the columns are batch_size, steps"),
        (["--linear-from", -1], "at least 0"),
        (["--step-time", "missing.csv"], "cannot be read"),
    ],
    ids=["no name", "no column", "linear-from", "step-time"],
)
def test_a_bad_option_is_one_message(tmp_path: Path, arguments: list[object], message: str) -> None:
    done = fit(tmp_path, *arguments)
    assert message in refused(done)


def test_the_interval_of_s_min_is_that_of_the_curve_far_out() -> None:
    fit = runs.bent().fit
    assert fit is not None
    far = fit.predict([1e12]).iloc[0]
    shown = list(key_numbers(fit, "loss < 1"))[1].interval
    assert shown == f"95 % interval: {far['steps_low']:.0f} to {far['steps_high']:.0f}"


RISING = "batch_size,steps\n32,223541\n64,78735\n128,33264\n192,22557\n256,18005\n512,10471\n1024,7048\n2048,5145\n"


def test_a_u_is_told_in_json_and_on_the_page(tmp_path: Path) -> None:
    found = answer(tmp_path, table=RISING)
    assert found["b_opt_low"] < found["b_opt"] < found["b_opt_high"] and "trough" not in found
    assert [study["regime"] for study in found["regimes"]["studies"]][:3] == ["too small"] * 3
    flat = answer(tmp_path)
    assert [flat[name] for name in ("b_opt", "b_opt_low", "b_opt_high")] == [None] * 3
    page = answered(Hyperbola(50, 5000, 20).steps(B))
    assert tables(page)["Other curves through the same points"][0][0].endswith("(used here)")
    bands = [shape for shape in plots(page)["regimes"].figure["layout"]["shapes"] if shape["type"] == "rect"]
    assert len(bands) == 4
