"""What a pilot says: the proposal first, then all that it is unsure of."""

from __future__ import annotations

from bcrit.analysis.noise_scale.sentences import scale_text
from bcrit.analysis.pilot.cost import CONFIRM, OVERHEAD_SECONDS, SEARCH, Amount, Cost
from bcrit.analysis.pilot.grid import ABOVE
from bcrit.analysis.pilot.result import Measured, Pilot, Proposal
from bcrit.analysis.wording import duration, enumeration, readable

_FAR = 10.0  # how far a temperature may be from 2, the usual one of a tuned rate (McCandlish et al. 2018, app. E.1)
_USUAL_TEMPERATURE = 2.0
_FEW_STEPS = 10  # one step more or less is then a tenth; chosen, not studied
_APART = 1.5  # seeds' steps, largest over smallest, from which that is said; chosen, not studied


def sentences(found: Pilot) -> tuple[str, ...]:
    """Each a paragraph."""
    said = [_hint(found)]
    if found.proposal is None:
        said.append(_unreached(found.measured))
    else:
        said += [_grid(found), _lr(found, found.proposal), _cost(found, found.proposal.cost)]
    return (*said, *doubts(found))


def doubts(found: Pilot) -> tuple[str, ...]:
    """What may be wrong, most serious first."""
    measured, said = found.measured, []
    missed = sum(steps is None for steps in measured.steps_each)
    if missed and measured.steps is not None:
        said.append(f"{missed} of {len(measured.steps_each)} seeds did not reach the target: steps are uncertain.")
    reached = [steps for steps in measured.steps_each if steps is not None]
    if reached and max(reached) >= _APART * min(reached):
        said.append(f"Seeds took from {min(reached):,} to {max(reached):,} steps, so the cost is known no better.")
    if measured.steps is not None and measured.steps < _FEW_STEPS:
        said.append(
            f"The target is reached after {readable(measured.steps)} steps, too few to tell batch sizes apart: choose "
            "a stricter one."
        )
    if measured.edge is not None:
        said.append(
            f"The best learning rate, {readable(measured.lr)}, lies at the {measured.edge} end of the ladder: a better "
            "one may lie beyond, and the noise scale is that of a rate that is not tuned. Widen the box of lr and run "
            "the pilot again."
        )
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
        held = enumeration([f"{name} {_shown(value)}" for name, value in measured.chosen.items()])
        said.append(
            f"The pilot held {held}, which the study searches: its steps will be fewer (on digits 0.6 times the "
            "pilot's), and b_crit that of another way of tuning."
        )
    return tuple(said)


def _hint(found: Pilot) -> str:
    measured = found.measured
    at = measured.scales.at_target if measured.scales is not None else None
    end = ""
    if at is not None:
        end = f" At the target itself B_simple is {scale_text(at.simple)} and B_noise {scale_text(at.noise)}."
    means = f"B_simple is {scale_text(measured.simple)} and B_noise is {scale_text(measured.noise)}"
    n = len(measured.steps_each)
    runs = f"{n} run{'s' if n > 1 else ''} at batch size {measured.batch_size:,} and learning rate"
    said = f"Averaged along {runs} {readable(measured.lr)}, {means} {measured.unit}.{end}"
    between = f"{readable(found.hint.low)} to {readable(found.hint.high)}"
    if found.hint.value is None:
        return (
            f"{said} Neither is resolved: without a hint b_crit is taken to lie within a factor ten of the pilot's "
            f"batch size, from {between}."
        )
    return (
        f"{said} So b_crit may be about {readable(found.hint.value)}, with {between} to be reckoned with. This is a "
        "hint at the order of magnitude, not a measurement (McCandlish et al. 2018, section 5: up to ten times apart)."
    )


def _grid(found: Pilot) -> str:
    sizes, n = found.grid.batch_sizes, found.measured.n_examples
    said = (
        f"Study {len(sizes)} batch sizes from {sizes[0]:,} to {sizes[-1]:,}: a sixteenth of the lowest b_crit to be "
        f"reckoned with up to {ABOVE:g} times the highest."
    )
    if found.grid.clipped_low:
        said += f" It would have begun at {readable(found.grid.wanted[0])}, but no smaller batch can be made."
    if found.grid.clipped_high:
        said += (
            f" It would have ended at {readable(found.grid.wanted[1])}, but the training set has {n:,} "
            f"{found.measured.unit}: if b_crit is above {readable(sizes[-1] / ABOVE)}, the fit will not determine it."
        )
    return said


def _lr(found: Pilot, proposal: Proposal) -> str:
    budget = proposal.budget
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


def _cost(found: Pilot, cost: Cost) -> str:
    spent, hours = found.spent, ""
    if cost.hours is not None:
        low, value, high = (duration(end) for end in (cost.hours.low, cost.hours.value, cost.hours.high))
        took, probing = (duration(seconds / 3600) for seconds in (spent.seconds, spent.probe_seconds))
        workers = "1 worker" if cost.workers == 1 else f"{cost.workers} workers"
        hours = f" and {value} on {workers} ({low} to {high})"
        hours += f"; the pilot took {took} on one, {probing} of them in the noise scale"
    return (
        f"The study will take about {cost.n_trials:,} trials, {_text(cost.steps)} steps, {_text(cost.examples)} "
        f"{found.measured.unit}{hours}. The pilot made {spent.steps:,} steps, "
        f"{readable(100 * spent.steps / cost.steps.value)} % of that. This reckons with {SEARCH.value:g} times the "
        f"tuned steps a search trial ({SEARCH.low:g} to {SEARCH.high:g} in earlier studies), {CONFIRM.value:g} a "
        f"re-run ({CONFIRM.low:g} to {CONFIRM.high:g}), {1000 * OVERHEAD_SECONDS:.0f} ms beside each, and no "
        "widened box."
    )


def _scale_doubts(found: Pilot) -> list[str]:
    measured, said = found.measured, []
    named = (("B_simple", measured.simple), ("B_noise", measured.noise))
    if unknown := [f"{name} ({scale.reason})" for name, scale in named if scale.value is None]:
        said.append(f"Not resolved: {enumeration(unknown)}. More `probes.examples` or seeds would help.")
    if measured.simple.value is not None and measured.simple.low is None:
        said.append(
            "The noise scale has no interval, so a factor ten either way is allowed for; `--seeds 3` gives one."
        )
    value = found.hint.value
    if value is not None and value * 4 < measured.batch_size:
        said.append(
            f"The pilot's batch size is {readable(measured.batch_size / value)} times the hint: there noise scales "
            f"come out too large, so run it again with `--batch-size {_power_of_two(value)}`."
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
    return (
        f"{n} of {len(measured.steps_each)} runs reached {measured.target} at batch size {measured.batch_size:,}, so "
        "steps, budget and cost cannot be said, and b_crit at the target is above the hint if noise still grows. Raise "
        "'budget', widen the box of lr, or choose a target that is easier to reach."
    )


def _text(amount: Amount) -> str:
    return f"{_two(amount.value)} ({_two(amount.low)} to {_two(amount.high)})"


def _two(number: float) -> str:
    """Two digits are all that a prediction has."""
    return f"{float(f'{number:.2g}'):,.0f}"


def _power_of_two(number: float) -> int:
    size = 1
    while size * 2 <= number:
        size *= 2
    return size


def _shown(value: object) -> str:
    return readable(value) if isinstance(value, float) else str(value)


__all__ = ["doubts", "sentences"]
