"""The answer on the fit says what the fit says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.curve.fit import fit_hyperbola
from bcrit.analysis.curve.other_curves import PNorm
from bcrit.analysis.questions.fit import ask, key_numbers, residuals_plot
from bcrit.analysis.report.answer import Answer, Plot, Rows
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


def test_a_clean_curve_is_called_clean_and_shown_with_everything_that_follows() -> None:
    found = answered(50 * (1 + 100 / B))
    assert "nothing in the points speaks" in found.sentences[0]
    assert "Perfect scaling up to" in found.sentences[1] and "measure batch size" in found.sentences[2]
    assert set(plots(found)) == {"residuals", "regimes"}
    models, definitions = tables(found).values()
    assert models[0][0].startswith("hyperbola") and models[0][-2] == "0"
    assert [row[0] for row in definitions][0] == "twice the minimum (used here)"


def test_a_sharp_knee_is_said_first() -> None:
    found = answered(PNorm(50, 100, 2, 0).steps(B))
    assert "bend away" in found.sentences[0]
    assert tables(found)["Other curves through the same points"][0][0] == "free knee (p-norm)"


def test_another_curve_that_does_clearly_better_is_named() -> None:
    batch = 2.0 ** np.arange(4, 10)
    corner = answered(np.maximum(50, 1600 / batch), 0.01, batch)
    assert "another curve does clearly better: two straight lines" in corner.sentences[0]


def test_without_a_knee_in_sight_there_are_bounds_and_no_picture_of_regimes() -> None:
    found = answered(5e5 / B)
    assert set(plots(found)) == {"residuals"}
    assert "at least up to" in found.sentences[1]
    first = tables(found)["What else is called the critical batch size"][0]
    assert first[1] == "not identified" and first[2].startswith("above")


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_studies_say_how_little_is_known(n: int) -> None:
    batch = np.array([8.0, 64, 512, 4096])[:n]
    found = answered(50 * (1 + 100 / batch), 0.05, batch)
    assert ("Two batch sizes" in found.sentences[0]) == (n == 2)
    assert ("too few" in found.sentences[0]) == (n == 3)
    assert all(len(row) == 6 for row in tables(found)["Other curves through the same points"])


def test_the_bands_leave_the_intervals_white_and_the_dots_are_the_studies() -> None:
    figure = plots(answered(50 * (1 + 100 / B)))["regimes"].figure
    (points,) = figure["data"]
    assert points["x"] == list(B)
    bands = [shape for shape in figure["layout"]["shapes"] if shape["type"] == "rect"]
    assert len(bands) == 3
    assert bands[0]["x1"] < bands[1]["x0"] < bands[1]["x1"] < bands[2]["x0"]


def test_a_run_without_a_fit_has_no_such_answer() -> None:
    found = ask(runs.partly(()))
    assert isinstance(found, str) and found.startswith("there is no curve: a curve needs 2")


def test_points_are_per_cent_above_the_curve() -> None:
    fit = runs.bent().fit
    assert fit is not None
    figure = residuals_plot(fit)
    (points,) = figure["data"]
    assert points["x"] == [study.batch_size for study in fit.studies]
    assert points["y"] == pytest.approx([100 * ((s.steps or 0) / s.fitted_steps - 1) for s in fit.studies])
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < min(points["y"]) < max(points["y"]) < high


def test_studies_that_were_not_reached_have_no_residual() -> None:
    fit = runs.partly((32, 64, 128)).fit
    assert fit is not None
    assert residuals_plot(fit)["data"][0]["x"] == [32, 64, 128]


DIGITS = "batch_size,steps\n16,140\n32,96\n64,55\n128,54\n256,41\n512,39\n1024,42\n"


def fit(folder: Path, *arguments: object, table: str = DIGITS) -> Done:
    (folder / "t.csv").write_text(table)
    return bcrit("fit", folder / "t.csv", *arguments)


def answer(folder: Path, *arguments: object, table: str = DIGITS) -> dict[str, Any]:
    done = fit(folder, *arguments, "--json", table=table)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_text_is_three_numbers_notes_and_what_follows(tmp_path: Path) -> None:
    lines = fit(tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["b_crit", "s_min", "e_min"]
    assert [line.split(":")[0].strip() for line in lines[3:]] == ["note", "note", "regimes", "next"]


def test_options_add_what_they_ask_for(tmp_path: Path) -> None:
    (tmp_path / "seconds.csv").write_text("batch_size,step_seconds\n16,0.01\n1024,0.02\n")
    options = ["--predict", 2048, "--predict", 100, "--linear-from", 16, "--efficiency", 0.9]
    text = fit(tmp_path, *options, "--step-time", tmp_path / "seconds.csv").stdout
    for words in ("batch size 2,048 would take", "batch size 100 would take", "from 16", "90 %", "where seconds"):
        assert words in text
    found = answer(tmp_path, *options, "--step-time", tmp_path / "seconds.csv")
    assert [row["batch_size"] for row in found["predictions"]] == [2048, 100]
    assert (
        found["predictions"][0]["steps_low"] < found["predictions"][0]["steps"] < found["predictions"][0]["steps_high"]
    )
    by_name = {row["name"]: row for row in found["definitions"]}
    assert by_name["20_percent_over_linear"]["batch_size"] == pytest.approx(found["b_crit"] / 5 + 1.2 * 16)
    assert by_name["efficiency"]["batch_size"] == pytest.approx(found["b_crit"] / 9)
    assert set(found["next_batch_size"]) == {"steps", "examples", "seconds"}


def test_the_json_has_models_and_regimes(tmp_path: Path) -> None:
    found = answer(tmp_path)
    assert {model["name"] for model in found["models"]} >= {"perfect_scaling", "flat", "hyperbola", "two_asymptotes"}
    assert found["regimes"]["plateau_begins"]["batch_size"] == pytest.approx(4 * found["b_crit"])
    assert [study["batch_size"] for study in found["regimes"]["studies"]] == [16, 32, 64, 128, 256, 512, 1024]
    assert found["predictions"] == []


def test_before_the_knee_the_answer_is_a_bound_and_where_to_measure(tmp_path: Path) -> None:
    table = "batch_size,steps\n" + "".join(f"{2**k},{round(100_000 / 2**k * (1 + 2**k / 3000))}\n" for k in range(2, 8))
    found = answer(tmp_path, table=table)
    assert found["identified"] == {"s_min": False, "e_min": True, "b_crit": False}
    two_x = found["definitions"][0]
    assert two_x["batch_size"] is None and two_x["low"] > 128
    assert found["next_batch_size"]["steps"]["batch_size"] == 512
    assert "Measure batch size 512 next" in fit(tmp_path, table=table).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predict", -3], "must be a positive number"),
        (["--efficiency", 80], "between 0 and 1"),
        (["--linear-from", -1], "at least 0"),
        (["--step-time", "missing.csv"], "cannot be read"),
    ],
    ids=["predict", "efficiency", "linear-from", "step-time"],
)
def test_a_bad_option_is_one_message(tmp_path: Path, arguments: list[object], message: str) -> None:
    done = fit(tmp_path, *arguments)
    assert message in refused(done)


def test_numbers_travel_with_their_interval_unit_target_and_definition() -> None:
    fit = runs.bent().fit
    assert fit is not None
    b_crit, s_min, e_min = key_numbers(fit, "loss < 1")
    assert b_crit.value == "64 examples"
    assert b_crit.interval.startswith("95 % interval: ")
    assert "2x" in b_crit.meaning
    assert "loss < 1" in b_crit.meaning
    assert s_min.value.endswith(" steps")
    assert e_min.value.endswith(" examples")


def test_the_interval_of_s_min_is_that_of_the_curve_far_out() -> None:
    fit = runs.bent().fit
    assert fit is not None
    far = fit.predict([1e12]).iloc[0]
    shown = list(key_numbers(fit, "loss < 1"))[1].interval
    assert shown == f"95 % interval: {far['steps_low']:.0f} to {far['steps_high']:.0f}"


def test_what_is_not_identified_is_not_shown_as_a_number() -> None:
    fit = runs.partly((32, 64)).fit
    assert fit is not None
    assert [number.value for number in key_numbers(fit, "loss < 1")] == ["not identified"] * 3
    assert [number.interval for number in key_numbers(fit, "loss < 1")] == ["no interval"] * 3
