"""Search spaces of studies made elsewhere: fitted to the points that were drawn from them, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bcrit.analysis.exchange.imported_run import Notes
from bcrit.search_spaces.dimensions import Box, Choice, Fixed, Linear, Value
from bcrit.search_spaces.space import SearchSpace

Axis = Box | Choice | Fixed


def interval(scale: str, low: float, high: float, where: str, notes: Notes) -> Axis:
    """A numeric dimension; a scale that its ends do not allow becomes linear, and equal ends a fixed value.

    Args:
        scale: `linear`, `log`, `reverse_log` or `integer`.
        low: lower end.
        high: upper end.
        where: study and name, for the note.
        notes: receives what was changed.

    Returns:
        The dimension.
    """
    if low == high:
        return Fixed(value=low)
    low, high = min(low, high), max(low, high)
    impossible = (scale == "log" and low <= 0) or (scale == "reverse_log" and high >= 1)
    if impossible:
        notes.add(f"Boxes whose ends a scale does not allow, taken as linear: '{scale}'", 1, where)
        scale = "linear"
    return SearchSpace.model_validate({"x": {"scale": scale, "low": low, "high": high}}).root["x"]


def fitted(
    axes: Mapping[str, Axis], points: Sequence[Mapping[str, Value | None]], study: str, notes: Notes
) -> SearchSpace:
    """Make a study's space hold for the points that count: each has every dimension, and a coordinate in it.

    Args:
        axes: the dimensions as the source tells them, by our names.
        points: the hyperparameters of the study's trials, diverged ones too.
        study: its name, for notes.
        notes: receives every dimension that was left out or changed.

    Returns:
        The space.
    """
    kept: dict[str, Any] = {}
    for name, axis in axes.items():
        values = [point.get(name) for point in points]
        if any(value is None for value in values):
            notes.add(f"Dimension '{name}' is left out of the search space where trials lack it", 1, study)
            continue
        if isinstance(axis, Choice):
            new = [str(value) for value in dict.fromkeys(values) if str(value) not in axis.options]
            if new:
                notes.add(f"Values of '{name}' that are not among its options are taken as options", len(new), study)
                axis = _choice([*axis.options, *new])
        elif isinstance(axis, Box) and not all(_has_coordinate(axis, value) for value in values):
            if not all(isinstance(value, int | float) for value in values):
                notes.add(f"Dimension '{name}' is left out of the search space where values are no numbers", 1, study)
                continue
            notes.add(f"Dimension '{name}' is taken as linear where its scale does not allow all values", 1, study)
            axis = Linear(low=axis.low, high=axis.high)
        kept[name] = axis
    return SearchSpace.model_construct(root=kept)


def _choice(options: Sequence[str]) -> Choice:
    return Choice.model_validate({"scale": "choice", "options": list(options)})


def _has_coordinate(box: Box, value: Any) -> bool:
    try:
        box.to_unit(value)
    except (ValueError, TypeError):
        return False
    return True


def common_space(spaces: Sequence[SearchSpace]) -> SearchSpace:
    """The dimensions that all studies have on the same scale, as wide as the widest of them.

    It stands in `Experiment.space`, for what is drawn alike for all studies; each study keeps its own.

    Args:
        spaces: of the studies that tell theirs.

    Returns:
        The space; empty where they share nothing.
    """
    if not spaces:
        return SearchSpace.model_construct(root={})
    found: dict[str, Any] = {}
    for name in spaces[0].root:
        axes = [space.root.get(name) for space in spaces]
        first = axes[0]
        if any(type(axis) is not type(first) for axis in axes):
            continue
        boxes = [axis for axis in axes if isinstance(axis, Box)]
        choices = [axis for axis in axes if isinstance(axis, Choice)]
        if boxes:
            found[name] = type(boxes[0])(low=min(b.low for b in boxes), high=max(b.high for b in boxes))
        elif choices:
            found[name] = _choice(list(dict.fromkeys(option for choice in choices for option in choice.options)))
        elif all(axis == first for axis in axes):
            found[name] = first
    return SearchSpace.model_construct(root=found)


__all__ = ["Axis", "common_space", "fitted", "interval"]
