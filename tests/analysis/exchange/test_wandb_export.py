"""Exports of Weights & Biases in every form that people bring, with a planted curve in each."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from bcrit.analysis.exchange.wandb_export import import_wandb
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.planted import B_CRIT, EVIL, READING, SIZES, evaluations, written


def history(batch_size: int) -> pd.DataFrame:
    """What `run.history()` gives: training and validation are logged in different calls."""
    rows: list[dict[str, Any]] = []
    for step, value in evaluations(batch_size):
        rows.append({"trainer/global_step": step - 1, "train_loss": value + 0.1})
        rows.append({"trainer/global_step": step, "val_loss": value})
    frame = pd.DataFrame(rows)
    return frame.assign(_step=range(len(frame)), _runtime=[0.5 * i for i in range(len(frame))], _timestamp=1.7e9)


def config(batch_size: int, **more: Any) -> dict[str, Any]:
    return {"data": {"batch_size": batch_size}, "lr": 0.1, "betas": [0.9, 0.99], "_wandb": {"x": 1}, **more}


def project_csv(path: Path, runs: Sequence[tuple[str, dict[str, Any]]], **columns: Sequence[Any]) -> Path:
    """The script of the documentation: three lists, then `runs_df.to_csv("project.csv")`."""
    summary = [{"val_loss": math.nan, "_step": 9, "_runtime": 4.5, "_timestamp": 1.7e9} for _ in runs]
    frame = pd.DataFrame({"summary": summary, "config": [c for _, c in runs], "name": [n for n, _ in runs], **columns})
    frame.to_csv(path)
    return path


def planted_b_crit(run: Any, place: Path) -> float:
    analysis = written(run, place)[1]
    assert analysis.fit is not None
    return float(analysis.fit.to_json()["b_crit"])


def test_the_documented_script_with_one_history_a_run(tmp_path: Path) -> None:
    table = project_csv(tmp_path / "project.csv", [(f"run-{b}", config(b)) for b in SIZES])
    (tmp_path / "h").mkdir()
    for i, size in enumerate(SIZES):
        if i % 2:
            history(size).to_csv(tmp_path / "h" / f"run-{size}.csv")
        else:
            history(size).to_parquet(tmp_path / "h" / f"run-{size}.parquet")
    (run,) = import_wandb(table, READING, tmp_path / "h").values()
    assert planted_b_crit(run, tmp_path / "run") == pytest.approx(B_CRIT, rel=1e-6)
    _, analysis = written(run, tmp_path / "again")
    assert analysis.trials["trial_id"].tolist() == [f"run-{b}" for b in SIZES]
    # The crossing lies after the validation before, not after the training loss in between.
    assert analysis.trials["steps_to_target_low"].tolist() == [evaluations(b)[-2][0] for b in SIZES]
    assert set(analysis.trials["train_seconds"]) == {4.5} and set(analysis.trials["betas"]) == {"[0.9, 0.99]"}
    assert not {"_wandb/x", "x"} & set(analysis.trials.columns)


def test_one_long_history_of_all_runs(tmp_path: Path) -> None:
    table = project_csv(
        tmp_path / "project.csv", [("same name", config(b)) for b in SIZES], id=[f"id{b}" for b in SIZES]
    )
    long = pd.concat([history(b).assign(run_id=f"id{b}") for b in SIZES] + [history(16).assign(run_id="other")])
    for suffix in ("csv", "parquet"):
        path = tmp_path / f"long.{suffix}"
        long.to_csv(path, index=False) if suffix == "csv" else long.to_parquet(path)
        (run,) = import_wandb(table, READING, path).values()
        assert planted_b_crit(run, tmp_path / suffix) == pytest.approx(B_CRIT, rel=1e-6)
        assert any("Histories of runs that are not in the table" in note for note in run.notes.sentences())
        assert run.trials()["trial_id"].to_pylist() == [f"same name #{i}" for i in range(1, 6)]


def test_the_table_of_the_project_page_and_a_chart(tmp_path: Path) -> None:
    page = pd.DataFrame(
        {
            "Name": [f"run-{b}" for b in SIZES],
            "State": ["finished", "crashed", "running", "killed", "failed"],
            "Notes": "-",
            "User": "me",
            "Created": "2026-01-01T00:00:00.000Z",
            "Runtime": [10 * (i + 1) for i in range(5)],
            "Sweep": "",
            "batch_size": SIZES,
            "optimizer": "adam",
            "lr": [0.1, 0.2, 0.3, 0.4, 0.5],
            "val_loss": 0.3,
        }
    )
    page.to_csv(tmp_path / "wandb_export_2026.csv", index=False)
    chart = pd.DataFrame({"trainer/global_step": sorted({step for b in SIZES for step, _ in evaluations(b)})})
    for size in SIZES:
        values = dict(evaluations(size))
        chart[f"run-{size} - val_loss"] = [values.get(step) for step in chart["trainer/global_step"]]
        chart[f"run-{size} - val_loss__MIN"] = chart[f"run-{size} - val_loss"]
    chart.to_csv(tmp_path / "chart.csv", index=False)
    (run,) = import_wandb(tmp_path / "wandb_export_2026.csv", READING, tmp_path / "chart.csv").values()
    assert planted_b_crit(run, tmp_path / "run") == pytest.approx(B_CRIT, rel=1e-6)
    _, analysis = written(run, tmp_path / "again")
    assert analysis.trials["lr"].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert analysis.experiment.optimizer == "adam" and "val_loss" not in analysis.trials.columns
    assert analysis.trials["message"].tolist()[1] == "Weights & Biases calls it crashed"
    (run,) = import_wandb(
        tmp_path / "wandb_export_2026.csv", READING, tmp_path / "chart.csv", hyperparameters=["lr"]
    ).values()
    assert "optimizer" not in run.trials().column_names


def run_folder(place: Path, batch_size: int, rows: Sequence[dict[str, Any]] | None, **metadata: Any) -> None:
    place.mkdir(parents=True)
    entries = {"wandb_version": 1, "_wandb": {"desc": None, "value": {"cli_version": "0.12"}}}
    entries |= {k: {"desc": None, "value": v} for k, v in config(batch_size).items() if k != "_wandb"}
    (place / "config.yaml").write_text(yaml.safe_dump(entries))
    if rows is not None:
        (place / "wandb-history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "wandb-summary.json").write_text(json.dumps({"val_loss": 0.05, "trainer/global_step": 77, "_step": 3}))
    (place / "wandb-metadata.json").write_text(json.dumps(metadata))


def logged(batch_size: int) -> list[dict[str, Any]]:
    rows = history(batch_size).to_dict("records")
    return [{str(k): v for k, v in row.items() if v == v} for row in rows]


def test_run_folders_of_the_client(tmp_path: Path) -> None:
    root = tmp_path / "wandb"
    for i, size in enumerate(SIZES):
        name = f"offline-run-20260101_00000{i}-id{size}"
        run_folder(root / name / "files" if i % 2 else root / name, size, logged(size))
    (root / "latest-run").symlink_to(root / "offline-run-20260101_000000-id16")
    nan = [*logged(16)[:4], {"val_loss": math.nan, "trainer/global_step": 90}]
    run_folder(root / "run-1-nan", 16, nan)
    run_folder(root / "run-2-failed", 16, logged(16)[:4], exitcode=1)
    run_folder(root / "run-3-binary", 16, None)
    (run,) = import_wandb(root, READING).values()
    _, analysis = written(run, tmp_path / "run")
    trials = analysis.trials.set_index("trial_id")
    assert trials.loc["run-1-nan", "outcome"] == Outcome.DIVERGED
    assert trials.loc["run-2-failed", "outcome"] == Outcome.FAILED
    assert list(trials.loc["run-3-binary", ["steps_to_target", "steps_to_target_low"]]) == [77, 0]
    assert len(trials) == len(SIZES) + 3
    reached = trials[trials.index.str.startswith("offline")]
    assert dict(zip(reached["batch_size"], reached["steps_to_target"], strict=True)) == {
        b: evaluations(b)[-1][0] for b in SIZES
    }
    with pytest.raises(InputError, match="leave out --history"):
        import_wandb(root, READING, root)


def test_without_histories_only_the_end_of_a_run_is_known(tmp_path: Path) -> None:
    rows = [(f"run-{b}", config(b)) for b in SIZES]
    frame = pd.read_csv(project_csv(tmp_path / "p.csv", rows))
    frame["summary"] = [
        str({"val_loss": 0.05, "global_step": evaluations(b)[-1][0], "html": {"_type": "html-file"}}) for b in SIZES
    ]
    frame.to_csv(tmp_path / "p.csv", index=False)
    (run,) = import_wandb(tmp_path / "p.csv", READING).values()
    assert planted_b_crit(run, tmp_path / "run") == pytest.approx(B_CRIT, rel=1e-6)
    assert any("whether one reached the target earlier needs --history" in note for note in run.notes.sentences())


def test_code_in_a_configuration_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    attack = "{'batch_size': __import__('os').system('touch owned')}"
    pd.DataFrame({"summary": ["{}"], "config": [attack], "name": ["a"]}).to_csv(path)
    with pytest.raises(InputError, match="row 2: 1 problem\n  - 'config' is not a dictionary"):
        import_wandb(path, READING)
    assert not Path("owned").exists() and not (tmp_path / "owned").exists()


def test_names_are_only_data(tmp_path: Path) -> None:
    runs = [(EVIL, config(b, **{EVIL: EVIL, "steps": 3, "a.b": b, "c": None})) for b in SIZES]
    table = project_csv(tmp_path / "p.csv", runs, id=[f"i{b}" for b in SIZES])
    long = pd.concat([history(b).assign(run_id=f"i{b}", examples=1.0) for b in SIZES])
    long.to_csv(tmp_path / "h.csv", index=False)
    (run,) = import_wandb(table, READING, tmp_path / "h.csv").values()
    _, analysis = written(run, tmp_path / "run")
    assert {"steps_in_source", "a_b", EVIL} <= set(analysis.trials.columns)


@pytest.mark.parametrize(
    ("reading", "options", "message"),
    [
        (READING, {}, "'_step' need not count optimizer updates; name the counter with --step-key"),
        (
            replace(READING, counter="_step", batch_size="bs"),
            {},
            "no setting is named 'bs'.*data/batch_size, lr, betas",
        ),
        (replace(READING, counter="_step", target=Target.model_validate("acc > 1")), {}, "'acc' was never logged"),
        (replace(READING, counter="_step", seed="s"), {}, "no setting is named 's'; name it with --seed-param"),
        (
            replace(READING, counter="_step", steps_per_count=-1.0),
            {},
            "--steps-per-iteration must be a positive number",
        ),
        (
            replace(READING, counter="_step", steps_per_count=1.0, examples_per_count=1.0),
            {},
            "give one of the two options",
        ),
        (READING, {"hyperparameters": ["nope"]}, "no setting is named 'nope'; the settings are data/batch_size, lr"),
        (READING, {"history": "h"}, "it holds no CSV or Parquet file"),
        (READING, {"history": "p.csv"}, "no history is of a run of the table; the histories are of run-16"),
    ],
)
def test_what_is_not_there_is_one_message_that_lists_what_is(
    tmp_path: Path, reading: Any, options: dict[str, Any], message: str
) -> None:
    table = project_csv(tmp_path / "t.csv", [(f"a-{b}", config(b)) for b in SIZES])
    project_csv(tmp_path / "p.csv", [(f"run-{b}", config(b)) for b in SIZES])
    (tmp_path / "h").mkdir()
    if "history" in options:
        options = {"history": tmp_path / options["history"]}
    with pytest.raises(InputError, match=message):
        import_wandb(table, reading, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "No columns|cannot be read|empty"),
        ("Name\n", "there is no run in it"),
        ("a,b\n1,2\n", "but the columns are a, b"),
        ('name,config\na,"{"\n', "'config' is not a dictionary"),
        ('"a\n', "it cannot be read as a table"),
    ],
)
def test_a_table_that_is_none_is_one_message(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        import_wandb(tmp_path / "t.csv", READING)


def test_a_folder_without_runs_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no sub-folder of it \(nor its files/\) holds config.yaml"):
        import_wandb(tmp_path, READING)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.yaml").write_text("a: !!python/object/apply:os.system ['true']")
    with pytest.raises(InputError, match="YAML tags are refused"):
        import_wandb(tmp_path, READING)
    with pytest.raises(InputError, match="cannot be read"):
        import_wandb(tmp_path / "nowhere.csv", READING)
