"""Whether a trial or a node is at fault when something goes wrong: judged by what happens where, without Ray."""

import subprocess
import sys
from collections.abc import Sequence
from functools import partial

import pytest

from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.resources import Resources
from bcrit.tuner.cluster import ClusterError, Room, _check_room, _cpus, _fit, _spread, rooms
from bcrit.tuner.nodes import Nodes
from bcrit.tuner.scheduler import place


class Cluster:
    """Nodes that are there, and what is noted of them."""

    def __init__(self, *names: str, come_up: bool = True) -> None:
        self.there = {name: Room(name.upper(), 2) for name in names}
        self.notes: list[str] = []
        self.nodes = Nodes(lambda: self.there, self.notes.append)
        for name in names if come_up else ():
            self.nodes.came_up(name, name.upper(), None)

    def fails_at(self, name: str, trial: str = "t", workers: Sequence[str] | None = None) -> bool:
        return self.nodes.failed(trial, name, "no disk", list(self.there) if workers is None else workers)


ASIDE = "A (node a) is not used any more: trials fail there that train elsewhere: no disk"


def test_a_trial_that_fails_on_two_nodes_failed_by_itself() -> None:
    cluster = Cluster("a", "b")
    assert not cluster.fails_at("a")
    assert cluster.nodes.barred("a", ["a", "b"]) == {"t"} and not cluster.nodes.barred("b", ["a", "b"])
    assert cluster.fails_at("b")
    cluster.nodes.recorded("t")
    assert not cluster.nodes.barred("a", ["a", "b"]) and not cluster.nodes.set_aside and not cluster.notes


def test_where_a_trial_trains_elsewhere_the_first_node_was_at_fault_if_nothing_ever_trained_there() -> None:
    cluster = Cluster("a", "b")
    cluster.fails_at("a")
    assert cluster.nodes.suspect("a")
    assert cluster.nodes.trains("t", "b")
    assert cluster.nodes.set_aside == ["a"] and not cluster.nodes.used("a") and cluster.notes == [ASIDE]
    assert not cluster.nodes.trains("t", "b")  # nothing is left to find out


def test_a_node_that_trains_is_set_aside_at_the_second_failure_in_a_row() -> None:
    cluster = Cluster("a", "b")
    cluster.nodes.trains("0", "a")
    for trial in "123":
        assert not cluster.nodes.set_aside
        cluster.fails_at("a", trial)
        cluster.nodes.trains(trial, "b")
        if trial == "1":
            cluster.nodes.trains("in between", "a")
    assert cluster.nodes.set_aside == ["a"] and cluster.notes == [ASIDE]


def test_a_node_is_named_once_though_several_trials_had_failed_there() -> None:
    cluster = Cluster("a", "b")
    for trial in "tuv":
        cluster.fails_at("a", trial)
    for trial in "tuv":
        cluster.nodes.trains(trial, "b")
    cluster.nodes.came_up("a", "A", "FileNotFoundError: data")
    assert cluster.notes == [ASIDE]


def test_a_lone_node_is_nobodys_judge_and_a_trial_that_fails_there_failed() -> None:
    assert Cluster("a").fails_at("a", workers=["a", "a"])
    assert Cluster("a", "b").fails_at("a", workers=["a"])  # no worker has been asked for elsewhere
    gone = Cluster("a", "b")
    del gone.there["b"]
    assert gone.fails_at("a", workers=["a", "b"])
    aside = Cluster("a", "b")
    aside.nodes.came_up("b", "B", "ImportError: mine")
    assert aside.fails_at("a", workers=["a", "b", ""])


def test_a_trial_waits_for_workers_that_are_starting_as_long_as_one_is_patient() -> None:
    cluster = Cluster("a", "b")
    assert not cluster.fails_at("a", workers=["a", ""])
    assert cluster.nodes.barred("a", ["a", ""]) == {"t"}
    assert not cluster.nodes.barred("a", ["a", ""], patient=False)
    assert cluster.nodes.barred("a", ["a", "b"], patient=False) == {"t"}
    assert cluster.fails_at("a", workers=["a", ""])  # nobody else could take it
    assert not cluster.nodes.barred("a", ["a", "b"])


def test_the_run_ends_where_no_node_is_left_and_says_of_each_why() -> None:
    cluster = Cluster("a", "b", come_up=False)
    cluster.nodes.came_up("a", "A", "ImportError: mine")
    why = "the workload cannot be loaded there: ImportError: mine"
    with pytest.raises(ClusterError, match=f"^no node can run the experiment: A: {why}; B: {why}$"):
        cluster.nodes.came_up("b", "B", "ImportError: mine")
    assert [note[0] for note in cluster.notes] == ["A", "B"]


