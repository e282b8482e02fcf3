"""What the landscape of a run says, in sentences: how sharp, how far trained, and what not to read into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from bcrit.analysis.landscape.result import Landscape, LossPath, Network
from bcrit.analysis.landscape.warm_sentences import warm_sentences
from bcrit.analysis.wording import readable

Quantity = Callable[[Network], float | None]


def values(networks: Sequence[Network], quantity: Quantity) -> list[float]:
    """A quantity of those networks that have it."""
    return [value for network in networks if (value := quantity(network)) is not None]


def batch_sizes(found: Landscape) -> list[int]:
    """Those of the networks, rising."""
    return sorted({network.batch_size for network in found.networks})


def sentences(found: Landscape) -> tuple[str, ...]:
    """The verdict first, then how far the networks were trained, then cautions."""
    said = []
    if found.boxes:
        eps, directions = found.boxes[0]
        space = "the full space" if directions is None else f"{directions} random directions"
        said.append(_trend(found, f"Sharpness ({space}, eps {readable(eps)})", lambda n: n.rise(eps, directions)))
    said.append(_trend(found, "The top eigenvalue of the Hessian", lambda n: n.top_eigenvalue))
    if (metric := found.metric) is not None:
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
    sizes = [b for b in batch_sizes(found) if values(found.of(b, True), quantity)]
    if not sizes:
        return ""
    small, large = sizes[0], sizes[-1]
    start = values(found.of(small, True), quantity)
    if small == large:
        return f"{name} of the winner at batch size {small:,} is {readable(median(start))}."
    tuned, untuned = (values(found.of(large, kind), quantity) for kind in (True, False))
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
    losses = values(found.networks, lambda network: network.train_loss)
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


__all__ = ["Quantity", "batch_sizes", "sentences", "values"]
