"""What the cells of a grid of targets can claim, in sentences."""

from __future__ import annotations

import pandas as pd

from bcrit.analysis.targets.validity import Status
from bcrit.search_spaces.target import Target


def grid_notes(cells: pd.DataFrame, own: Target | None, adaptive: bool) -> tuple[str, ...]:
    """What to know when reading the grid.

    Args:
        cells: with the columns of `TARGET_CELLS`.
        own: the run's own target, where it is among them.
        adaptive: whether the search went where its own target was reached fast.
    """
    found = []
    others = cells[cells["threshold"] != own.threshold] if own is not None else cells
    behind = int((others["fits"] & (others["status"] == Status.UPPER)).sum())
    aside = int((~others["fits"] & (others["status"] == Status.UPPER)).sum())
    if behind:
        found.append(
            f"In {behind} of {len(others)} cells at other targets than the run's own some trials were stopped earlier. "
            "All were behind the fastest one then, and the steps are taken as they are, as the search does at its own "
            "target."
        )
    if aside:
        found.append(
            f"{aside} of {len(others)} cells are upper bounds that enter no fit: trials that were stopped earlier were "
            "ahead of the fastest one. Runs that stop at their target say nothing reliable about stricter ones."
        )
    if (others["source"] == "search").any() and (cells["source"] == "confirm").any():
        found.append(
            "Numbers of source 'search' are best search trials, which luck makes too good, more so where seeds differ "
            "more: the points that were re-run on fresh seeds are not the best ones at those targets. Compare such a "
            "b_crit only with others of the same source."
        )
    if len(others) and adaptive:
        found.append(
            "The search looked for points that are fast at its own target. A search at another target may find faster "
            "ones, most of all with schedules that decay."
        )
    return tuple(found)


def other_target_notes(cells: pd.DataFrame, target: Target, ran_to: Target) -> tuple[str, ...]:
    """What an analysis at another target than the run's own can claim.

    Args:
        cells: with the columns of `TARGET_CELLS`.
        target: the other target.
        ran_to: the target that the run was made for.
    """
    mine = cells[cells["threshold"] == target.threshold]
    sizes = {
        status: ", ".join(f"{batch_size:,}" for batch_size in mine["batch_size"][chosen])
        for status, chosen in {
            "ahead": mine["n_ahead"] > 0,
            "lower": mine["status"] == Status.LOWER,
        }.items()
        if chosen.any()
    }
    found = [f"The run was made for {ran_to}; this is what its curves say about {target}."]
    if "ahead" in sizes:
        found.append(
            f"At batch size {sizes['ahead']} trials that might have been faster were stopped before; the steps there "
            f"are upper bounds, and so is what follows from them. Run again to {target} for numbers to rely on."
        )
    if "lower" in sizes:
        found.append(f"No trial at batch size {sizes['lower']} went on until {target}.")
    return tuple(found)


__all__ = ["grid_notes", "other_target_notes"]
