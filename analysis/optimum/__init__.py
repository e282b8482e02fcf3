"""How the best hyperparameters move with the batch size: sets, laws, verdicts and predictions of one run, and words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bcrit.analysis.numbers import Estimate, readable
from bcrit.analysis.optimum.coordinates import EFFECTIVE
from bcrit.analysis.optimum.laws import FEWEST, LAWS, PLAIN_LAWS, Law, LawFit, LawVerdict, judge
from bcrit.analysis.optimum.near_optimal import NearOptimal, NearOptimalSets, Range
from bcrit.analysis.records.json_values import plain
from bcrit.search_spaces.presets import DOMAINS

_WORDS: Final = {EFFECTIVE: "effective learning rate lr / (1 - momentum)", "lr": "learning rate"}


def words(name: str) -> str:
    """A hyperparameter or quantity as a sentence names it; others than learning rates by their own name."""
    return _WORDS.get(name, name)


@dataclass(frozen=True)
class Quantity:
    """A positive number that laws are fitted to: a hyperparameter, or one minus it."""

    name: str  # `effective_lr`, `lr`, `1 - momentum` ...
    coordinate: str  # the hyperparameter
    one_minus: bool  # whether it is 1 minus the hyperparameter
    laws: tuple[Law, ...]  # which are fitted

    def of(self, value: float) -> float:
        """The quantity at a value of the hyperparameter; its own inverse."""
        return 1 - value if self.one_minus else value

    def ends(self, found: Range) -> tuple[float, float]:
        """Low and high of the quantity."""
        low, high = sorted((self.of(found.low), self.of(found.high)))
        return low, high


@dataclass(frozen=True, eq=False)
class OptimumLaws:
    """What is known of the optimum at every batch size, and of the law it follows."""

    sets: NearOptimalSets
    quantities: tuple[Quantity, ...]  # what laws were fitted to
    verdicts: Mapping[str, LawVerdict]  # by name of the quantity

    def set_at(self, batch_size: float) -> NearOptimal | None:
        """The study at a batch size, if it was measured and reached the target."""
        return next((found for found in self.sets.reached if found.batch_size == batch_size), None)

    def by_law(self, coordinate: str, batch_size: float) -> Estimate | None:
        """A hyperparameter (or `effective_lr`) at any batch size by the law that the studies support.

        Where several cannot be told apart the value is that of the best and the interval holds those of all. None where
        every law is rejected or too few studies were measured.
        """
        for quantity in self.quantities:
            verdict = self.verdicts[quantity.name]
            if quantity.coordinate == coordinate and verdict.supported:
                found = [verdict.law(name).predict(batch_size) for name in verdict.supported]
                ends = [end for each in found for end in (each.value, each.low, each.high) if end is not None]
                low, high = sorted((quantity.of(min(ends)), quantity.of(max(ends))))
                domain = DOMAINS.get(coordinate)
                least = domain.low if domain is not None and domain.includes_low else -math.inf
                value, low, high = (max(end, least) for end in (quantity.of(ends[0]), low, high))
                return Estimate(value, low, high)
        return None

    @property
    def law_sentences(self) -> tuple[str, ...]:
        """The verdict on the laws, one sentence or more for each quantity."""
        return tuple(law_sentence(self.verdicts[q.name], q) for q in self.quantities)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a practitioner has to know, the laws first."""
        if not self.sets.reached:
            return ("No study reached the target, so nothing is known of the best hyperparameters.",)
        return (*self.law_sentences, *(set_sentence(found, self.sets.margin) for found in self.sets.reached))

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit optimum --json`: finite numbers or null."""
        content = {
            "studies": [_set_json(found) for found in self.sets.studies],
            "laws": {q.name: _verdict_json(self.verdicts[q.name]) for q in self.quantities},
            "sentences": self.sentences,
        }
        return {**self.sets.to_json(), **plain(content)}


def optimum_laws(sets: NearOptimalSets) -> OptimumLaws:
    """Fit the laws by which the optimum moves; without a reached study there are none."""
    seen = {c.name: c for found in sets.reached for c in found.axes.coordinates if c.name in found.ranges}
    quantities = []
    for name, coordinate in seen.items():
        if name in _WORDS and coordinate.low > 0:
            quantities.append(Quantity(name, name, False, LAWS))
        elif coordinate.scale == "reverse_log":
            quantities.append(Quantity(f"1 - {name}", name, True, PLAIN_LAWS))
        elif coordinate.scale == "log" and not coordinate.conditional:
            quantities.append(Quantity(name, name, False, PLAIN_LAWS))
    return OptimumLaws(sets, tuple(quantities), {q.name: _judge(q, sets.reached) for q in quantities})


def _judge(quantity: Quantity, sets: tuple[NearOptimal, ...]) -> LawVerdict:
    mine = [(s.batch_size, s.ranges[quantity.coordinate]) for s in sets if quantity.coordinate in s.ranges]
    ends = np.array([quantity.ends(found) for _, found in mine])
    batch_sizes = np.array([b for b, _ in mine], dtype=float)
    values = np.array([quantity.of(found.centre) for _, found in mine])
    spreads = [(found.spread, found.n) for _, found in mine]
    return judge(quantity.laws, batch_sizes, values, ends[:, 0], ends[:, 1], spreads)


def law_sentence(verdict: LawVerdict, quantity: Quantity) -> str:
    """The verdict on the laws for one quantity."""
    n, what = len(verdict.batch_sizes), words(quantity.name)
    if verdict.kind == "too few":
        return f"{n} studies reached the target; a law for the {what} needs {FEWEST}, better 6."
    if verdict.kind == "none":
        return _rejected(verdict, what, len(quantity.laws) > 2)
    best = verdict.law(verdict.supported[0])
    if verdict.kind == "several":
        others = "; or ".join(f"it {verdict.law(name).law.words} ({name})" for name in verdict.supported)
        return f"Laws for the best {what} cannot be told apart with {n} studies: {others}.{_exponent(verdict)}"
    rejected = ["no change" if fit.law.name == "none" else fit.law.name for fit in verdict.laws if fit.rejected]
    out = f" Rejected: {', '.join(rejected)}." if rejected else ""
    return f"The best {what} {best.law.words}: {parameters(best)}, from {n} studies.{out}{_exponent(verdict)}"


def _rejected(verdict: LawVerdict, what: str, many: bool) -> str:
    nearest = min(verdict.laws, key=lambda fit: math.inf if fit.p_value is None else -fit.p_value)
    misses = ", ".join(readable(b) for b in verdict.misses(nearest))
    missing = f" misses those at batch size {misses}" if misses else " misses them by too much together"
    tested = "None of the laws passes" if many else "Neither a constant nor a power of the batch size passes"
    return (
        f"{tested} through the near-optimal {what} of all {len(verdict.batch_sizes)} studies; the nearest, "
        f"{nearest.law.name},{missing}. Between batch sizes it is interpolated."
    )


def _exponent(verdict: LawVerdict) -> str:
    """The exponent of a plain power, which says how far from constant, square root and linear it is."""
    power = next((fit for fit in verdict.laws if fit.law.name == "power"), None)
    if power is None or not {"none", "sqrt", "linear"} & set(verdict.supported):
        return ""
    g = power.parameters["g"]
    if g.low is None:
        return ""
    return f" Its mean slope over the measured range is B^{g.value:.2f} (95 % interval {g.low:.2f} to {g.high:.2f})."


def parameters(fit: LawFit) -> str:
    """The numbers of a law with their intervals: `y_max = 1.9 (1.4 to 2.5), B_n = 60 (30 to 120)`."""
    return ", ".join(f"{name} = {parameter_text(value)}" for name, value in fit.parameters.items())


def parameter_text(found: Estimate) -> str:
    """A number with its interval; one that is open is said by its end alone."""
    if found.low is not None and found.high is None:
        return f"at least {readable(found.low)}" if found.low > 0 else "not identified"
    return f"at most {readable(found.high)}" if found.low == 0 and found.high is not None else str(found)


def set_sentence(found: NearOptimal, margin: float) -> str:
    """What may be chosen at one batch size and what that costs."""
    name, at = leading(found), f"At batch size {readable(found.batch_size)}"
    if name is None:
        return f"{at} the best point needs {readable(found.steps)} steps."
    seen = found.ranges[name]
    below = None if seen.open_low else f"below {readable(seen.low)}"
    above = None if seen.open_high else f"above {readable(seen.high)}"
    known = " and ".join(text for text in (below, above) if text)
    beyond = f"trials {known} were worse" if known else "how far the range reaches beyond is not known"
    if seen.n == 1:
        return f"{at} a single point, at {words(name)} {readable(seen.best)}, was near-optimal; {beyond}."
    costs = f"costs at most {100 * margin:.0f} % more steps than the best ({seen.n} points)"
    return f"{at}, {words(name)} {readable(seen.seen_low)} to {readable(seen.seen_high)} {costs}; {beyond}."


def leading(found: NearOptimal) -> str | None:
    """The hyperparameter that a sentence on a set speaks of: a learning rate where there is one."""
    return next((name for name in (*_WORDS, *found.ranges) if name in found.ranges), None)


def _verdict_json(verdict: LawVerdict) -> dict[str, Any]:
    return {
        "verdict": verdict.kind,
        "supported": verdict.supported,
        "n_studies": len(verdict.batch_sizes),
        "batch_sizes": verdict.batch_sizes,
        "values": verdict.values,
        "log_half_widths": verdict.half_width,
        "laws": [
            {
                "law": fit.law.name,
                "formula": fit.law.formula,
                "source": fit.law.source,
                "parameters": {name: value.json() for name, value in fit.parameters.items()},
                "rms_log_residual": float(np.sqrt((fit.residuals**2).mean())),
                "aicc": fit.aicc,
                "delta_aicc": verdict.delta(fit),
                "p_value": fit.p_value,
                "rejected": fit.rejected,
                "misses": verdict.misses(fit),
            }
            for fit in verdict.laws
        ],
    }


def _set_json(found: NearOptimal) -> dict[str, Any]:
    return {
        "batch_size": found.batch_size,
        "steps": found.steps,
        "limit": found.limit,
        "best": found.best,
        **dict(zip(("n_near_optimal", "n_worse", "n_not_known"), found.counts, strict=True)),
        "n_set_aside": found.points.n_set_aside,
        "ranges": found.ranges,
        "options": {
            name: {o: dict(zip(("near_optimal", "worse", "n"), counts, strict=True)) for o, counts in options.items()}
            for name, options in found.options.items()
        },
        "box": found.box,
    }
