"""How sharp is the loss around the winners, how far they were trained, and what not to read into it."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from bcrit.analysis import report as draw
from bcrit.analysis.numbers import readable, value_text
from bcrit.analysis.questions.landscape.result import (
    Landscape,
    LossPath,
    Network,
    marks,
    middle,
    seen,
    warm_parts,
    warm_sentences,
)
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import LANDSCAPE
from bcrit.analysis.report import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.run import Run

Quantity = Callable[[Network], float | None]

_KINDS: Final = (
    (True, "tuned at each batch size", (draw.ACCENT, "circle")),
    (False, "un-tuned", (draw.VERMILLION, "diamond-open")),
)


def ask(run: Run) -> Answer | str:
    """Show what `bcrit landscape` measured around the confirmed winners."""
    found = run.folder.read_result(LANDSCAPE, Landscape) if run.target is None else None
    if found is None:
        return "no landscape was measured at this target; `bcrit landscape` does it"
    untuned = (
        "Un-tuned: the winning hyperparameters of the smallest batch size, kept at every other (the same numbers, "
        "schedules as long in updates), trained to the same target."
    )
    said, whole = sentences(found), summary_table(found)
    warm = () if found.warm_starts is None else warm_parts(found.warm_starts)
    parts = (
        *_plots(found),
        *warm,
        Rows("Sharpness and curvature by batch size: medians over seeds", whole),
        Rows("Every network that was measured", network_table(found), folded=True),
    )
    # A terminal has room for the largest box in either space; the report has all of them.
    large = {box[1]: box_name(*box) for box in reversed(found.boxes)}.values()
    left_out = ("reached", "|w|", "trace", *(("validation loss",) if found.metric else ()))
    short = whole.only(lambda name: name in large or not name.startswith(("sharpness", *left_out)))
    return Answer(
        "landscape",
        "Sharpness and curvature",
        (said[0], untuned, *said[1:], *_stale(run, found)),
        parts,
        facts={**plain(found), "sentences": list(said)},
        terminal=(Rows(f"around networks trained to {found.target}", short), *said),
    )


def _stale(run: Run, found: Landscape) -> list[str]:
    """Whether the run has gone on since."""
    best = {int(row["batch_size"]): row["best_trial"] for row in run.studies.to_dict("records")}
    old = sorted({n.batch_size for n in found.networks if n.tuned and best.get(n.batch_size) != n.point})
    if not old:
        return []
    names = ", ".join(f"{b:,}" for b in old)
    return [f"Since this was measured the winner has changed at batch size {names}: run `bcrit landscape` again."]


def sentences(found: Landscape) -> tuple[str, ...]:
    """The verdict first, then how far the networks were trained, then cautions."""
    said, metric = [], found.metric
    if found.boxes:
        eps, directions = found.boxes[0]
        space = "the full space" if directions is None else f"{directions} random directions"
        said.append(_trend(found, f"Sharpness ({space}, eps {readable(eps)})", lambda n: n.rise(eps, directions)))
    said.append(_trend(found, "The top eigenvalue of the Hessian", lambda n: n.top_eigenvalue))
    if metric is not None:
        said.append(_trend(found, f"The {metric}", lambda n: n.metrics.get(metric)))
    said.append(_trained(found))
    said += [_barrier(path) for path in found.paths if path.kind == "line"]
    if found.warm_starts is not None:
        said += warm_sentences(found.warm_starts)
    said.append(_record(found))
    said.append(
        "Sharpness belongs to its box, its iterations and its examples, and changes when weights are rescaled without "
        "changing the network (Dinh et al. 2017): compare within one model only. It need not say anything of the "
        "validation loss, which stands beside it."
    )
    return (*(sentence for sentence in said if sentence), *found.notes)


def _trend(found: Landscape, name: str, quantity: Quantity) -> str:
    """How a quantity differs between the smallest and the largest batch size, tuned and un-tuned."""
    sizes = [b for b in found.batch_sizes if seen(found.of(b, True), quantity)]
    if not sizes:
        return ""
    small, large = sizes[0], sizes[-1]
    start = seen(found.of(small, True), quantity)
    if small == large:
        return f"{name} of the winner at batch size {small:,} is {readable(median(start))}."
    tuned, untuned = (seen(found.of(large, kind), quantity) for kind in (True, False))
    sentence = (
        f"{name} of the tuned winners goes from {readable(median(start))} at batch size {small:,} to "
        f"{readable(median(tuned))} at {large:,}{_doubt(start, tuned)}"
    )
    if untuned:
        sentence += (
            f"; with the hyperparameters of batch size {small:,} kept it is {readable(median(untuned))} at "
            f"{large:,}{_doubt(start, untuned)}"
        )
    many = max(len(start), len(tuned), len(untuned))
    return f"{sentence}{f' (medians of up to {many} seeds)' if many > 1 else ' (one seed)'}."


def _doubt(one: Sequence[float], other: Sequence[float]) -> str:
    """Whether the seeds' ranges of two sets keep apart."""
    if min(len(one), len(other)) < 2:
        return ""
    apart = max(one) < min(other) or max(other) < min(one)
    return " (the seeds' ranges are apart)" if apart else " (the seeds' ranges overlap)"


