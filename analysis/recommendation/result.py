"""What a recommendation holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bcrit.analysis.recommendation.break_even import BreakEven
from bcrit.analysis.recommendation.certainty import Certainty
from bcrit.analysis.recommendation.choices import LimitMissed
from bcrit.analysis.recommendation.frontier import FrontierPoint
from bcrit.analysis.recommendation.hyperparameters import HyperparametersAt
from bcrit.analysis.records.json_values import plain


@dataclass(frozen=True)
class Recommendation:
    """Batch sizes to choose from, with what each takes; where several are given, on which kind of device.

    All choices are whole numbers (where the measured batch sizes are) within the measured range. The first three know
    no limits:

    * `cheapest` has the least cost; without step times, the fewest examples.
    * `fastest` has the fewest hours; without step times, the fewest steps. On a fixed number of devices cost is hours
      times a constant, so with step times on one kind of hardware it is also the cheapest.
    * `balanced`, on one kind of hardware or none, has the least product of steps and examples. On the hyperbola (S /
      s_min) (E / e_min) = (1 + b_crit / B) (1 + B / b_crit) is least, 4, at B = b_crit: neither can be halved further.
      It does not depend on the hardware. Where there are several kinds or numbers of devices, it has the least product
      of hours and cost instead, the knee of their frontier: no other choice lowers one by a larger factor than it
      raises the other.
    * `best`, with limits: what is not limited is minimised. The cheapest under a limit of hours or steps; the fastest
      where only cost or examples are limited.
    * `safe`, with limits: the same where the upper ends of the intervals keep the limits too; left out where none does.

    Attributes:
        frontier: points by hardware, then by rising batch size; every choice is among them.
        choices: by name; no `best` without limits or where none is feasible.
        advised: the name of the choice that the sentences recommend: `best` with limits, else `balanced` where there
            are no step times or several kinds of hardware, else `cheapest`; None where the limits cannot be kept.
        objective: what the advised choice minimises, or would under the limits: cost, hours, examples, steps, or the
            product in `balanced_by`.
        balanced_by: what `balanced` minimises.
        limits: those that were given.
        binding: the limits that keep `best` from being better; several where only lifting them together would help, and
            empty where none does.
        unbound: the best without those; None where none binds.
        feasible: whether a batch size keeps all limits; True without limits.
        infeasible: the limits that have to give, where not feasible.
        certainty: what the fit leaves open, by name of choice.
        break_even: at which price another kind of device would be advised.
        hyperparameters: by name of choice; empty where none were given.
        next_measurement: what to measure next, as in "measure ... next"; None where the choice is clear.
        cost_unit: device-hours, or currency where a price was given; None without step times.
        level: confidence of all intervals.
        unit: what batch sizes count.
        caveats: what was assumed and what is doubtful, in sentences.
        sentences: the recommendation in two sentences.
        paragraph: the whole decision in plain words, for a reader of nothing else.
    """

    frontier: tuple[FrontierPoint, ...]
    choices: Mapping[str, FrontierPoint]
    advised: str | None
    objective: str
    balanced_by: Literal["steps_x_examples", "hours_x_cost"]
    limits: Mapping[str, float]
    binding: tuple[str, ...]
    unbound: FrontierPoint | None
    feasible: bool
    infeasible: tuple[LimitMissed, ...]
    certainty: Mapping[str, Certainty]
    break_even: tuple[BreakEven, ...]
    hyperparameters: Mapping[str, HyperparametersAt]
    cost_unit: Literal["device-hours", "currency"] | None
    level: float
    unit: str
    next_measurement: str | None = None
    caveats: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    paragraph: str = ""

    @property
    def several(self) -> bool:
        """Whether there are several kinds or numbers of devices to choose from."""
        return len({(point.device, point.devices) for point in self.frontier}) > 1

    def to_json(self) -> dict[str, Any]:
        """The object of `bcrit recommend --json`: finite numbers or null; limits that bind together are joined."""
        found: dict[str, Any] = plain(self)
        return {**found, "binding": " and ".join(self.binding) or None}


__all__ = ["Recommendation"]
