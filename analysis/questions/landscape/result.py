"""What `bcrit landscape` measured, as it is stored in the run folder; and what its warm starts say."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, Literal, TypeVar

from bcrit.analysis import report as draw
from bcrit.analysis.numbers import readable, value_text
from bcrit.analysis.report import Plot, Rows, table_of

Kind = Literal["small", "tuned", "un-tuned"]


@dataclass(frozen=True)
class Rise:
    """A sharpness (Keskar et al. 2016, Metric 2.1): how far the loss rises within a box around the weights."""

    eps: float  # size of the box
    directions: int | None  # of the random subspace; None = the full space
    value: float  # 100 (f_max - f) / (1 + f), in per cent
    f_max: float  # the highest training loss found in the box
    iterations: int  # budget of L-BFGS-B in each search
    searches: int
    converged: bool  # whether the search that found f_max ended by itself rather than by its budget


@dataclass(frozen=True)
class Network:
    """One trained network and the landscape around it; losses, eigenvalue and trace are of the workload's own loss."""

    batch_size: int  # that it was trained at
    tuned: bool  # with the hyperparameters of its own study's winner; otherwise those of the smallest batch size
    number: int  # which of the seeds, from 0; the same number has the same seed at every batch size
    seed: int  # of initialisation and data order
    trial_id: str | None  # the confirmation run that it repeats; None where it is no run of the study
    point: str  # the search trial whose hyperparameters it has
    checkpoint: str  # its weights, a file of the run folder
    outcome: str  # how its training ended
    steps: int  # optimizer updates made
    n_weights: int  # weights that train
    metric: float | None  # the target's metric at the end; None where it was never a number
    same_curve: bool | None  # whether its learning curve is the recorded one to the bit; None: nothing was recorded
    curve_difference: float | None  # largest relative difference of the metric from the record; None likewise
    recorded_steps: int | None  # optimizer updates that the recorded run made; None likewise
    train_loss: float | None = None  # f, on the examples of the training set that everything here is measured on
    validation_loss: float | None = None  # the same loss on examples of the validation set
    weight_distance: float | None = None  # |w - w_0|, from the weights at initialisation
    weight_norm: float | None = None  # |w|
    rises: tuple[Rise, ...] = ()  # sharpnesses
    top_eigenvalue: float | None = None  # the algebraically largest of the Hessian
    top_residual: float | None = None  # |H v - value v|: an eigenvalue lies within that distance
    trace: float | None = None  # of the Hessian
    trace_error: float | None = None  # its standard error
    problem: str | None = None  # why numbers are missing; None where none is
    # of the whole validation set, all that the workload has; None where one is not finite
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    def rise(self, eps: float, directions: int | None) -> float | None:
        """The sharpness of this box; None where it is missing."""
        return next((r.value for r in self.rises if r.eps == eps and r.directions == directions), None)


@dataclass(frozen=True)
class LossPath:
    """The losses between the tuned network of the smallest batch size and a network of the largest."""

    kind: Literal["line", "curve"]  # (1 - alpha) x_0 + alpha x_1, or cos(alpha pi/2) x_0 + sin(alpha pi/2) x_1
    tuned: bool  # whether the network of the largest batch size is the tuned one
    first: int  # batch size at alpha = 0
    second: int  # batch size at alpha = 1
    number: int  # which of the seeds both have
    distance: float  # |x_1 - x_0|
    alphas: tuple[float, ...]  # where
    train_loss: tuple[float | None, ...]  # at each alpha; None where it is not finite
    validation_loss: tuple[float | None, ...]


@dataclass(frozen=True)
class WarmState:
    """One set of weights: an iterate of the small batch, or the end of a large-batch run that started at it.

    `kind` is `small` for the iterate itself, `tuned` after the large batch with its own winner's hyperparameters,
    `un-tuned` after the large batch with those of the small one.
    """

    kind: Kind
    number: int  # which of the seeds, from 0
    small_steps: int  # optimizer updates of the small batch before the iterate
    large_steps: int  # updates of the large batch after it; 0 for the iterate itself
    last: Mapping[str, float | None]  # all metrics at the end, of the whole validation set; None: not finite
    best: Mapping[str, float | None]  # of each metric along the large-batch run, its start included
    train_loss: float | None  # f, on the examples of the training set that the landscape is measured on
    sharpness: float | None  # in the box of `WarmStarts`, in per cent
    weight_distance: float | None  # |w - w_0|, from the weights at initialisation
    problem: str | None  # why numbers are missing; None where none is


@dataclass(frozen=True)
class WarmStarts:
    """Large-batch training that starts where the small batch has come to (Keskar et al. 2016, section 4, Figure 5)."""

    small: int  # the batch size that begins
    large: int  # the batch size that goes on
    small_examples_a_step: int  # rows of the training set in an update of the small batch
    large_epochs: float  # passes over the training set of every large-batch run
    n_training_set: int  # rows of the training set
    eps: float  # size of the box of sharpness, in the full space
    metric: str  # that states are compared by
    states: tuple[WarmState, ...]  # by seed, then by `small_steps`

    def epochs(self, state: WarmState) -> float:
        """Passes over the training set that the small batch had made."""
        return state.small_steps * self.small_examples_a_step / self.n_training_set

    def of(self, kind: Kind, small_steps: int) -> list[WarmState]:
        """Those of one kind and one iterate, by seed."""
        return [state for state in self.states if state.kind == kind and state.small_steps == small_steps]

    @property
    def starts(self) -> list[int]:
        """Updates of the small batch before each iterate, rising."""
        return sorted({state.small_steps for state in self.states})


@dataclass(frozen=True)
class Landscape:
    """All that was measured."""

    target: str  # that the runs were trained to
    unit: str  # what a batch counts
    n_examples: int  # rows of the training set that f is the mean of
    n_training_set: int  # rows of the training set
    n_validation: int  # rows of the validation set that the validation loss is the mean of
    seed: int  # that all randomness of the measurements comes from
    device: str  # that trained and measured
    torch: str  # version of PyTorch
    networks: tuple[Network, ...]  # in order of batch size, tuned before un-tuned, then seed
    paths: tuple[LossPath, ...]  # empty where there is only one batch size
    notes: tuple[str, ...]  # what is left out and why, a sentence each
    metric: str | None = None  # that networks are compared by beside their losses; None in results of before it
    warm_starts: WarmStarts | None = None  # None where none were asked for

    @property
    def boxes(self) -> list[tuple[float, int | None]]:
        """The (eps, directions) that sharpness was measured in: full space first, larger boxes first."""
        found = {(rise.eps, rise.directions) for network in self.networks for rise in network.rises}
        return sorted(found, key=lambda box: (box[1] is not None, -box[0]))

    @property
    def batch_sizes(self) -> list[int]:
        """Those of the networks, rising."""
        return sorted({network.batch_size for network in self.networks})

    def of(self, batch_size: int, tuned: bool) -> list[Network]:
        """The networks of one batch size, by seed."""
        return [n for n in self.networks if n.batch_size == batch_size and n.tuned is tuned]


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
