"""Run folders as large as one likes, made up in a moment: exact hyperbolas with every kind of trial around them."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bcrit.analysis.records.arrow_tables import arrow_schema
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS, Table

S_MIN, B_CRIT, SEEDS = 100.0, 256.0, 5
_ENDS = (Outcome.REACHED, Outcome.CAPPED, Outcome.PRUNED, Outcome.EXHAUSTED, Outcome.DIVERGED)
_SHARES = (0.3, 0.25, 0.25, 0.1, 0.1)


def write_large_run(
    folder: RunFolder, studies: int = 10, trials: int = 200, evaluations: int = 40, imported: bool = False
) -> None:
    """Write a run folder with searches and confirming runs, as `bcrit tune` or an import would have left it.

    Batch sizes go from 8 upwards by factors of two; `trials` are those of each search, `evaluations` of each trial.
    """
    batch_sizes = [8 * 2**number for number in range(studies)]
    space = {"lr": "log from 0.001 to 10", "momentum": "reverse_log from 0 to 0.99"}
    source = {"format": "table", "source": "elsewhere.csv", "spaces": dict.fromkeys(map(str, batch_sizes), space)}
    table = pd.concat([_study(batch_size, trials) for batch_size in batch_sizes], ignore_index=True)
    folder.write_experiment(
        parse_experiment(
            {
                "name": "large",
                "workload": "made-up",
                "optimizer": "momentum",
                "batch_sizes": batch_sizes,
                "target": "loss < 1",
                "space": {} if imported else space,
                "budget": {"steps": 40_000},
                "search": {"trials": trials},
                **({"imported": source} if imported else {}),
            },
            "large_run",
        )
    )
    folder.write_table("trials/000000-000000.parquet", _arrow(table, TRIALS))
    folder.write_table("measurements/000000-000000.parquet", _measurements(table, evaluations))


def _study(batch_size: int, trials: int) -> pd.DataFrame:
    """Search trials at points spread over the box, the best of them confirmed."""
    random = np.random.default_rng(batch_size)
    best = S_MIN * (1 + B_CRIT / batch_size)
    distance = random.exponential(1.0, trials)  # from the best point, whose trial is the first
    distance[0] = 0
    outcome = random.choice([end.value for end in _ENDS], trials, p=_SHARES)
    outcome[0] = Outcome.REACHED.value
    lr = 0.1 * np.exp(distance * random.choice([-1, 1], trials)) / (1 + B_CRIT / batch_size)
    search = {"number": np.arange(trials), "stage": "search", "outcome": outcome, "lr": np.clip(lr, 1e-3, 10)}
    found = pd.DataFrame({**search, "steps": np.round(best * (1 + distance)), "repeats": None})
    found["momentum"] = 1 - 0.01 ** random.random(trials)
    again = pd.concat([found.iloc[:1]] * SEEDS, ignore_index=True)
    again = again.assign(number=range(SEEDS), stage="confirm", repeats=f"b{batch_size}-search-0")
    again["steps"] *= np.exp(random.normal(0, 0.03, SEEDS))
    both = pd.concat([found, again], ignore_index=True).assign(batch_size=batch_size)
    both["trial_id"] = [f"b{batch_size}-{stage}-{n}" for stage, n in zip(both["stage"], both["number"], strict=True)]
    steps = both["steps"].astype("int64")
    reached = both["outcome"] == Outcome.REACHED
    facts: dict[str, Any] = {
        "round": 0,
        "seed": both["number"],
        "message": pd.array([None] * len(both), dtype="string"),
        "max_steps": 40_000,
        "steps": steps,
        "examples": steps * batch_size,
        "steps_to_target": steps.astype("Int64").where(reached),
        "steps_to_target_low": (steps - 1).astype("Int64").where(reached),
        "best_value": np.where(reached, 0.99, 1.5),
        "train_seconds": steps * (1e-3 + 1e-5 * batch_size),
        "evaluate_seconds": 0.1,
        "started_at": 0.0,
        "ended_at": 1.0,
        "schedule": "constant",
    }
    return both.assign(**facts)


def _measurements(trials: pd.DataFrame, evaluations: int) -> pa.Table:
    """Losses that fall exponentially from 10 and end just below the target."""
    place = np.arange(evaluations + 1) / evaluations
    step = np.round(trials["steps"].to_numpy()[:, None] * place)  # (trials, evaluations + 1)
    step = np.maximum(step, np.arange(evaluations + 1)).astype("int64").ravel()  # no two alike
    each = evaluations + 1
    columns = {
        "trial_id": np.repeat(trials["trial_id"].to_numpy(), each),
        "step": step,
        "examples": step * np.repeat(trials["batch_size"].to_numpy(), each),
        "train_seconds": step * 1e-3,
        "loss": np.tile(10 ** (1 - 1.01 * place), len(trials)),
    }
    return _arrow(pd.DataFrame(columns), MEASUREMENTS)


def _arrow(frame: pd.DataFrame, table: Table) -> pa.Table:
    """The frame with all of the table's columns and their types; those beyond are metrics and hyperparameters."""
    own = arrow_schema(table)
    others = [str(name) for name in frame.columns if name not in table.names]
    kinds = [pa.field(name, pa.string() if name == "schedule" else pa.float64()) for name in others]
    whole = frame.reindex(columns=[*table.names, *others])  # what was not measured is null
    return pa.Table.from_pandas(whole, schema=pa.schema([*own, *kinds]), preserve_index=False)


__all__ = ["write_large_run"]
