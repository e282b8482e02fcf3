"""Names of hyperparameters and metrics from elsewhere, made to fit beside our own columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.tables import MEASUREMENTS, STEPS_TO_TARGET, TRIALS, Table

# Spellings of what we call lr and momentum. `learning_rate` is the word of Shallue et al. 2018; the others are those of
# PyTorch, Optax and Hugging Face. Chosen, not studied.
KNOWN = {
    "lr": ("lr", "learning_rate", "learningrate", "base_lr", "init_lr", "peak_lr", "max_lr"),
    "momentum": ("momentum", "mu", "sgd_momentum"),
}
_SUFFIX = "_in_source"


def hyperparameter_names(source: Iterable[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name hyperparameters as ours: the known ones by our word, none like a column of ours, no dots.

    Args:
        source: the names there, in order.
        given: name here by name there, where the user decided.

    Returns:
        Name here by name there, all different.
    """
    return _names(source, KNOWN, (TRIALS, MEASUREMENTS, STEPS_TO_TARGET), given or {})


def metric_names(source: Iterable[str]) -> dict[str, str]:
    """Name metrics: as they are, unless a column of the measurements table has that name.

    Args:
        source: the names there, in order.

    Returns:
        Name here by name there, all different.
    """
    reserved = set(MEASUREMENTS.names)
    return {name: name + _SUFFIX if name in reserved else name for name in source}


def _names(
    source: Iterable[str], known: Mapping[str, tuple[str, ...]], tables: tuple[Table, ...], given: Mapping[str, str]
) -> dict[str, str]:
    names = list(dict.fromkeys(source))
    # `decay_steps` and the like are no columns of the tables, but the analysis reads them as lengths of our schedules.
    reserved = {name for table in tables for name in table.names} | set(STEPS_OF.values())
    found: dict[str, str] = {name: given[name] for name in names if name in given}
    for ours, spellings in known.items():
        free = [name for name in names if name not in found]
        whole = [name for name in free if name.lower() in spellings]
        last = [name for name in free if re.split(r"[./]", name.lower())[-1] in spellings]
        there = [name for name in free if name == ours] or whole or last
        if there and ours not in found.values():
            found[there[0]] = ours
    for name in names:
        if name in found:
            continue
        own = name.replace(".", "_")
        while own in reserved or own in found.values():
            own += _SUFFIX
        found[name] = own
    return {name: found[name] for name in names}


def renamed(names: Mapping[str, str]) -> dict[str, str]:
    """Name there by name here, of those that differ: what `Imported.names` keeps."""
    return {here: there for there, here in names.items() if here != there}


__all__ = ["KNOWN", "hyperparameter_names", "metric_names", "renamed"]
