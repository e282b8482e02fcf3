"""The experiment that a pilot proposes, written as the user's own with other batch sizes, box and budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bcrit.analysis.pilot.lr_box import LrBox
from bcrit.search_spaces.load import dump_data
from bcrit.search_spaces.options import Budget


def proposed_data(
    given: Mapping[str, Any], batch_sizes: Sequence[int], box: LrBox | None, budget: Budget
) -> dict[str, Any]:
    """The user's experiment with what the pilot proposes; everything else stays as the user wrote it.

    Args:
        given: the experiment's plain data.
        batch_sizes: to study.
        box: of the learning rate; None leaves it as it is.
        budget: of a search trial.

    Returns:
        Plain data.
    """
    found = {**given, "batch_sizes": list(batch_sizes), "budget": {"steps": budget.steps, "examples": budget.examples}}
    found["name"] = f"{given.get('name', 'experiment')}_study"  # its run does not go where the user's own went
    if box is None:
        return found
    lr, space = given["space"]["lr"], dict(given["space"])
    space["lr"] = f"log from {box.low:g} to {box.high:g}"
    hard = {k: v for k, v in lr.items() if k.startswith("hard_") and v is not None} if isinstance(lr, Mapping) else {}
    if hard:
        space["lr"] = {"scale": "log", "low": box.low, "high": box.high, **hard}
    found["space"] = space
    found.pop("centre", None)
    if box.rule != "none":
        found["centre"] = {"rule": box.rule, "batch_size": box.batch_size}
    return found


def as_text(data: Mapping[str, Any], comments: Sequence[str]) -> str:
    """The file's text.

    Args:
        data: of `proposed_data`.
        comments: lines to begin with.
    """
    return "".join(f"# {line}\n" for line in comments) + dump_data(data)


__all__ = ["as_text", "proposed_data"]