@pytest.mark.parametrize(
    ("where", "given_up"),
    [("aa", False), ("aaa", True), ("ab", True), ("xxxx", False), ("xxaxa", False), ("xab", True), ("xaxaa", True)],
)
def test_deaths_count_on_nodes_that_are_still_there_three_on_one_or_one_on_two(where: str, given_up: bool) -> None:
    cluster = Cluster("a", "b", "x")
    del cluster.there["x"]
    verdicts = [cluster.nodes.died("t", name) for name in where]
    assert verdicts == [False] * (len(where) - 1) + [given_up]
    cluster.nodes.died("t", "a")
    cluster.nodes.recorded("t")
    assert not cluster.nodes.died("t", "b")


def test_the_death_of_a_node_that_a_trial_was_on_too_does_not_count_where_its_worker_was() -> None:
    cluster = Cluster("a", "b", "c")
    assert [cluster.nodes.died("t", "a", [other]) for other in "bb"] == [False, False]
    del cluster.there["b"]  # which is known only now
    assert [cluster.nodes.died("t", "a", [other]) for other in "bcc"] == [False, False, False]
    assert cluster.nodes.died("t", "a", ["c"])


def test_nodes_without_a_ready_worker_are_at_fault_where_three_more_workers_die_than_are_starting() -> None:
    cluster = Cluster("a", "b", "c", come_up=False)
    cluster.nodes.came_up("a", "A", None)
    assert [cluster.nodes.stillborn(["a", "", ""]) for _ in range(5)] == [False] * 4 + [True]
    cluster.nodes.none_start("no torch", ["a", "", ""])
    assert cluster.nodes.set_aside == ["b", "c"]
    assert cluster.notes[0] == "B (node b) is not used any more: workers cannot be started there: no torch"
    assert not cluster.nodes.stillborn([])  # they are counted anew
    cluster.nodes.came_up("a", "A", None)
    assert [cluster.nodes.stillborn([]) for _ in range(3)] == [False, False, True]


def test_where_no_worker_is_ready_anywhere_the_run_ends() -> None:
    cluster = Cluster("a", "b", come_up=False)
    with pytest.raises(ClusterError, match="^workers cannot be started: no torch$"):
        cluster.nodes.none_start("no torch", ["", ""])


def test_a_ray_of_our_own_without_a_node_has_ended_and_a_cluster_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [{"NodeID": "a", "Alive": False}])
    assert rooms(Resources()) == {}
    with pytest.raises(ClusterError, match=r"Ray's process on this machine \(the raylet\) has ended"):
        Nodes(partial(rooms, Resources(), own=True), print).look()


def test_the_judge_needs_no_ray() -> None:
    subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['ray'] = None; import bcrit.tuner.nodes"], check=True
    )


def test_a_worker_is_placed_and_counted_where_its_kind_of_device_is() -> None:
    wanted = Resources(cpus=2, gpus=1, accelerator_type="H100")
    assert place(wanted, {}).required_resources == {"CPU": 2, "GPU": 1, "accelerator_type:H100": 0.001}
    node = {"CPU": 8.0, "GPU": 2.0}
    assert [_fit({**node, kind: 1.0}.get, wanted) for kind in ("accelerator_type:H100", "accelerator_type:L4")] == [
        2,
        0,
    ]
    assert _fit(node.get, Resources(cpus=2, gpus=1)) == 2
    wanted = Resources(cpus=2, custom={"TPU": 4, "licence": 0.5})
    assert place(wanted, {}).required_resources == {"CPU": 2, "TPU": 4, "licence": 0.5}
    assert [_fit({**node, "TPU": tpus, "licence": 1.0}.get, wanted) for tpus in (3.0, 4.0, 16.0)] == [0, 1, 2]


def test_a_trial_of_several_nodes_has_a_part_on_each() -> None:
    two = Resources(cpus=2, nodes=2)
    for config in ({}, {"avoid": ["a"]}):
        placed = place(two, config)
        assert placed.bundles == [{"CPU": 2}, {"CPU": 2}] and placed.strategy == "STRICT_SPREAD"
    rooms: list[list[int]] = [[2, 2], [3, 1], [4], [1, 1, 1], [2, 1, 1], []]
    assert [_spread(parts, 2) for parts in rooms] == [2, 1, 0, 1, 2, 0]
    assert [_spread(parts, 1) for parts in rooms] == [sum(parts) for parts in rooms]


def test_this_machine_has_room_for_every_kind_of_trial_or_is_refused_before_ray_starts() -> None:
    kinds = [Resources(cpus=1), Resources(cpus=4, processes=4)]
    assert [_cpus(workers, kinds) for workers in (1, 3, 6)] == [4, 4, 6]
    _check_room(1, kinds)
    with pytest.raises(InputError, match="a trial needs 8 cpus and 9999 gpus, but there are 8 cpus and"):
        _check_room(1, [*kinds, Resources(cpus=8, gpus=9999)])
    with pytest.raises(InputError, match="needs 1 cpus and 0 gpus and 4 TPU, but .*custom .* so give its --address"):
        _check_room(1, [Resources(custom={"TPU": 4})])
