"""The slow twin of the protocol: every proposal is worked out from all records, with nothing kept from the one before.

It was the protocol itself until that took 100 ms a proposal at 3,000 trials. Only what lies beneath is shared: the
boundary rule, the coordinates and the local step of one proposal.
"""

from collections.abc import Collection, Sequence

import numpy as np
import optuna
from scipy.stats import qmc

from bcrit.analysis.studies.boundary import SearchedTrials, after_round
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.space import Point, SearchSpace
from bcrit.search_spaces.target import Direction
from bcrit.tuner.protocol import tpe
from bcrit.tuner.protocol.proposal import Proposal, Records, Rung, TrialRecord, merit, response, trial_name, trial_seed
from bcrit.tuner.protocol.samplers import Incumbent, local_point
from bcrit.tuner.protocol.tpe import couples
from bcrit.tuner.training.settings import at_or_after

Kept = Sequence[TrialRecord]


def next_trial(
    spec: Experiment, records: Records, running: Collection[str], horizon_falls: bool = False
) -> Proposal | None:
    begun = {b: len(records.get(b, ())) + sum(name.startswith(f"b{b:07d}-") for name in running) for b in records}
    for batch_size in sorted(spec.batch_sizes, key=lambda b: (begun.get(b, 0), b)):
        proposal = _next_of_study(spec, batch_size, records.get(batch_size, ()), running, horizon_falls)
        if proposal is not None:
            return proposal
    return None


def _next_of_study(
    spec: Experiment, batch_size: int, records: Kept, running: Collection[str], horizon_falls: bool
) -> Proposal | None:
    search = sorted((r for r in records if r.stage is Stage.SEARCH), key=lambda r: r.number)
    space, first, wanted, round_number = spec.space_at(batch_size), 0, spec.search.trials, 0
    while True:
        outcomes = {r.number: r.outcome for r in search if r.round == round_number}
        drawn = _draws_needed([outcomes.get(first + i) for i in range(len(outcomes) + 1)], wanted, spec, False)
        if drawn is None:
            return _search(spec, batch_size, (space, round_number, first, wanted), search, running, horizon_falls)
        seen = SearchedTrials.of((r for r in search if r.number < first + drawn), spec.target.threshold)
        space, verdicts = after_round(space, seen, spec.boundary, round_number)
        if all(verdict.widened_to is None for verdict in verdicts):
            return _confirm(spec, batch_size, round_number, search, {r.trial_id for r in records} | set(running))
        first, round_number, wanted = first + drawn, round_number + 1, spec.later_trials


def _draws_needed(in_order: Sequence[Outcome | None], wanted: int, spec: Experiment, optimistic: bool) -> int | None:
    feasible, bound = 0, int(wanted * spec.search.max_draws)
    patience = max(10, spec.search.at_once)
    for drawn, outcome in enumerate([*in_order, None]):
        hopeless = drawn == patience and all(before is None or before.broken for before in in_order[:drawn])
        if feasible >= wanted or drawn >= bound or hopeless:
            return drawn
        if drawn == len(in_order) or (outcome is None and not optimistic):
            return None
        feasible += outcome is None or outcome.feasible
    return None


def _search(
    spec: Experiment,
    batch_size: int,
    state: tuple[SearchSpace, int, int, int],
    search: Kept,
    running: Collection[str],
    horizon_falls: bool,
) -> Proposal | None:
    space, round_number, first, wanted = state
    finished = {r.number: r for r in search}
    number = first
    while number in finished or trial_name(batch_size, Stage.SEARCH, number) in running:
        number += 1
    before = [finished[n].outcome if n in finished else None for n in range(first, number)]
    if _draws_needed(before, wanted, spec, True) is not None:
        return None
    horizon = number - spec.search.at_once
    if any(n not in finished for n in range(first, horizon + 1)):
        return None
    known = [r for r in search if r.number <= horizon or r.number < first]
    budget_steps = spec.budget.max_steps(batch_size)
    max_steps, rungs = _stops(spec, known, budget_steps)
    # A horizon that falls may know more by now: of all that have finished without a gap, up to the one but last.
    gap = next(n for n in range(number + 1) if n not in finished)
    later = [r for r in search if r.number < max(min(gap, number - min(2, spec.search.at_once) + 1), first)]
    if horizon_falls:
        max_steps, _ = _stops(spec, later, budget_steps)
    return Proposal(
        trial_id=trial_name(batch_size, Stage.SEARCH, number),
        batch_size=batch_size,
        stage=Stage.SEARCH,
        number=number,
        round=round_number,
        repeats=None,
        seed=trial_seed(spec.seed, Stage.SEARCH, number),
        point=_point(spec, space, known, batch_size, number, budget_steps),
        budget_steps=budget_steps,
        max_steps=max_steps,
        capped=max_steps < budget_steps,
        rungs=rungs,
        stop_at_target=spec.search.stopping.rule != "full",
    )


