"""A Ray Tune results folder: written by Ray itself once, and by hand for every way in which one may differ."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.exchange.ray_results import import_ray
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from tests.analysis.exchange.planted import B_CRIT, EVIL, READING, SIZES, evaluations, steps, written

SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "2",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "0",  # a session of ours in this process turns them off
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Five trials run by Ray Tune with its own loggers on: three work, one raises, one reports a NaN."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    os.environ.update(SETTINGS)
    import ray
    from ray import tune

    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    place = tmp_path_factory.mktemp("ray")

    class Planted(tune.Trainable):
        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def step(self) -> dict[str, Any]:
            size, how, count = self.config["point"]["batch_size"], self.config["point"]["how"], self.iteration + 1
            if how == "raises" and count == 3:
                raise RuntimeError("no luck")
            value = float("nan") if how == "diverges" and count == 5 else 1 - count / 5
            return {
                "global_step": (20 + 1280 // size) // 5 * count,
                "val_loss": value,
                "note": "text",
                "done": count == 5,
            }

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    try:
        points = [(16, "works"), (64, "works"), (256, "works"), (64, "diverges"), (64, "raises")]
        tune.Tuner(
            Planted,
            param_space={
                "point": tune.grid_search([{"batch_size": size, "how": how} for size, how in points]),
                "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]},
            },
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(name="exp", storage_path=str(place), verbose=0),
        ).fit()
        yield place
    finally:
        ray.shutdown()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def test_what_ray_itself_writes_is_read(real: Path, tmp_path: Path) -> None:
    runs = import_ray(real, READING)
    census, analysis = written(runs["exp"], tmp_path / "run")
    assert census.batch_sizes == (16, 64, 256) and census.trials == 5
    trials = analysis.trials.set_index(["batch_size", "point/how"]).sort_index()
    assert [trials.loc[(size, "works"), "steps_to_target"] for size in (16, 64, 256)] == [
        steps(b) for b in (16, 64, 256)
    ]
    assert list(trials.loc[(64, "raises"), ["outcome", "message"]]) == [Outcome.FAILED, "RuntimeError: no luck"]
    assert trials.loc[(64, "diverges"), "outcome"] == Outcome.DIVERGED
    assert set(trials["lr"]) == {0.1} and set(trials["optimizer/betas"]) == {"[0.9, 0.99]"}
    assert (trials["started_at"] > 1.7e9).all() and (trials["ended_at"] >= trials["started_at"]).all()
    assert (trials["train_seconds"] > 0).all()
    assert analysis.fit is not None and analysis.fit.to_json()["b_crit"] == pytest.approx(B_CRIT, rel=1e-6)


def trial(
    experiment: Path, name: str, config: Mapping[str, Any] | None, reports: list[dict[str, Any]], result: bool = True
) -> Path:
    """A trial's folder as Ray's loggers leave it."""
    place = experiment / name
    place.mkdir(parents=True)
    if config is not None:
        (place / "params.json").write_text(json.dumps(config))
    if result:
        (place / "result.json").write_text("".join(json.dumps(row) + "\n" for row in reports))
    else:
        columns = list(dict.fromkeys(key for row in reports for key in row))
        with (place / "progress.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(reports)
    return place


def reported(batch_size: int, counter: str = "step") -> list[dict[str, Any]]:
    return [
        {counter: step, "val_loss": value, "training_iteration": i, "time_total_s": 2.0 * i, "timestamp": 100 + i}
        for i, (step, value) in enumerate(evaluations(batch_size), start=1)
    ]


def test_any_of_the_three_files_may_be_missing(tmp_path: Path) -> None:
    for size in SIZES:
        reports = [{**row, "config": {"bs": size, "lr": 0.1}} for row in reported(size)]
        trial(tmp_path / "e", f"only_result_{size}", None, reports)
        flat = [{**row, "config/bs": size, "config/lr": 0.1} for row in reported(size)]
        trial(tmp_path / "e", f"only_progress_{size}", None, flat, result=False)
    trial(tmp_path / "e", "only_params", {"bs": 16, "lr": 0.1}, [], result=True)
    (tmp_path / "e" / "experiment_state-2026.json").write_text("{broken")
    (tmp_path / "e" / "not_a_trial").mkdir()
    runs = import_ray(tmp_path / "e", READING)
    census, analysis = written(runs["e"], tmp_path / "run")
    assert census.trials == 2 * len(SIZES) and census.outcomes["reached"] == census.trials
    assert analysis.fit is not None and analysis.fit.to_json()["b_crit"] == pytest.approx(B_CRIT, rel=1e-6)
    # The same point twice at each batch size: repeats, and nothing else.
    assert set(analysis.trials["stage"]) == {"confirm"} and set(analysis.studies["n_seeds"]) == {2}
    notes = " ".join(runs["e"].notes.sentences())
    assert "state could not be read" in notes and "never reported 'val_loss'" in notes


def test_an_iteration_counts_only_with_a_factor(tmp_path: Path) -> None:
    for size in SIZES:
        rows = [{"val_loss": v, "training_iteration": i} for i, (_, v) in enumerate(evaluations(size), start=1)]
        trial(tmp_path / "e", f"t{size}", {"batch_size": size, "lr": 0.1}, rows)
    with pytest.raises(InputError, match="'training_iteration' need not count optimizer updates; name the counter"):
        import_ray(tmp_path / "e", READING)
    with pytest.raises(InputError, match="nothing named 'epoch' was logged; what was logged is val_loss, training_it"):
        import_ray(tmp_path / "e", replace(READING, counter="epoch"))
    for reading, expected in (
        (replace(READING, steps_per_count=4.0), dict.fromkeys(SIZES, 20)),
        (replace(READING, examples_per_count=1024.0), {size: 5 * 1024 // size for size in SIZES}),
        (replace(READING, counter="training_iteration"), dict.fromkeys(SIZES, 5)),
    ):
        trials = written(import_ray(tmp_path / "e", reading)["e"], tmp_path / str(reading.factor))[1].trials
        assert dict(zip(trials["batch_size"], trials["steps_to_target"], strict=True)) == expected


def test_a_trial_that_was_begun_again_counts_once_and_a_cut_off_line_not_at_all(tmp_path: Path) -> None:
    again = [{"step": 10, "val_loss": 0.9}, {"step": 20, "val_loss": 0.8}, *reported(16)]
    place = trial(tmp_path / "e", "t", {"batch_size": 16}, again)
    with (place / "result.json").open("a") as stream:
        stream.write('{"step": 999, "val_l')
    _, analysis = written(import_ray(tmp_path / "e", READING)["e"], tmp_path / "run")
    row = analysis.trials.iloc[0]
    assert (row["steps_to_target"], row["steps_to_target_low"]) == (100, 80)


def test_names_of_settings_and_metrics_are_only_data(tmp_path: Path) -> None:
    config = {
        "train": {"batch_size": 16},
        "trial_id": 3,
        "decay_steps": 7,
        EVIL: EVIL,
        "a.b": None,
        "schedule": "cosine",
    }
    for i in range(3):
        rows = [{**row, "examples": 5.0, "trial_id": "x", EVIL: 1.0} for row in reported(16)]
        trial(tmp_path / "e", f"t{i}", {**config, "schedule": ("cosine", "linear", "constant")[i]}, rows)
    run = import_ray(tmp_path / "e", READING)["e"]
    _, analysis = written(run, tmp_path / "run")
    assert {"trial_id_in_source", "decay_steps_in_source", "lr_schedule", EVIL} <= set(analysis.trials.columns)
    assert set(analysis.experiment.space_at(16).root["lr_schedule"].options) == {"constant", "cosine", "linear"}  # type: ignore[union-attr]
    assert {"examples_in_source", EVIL} <= set(next(iter(run.measurements)).column_names)


def test_wrong_folders_and_broken_files_are_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        import_ray(tmp_path / "nowhere", READING)
    with pytest.raises(InputError, match="no trial was found in it: none of its sub-folders holds result.json"):
        import_ray(tmp_path, READING)
    place = trial(tmp_path / "a", "t", {"batch_size": 16}, reported(16))
    trial(tmp_path / "b", "t", {"batch_size": 16}, reported(16))
    with pytest.raises(InputError, match=r"it holds several experiments \(a, b\); give the folder of one"):
        import_ray(tmp_path, READING)
    with pytest.raises(InputError, match="'accuracy' was never logged; what was logged is step, val_loss"):
        import_ray(tmp_path / "a", replace(READING, target=Target.model_validate("accuracy > 1")))
    (place / "params.json").write_text("[1]")
    with pytest.raises(InputError, match="a configuration is a JSON object"):
        import_ray(tmp_path / "a", READING)
    (place / "params.json").write_text('{"batch_size": 2.5}')
    with pytest.raises(InputError, match="'batch_size' must be a whole number of at least 1, but run 't' has 2.5"):
        import_ray(tmp_path / "a", READING)
    (place / "params.json").write_text('{"lr": 2.5}')
    with pytest.raises(
        InputError, match="no setting, or more than one, is named like a batch size.* the settings are lr"
    ):
        import_ray(tmp_path / "a", READING)
    (place / "result.json").write_text("{broken\n{}\n")
    with pytest.raises(InputError, match="line 1: 1 problem\n  - it is not readable as JSON"):
        import_ray(tmp_path / "a", READING)


def test_a_pickled_error_marks_a_failure_and_is_never_opened(tmp_path: Path) -> None:
    place = trial(tmp_path / "e", "t", {"batch_size": 16}, reported(16)[:2])
    (place / "error.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    (place / "params.pkl").write_bytes((place / "error.pkl").read_bytes())
    _, analysis = written(import_ray(tmp_path / "e", READING)["e"], tmp_path / "run")
    assert analysis.trials["outcome"].tolist() == [Outcome.FAILED]
    assert not (tmp_path / "owned").exists()
