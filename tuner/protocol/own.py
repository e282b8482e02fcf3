"""A search that the user names: a sampler of Optuna, or a search algorithm of Ray Tune, asked anew for every study.

Such an object remembers: what it suggests follows from all that it was asked and told before, in their order. So it is
taken through that order again, from the finished trials: before it is asked for trial k of a round it is told how the
trials 0 ... k - parallel_per_study ended. What it proposes is then a function of the ledger, as everything else is. It
must be deterministic under the `seed` that it is made with; where it suggests for a finished trial what was not
trained, it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import optuna

from bcrit.search_spaces.dimensions import Choice
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import Point, SearchSpace
from bcrit.tuner.protocol.proposal import UNREACHED, TrialRecord, response
from bcrit.tuner.workloads.places import found, reach

if TYPE_CHECKING:
    from bcrit.tuner.protocol.samplers import Question

_KEY = "search.protocol"


class _Asked(Protocol):
    """One of either kind: it gives each axis a value, scaled to [0, 1] or an option, and is told what came of it."""

    def ask(self, number: int) -> Mapping[str, Any]: ...
    def tell(self, number: int, value: float) -> None: ...
    def add(self, values: Mapping[str, Any], value: float) -> None: ...


class _Sampler:
    def __init__(self, sampler: optuna.samplers.BaseSampler, space: SearchSpace) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study, self._trials = optuna.create_study(sampler=sampler), dict[int, optuna.Trial]()
        self._axes: dict[str, Any] = {
            address: optuna.distributions.CategoricalDistribution(list(axis.options))
            if isinstance(axis, Choice)
            else optuna.distributions.FloatDistribution(0.0, 1.0)
            for address, axis in space.axes.items()
        }

    def ask(self, number: int) -> Mapping[str, Any]:
        self._trials[number] = self._study.ask(self._axes)
        return self._trials[number].params

    def tell(self, number: int, value: float) -> None:
        self._study.tell(self._trials.pop(number), value)

    def add(self, values: Mapping[str, Any], value: float) -> None:
        known = {address: axis for address, axis in self._axes.items() if address in values}
        self._study.add_trial(optuna.trial.create_trial(params=dict(values), distributions=known, value=value))


class _Searcher:
    def __init__(self, searcher: Any, space: SearchSpace) -> None:
        from ray import tune

        axes = {
            address: tune.choice(list(axis.options)) if isinstance(axis, Choice) else tune.uniform(0.0, 1.0)
            for address, axis in space.axes.items()
        }
        self._searcher, self._axes = searcher, set(axes)
        if not searcher.set_search_properties("value", "min", axes):
            raise ValueError("it has a space, metric or mode already; make it without them, they are the experiment's")

    def ask(self, number: int) -> Mapping[str, Any]:
        config = self._searcher.suggest(str(number))
        if not isinstance(config, Mapping) or not self._axes <= config.keys():
            wanted = ", ".join(sorted(self._axes))
            raise ValueError(
                f"for trial {number} it suggests {config!r}; it may not wait or end, and must give {wanted}"
            )
        return config

    def tell(self, number: int, value: float) -> None:
        self._searcher.on_trial_complete(str(number), {"value": value, "training_iteration": 1})

    def add(self, values: Mapping[str, Any], value: float) -> None:
        self._searcher.add_evaluated_point(dict(values), value)


def _made(name: str, space: SearchSpace, seed: int) -> _Asked:
    """One that knows nothing yet; where there is none of the name, or it is of neither kind, a ValueError says so."""
    reach(os.getcwd())
    sampler = found(name, f"'{_KEY}' {name}")(seed=seed)
    if isinstance(sampler, optuna.samplers.BaseSampler):
        return _Sampler(sampler, space)
    if callable(getattr(sampler, "suggest", None)):
        return _Searcher(sampler, space)
    kinds = "an optuna.samplers.BaseSampler nor a ray.tune.search.Searcher"
    raise ValueError(f"'{_KEY}': {name}(seed=...) makes neither {kinds}, but a {type(sampler).__name__}")


def own_search_problem(experiment: Experiment) -> str | None:
    """Why the search that the user names cannot be used, if it cannot: found out by asking two of it for a point."""
    name, space = experiment.search.protocol, experiment.space
    if ":" not in name:
        return None
    try:
        one, other = (_made(name, space, 0) for _ in range(2))
        if one.ask(0) != other.ask(0):
            return f"'{_KEY}': two of {name} with the same seed suggest different points; let it use its `seed`"
        if experiment.boundary.max_rounds:
            one.add(other.ask(1), 0.0)
    except NotImplementedError:
        why = "what it cannot be told of trials that it did not suggest, a search in a widened box would not know"
        return f"'{_KEY}': {name}: {why}; give boundary: {{max_rounds: 0}}"
    except (Exception, SystemExit) as error:  # it may be the user's, and raise anything
        told = str(error) if f"'{_KEY}'" in str(error) else f"'{_KEY}': {name}: {type(error).__name__}: {error}"
        return told
    return None


class OwnSearch:
    """The search of one round of a study, from its first trial to the latest that was asked for."""

    def __init__(self, asked: Question) -> None:
        words = np.random.SeedSequence([asked.experiment.seed, asked.batch_size, asked.first]).generate_state(1)
        self.first = asked.first  # trial of the round
        self._name, self._space = asked.experiment.search.protocol, asked.space
        self._search = _made(self._name, self._space, int(words[0]))
        self._points: list[Point] = []  # of the round's trials
        self._n_told = 0

    def point(self, asked: Question) -> Point:
        """The point of a trial."""
        while len(self._points) <= asked.number - self.first:
            number = self.first + len(self._points)
            known = max(number - asked.experiment.search.at_once + 1, self.first)
            for record in asked.known.records[self._n_told : known]:
                self._tell(record, asked)
            values = self._search.ask(number)
            axes = self._space.axes.items()
            units = {at: axis.to_unit(values[at]) if isinstance(axis, Choice) else values[at] for at, axis in axes}
            self._points.append(self._space.from_unit(units))
        return self._points[asked.number - self.first]

    def _tell(self, record: TrialRecord, asked: Question) -> None:
        self._n_told += 1
        value = _value(record, asked)
        if record.number >= self.first:
            if record.point != (suggested := self._points[record.number - self.first]):
                problem = f"trial {record.trial_id} was trained at {record.point}, but {self._name} now suggests"
                raise InputError(f"'{_KEY}'", [f"{problem} {suggested}; it must be deterministic under its `seed`"])
            self._search.tell(record.number, value)
        elif self._space.contains(record.point):
            units, axes = self._space.to_unit(record.point), self._space.axes
            known = {at: record.point[at] if isinstance(axes[at], Choice) else unit for at, unit in units.items()}
            self._search.add(known, value)


def _value(record: TrialRecord, asked: Question) -> float:
    """log(steps-to-target); where it did not reach, just above that of the whole budget, in the same order."""
    value = response(record, asked.known.target)
    return value if record.steps_to_target is not None else value - UNREACHED + float(np.log(asked.budget_steps))