def _trained(found: Landscape) -> str:
    n, reached = len(found.networks), sum(network.outcome == "reached" for network in found.networks)
    share = "all of them" if found.n_examples == found.n_training_set else f"of {found.n_training_set:,}"
    text = (
        f"All networks were trained to {found.target}, at most as long as their study's re-runs, and {reached} of {n} "
        f"reached it. f is the loss on {found.n_examples:,} rows of the training set ({share})"
    )
    losses = seen(found.networks, lambda network: network.train_loss)
    if losses:
        text += f" and lies between {readable(min(losses))} and {readable(max(losses))}"
    return f"{text}: sharpness and curvature fall with f along any run, so compare networks whose f is near."


def _barrier(path: LossPath) -> str:
    """Whether the loss rises between the two ends of a line."""
    pairs = [(a, f) for a, f in zip(path.alphas, path.train_loss, strict=True) if f is not None and 0 <= a <= 1]
    if len(pairs) < 3 or pairs[0][0] != 0 or pairs[-1][0] != 1:
        return ""
    inside, (low, high) = max(f for _, f in pairs[1:-1]), sorted((pairs[0][1], pairs[-1][1]))
    name = "tuned" if path.tuned else "un-tuned"
    shape = f"rises to {readable(inside)}" if inside > high else "stays below the higher of them"
    return (
        f"On the straight line from the winner at batch size {path.first:,} to the {name} network at {path.second:,} "
        f"the training loss {shape}; at the ends it is {readable(pairs[0][1])} and {readable(pairs[-1][1])}"
        f"{', and lower between them' if inside <= low else ''}."
    )


def _record(found: Landscape) -> str:
    """Whether the winners that were trained again are those of the record."""
    again = [network for network in found.networks if network.same_curve is not None]
    other = [network for network in again if not network.same_curve]
    if not again:
        return ""
    if not other:
        return (
            f"The {len(again)} confirmation runs, trained again for their weights, have the recorded curves to the bit."
        )
    gaps = [network.curve_difference for network in other if network.curve_difference is not None]
    much = f"by up to {readable(100 * max(gaps))} %" if gaps else "beyond measure"
    return (
        f"{len(other)} of the {len(again)} confirmation runs, trained again for their weights, have other curves than "
        f"recorded ({much} of the metric): this machine, its PyTorch or the code is another. What is measured belongs "
        "to the curves of today."
    )


def _plots(found: Landscape) -> list[Plot]:
    plots, metric = [], found.metric
    if found.boxes:
        eps, directions = found.boxes[0]

        def rise(network: Network) -> float | None:
            return network.rise(eps, directions)

        name = f"sharpness (%), eps = {value_text(eps)}"
        caption = "Sharpness by batch size: a mark a seed, lines through the medians."
        plots.append(Plot("landscape-sharpness", _figure(found, rise, name), caption))
        caption = (
            "The same sharpness against the training loss f at which it was measured. What lies on one curve "
            "here differs by how far it was trained, not by its batch size."
        )
        plots.append(Plot("landscape-loss", _figure(found, rise, name, by_loss=True), caption))
    if metric is not None:
        drawn = _figure(found, lambda n: n.metrics.get(metric), draw.label(metric))
        plots.append(Plot("landscape-metric", drawn, f"The {metric} of the same networks, likewise."))
    if seen(found.networks, lambda n: n.top_eigenvalue):
        drawn = _figure(found, lambda n: n.top_eigenvalue, "top eigenvalue of the Hessian")
        plots.append(Plot("landscape-eigenvalue", drawn, "The largest curvature by batch size, likewise."))
    words = {"line": ("straight line", "(1 − α) x₀ + α x₁"), "curve": ("curve", "cos(α π/2) x₀ + sin(α π/2) x₁")}
    for kind, (name, formula) in words.items():
        if paths := [path for path in found.paths if path.kind == kind]:
            caption = (
                f"Loss along the {name} {formula} from the winner at batch size {paths[0].first:,} (α = 0) to the "
                f"networks at {paths[0].second:,} (α = 1). Lines: training loss, dashed: validation loss. A narrower "
                "valley is sharper in this one direction."
            )
            plots.append(Plot(f"landscape-{kind}", _path_figure(paths), caption))
    return plots


