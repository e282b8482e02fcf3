"""The section on the fit says what the fit says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.fit.estimate import fit_hyperbola
from bcrit.analysis.fit.p_norm import PNorm
from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.report.fit_section import fit_section
from bcrit.analysis.run import Run
from tests.analysis.report import runs

B = 2.0 ** np.arange(2, 12)


def section(steps: np.ndarray, noise: float = 0.02, batch: np.ndarray = B) -> Answer:
    errors = np.random.default_rng(3).normal(0, noise, batch.size)
    fit = fit_hyperbola(pd.DataFrame({"batch_size": batch, "steps": steps * np.exp(errors)}), unit="tokens")
    found = fit_section(with_fit(fit))
    assert found is not None
    return found


def with_fit(fit: object) -> Run:
    return runs.bent().but(fit=fit)


def tables(found: Answer) -> dict[str, tuple[tuple[str, ...], ...]]:
    return {part.heading: part.table.rows for part in found.parts if isinstance(part, Rows)}


def plots(found: Answer) -> dict[str, Plot]:
    return {part.name: part for part in found.parts if isinstance(part, Plot)}


def test_a_clean_curve_is_called_clean_and_shown_with_everything_that_follows() -> None:
    found = section(50 * (1 + 100 / B))
    assert "nothing in the points speaks" in found.sentences[0]
    assert "Perfect scaling up to" in found.sentences[1] and "measure batch size" in found.sentences[2]
    assert set(plots(found)) == {"residuals", "regimes"}
    models, definitions = tables(found).values()
    assert models[0][0].startswith("hyperbola") and models[0][-2] == "0"
    assert [row[0] for row in definitions][0] == "twice the minimum (used here)"


def test_a_sharp_knee_is_said_first() -> None:
    found = section(PNorm(50, 100, 2, 0).steps(B))
    assert "bend away" in found.sentences[0]
    assert tables(found)["Other curves through the same points"][0][0] == "free knee (p-norm)"


def test_another_curve_that_does_clearly_better_is_named() -> None:
    batch = 2.0 ** np.arange(4, 10)
    corner = section(np.maximum(50, 1600 / batch), 0.01, batch)
    assert "another curve does clearly better: two straight lines" in corner.sentences[0]


def test_without_a_knee_in_sight_there_are_bounds_and_no_picture_of_regimes() -> None:
    found = section(5e5 / B)
    assert set(plots(found)) == {"residuals"}
    assert "at least up to" in found.sentences[1]
    first = tables(found)["What else is called the critical batch size"][0]
    assert first[1] == "not identified" and first[2].startswith("above")


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_studies_say_how_little_is_known(n: int) -> None:
    batch = np.array([8.0, 64, 512, 4096])[:n]
    found = section(50 * (1 + 100 / batch), 0.05, batch)
    assert ("Two batch sizes" in found.sentences[0]) == (n == 2)
    assert ("too few" in found.sentences[0]) == (n == 3)
    assert all(len(row) == 6 for row in tables(found)["Other curves through the same points"])


def test_the_bands_leave_the_intervals_white_and_the_dots_are_the_studies() -> None:
    figure = plots(section(50 * (1 + 100 / B)))["regimes"].figure
    (points,) = figure["data"]
    assert points["x"] == list(B)
    bands = [shape for shape in figure["layout"]["shapes"] if shape["type"] == "rect"]
    assert len(bands) == 3
    assert bands[0]["x1"] < bands[1]["x0"] < bands[1]["x1"] < bands[2]["x0"]


def test_a_run_without_a_fit_has_no_such_section() -> None:
    assert fit_section(with_fit(None)) is None
