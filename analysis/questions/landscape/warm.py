"""What warm starts say: the large batch from iterates of the small one (Keskar et al. 2016, Figure 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final, TypeVar

from bcrit.analysis.numbers.wording import readable, value_text
from bcrit.analysis.questions.landscape.result import Kind, WarmStarts, WarmState
from bcrit.analysis.report import figure as draw
from bcrit.analysis.report.answer import Plot, Rows, table_of

T = TypeVar("T")

_LOOKS: Final[Mapping[Kind, tuple[str, str]]] = {
    "small": (draw.GREEN, "square"),
    "tuned": (draw.ACCENT, "circle"),
    "un-tuned": (draw.VERMILLION, "diamond-open"),
}


def seen(things: Iterable[T], quantity: Callable[[T], float | None]) -> list[float]:
    """A quantity of those that have it."""
    return [value for thing in things if (value := quantity(thing)) is not None]


def middle(things: Sequence[T], quantity: Callable[[T], float | None]) -> float | None:
    """Its median."""
    found = seen(things, quantity)
    return median(found) if found else None


def marks(
    x: Sequence[float],
    y: Sequence[float],
    hovers: Sequence[Mapping[str, Any]],
    name: str,
    look: tuple[str, str],
    *,
    medians: bool = True,
) -> list[draw.Trace]:
    """A mark a seed, and a line through the medians at each x."""
    color, symbol = look
    found = draw.points(x, y, hovers, color=color, symbol=symbol)
    found["marker"]["line"] = {"width": 2, "color": color}
    at = sorted(set(x))
    through = [median(b for a, b in zip(x, y, strict=True) if a == place) for place in at]
    drawn = draw.line(at, through, color=color, width=2, showlegend=False)
    return [*([drawn] if medians else []), found | {"name": name}]


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


def _ends(warm: WarmStarts, name: str, quantity: Callable[[WarmState], float | None]) -> str:
    """Medians, and the seeds' range after each."""
    kinds: tuple[Kind, ...] = ("tuned", "un-tuned")
    ends = {
        kind: [seen(warm.of(kind, steps), quantity) for steps in (warm.starts[0], warm.starts[-1])] for kind in kinds
    }
    parts = [f"from {_range(cold)} to {_range(last)} {kind}" for kind, (cold, last) in ends.items() if cold and last]
    own = seen(warm.of("small", warm.starts[-1]), quantity)
    if not parts or not own:
        return ""
    return (
        f"From no warm start to one after all the epochs of the small batch, {name} of batch size {warm.large:,} goes "
        f"{', '.join(parts)}; batch size {warm.small:,} itself ends at {_range(own)}."
    )


def _range(values: Sequence[float]) -> str:
    between = f" ({readable(min(values))} to {readable(max(values))})" if len(values) > 1 else ""
    return f"{readable(median(values))}{between}"


def warm_parts(warm: WarmStarts) -> list[Plot | Rows]:
    """The metric and the sharpness against the small batch's epochs, and a table.

    The initialisation itself, which is no trained network, stands in the table alone.
    """
    trained = [state for state in warm.states if state.small_steps or state.large_steps]
    told = (
        f"Horizontal: how long batch size {warm.small:,} trained before batch size {warm.large:,} went on. "
        "A mark a seed, lines through the medians."
    )
    quantities: tuple[tuple[str, str, Callable[[WarmState], float | None], str], ...] = (
        ("landscape-warm", draw.label(warm.metric), lambda s: s.last.get(warm.metric), "At the end of training. "),
        (
            "landscape-warm-sharpness",
            f"sharpness (%), eps = {value_text(warm.eps)}",
            lambda state: state.sharpness,
            "Sharpness of the same networks, which are not at the same training loss. ",
        ),
    )
    plots = [
        Plot(name, _figure(warm, trained, quantity, title), text + told)
        for name, title, quantity, text in quantities
        if seen(trained, quantity)
    ]
    return [*plots, Rows("Warm starts: medians over seeds", table_of(_rows(warm)), folded=True)]


def _names(warm: WarmStarts) -> dict[Kind, str]:
    return {
        "small": f"batch size {warm.small:,} itself",
        "tuned": f"then {warm.large:,}, tuned",
        "un-tuned": f"then {warm.large:,}, un-tuned",
    }


def _figure(
    warm: WarmStarts, trained: Sequence[WarmState], quantity: Callable[[WarmState], float | None], title: str
) -> draw.Figure:
    # On a logarithmic axis of epochs 0, whose logarithm has no place, stands as far before the first iterate as that
    # does before the second.
    epochs = {state.small_steps: warm.epochs(state) for state in warm.states}
    rising = [epochs[step] for step in warm.starts if step > 0]
    before = rising[0] ** 2 / rising[1] if len(rising) > 1 else rising[0] / 10
    places = {step: value or before for step, value in epochs.items()}
    low, high = min(places.values()), max(places.values())
    pad = 0.06 * math.log10(high / low)
    text = {place: draw.tick_text(float(f"{epochs[step]:.2g}")) for step, place in places.items()}
    axis = draw.linear_axis(
        f"epochs of batch size {warm.small:,} before",
        type="log",
        range=[math.log10(low) - pad, math.log10(high) + pad],
        tickvals=sorted(text),
        ticktext=[text[place] for place in sorted(text)],
    )
    traces: list[draw.Trace] = []
    for kind, look in _LOOKS.items():
        mine = [state for state in trained if state.kind == kind and quantity(state) is not None]
        hovers = [
            {
                "epochs before": warm.epochs(state),
                "seed": state.number + 1,
                title: quantity(state),
                "training loss f": state.train_loss,
            }
            for state in mine
        ]
        if mine:
            x = [places[state.small_steps] for state in mine]
            traces += marks(x, seen(mine, quantity), hovers, _names(warm)[kind], look)
    return draw.figure(traces, axis, draw.value_axis(title, seen(trained, quantity)))


def _rows(warm: WarmStarts) -> list[dict[str, Any]]:
    groups = ((kind, warm.of(kind, steps)) for steps in warm.starts for kind in _LOOKS)
    return [
        {
            f"epochs of {warm.small:,}": warm.epochs(mine[0]),
            "network": _names(warm)[kind],
            "seeds": len(mine),
            f"{warm.metric}, last": middle(mine, lambda state: state.last.get(warm.metric)),
            f"{warm.metric}, best": middle(mine, lambda state: state.best.get(warm.metric)),
            "f": middle(mine, lambda state: state.train_loss),
            f"sharpness (%), eps {value_text(warm.eps)}": middle(mine, lambda state: state.sharpness),
            "|w − w₀|": middle(mine, lambda state: state.weight_distance),
        }
        for kind, mine in groups
        if mine
    ]
