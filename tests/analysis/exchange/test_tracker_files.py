"""What trackers leave: a results folder by Ray itself and by hand, exports of Weights & Biases in every form."""

import csv
import json
import math
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from bcrit.analysis.exchange.tracker_files import import_ray, import_wandb
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from tests.analysis.exchange.made import EVIL, READING, SIZES, b_crit, evaluations, written

SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "2",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "0",  # a session of ours in this process turned them off
    "RAY_AUTH_MODE": "token",  # of its own, as a session's is: Ray would else write one into the home
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
}


@pytest.mark.long  # a stored sample of it is read by the goldens and the contract of all sources
def test_what_ray_itself_writes_is_read(tmp_path: Path) -> None:
    leaving = [sys.executable, "-m", "tests.analysis.exchange.ray_leaves", str(tmp_path)]
    subprocess.run(leaving, env={**os.environ, **SETTINGS}, check=True, capture_output=True)
    run = import_ray(tmp_path, READING)
    census, analysis = written(run, tmp_path / "run")
    assert run.experiment.name == "exp" and (census.batch_sizes, census.trials) == ((16, 64, 256), 5)
    trials = analysis.trials.set_index(["batch_size", "point/how"]).sort_index()
    for size in (16, 64, 256):
        assert trials.loc[(size, "works"), "steps_to_target"] == 20 + 1280 // size
    assert list(trials.loc[(64, "raises"), ["outcome", "message"]]) == [Outcome.FAILED, "RuntimeError: no luck"]
    assert trials.loc[(64, "diverges"), "outcome"] == Outcome.DIVERGED
    assert set(trials["lr"]) == {0.1} and set(trials["optimizer/betas"]) == {"[0.9, 0.99]"}
    assert (trials["started_at"] > 1.7e9).all() and (trials["ended_at"] >= trials["started_at"]).all()
    assert (trials["train_seconds"] > 0).all() and b_crit(analysis) == pytest.approx(64.0, rel=1e-6)


