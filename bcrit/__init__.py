"""Which batch size, with which learning rate, momentum and schedule, and what will it cost?

    >>> import bcrit
    >>> fit = bcrit.fit("steps.csv")  # doctest: +SKIP
    >>> run = bcrit.Run("runs/digits")  # doctest: +SKIP
    >>> run.studies, run.fit.b_crit, run.ask("targets").sentences  # doctest: +SKIP

Nothing is loaded before it is used: `import bcrit` takes no time, and only `tune` and `NoiseScale` need Ray or torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bcrit.analysis.curve import HyperbolaFit
    from bcrit.analysis.recommendation import Recommendation
    from bcrit.analysis.run import Run
    from bcrit.tuner.training.noise_scale import NoiseScale

__all__ = [
    # from a table, a run folder, an experiment
    "fit",
    "Run",
    "recommend",
    "tune",
    # in a training loop of your own
    "report",
    "NoiseScale",
]


def __getattr__(name: str) -> Any:
    if name == "Run":
        from bcrit.analysis.run import Run

        return Run
    if name == "NoiseScale":
        from bcrit.tuner.training.noise_scale import NoiseScale

        return NoiseScale
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def report(*, step: int, noise: Any = None, **metrics: Any) -> None:
    """Report an evaluation from a program that `workload: {command: ...}` runs: one line on standard output.

    A program needs no `bcrit` for it: `bcrit: step=10 val_loss=0.5` says the same. Elsewhere the line does no harm.
    Where several processes train together (`RANK`), the first one reports.

    Args:
        step: optimizer updates made; once at 0, if it can be, which starts the clock.
        noise: what `NoiseScale.estimate()` gave.
        metrics: what was measured, among it the target's metric; numbers, or tensors of one.
    """
    import json
    import os

    if os.environ.get("RANK", "0") != "0":
        return
    row = {"step": int(step), **{name: float(value) for name, value in metrics.items()}}
    if noise is not None:
        row |= {"tr_sigma": noise.total.numerator, "g_sq": noise.total.denominator}
    print(f"bcrit: {json.dumps(row)}", flush=True)


def fit(table: str | Path | pd.DataFrame, *, level: float = 0.95, unit: str = "examples") -> HyperbolaFit:
    """Fit S = s_min (1 + b_crit / B) to a table of steps-to-target.

    Args:
        table: a CSV file or a frame with columns `batch_size`, `steps`; optional `seed`, `max_steps`. Where `steps` is
            missing or infinite, the target was not reached within `max_steps`.
        level: confidence of the intervals.
        unit: what a batch counts.

    Returns:
        The fit with its intervals, and the rows behind it.

    Raises:
        InputError: the table cannot be read, or fewer than two batch sizes reached the target.
    """
    from bcrit.analysis.curve import fit_hyperbola
    from bcrit.analysis.curve.table import read_table

    return fit_hyperbola(read_table(Path(table)) if isinstance(table, str | Path) else table, level=level, unit=unit)


def recommend(source: Run | HyperbolaFit | str | Path, **limits: Any) -> Recommendation:
    """Recommend batch sizes from a run, a fit or a table: the cheapest, the fastest, a balanced and the best one.

    Args:
        source: a run or its folder, a fit, or a table as `fit` takes.
        limits: `max_hours`, `max_cost`, `max_steps`, `max_examples`, `price_per_device_hour`, `devices`.

    Returns:
        The recommendation with its frontier and choices.

    Raises:
        InputError: there is no curve to recommend from, or a limit is no positive number.
    """
    from bcrit.analysis.recommendation import recommend as recommend_batch_size
    from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
    from bcrit.analysis.run import Run
    from bcrit.search_spaces.problems import InputError

    if isinstance(source, str | Path):
        source = Run(source) if RunFolder.at(source).has(EXPERIMENT) else fit(source)
    if not isinstance(source, Run):
        return recommend_batch_size(source, **limits)
    if source.fit is None:
        raise InputError(source.location, [f"nothing to recommend from: {source.no_fit}"])
    return source.recommend(**limits)


def tune(
    experiment: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    address: str | None = None,
    workers: int | None = None,
    trust: Sequence[str] = (),
) -> Run:
    """Search, confirm and fit an experiment on Ray Tune; what was begun in the folder before is gone on with.

    Args:
        experiment: a YAML file, or its content.
        out: run folder, a path or a URI.
        address: of a running Ray cluster; None = this machine alone.
        workers: trials at once; None = as many as there is room for.
        trust: modules whose workloads may be run although they are installed and not in the working folder.

    Returns:
        The run, with its report written; unfinished, and without one, where it was interrupted.

    Raises:
        InputError: the experiment or the folder is not as it must be; nothing was written.
        ClusterError: Ray or its machines failed; call it again to go on.
    """
    from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
    from bcrit.runs import carry_out, checked_experiment, read_experiment_file
    from bcrit.search_spaces.load import read_yaml
    from bcrit.terminal import Screen, say_notes
    from bcrit.tuner.code import use_code
    from bcrit.tuner.workloads import places

    places.trust(trust)
    folder, where = RunFolder.at(out), "experiment"
    begun = folder.has(EXPERIMENT)
    if begun:
        use_code(folder, None)
        where, data = str(folder), folder.read_experiment().to_dict()
    elif isinstance(experiment, Mapping):
        data = dict(experiment)
    else:
        where = str(experiment)
        data = read_yaml(read_experiment_file(Path(where)), where)
    checked, notes = checked_experiment(data, where)
    say_notes(Screen(stderr=True), notes)
    _, found = carry_out(folder, checked, new=not begun, address=address, workers=workers, watch=lambda scheduler: None)
    return found
