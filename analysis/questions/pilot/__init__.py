"""What a pilot measured, what follows from it, and how it is said: the proposal first, then all that is unsure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from bcrit.analysis.numbers import Estimate, duration, enumeration, pace, readable, workers_of
from bcrit.analysis.questions.noise_scale import NoiseScales, scale_json, scale_text
from bcrit.analysis.questions.pilot.study import ABOVE, OVERHEAD_SECONDS, Amount, Cost, Grid, Hint, LrBox, Timing, taken
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.report import Answer, Rows, Table
from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome

_FAR: Final = 10.0
# How far a temperature may be from 2, the usual one of a tuned rate (McCandlish et al. 2018, app. E.1).
_USUAL_TEMPERATURE: Final = 2.0
_FEW_STEPS: Final = 10  # one step more or less is then a tenth; chosen, not studied
_APART: Final = 1.5  # seeds' steps, largest over smallest, from which that is said; chosen, not studied


@dataclass(frozen=True)
class Tried:
    """One learning rate of the search."""

    lr: float
    outcome: Outcome  # how its trial ended
    message: str | None  # why, where the outcome does not say it
    steps: int  # optimizer updates made
    steps_to_target: int | None  # None where it was not reached
    best_value: float | None  # of the target's metric; None where there is none


@dataclass(frozen=True)
class Race:
    """The best learning rate of one batch size."""

    batch_size: int
    lr: float
    steps: float | None  # to the target, median over seeds; None where not most of them reached it
    edge: Literal["low", "high"] | None  # end of the box that it lies on


@dataclass(frozen=True)
class Spent:
    """What the pilot took."""

    steps: int  # optimizer updates, timed ones included
    examples: int  # in the unit of a batch
    seconds: float  # of all trials, evaluation included, one after the other
    probe_seconds: float  # of those in the noise scale

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        seconds, probes = self.seconds + other.seconds, self.probe_seconds + other.probe_seconds
        return Spent(self.steps + other.steps, self.examples + other.examples, seconds, probes)


@dataclass(frozen=True)
class Measured:
    """The pilot's runs."""

    target: str  # that they were trained to
    unit: str  # what a batch counts
    n_examples: int | None  # size of the training set; None = unlimited
    batch_size: int  # of all of them
    chosen: Mapping[str, Value]  # hyperparameters that the experiment searches and the pilot held at one value
    tried: tuple[Tried, ...]  # learning rates
    lr: float  # the best of them
    edge: Literal["low", "high"] | None  # end of the box that it lies on; None: none, or the experiment fixes it
    steps: float | None  # to the target, median over seeds; None where not most of them reached it
    # of each seed, None where it did not reach; there is none where no learning rate did
    steps_each: tuple[int | None, ...]
    no_noise: str  # that gradient noise cannot be measured, and why; empty where it can
    scales: NoiseScales | None  # gradient noise; None where it was not measured
    simple: Estimate  # mean of B_simple along the runs
    noise: Estimate  # mean of B_noise
    temperature: float | None  # latest in the runs, of where it is known; None where it nowhere is
    evaluate_seconds: float  # of one evaluation
    evaluate_every: int = 1  # updates between evaluations, at most
    races: tuple[Race, ...] = ()  # by batch size; one where the hint is to come from gradient noise
    beside_seconds: float = OVERHEAD_SECONDS  # of a trial, in neither updates nor evaluations: its program's start
    easier: str | None = None  # a target that the best rate came to, where it did not reach this one


@dataclass(frozen=True)
class Proposal:
    """The study that should follow."""

    data: Mapping[str, Any]  # its experiment, as its file would say it
    experiment: Experiment  # the same, validated
    box: LrBox | None  # of the learning rate; None where the experiment fixes it
    timings: tuple[Timing, ...]  # by batch size
    cost: Cost  # of the whole