def _stops(spec: Experiment, known: Kept, budget_steps: int) -> tuple[int, tuple[Rung, ...]]:
    stopping, direction = spec.search.stopping, spec.target.direction
    if stopping.rule in ("none", "full"):
        return budget_steps, ()
    incumbent = min((r.steps_to_target for r in known if r.steps_to_target is not None), default=None)
    max_steps, rungs = budget_steps, []
    if incumbent is not None:
        max_steps = min(budget_steps, at_or_after((1 + stopping.slack) * incumbent, spec.resolution, coarse=True))
    step = at_or_after(stopping.grace * (incumbent or budget_steps), spec.resolution, coarse=True)
    while stopping.rule == "asha" and step < max_steps:
        values = [
            r.best_until(step, direction)
            for r in known
            if r.outcome.feasible and r.curve and (r.steps >= step or r.steps_to_target is not None)
        ]
        if len(values) >= stopping.eta:
            share = 1 / stopping.eta if direction is Direction.MINIMIZE else 1 - 1 / stopping.eta
            rungs.append(Rung(step, float(np.quantile(values, share))))
        step = at_or_after(stopping.eta * step, spec.resolution, coarse=True)
    return max_steps, tuple(rungs)


def _point(spec: Experiment, space: SearchSpace, known: Kept, batch_size: int, number: int, budget_steps: int) -> Point:
    rng = np.random.default_rng([spec.seed, batch_size, number])
    if spec.search.protocol == "random":
        return space.sample(rng)
    axes, start = list(space.axes), spec.search.start
    if not axes:
        return space.from_unit({})
    if spec.search.protocol == "sobol" or number < start or not known:
        sequence = qmc.Sobol(len(axes), scramble=True, rng=np.random.default_rng(spec.seed))
        if number:
            sequence.fast_forward(number)
        return space.from_unit(dict(zip(axes, sequence.random(1)[0].tolist(), strict=True)))
    best = min(known, key=lambda r: merit(r, spec.target))
    coupled = couples(space, spec.optimizer)
    if best.steps_to_target is not None and number % 2:
        progress = min(1.0, (number - start) / max(1, spec.search.trials - start))
        incumbent = Incumbent(space.clip(best.point), best.steps_to_target, budget_steps)
        return local_point(space, incumbent, coupled, progress, rng)
    study = optuna.create_study(sampler=tpe._sampler(int(rng.integers(2**31))))
    for r in known:
        if space.contains(r.point):
            params, boxes = tpe._coordinates(space, r.point, coupled), tpe._distributions(space, r.point, coupled)
            value = response(r, spec.target)
            study.add_trial(optuna.trial.create_trial(params=params, distributions=boxes, value=value))
    for _ in range(8):
        point = tpe._ask(space, study.ask(), coupled)
        if space.contains(point):
            return point
    return space.clip(point)


def _confirm(
    spec: Experiment, batch_size: int, round_number: int, search: Kept, taken: Collection[str]
) -> Proposal | None:
    winners: list[TrialRecord] = []
    for r in sorted(search, key=lambda r: merit(r, spec.target)):
        different = all(r.point != winner.point for winner in winners)
        if r.steps_to_target is not None and different and len(winners) < spec.confirm.points:
            winners.append(r)
    budget_steps, seeds = spec.budget.max_steps(batch_size), spec.confirm.seeds
    for number in range(len(winners) * seeds):
        winner, name = winners[number // seeds], trial_name(batch_size, Stage.CONFIRM, number)
        if name not in taken:
            return Proposal(
                trial_id=name,
                batch_size=batch_size,
                stage=Stage.CONFIRM,
                number=number,
                round=round_number,
                repeats=winner.trial_id,
                seed=trial_seed(spec.seed, Stage.CONFIRM, number % seeds),
                point=winner.point,
                budget_steps=budget_steps,
                max_steps=max(budget_steps, int(np.ceil(spec.confirm.horizon * (winner.steps_to_target or 0)))),
                stop_at_target=not spec.confirm.beyond_target,
            )
    return None
