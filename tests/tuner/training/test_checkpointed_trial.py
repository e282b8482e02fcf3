"""A trial that goes on from a checkpoint: the measurements and the end of one that was never cut off."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, cast

import pytest

from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.checkpoints import packed_state, unpacked_state
from bcrit.tuner.training.reported import Report, Reported, Returned, RunState
from bcrit.tuner.training.settings import Run, Settings
from bcrit.tuner.training.trial import Ending, Keeping, Limits, Measurement, Preempted, Trial
from bcrit.tuner.workloads.noisy_quadratic import NoisyQuadratic
from tests.tuner.training.test_state import PROPOSAL

TARGET = Target(metric="risk", threshold=0.2, direction=Direction.MINIMIZE)
LIMITS = Limits(max_steps=300, capped=False, rungs=(), resolution=0.02, coarse=True)
CLOCKS = ("train_seconds", "evaluate_seconds", "probe_seconds", "checkpoint_seconds", "started_at", "ended_at")


def begin() -> Run:
    hyperparameters = {"lr": 0.1, "momentum": 0.5}
    return NoisyQuadratic(dimensions=50).begin(Settings(8, 0, "momentum", hyperparameters))


def outcome(ending: Ending | None) -> dict[str, Any]:
    assert ending is not None
    return {name: value for name, value in asdict(ending).items() if name not in CLOCKS}


def curve(made: list[Measurement]) -> list[tuple[int, Mapping[str, float], int | None]]:
    return [(m.step, m.metrics, m.examples) for m in made]


def whole(begin: Callable[[], Run | Reported] = begin, limits: Limits = LIMITS) -> tuple[list[Measurement], Ending]:
    trial = Trial(begin, TARGET, limits)
    made = trial.advance(60)
    assert trial.ending is not None
    return made, trial.ending


class Slow:
    """A run whose updates take a while by its own clock, so that they are asked for a few at a time."""

    def __init__(self) -> None:
        self.inner = cast(Any, begin())
        self.state, self.load, self.evaluate = self.inner.state, self.inner.load, self.inner.evaluate

    def train(self, steps: int) -> None:
        assert steps <= 20, "a checkpoint was due long before"
        self.inner.train(steps)


def test_it_goes_on_from_every_checkpoint_as_if_nothing_had_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, end = whole()
    clock = iter(range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) * 1e-6)
    kept: list[bytes] = []
    keeping = Keeping(2e-6, lambda state: kept.append(packed_state(state, PROPOSAL)))
    monkeypatch.setattr("time.monotonic", lambda: next(clock) * 1e-6)
    first = Trial(Slow, TARGET, LIMITS, keeping=keeping)
    made = [m for _ in range(3000) for m in first.advance(0)]
    assert curve(made) == curve(expected) and outcome(first.ending) == outcome(end)
    states = [unpacked_state(content, PROPOSAL) for content in kept]
    assert len(states) > len(expected) and any(state is not None and state["beyond"] for state in states)
    for state in states[::7]:
        assert state is not None
        second = Trial(Slow, TARGET, LIMITS, keeping=Keeping(1e9, lambda state: None), checkpoint=partial(dict, state))
        again = second.advance(0)
        assert curve(again[: len(state["made"])]) == curve(expected[: len(state["made"])])
        assert second.resumed_at == (again[-1].step if second.ending else state["made"][-1]["step"] + state["beyond"])
        while second.ending is None:
            again += second.advance(0)
        assert curve(again) == curve(expected) and outcome(second.ending) == outcome(end)


def checkpoint_at(step: int, begin: Callable[[], Run | Reported] = begin) -> RunState:
    """What is kept of a trial that is told to leave after its evaluation at a step."""
    kept: list[bytes] = []
    made: list[Measurement] = []
    leave = Keeping(1e9, lambda s: kept.append(packed_state(s, PROPOSAL)), lambda: trial._made[-1].step >= step)
    trial = Trial(begin, TARGET, LIMITS, keeping=leave)
    with pytest.raises(Preempted):
        while True:
            made += trial.advance(0)
    state = unpacked_state(kept[-1], PROPOSAL)
    assert state is not None and trial.ending is None
    return state


def test_limits_that_changed_meanwhile_are_those_of_now() -> None:
    state = checkpoint_at(60)
    horizon = [m["step"] for m in state["made"]][-3]
    for limits in (replace(LIMITS, max_steps=horizon, capped=True), replace(LIMITS, rungs=((horizon, 1e-9),))):
        expected, end = whole(limits=limits)
        trial = Trial(begin, TARGET, limits, checkpoint=lambda: state)
        made = trial.advance(0)
        assert end.outcome in (Outcome.CAPPED, Outcome.PRUNED)
        assert curve(made) == curve(expected) and outcome(trial.ending) == outcome(end)


def test_clocks_go_on() -> None:
    state = {**checkpoint_at(60), "train_seconds": 1000.0, "evaluate_seconds": 500.0, "started_at": 7.0}
    trial = Trial(begin, TARGET, LIMITS, checkpoint=lambda: state)
    trial.advance(60)
    assert trial.ending is not None and trial.ending.started_at == 7.0
    assert 1000 < trial.ending.train_seconds < 1010 and 500 < trial.ending.evaluate_seconds < 510


class Bare:
    """A run that cannot say what it would go on from."""

    def __init__(self) -> None:
        self.inner = begin()

    def train(self, steps: int) -> None:
        self.inner.train(steps)

    def evaluate(self) -> Mapping[str, float]:
        return self.inner.evaluate()


def test_a_run_that_cannot_be_kept_leaves_without_a_checkpoint_and_begins_anew() -> None:
    kept: list[RunState] = []
    trial = Trial(Bare, TARGET, LIMITS, keeping=Keeping(1e-9, kept.append, lambda: bool(trial._step)))
    with pytest.raises(Preempted):
        while True:
            trial.advance(0)
    assert kept == []
    again = Trial(Bare, TARGET, LIMITS, checkpoint=lambda: checkpoint_at(60))
    expected, end = whole()
    assert curve(again.advance(60)) == curve(expected) and outcome(again.ending) == outcome(end)


class Told:
    """Reports of something that leaves its last step to go on from."""

    def __init__(self) -> None:
        self.step, self.closed = 0, False

    def next(self, seconds: float) -> Report:
        if self.step > 200:
            raise Returned
        self.step += 10
        return Report(self.step, 8 * self.step, self.step / 10, 0.0, {"risk": 10 - self.step / 20})

    def state(self) -> RunState:
        return {"step": self.step}

    def load(self, state: RunState, last: Report) -> None:
        assert last.step == state["step"] and last.metrics == {"risk": 10 - last.step / 20}
        self.step = state["step"]

    def close(self) -> None:
        self.closed = True


def test_reports_go_on_too() -> None:
    def begin() -> Reported:
        return Reported(Told(), "risk", LIMITS.max_steps, LIMITS.at_horizon)

    expected, end = whole(begin)
    state = checkpoint_at(60, begin)
    trial = Trial(begin, TARGET, LIMITS, checkpoint=lambda: state)
    assert curve(trial.advance(60)) == curve(expected) and outcome(trial.ending) == outcome(end)
    assert end.outcome is Outcome.REACHED and end.steps == 200


def test_what_cannot_be_read_again_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"run.path holds a PosixPath, which no checkpoint can; keep numbers, words"):
        from pathlib import Path

        packed_state({"run": {"path": Path("/")}}, PROPOSAL)
