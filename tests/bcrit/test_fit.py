"""`bcrit fit` as a user runs it: short text, the rest in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bcrit.command import Done, bcrit, refused

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