@dataclass(frozen=True)
class Pilot:
    """All that a pilot says."""

    run: str  # place of its run folder
    measured: Measured  # by its runs
    hint: Hint  # where b_crit may lie
    grid: Grid  # batch sizes around it
    proposal: Proposal | None  # None where the target was not reached, so that nothing is known of steps
    spent: Spent

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit pilot --json`, less its sentences."""
        facts = ("run", "measured", "hint", "grid", "spent")
        found: dict[str, Any] = plain({name: getattr(self, name) for name in facts})
        scales = self.measured.scales
        found["measured"] |= {name: scale_json(getattr(self.measured, name)) for name in ("simple", "noise")}
        found["measured"]["scales"] = None if scales is None else scales.to_json()
        found["proposal"] = None
        if (proposal := self.proposal) is not None:
            parts = ("data", "box", "timings", "cost")
            found["proposal"] = plain({name: getattr(proposal, name) for name in parts})
            budget = proposal.experiment.budget
            found["proposal"]["budget"] = {"steps": budget.steps, "examples": budget.examples}
        return found


def answer(found: Pilot) -> Answer:
    """The answer is no where the target was not reached."""
    said, parts = sentences(found), []
    if found.proposal is not None:
        heading = f"a study to {found.measured.target}, as proposed"
        parts.append(Rows(heading, _table(found.measured, found.proposal), brief=True))
    facts = {**found.to_json(), "sentences": list(said)}
    return Answer("pilot", "A study as proposed", said, tuple(parts), facts, yes=found.proposal is not None)


def _table(measured: Measured, proposal: Proposal) -> Table:
    """One row a batch size."""
    timings, law, rows = {t.batch_size: t for t in proposal.timings}, proposal.box, []
    for study in proposal.cost.studies:
        b, timing = study.batch_size, timings[study.batch_size]
        seconds, memory = timing.step_seconds, timing.memory
        rows.append(
            (
                f"{b:,}",
                _two(study.steps.value),
                f"{study.budget_steps:,}",
                "-" if law is None else " to ".join(f"{end:.2g}" for end in law.at(b)),
                "-" if seconds is None else pace(seconds),
                "-" if memory is None else f"{memory / 1e9:.2g} GB" if memory >= 1e9 else f"{memory / 1e6:.0f} MB",
                "-" if study.trial_seconds is None else duration(study.trial_seconds.value / 3600),
            )
        )
    head = ("batch size", "steps", "budget", "box of lr", "a step", "memory", "time")
    return Table(head, tuple(rows))


def sentences(found: Pilot) -> tuple[str, ...]:
    """Each a paragraph."""
    said = [_hint(found)] if found.measured.steps_each else []
    if found.proposal is None:
        said.append(_unreached(found.measured))
    else:
        said += [_grid(found), _lr(found, found.proposal), _cost(found, found.proposal)]
    return (*said, *doubts(found))


def doubts(found: Pilot) -> tuple[str, ...]:
    """What may be wrong, most serious first."""
    measured, said = found.measured, []
    missed = sum(steps is None for steps in measured.steps_each)
    if missed and measured.steps is not None:
        said.append(f"{missed} of {len(measured.steps_each)} seeds did not reach the target: steps are uncertain.")
    reached = [steps for steps in measured.steps_each if steps is not None]
    if reached and max(reached) >= _APART * min(reached):
        said.append(
            f"Seeds took from {min(reached):,} to {max(reached):,} steps, so the cost is known no better than that."
        )
    if measured.steps is not None and measured.steps < _FEW_STEPS:
        said.append(
            f"The target is reached after {readable(measured.steps)} steps, too few to tell batch sizes apart: choose "
            "a stricter one."
        )
    if measured.edge is not None:
        untuned = "steps are those" if measured.no_noise else "noise scale is that"
        said.append(
            f"The best learning rate, {readable(measured.lr)}, lies at the {measured.edge} end of its box: a better "
            f"one may lie beyond, and the {untuned} of a rate that is not tuned. Widen the box of lr and run the pilot "
            "again."
        )
    if measured.steps_each and not measured.no_noise:
        said += _scale_doubts(found)
    if found.grid.left_out:
        said.append(
            "The workload cannot make batches of "
            f"{enumeration([f'{b:,}' for b in found.grid.left_out])}; they are left out."
        )
    if found.proposal is not None:
        said += [
            f"A step at batch size {timing.batch_size:,} could not be timed ({timing.problem}), so hours are not known."
            for timing in found.proposal.timings
            if timing.step_seconds is None
        ]
    if measured.chosen:
        shown = {n: readable(value) if isinstance(value, float) else value for n, value in measured.chosen.items()}
        held = enumeration([f"{name} {value}" for name, value in shown.items()])
        said.append(
            f"The pilot held {held}, which the study searches: its steps will be fewer (on digits 0.6 times the "
            "pilot's), and b_crit that of another way of tuning."
        )
    return tuple(said)


def _hint(found: Pilot) -> str:
    measured = found.measured
    between = f"{readable(found.hint.low)} to {readable(found.hint.high)}"
    guess = f"ithout a hint b_crit is taken to lie within a factor ten of the pilot's batch size, from {between}."
    if len(measured.races) > 1 and not (measured.simple.known or measured.noise.known):
        return _by_steps(found)
    if measured.no_noise:
        return f"{measured.no_noise}. W{guess}"
    at = measured.scales.at_target if measured.scales is not None else None
    end = ""
    if at is not None:
        end = f" At the target itself B_simple is {scale_text(at.simple)} and B_noise {scale_text(at.noise)}."
    means = f"B_simple is {scale_text(measured.simple)} and B_noise is {scale_text(measured.noise)}"
    n = len(measured.steps_each)
    runs = f"{n} run{'s' if n > 1 else ''} at batch size {measured.batch_size:,} and learning rate"
    said = f"Averaged along {runs} {readable(measured.lr)}, {means} {measured.unit}.{end}"
    if found.hint.value is None:
        return f"{said} Neither is resolved: w{guess}"
    return (
        f"{said} So b_crit may be about {readable(found.hint.value)}, or anywhere from {between}. This is a "
        "hint at the order of magnitude, not a measurement (McCandlish et al. 2018, section 5: up to ten times apart)."
    )


def _by_steps(found: Pilot) -> str:
    """What the steps of several batch sizes say, where nothing is known of gradient noise."""
    measured, value = found.measured, found.hint.value
    sizes = enumeration([f"{race.batch_size:,}" for race in measured.races])
    steps = enumeration(["not reached" if r.steps is None else readable(r.steps) for r in measured.races])
    rates = enumeration([readable(race.lr) for race in measured.races])
    said = f"At batch sizes {sizes} the best learning rates, {rates}, took {steps} steps"
    between = f"{readable(found.hint.low)} to {readable(found.hint.high)}"
    if value is None:
        return f"{said}, which does not show where b_crit lies: it may be anywhere from {between}."
    return (
        f"{said}. A curve through them has b_crit at about {readable(value)}, but it may be anywhere from {between}. "
        "This is a hint at the order of magnitude, not a measurement."
    )


def _grid(found: Pilot) -> str:
    sizes, n = found.grid.batch_sizes, found.measured.n_examples
    said = (
        f"Study {len(sizes)} batch sizes from {sizes[0]:,} to {sizes[-1]:,}: from a sixteenth of the lowest "
        f"b_crit in question to {ABOVE:g} times the highest."
    )
    if found.grid.clipped_low:
        begun = "lower still" if found.grid.wanted[0] < 1 else f"at {readable(found.grid.wanted[0])}"
        said += f" It would begin {begun}, but no smaller batch can be made."
    if found.grid.clipped_high:
        said += (
            f" It would end at {readable(found.grid.wanted[1])}, but the training set has {n:,} "
            f"{found.measured.unit}: if b_crit is above {readable(sizes[-1] / ABOVE)}, the fit will not determine it."
        )
    return said


def _lr(found: Pilot, proposal: Proposal) -> str:
    budget = proposal.experiment.budget
    said = f"Budget: {budget.steps:,} steps and {budget.examples:,} {found.measured.unit}."
    box = proposal.box
    if box is None:
        return f"{said} The experiment fixes the learning rate, so none is proposed."
    rule = (
        "at every batch size" if box.rule == "none" else f"at batch size {box.batch_size:,}, moved by rule '{box.rule}'"
    )
    return (
        f"Box of lr: {readable(box.low)} to {readable(box.high)} {rule}, about {readable(found.measured.lr)} there and "
        f"lr_max / (1 + {readable(box.scale)} / B){'' if box.alpha == 1 else f'^{box.alpha:g}'} elsewhere. {said}"
    )


def _cost(found: Pilot, proposal: Proposal) -> str:
    spent, cost, of, hours = found.spent, proposal.cost, taken(proposal.experiment), ""
    if cost.hours is not None:
        ends, times = (
            (cost.hours.low, cost.hours.value, cost.hours.high),
            (spent.seconds / 3600, spent.probe_seconds / 3600),
        )
        low, value, high = (duration(end, beside=ends) for end in ends)
        took, probing = (duration(each, beside=[time for time in times if time]) for each in times)
        noise = f", {probing} of them in the noise scale" if spent.probe_seconds else ""
        hours = f" and {value} on {workers_of(cost.workers)} ({low} to {high})"
        hours += f"; the pilot's own trials trained for {took} in all{noise}"
    return (
        f"The study will take about {cost.n_trials:,} trials, {_text(cost.steps)} steps, {_text(cost.examples)} "
        f"{found.measured.unit}{hours}. The pilot made {spent.steps:,} steps, "
        f"{readable(100 * spent.steps / cost.steps.value)} % of that. This assumes that a trial of the search takes "
        f"{of.search.value:g} times the tuned steps ({of.search.low:g} to {of.search.high:g} in earlier studies), "
        f"a re-run {of.confirm.value:g} times ({of.confirm.low:g} to {of.confirm.high:g}), each "
        f"{pace(found.measured.beside_seconds)} besides, and that no box is widened."
    )


def _scale_doubts(found: Pilot) -> list[str]:
    measured, said = found.measured, []
    named = (("B_simple", measured.simple), ("B_noise", measured.noise))
    if unknown := [f"{name} ({scale.why})" for name, scale in named if scale.value is None]:
        said.append(f"Not resolved: {enumeration(unknown)}. More `probes.examples` or seeds would help.")
    if measured.simple.value is not None and measured.simple.low is None:
        said.append(
            "The noise scale has no interval, so a factor ten either way is allowed for; `--seeds 3` gives one."
        )
    value = found.hint.value
    if value is not None and value * 4 < measured.batch_size:
        said.append(
            f"The pilot's batch size is {readable(measured.batch_size / value)} times the hint: there noise scales "
            f"come out too large, so run it again with `--batch-size {2 ** max(0, math.floor(math.log2(value)))}`."
        )
    heat = measured.temperature
    if heat is None:
        said.append("The temperature of the runs is not known, so nothing shows how well their learning rate is tuned.")
    elif not 1 / _FAR <= heat / _USUAL_TEMPERATURE <= _FAR:
        side = "above" if heat > _USUAL_TEMPERATURE else "below"
        said.append(
            f"The temperature late in the runs is {readable(heat)}, far {side} the usual 2: the learning rate is far "
            "from the best one of a step, and the noise scale goes as one over it (McCandlish et al. 2018, app. C)."
        )
    return said


def _unreached(measured: Measured) -> str:
    n = sum(steps is not None for steps in measured.steps_each)
    easier = f", {measured.easier} say, which it came to in a third of them" if measured.easier else ""
    remedy = f"choose a target that is easier to reach{easier}."
    if not measured.steps_each:
        value = next(one.best_value or 0.0 for one in measured.tried if one.lr == measured.lr)
        return (
            f"None of {len(measured.tried)} learning rates reached {measured.target} at batch size "
            f"{measured.batch_size:,}; the best of them, {readable(measured.lr)}, came to {readable(value)}. "
            "So steps, gradient noise, budget and cost were not measured. Raise 'budget', widen the box of lr, or "
            f"{remedy}"
        )
    return (
        f"{n} of {len(measured.steps_each)} runs reached {measured.target} at batch size {measured.batch_size:,}, so "
        "steps, budget and cost cannot be said, and b_crit at the target is above the hint if noise still grows. Raise "
        f"'budget', widen the box of lr, or {remedy}"
    )


def _text(amount: Amount) -> str:
    return f"{_two(amount.value)} ({_two(amount.low)} to {_two(amount.high)})"


def _two(number: float) -> str:
    """Two digits are all that a prediction has."""
    return f"{float(f'{number:.2g}'):,.0f}"
