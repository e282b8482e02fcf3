"""A search that the user names: it is asked and told as if there were one worker, whatever was killed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from bcrit.search_spaces.outcome import Stage
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.check import check_experiment
from bcrit.tuner.protocol.proposal import TrialRecord
from bcrit.tuner.protocol.protocol import protocol_of
from bcrit.tuner.workloads import places
from tests.scripted import ExactHyperbola
from tests.simulate import scripted, simulate

WORKLOAD = ExactHyperbola(s_min=50, b_crit=64)
SEARCHES = [
    "optuna.samplers:GPSampler",
    "optuna.samplers:CmaEsSampler",
    "optuna.samplers:TPESampler",
    "ray.tune.search.optuna:OptunaSearch",
]
SPACE = {
    "lr": "log from 0.001 to 10",
    "momentum": "reverse_log from 0 to 0.99",
    "schedule": "choice of constant, cosine",
}
MINE = """
import optuna, random

def careless(seed):
    return optuna.samplers.RandomSampler()

def unusable(seed):
    return []

def like_optunas(seed):
    return optuna.samplers.TPESampler(seed=seed)

class Waiting:
    def __init__(self, seed): pass
    def set_search_properties(self, metric, mode, config): return True
    def suggest(self, trial_id): return None

class Unwilling:
    def __init__(self, seed): self.random = random.Random(seed)
    def set_search_properties(self, metric, mode, config): self.axes = list(config); return True
    def suggest(self, trial_id): return {axis: self.random.random() for axis in self.axes}
    def on_trial_complete(self, trial_id, result): pass
    def add_evaluated_point(self, values, value): raise NotImplementedError
"""


def points(records: dict[int, list[TrialRecord]]) -> dict[str, Any]:
    return {r.trial_id: (r.point, r.steps_to_target) for of in records.values() for r in of}


@pytest.mark.parametrize("protocol", SEARCHES)
def test_its_proposals_depend_on_the_ledger_alone(protocol: str) -> None:
    search = {"protocol": protocol, "trials": 12, "parallel_per_study": 3}
    spec = scripted(search=search, batch_sizes=[8], space=SPACE, boundary={"max_rounds": 1})
    alone = simulate(spec, WORKLOAD)
    assert points(simulate(spec, WORKLOAD, workers=5, disorder=2)) == points(alone)
    for kept in (5, 9):  # of each study: the session was killed then, and another goes on from its ledger
        before = {size: records[:kept] for size, records in alone.items()}
        found = protocol_of(spec).next_trial(before, ())
        assert found is not None and found.point == points(alone)[found.trial_id][0]
    searched = [r for r in alone[8] if r.stage is Stage.SEARCH]
    assert len({str(r.point) for r in searched}) == len(searched)


def test_it_learns() -> None:
    """A search by a model comes nearer than the same trials at random."""
    best = {}
    for protocol in ("optuna.samplers:GPSampler", "optuna.samplers:RandomSampler"):
        search = {"protocol": protocol, "trials": 20, "parallel_per_study": 1, "stopping": "none"}
        found = simulate(scripted(search=search, batch_sizes=[8, 64, 512], boundary={"max_rounds": 0}), WORKLOAD)
        reached = ([r.steps_to_target for r in of if r.steps_to_target is not None] for of in found.values())
        best[protocol] = [min(steps) for steps in reached]
    learned, drawn = best.values()
    assert all(one <= other for one, other in zip(learned, drawn, strict=True)) and sum(learned) < 0.95 * sum(drawn)


def test_a_search_of_ones_own_is_used_as_it_is_and_must_be_deterministic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_searches.py").write_text(MINE)
    monkeypatch.setattr(places, "_folders", set())
    monkeypatch.setattr(
        places, "_trusted", places._trusted - {places.EVERYTHING}
    )  # a worker in this process trusts all
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def checked(name: str, **more: Any) -> Any:
        given = {"workload": "noisy_quadratic", "batch_sizes": [8, 64], "target": "risk < 0.1", "budget": {"steps": 99}}
        given["space"] = {"lr": "log from 0.1 to 1", "momentum": "reverse_log from 0 to 0.9"}
        return check_experiment({**given, "search": {"protocol": name}, **more}, "mine.yaml")

    ours = points(simulate(scripted(search={"protocol": "mine_searches:like_optunas", "trials": 8}), WORKLOAD))
    theirs = points(simulate(scripted(search={"protocol": "optuna.samplers:TPESampler", "trials": 8}), WORKLOAD))
    assert ours == theirs
    assert checked("mine_searches:like_optunas").search.protocol == "mine_searches:like_optunas"
    assert checked("mine_searches:Unwilling", boundary={"max_rounds": 0})
    for name, why in {
        "mine_searches:careless": "with the same seed suggest different points; let it use its `seed`",
        "mine_searches:unusable": "makes neither an optuna.samplers.BaseSampler nor a ray.tune.search.Searcher",
        "mine_searches:Waiting": "for trial 0 it suggests None; it may not wait or end, and must give lr, momentum",
        "mine_searches:like_optuna": "did you mean 'like_optunas'",
        "optuna.samplers:GridSampler": "TypeError: ",
        "subprocess:Popen": "name the module with --trust subprocess",
        "mine_searches:Unwilling": r"give boundary: \{max_rounds: 0\}",
    }.items():
        with pytest.raises(InputError, match=why) as refused:
            checked(name)
        assert len(refused.value.problems) == 1 and "'search.protocol'" in str(refused.value)


def test_a_ledger_that_another_search_made_is_refused() -> None:
    made = simulate(scripted(search={"protocol": "random", "trials": 8, "parallel_per_study": 2}), WORKLOAD)
    begun = {size: records[:5] for size, records in made.items()}
    other = scripted(search={"protocol": "optuna.samplers:TPESampler", "trials": 8, "parallel_per_study": 2})
    with pytest.raises(InputError, match=r"was trained at .* now suggests .* deterministic under its `seed`"):
        protocol_of(other).next_trial(begun, ())
