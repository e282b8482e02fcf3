"""Rows of the two tables, as a run would write them."""

from collections.abc import Iterable
from typing import Any


def trial(name: str, steps: int = 5, **more: Any) -> dict[str, Any]:
    """A finished trial."""
    return {
        **{"trial_id": name, "batch_size": 8, "stage": "search", "number": 0, "round": 0, "seed": 0},
        **{"outcome": "exhausted", "max_steps": 5, "steps": steps, "examples": 8 * steps, "train_seconds": 1.0},
        **{"evaluate_seconds": 1.0, "started_at": 0.0, "ended_at": 1.0, "lr": 0.1, **more},
    }


def curve(name: str, steps: Iterable[int], **more: Any) -> list[dict[str, Any]]:
    """Its evaluations; at step s the loss is 1 / (s + 1)."""
    return [
        {"trial_id": name, "step": s, "examples": 8 * s, "train_seconds": 0.1 * s, "loss": 1 / (s + 1), **more}
        for s in steps
    ]