def _figure(found: Landscape, quantity: Quantity, title: str, by_loss: bool = False) -> draw.Figure:
    """Every network, against its batch size or against its training loss."""
    traces: list[draw.Trace] = []
    for tuned, name, look in _KINDS:
        mine = [n for n in found.networks if n.tuned is tuned and quantity(n) is not None]
        if by_loss:
            mine = [n for n in mine if n.train_loss is not None]
        hovers = [
            {
                "batch size": n.batch_size,
                "seed": n.number + 1,
                title: quantity(n),
                "training loss f": n.train_loss,
                "steps": n.steps,
                "ended": n.outcome,
            }
            for n in mine
        ]
        if mine:
            x = [n.train_loss or 0.0 if by_loss else n.batch_size for n in mine]
            traces += marks(x, seen(mine, quantity), hovers, name, look, medians=not by_loss)
    sizes = draw.batch_axis(found.unit, found.batch_sizes)
    x_axis = draw.linear_axis("training loss f") if by_loss else sizes
    return draw.figure(traces, x_axis, draw.value_axis(title, seen(found.networks, quantity)))


def _path_figure(paths: Sequence[LossPath]) -> draw.Figure:
    """To the tuned and to the un-tuned network."""
    traces, losses = list[draw.Trace](), list[float]()
    for path in paths:
        kind, color = ("tuned", draw.ACCENT) if path.tuned else ("un-tuned", draw.VERMILLION)
        for what, f, dash in (("training", path.train_loss, "solid"), ("validation", path.validation_loss, "dash")):
            hovers = [{"α": alpha, f"{what} loss": loss} for alpha, loss in zip(path.alphas, f, strict=True)]
            drawn = draw.line(path.alphas, f, hovers, color=color, dash=dash, width=2)  # type: ignore[arg-type]
            traces.append(drawn | {"name": f"to the {kind} network, {what}"})
            losses += [loss for loss in f if loss is not None]
    ends = [draw.vertical(alpha, color=draw.GREY, width=1, dash="dot") for alpha in (0, 1)]
    return draw.figure(traces, draw.linear_axis("α"), draw.value_axis("loss", losses), shapes=ends)


def _first(found: Landscape) -> dict[str, Quantity]:
    """What both tables begin with: losses, the metric, and sharpness in every box."""
    columns: dict[str, Quantity] = {"f": lambda n: n.train_loss, "validation loss": lambda n: n.validation_loss}
    if (metric := found.metric) is not None:
        columns[metric] = lambda n: n.metrics.get(metric)
    return columns | {box_name(*box): lambda n, box=box: n.rise(*box) for box in found.boxes}


def summary_table(found: Landscape) -> Table:
    """One row a batch size and kind, medians over seeds."""
    columns: dict[str, Quantity] = {
        **_first(found),
        "top eigenvalue": lambda n: n.top_eigenvalue,
        "trace": lambda n: n.trace,
        "|w − w₀|": lambda n: n.weight_distance,
        "|w|": lambda n: n.weight_norm,
    }
    groups = (found.of(batch_size, tuned) for batch_size in found.batch_sizes for tuned in (True, False))
    return table_of(
        [
            {
                "batch size": mine[0].batch_size,
                "hyperparameters": "tuned" if mine[0].tuned else "un-tuned",
                "steps": median(network.steps for network in mine),
                "reached": f"{sum(network.outcome == 'reached' for network in mine)} of {len(mine)}",
                **{name: middle(mine, quantity) for name, quantity in columns.items()},
            }
            for mine in groups
            if mine
        ]
    )


def network_table(found: Landscape) -> Table:
    """One row a network, with the errors of its numbers and what decides them."""
    return table_of(
        [
            {
                "batch size": n.batch_size,
                "hyperparameters": "tuned" if n.tuned else "un-tuned",
                "seed": n.number + 1,
                "ended": n.outcome,
                "steps": n.steps,
                "as recorded": "–" if n.same_curve is None else "yes" if n.same_curve else "no",
                **{name: quantity(n) for name, quantity in _first(found).items()},
                "searches x iterations": ", ".join(sorted({f"{r.searches} x {r.iterations}" for r in n.rises})) or None,
                "searches ended by themselves": f"{sum(r.converged for r in n.rises)} of {len(n.rises)}"
                if n.rises
                else None,
                "top eigenvalue ± residual": _with_error(n.top_eigenvalue, n.top_residual),
                "trace ± standard error": _with_error(n.trace, n.trace_error),
                "|w − w₀|": n.weight_distance,
                "weights": n.n_weights,
                "problem": n.problem,
            }
            for n in found.networks
        ]
    )


def box_name(eps: float, directions: int | None) -> str:
    """A sharpness as a column is headed."""
    return f"sharpness (%), eps {value_text(eps)}, {'full space' if directions is None else f'{directions} directions'}"


def _with_error(value: float | None, error: float | None) -> str | None:
    return None if value is None else f"{value_text(value)} ± {value_text(error)}"
