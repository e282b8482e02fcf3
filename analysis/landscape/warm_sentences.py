"""What warm starts say: where the large batch ends from either end of the small one's run, and where that ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from bcrit.analysis.landscape.warm_start import Kind, WarmStarts, WarmState
from bcrit.analysis.wording import readable

WarmQuantity = Callable[[WarmState], float | None]

KINDS: tuple[Kind, ...] = ("tuned", "un-tuned")
"""Of large-batch runs."""


def seen(states: Sequence[WarmState], quantity: WarmQuantity) -> list[float]:
    """A quantity of those states that have it."""
    return [value for state in states if (value := quantity(state)) is not None]


def warm_sentences(warm: WarmStarts) -> list[str]:
    """What was trained, then the metric and the sharpness at both ends of the warm starts."""
    whole = max((warm.epochs(state) for state in warm.states), default=0.0)
    seeds = len({state.number for state in warm.states})
    trained = (
        f"Warm starts (Keskar et al. 2016, Figure 5): batch size {warm.small:,} trains for {readable(whole)} epochs; "
        f"from {len(warm.starts)} of its iterates, the initialisation among them, batch size {warm.large:,} goes on "
        f"for {readable(warm.large_epochs)} epochs; {seeds} seed{'s' if seeds > 1 else ''}. The target ends none of "
        "these runs, so their training losses differ."
    )
    told = (
        _ends(warm, warm.metric, lambda state: state.last.get(warm.metric)),
        _ends(warm, f"sharpness (the full space, eps {readable(warm.eps)})", lambda state: state.sharpness),
    )
    broken = sum(state.problem is not None for state in warm.states)
    lost = [f"{broken} of {len(warm.states)} of these networks could not be measured."] if broken else []
    return [trained, *(sentence for sentence in told if sentence), *lost]


def _ends(warm: WarmStarts, name: str, quantity: WarmQuantity) -> str:
    """Medians, and the seeds' range after each."""
    first, last = warm.starts[0], warm.starts[-1]
    parts = []
    for kind in KINDS:
        cold, warmed = (seen(warm.of(kind, steps), quantity) for steps in (first, last))
        if cold and warmed:
            parts.append(f"from {_middle(cold)} to {_middle(warmed)} {kind}")
    own = seen(warm.of("small", last), quantity)
    if not parts or not own:
        return ""
    return (
        f"From no warm start to one after all the epochs of the small batch, {name} of batch size {warm.large:,} goes "
        f"{', '.join(parts)}; batch size {warm.small:,} itself ends at {_middle(own)}."
    )


def _middle(values: Sequence[float]) -> str:
    between = f" ({readable(min(values))} to {readable(max(values))})" if len(values) > 1 else ""
    return f"{readable(median(values))}{between}"


__all__ = ["KINDS", "WarmQuantity", "seen", "warm_sentences"]