def trial(experiment: Path, name: str, config: Any, reports: list[dict[str, Any]], result: bool = True) -> Path:
    """A trial's folder as Ray's loggers leave it, with result.json or else progress.csv."""
    place = experiment / name
    place.mkdir(parents=True)
    if config is not None:
        (place / "params.json").write_text(json.dumps(config))
    if result:
        (place / "result.json").write_text("".join(json.dumps(row) + "\n" for row in reports))
    else:
        with (place / "progress.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in reports for key in row)))
            writer.writeheader()
            writer.writerows(reports)
    return place


def reported(batch_size: int) -> list[dict[str, Any]]:
    return [
        {"step": step, "val_loss": value, "training_iteration": i, "time_total_s": 2.0 * i, "timestamp": 100 + i}
        for i, (step, value) in enumerate(evaluations(batch_size), start=1)
    ]


def test_any_of_ray_s_three_files_may_be_missing(tmp_path: Path) -> None:
    for size in SIZES:
        reports = [{**row, "config": {"bs": size, "lr": 0.1}} for row in reported(size)]
        trial(tmp_path / "e", f"only_result_{size}", None, reports)
        flat = [{**row, "config/bs": size, "config/lr": 0.1} for row in reported(size)]
        trial(tmp_path / "e", f"only_progress_{size}", None, flat, result=False)
    trial(tmp_path / "e", "only_params", {"bs": 16, "lr": 0.1}, [], result=True)
    (tmp_path / "e" / "experiment_state-2026.json").write_text("{broken")
    (tmp_path / "e" / "not_a_trial").mkdir()
    census, analysis = written(import_ray(tmp_path / "e", READING), tmp_path / "run")
    assert census.trials == census.outcomes["reached"] == 2 * len(SIZES)
    assert b_crit(analysis) == pytest.approx(64.0, rel=1e-6)
    # The same point twice at each batch size: repeats, and nothing else.
    assert set(analysis.trials["stage"]) == {"confirm"} and set(analysis.studies["n_seeds"]) == {2}
    assert set(analysis.trials["ended_at"]) == {105.0} and set(analysis.trials["started_at"]) == {95.0}
    assert "state could not be read" in " ".join(census.notes)


def test_an_iteration_of_ray_counts_only_with_a_factor(tmp_path: Path) -> None:
    for size in SIZES:
        rows = [{"val_loss": v, "training_iteration": i} for i, (_, v) in enumerate(evaluations(size), start=1)]
        trial(tmp_path / "e", f"t{size}", {"batch_size": size, "lr": 0.1}, rows)
    with pytest.raises(InputError, match="'training_iteration' need not count optimizer updates; name the counter"):
        import_ray(tmp_path / "e", READING)
    for how, key, expected in (
        (replace(READING, steps_per_iteration=4.0), None, dict.fromkeys(SIZES, 20)),
        (replace(READING, examples_per_iteration=1024.0), None, {size: 5 * 1024 // size for size in SIZES}),
        (READING, "training_iteration", dict.fromkeys(SIZES, 5)),
    ):
        trials = import_ray(tmp_path / "e", how, key).trials().to_pandas()
        assert dict(zip(trials["batch_size"], trials["steps"], strict=True)) == expected


def test_a_trial_that_was_begun_again_counts_once_and_a_cut_off_line_not_at_all(tmp_path: Path) -> None:
    again = [{"step": 10, "val_loss": 0.9}, {"step": 20, "val_loss": 0.8}, *reported(16)]
    place = trial(tmp_path / "e", "t", {"batch_size": 16}, again)
    with (place / "result.json").open("a") as stream:
        stream.write('{"step": 999, "val_l')
    (row,) = written(import_ray(tmp_path / "e", READING), tmp_path / "run")[1].trials.to_dict("records")
    assert (row["steps_to_target"], row["steps_to_target_low"]) == (100, 80)


def test_names_of_settings_and_metrics_are_only_data(tmp_path: Path) -> None:
    config = {"train": {"batch_size": 16}, "trial_id": 3, "decay_steps": 7, EVIL: EVIL, "a.b": None}
    schedules = ("constant", "cosine", "linear")
    for i, schedule in enumerate(schedules):
        rows = [{**row, "examples": 5.0, "trial_id": "x", EVIL: 1.0} for row in reported(16)]
        trial(tmp_path / "e", f"t{i}", {**config, "schedule": schedule}, rows)
    run = import_ray(tmp_path / "e", READING)
    analysis = written(run, tmp_path / "run")[1]
    assert {"trial_id_in_source", "decay_steps_in_source", "lr_schedule", EVIL} <= set(analysis.trials.columns)
    assert tuple(analysis.experiment.space_at(16).root["lr_schedule"].options) == schedules  # type: ignore[union-attr]
    assert {"examples_in_source", EVIL} <= set(next(iter(run.measurements())).column_names)


def test_wrong_folders_and_broken_files_of_ray_are_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        import_ray(tmp_path / "nowhere", READING)
    with pytest.raises(InputError, match="no trial was found in it: none of its sub-folders holds result.json"):
        import_ray(tmp_path, READING)
    place = trial(tmp_path / "a", "t", [1], reported(16))
    with pytest.raises(InputError, match="a configuration is a JSON object"):
        import_ray(tmp_path, READING)
    (place / "result.json").write_text("{broken\n{}\n")
    with pytest.raises(InputError, match="line 1: 1 problem\n  - it is not readable as JSON"):
        import_ray(tmp_path / "a", READING)
    trial(tmp_path / "b", "t", {"batch_size": 16}, reported(16))
    with pytest.raises(InputError, match=r"it holds several experiments \(a, b\); give the folder of one"):
        import_ray(tmp_path, READING)


def test_a_pickled_error_marks_a_failure_and_is_never_opened(tmp_path: Path) -> None:
    place = trial(tmp_path / "e", "t", {"batch_size": 16}, reported(16)[:2])
    (place / "error.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    (place / "params.pkl").write_bytes((place / "error.pkl").read_bytes())
    assert import_ray(tmp_path / "e", READING).trials()["outcome"].to_pylist() == [Outcome.FAILED]
    assert not (tmp_path / "owned").exists()


# Weights & Biases.


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


def project_csv(path: Path, names: Sequence[str], summary: Any = None, **columns: Any) -> Path:
    """The script of the documentation: three lists, then `runs_df.to_csv("project.csv")`."""
    last = {"val_loss": math.nan, "_step": 9, "_runtime": 4.5, "_timestamp": 1.7e9}
    frame = {"summary": summary or [last] * len(names), "config": list(map(config, SIZES)), "name": names}
    pd.DataFrame({**frame, **columns}).to_csv(path)
    return path


def test_the_documented_script_with_one_history_a_run(tmp_path: Path) -> None:
    table = project_csv(tmp_path / "project.csv", [f"run-{b}" for b in SIZES])
    (tmp_path / "h").mkdir()
    for i, size in enumerate(SIZES):
        if i % 2:
            history(size).to_csv(tmp_path / "h" / f"run-{size}.csv")
        else:
            history(size).to_parquet(tmp_path / "h" / f"run-{size}.parquet")
    _, analysis = written(import_wandb(table, READING, history=tmp_path / "h"), tmp_path / "run")
    assert b_crit(analysis) == pytest.approx(64.0, rel=1e-6)
    assert analysis.trials["trial_id"].tolist() == [f"run-{b}" for b in SIZES]
    # The crossing lies after the validation before, not after the training loss in between.
    assert analysis.trials["steps_to_target_low"].tolist() == [evaluations(b)[-2][0] for b in SIZES]
    assert set(analysis.trials["train_seconds"]) == {4.5} and set(analysis.trials["betas"]) == {"[0.9, 0.99]"}
    assert set(analysis.trials["started_at"]) == {1.7e9 - 4.5}
    assert not {"_wandb/x", "x"} & set(analysis.trials.columns)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_one_long_history_of_all_runs(tmp_path: Path, suffix: str) -> None:
    table = project_csv(tmp_path / "project.csv", [EVIL] * 5, id=[f"id{b}" for b in SIZES])
    long = pd.concat([history(b).assign(run_id=f"id{b}", examples=1.0) for b in SIZES])
    long, path = pd.concat([long, history(16).assign(run_id="other")]), tmp_path / f"long.{suffix}"
    long.to_csv(path, index=False) if suffix == "csv" else long.to_parquet(path)
    census, analysis = written(import_wandb(table, READING, history=path), tmp_path / suffix)
    assert b_crit(analysis) == pytest.approx(64.0, rel=1e-6)
    assert any("Histories of runs that are not in the table" in note for note in census.notes)
    assert analysis.trials["trial_id"].tolist() == [f"{EVIL} #{i}" for i in range(1, 6)]


@pytest.mark.parametrize("there", [("name",), ("name", "id")], ids=["no id", "ids in the history alone"])
def test_runs_of_one_name_are_told_apart_by_id_or_refused(tmp_path: Path, there: tuple[str, ...]) -> None:
    names = ["same" if i < 2 else f"run-{b}" for i, b in enumerate(SIZES)]
    long = pd.concat([history(b).assign(name=name, id=f"id{b}") for b, name in zip(SIZES, names, strict=True)])
    long.drop(columns={"id"} - set(there)).to_csv(tmp_path / "long.csv", index=False)
    table = project_csv(tmp_path / "project.csv", names)
    with pytest.raises(InputError, match="several runs are called 'same'"):
        import_wandb(table, READING, history=tmp_path / "long.csv")
    if "id" in there:
        table = project_csv(tmp_path / "project.csv", names, id=[f"id{b}" for b in SIZES])
        run = import_wandb(table, READING, history=tmp_path / "long.csv")
        assert b_crit(written(run, tmp_path / "run")[1]) == pytest.approx(64.0, rel=1e-6)


def test_the_table_of_the_project_page_and_a_chart(tmp_path: Path) -> None:
    page = pd.DataFrame(
        {
            "Name": [f"run-{b}" for b in SIZES],
            "State": ["finished", "crashed", "running", "killed", "failed"],
            "Notes": "-",
            "Created": "2026-01-01T00:00:00.000Z",
            "Runtime": [10 * (i + 1) for i in range(5)],
            "batch_size": SIZES,
            "optimizer": "adam",
            "lr": [0.1, 0.2, 0.3, 0.4, 0.5],
            "val_loss": 0.3,
        }
    )
    page.to_csv(tmp_path / "page.csv", index=False)
    chart = pd.DataFrame({"trainer/global_step": sorted({step for b in SIZES for step, _ in evaluations(b)})})
    for size in SIZES:
        values = dict(evaluations(size))
        chart[f"run-{size} - val_loss"] = [values.get(step) for step in chart["trainer/global_step"]]
        chart[f"run-{size} - val_loss__MIN"] = chart[f"run-{size} - val_loss"]
    chart.to_csv(tmp_path / "chart.csv", index=False)
    run = import_wandb(tmp_path / "page.csv", READING, history=tmp_path / "chart.csv")
    _, analysis = written(run, tmp_path / "run")
    assert b_crit(analysis) == pytest.approx(64.0, rel=1e-6)
    assert analysis.trials["lr"].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert analysis.experiment.optimizer == "adam" and "val_loss" not in analysis.trials.columns
    assert analysis.trials["message"].tolist()[1] == "Weights & Biases calls it crashed"
    run = import_wandb(tmp_path / "page.csv", READING, history=tmp_path / "chart.csv", param=["lr"])
    assert "optimizer" not in run.trials().column_names


def run_folder(place: Path, batch_size: int, rows: Sequence[Mapping[Any, Any]] | None, **metadata: Any) -> None:
    place.mkdir(parents=True)
    entries = {"wandb_version": 1, "_wandb": {"desc": None, "value": {"cli_version": "0.12"}}}
    entries |= {k: {"desc": None, "value": v} for k, v in config(batch_size).items() if k != "_wandb"}
    (place / "config.yaml").write_text(yaml.safe_dump(entries))
    if rows is not None:
        (place / "wandb-history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "wandb-summary.json").write_text(json.dumps({"val_loss": 0.05, "trainer/global_step": 77, "_step": 3}))
    (place / "wandb-metadata.json").write_text(json.dumps(metadata))


def test_run_folders_of_the_client(tmp_path: Path) -> None:
    root = tmp_path / "wandb"
    lines = {b: [{k: v for k, v in row.items() if v == v} for row in history(b).to_dict("records")] for b in SIZES}
    for i, size in enumerate(SIZES):
        name = f"offline-run-20260101_00000{i}-id{size}"
        run_folder(root / name / "files" if i % 2 else root / name, size, lines[size])
    (root / "latest-run").symlink_to(root / "offline-run-20260101_000000-id16")
    run_folder(root / "run-1-nan", 16, [*lines[16][:4], {"val_loss": math.nan, "trainer/global_step": 90}])
    run_folder(root / "run-2-failed", 16, lines[16][:4], exitcode=1)
    run_folder(root / "run-3-without", 16, None)
    trials = written(import_wandb(root, READING), tmp_path / "run")[1].trials.set_index("trial_id")
    assert trials.loc["run-1-nan", "outcome"] == Outcome.DIVERGED
    assert trials.loc["run-2-failed", "outcome"] == Outcome.FAILED
    assert len(trials) == len(SIZES) + 2 and "run-3-without" not in trials.index
    reached = trials[trials.index.str.startswith("offline")].set_index("batch_size")["steps_to_target"]
    assert reached.to_dict() == {b: evaluations(b)[-1][0] for b in SIZES}
    with pytest.raises(InputError, match="leave out --history"):
        import_wandb(root, READING, history=root)


def field(number: int, value: bytes | int) -> bytes:
    """A field of protocol buffers: bytes, or a small whole number."""
    key = bytes([number << 3 & 127 | (2 if isinstance(value, bytes) else 0) | 128, number >> 4])
    if isinstance(value, int):
        return key + bytes([value])
    return key + bytes([len(value) & 127 | 128, len(value) >> 7]) + value


def items(known: Mapping[str, Any]) -> bytes:
    """Of a configuration or a call of `log`: nested names, and values as JSON."""
    named = [([field(2, part.encode()) for part in name.split("/")], json.dumps(of)) for name, of in known.items()]
    return b"".join(field(1, b"".join(path) + field(16, value.encode())) for path, value in named)


def offline(place: Path, batch_size: int, exit_code: int = 0) -> Path:
    """What wandb 0.31 leaves of a run that was never online: everything in one file."""
    settings = field(4, items({"lr": 0.1, "_wandb": {}}))
    records = [field(17, settings + field(1, b"id")), field(5, items({"data/bs": batch_size}))]
    for step, value in evaluations(batch_size):
        records.append(field(2, items({"global_step": step, "loss/train": 1.0, "note": "x" * 9000})))
        records.append(field(2, items({"global_step": step, "val_loss": value})))
    content = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    for record in [*records, field(18, field(1, exit_code))]:
        begins, rest = True, record
        while rest:
            left = 32768 - len(content) % 32768
            content += bytes(left) if left < 7 else b""
            room = 32768 - len(content) % 32768 - 7
            body, rest = rest[:room], rest[room:]
            kind = (2 if rest else 1) if begins else (3 if rest else 4)
            content += struct.pack("<IHB", zlib.crc32(bytes([kind]) + body), len(body), kind) + body
            begins = False
    place.mkdir(parents=True)
    (place / "run-id.wandb").write_bytes(content)
    return place / "run-id.wandb"


def test_offline_runs_are_read_from_their_one_file(tmp_path: Path) -> None:
    for size in SIZES:
        path = offline(tmp_path / "wandb" / f"offline-run-{size}", size, exit_code=int(size == 16))
    _, analysis = written(import_wandb(tmp_path / "wandb", READING), tmp_path / "run")
    assert b_crit(analysis) == pytest.approx(64.0, rel=1e-6) and set(analysis.trials["lr"]) == {0.1}
    whole = path.read_bytes()
    for cut in (len(whole) - 3, 40_000):  # killed as it wrote
        path.write_bytes(whole[:cut])
        assert import_wandb(tmp_path / "wandb", READING).trials().num_rows == len(SIZES)
    path.write_bytes(b"")  # killed before it wrote
    imported = import_wandb(tmp_path / "wandb", READING)
    assert imported.trials().num_rows == len(SIZES) - 1
    assert path.parent.name in " ".join(imported.notes.sentences())
    with pytest.raises(InputError, match="it holds one run only; give the folder that all run folders lie in"):
        import_wandb(path, READING)
    for place in (9, 12, 60, 20_000, 40_000):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(InputError, match="run-id.wandb: 1 problem\n  - the file is damaged"):
            import_wandb(tmp_path / "wandb", READING)


def test_without_histories_only_the_end_of_a_run_is_known(tmp_path: Path) -> None:
    ends: list[dict[str, Any]] = [{"val_loss": 0.05, "global_step": evaluations(b)[-1][0]} for b in SIZES]
    summary = [str({**end, "html": {"_type": "html-file"}}) for end in ends]
    table = project_csv(tmp_path / "p.csv", [f"run-{b}" for b in SIZES], summary)
    census, analysis = written(import_wandb(table, READING), tmp_path / "run")
    # Each crossed somewhere between its start and its end: that says nothing of b_crit.
    assert analysis.fit is not None and not any(analysis.fit.identified.values())
    assert any("somewhere between two evaluations" in note for note in analysis.notes)
    assert any("whether one reached the target earlier needs --history" in note for note in census.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "'_step' need not count optimizer updates; name the counter with --step-key"),
        ({"param": ["nope"]}, "no setting is named 'nope'; the settings are data/batch_size, lr"),
        ({"history": Path("h")}, "it holds no CSV or Parquet file"),
        ({"history": Path("p.csv")}, "no history is of a run of the table; the histories are of run-16"),
    ],
    ids=["counter", "setting", "empty folder", "other runs"],
)
def test_what_is_not_there_is_one_message_that_lists_what_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table = project_csv(tmp_path / "t.csv", [f"a-{b}" for b in SIZES])
    project_csv(tmp_path / "p.csv", [f"run-{b}" for b in SIZES])
    (tmp_path / "h").mkdir()
    with pytest.raises(InputError, match=message):
        import_wandb(table, READING, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "No columns|cannot be read|empty"),
        ("Name\n", "there is no run in it"),
        ("a,b\n1,2\n", "but the columns are a, b"),
        ('name,config\na,"{"\n', "'config' is not a dictionary"),
        (
            "name,config\na,{'batch_size': __import__('os').system('touch owned')}\n",
            "row 2: 1 problem\n  - 'config' is",
        ),
        ('"a\n', "it cannot be read as a table"),
    ],
    ids=["empty", "no run", "other columns", "broken", "code, which is not run", "no table"],
)
def test_a_table_of_runs_that_is_none_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        import_wandb(tmp_path / "t.csv", READING)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_folder_without_runs_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no sub-folder of it \(nor its files/\) holds config.yaml or run-ID.wandb"):
        import_wandb(tmp_path, READING)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.yaml").write_text("a: !!python/object/apply:os.system ['true']")
    with pytest.raises(InputError, match="YAML tags are refused"):
        import_wandb(tmp_path, READING)
    with pytest.raises(InputError, match="cannot be read"):
        import_wandb(tmp_path / "nowhere.csv", READING)
