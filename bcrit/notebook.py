"""What `import bcrit` offers in a notebook or a script: the commands as functions, with values in place of text."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bcrit.analysis.curve.fit import HyperbolaFit
    from bcrit.analysis.recommendation.recommend import Recommendation
    from bcrit.analysis.run import Run


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
    """  # noqa: DOC502 (raised further down)
    from bcrit.analysis import fit_hyperbola, read_table

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
    from bcrit.analysis import recommend as recommend_batch_size
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
) -> Run:
    """Search, confirm and fit an experiment on Ray Tune; what was begun in the folder before is gone on with.

    Args:
        experiment: a YAML file, or its content.
        out: run folder, a path or a URI.
        address: of a running Ray cluster; None = this machine alone.
        workers: trials at once; None = as many as there is room for.

    Returns:
        The run, with its report written; unfinished where it was interrupted.

    Raises:
        InputError: the experiment or the folder is not as it must be; nothing was written.
        ClusterError: Ray or its machines failed; call it again to go on.
    """  # noqa: DOC502 (raised further down)
    from bcrit.analysis.finish import finish
    from bcrit.analysis.records.run_folder import EXPERIMENT, RunFolder
    from bcrit.runs import read_experiment_file
    from bcrit.search_spaces.load import read_yaml
    from bcrit.tuner.check import check_experiment
    from bcrit.tuner.session import run, use_code

    folder = RunFolder.at(out)
    begun = folder.has(EXPERIMENT)
    where = str(folder) if begun else str(experiment) if isinstance(experiment, str | Path) else "experiment"
    with redirect_stdout(sys.stderr):  # what a user's module prints
        if begun:
            use_code(folder, None)
            data: Any = folder.read_experiment().to_dict()
        else:
            given = isinstance(experiment, Mapping)
            data = experiment if given else read_yaml(read_experiment_file(Path(str(experiment))), where)
        checked = check_experiment(data, where, lambda note: print(f"note: {note}", file=sys.stderr))
    run(folder, checked, new=not begun, address=address, workers=workers, watch=lambda scheduler: None)
    return finish(folder)
