"""Which machine is at fault, and which trial: decided by what happens where, without Ray.

What went wrong with a machine is no outcome of a trial. A trial whose worker died, or that failed before it trained, is
tried again elsewhere, and only the second node makes it a fact. A node where trials fail that train elsewhere, or where
the workload cannot be loaded, is set aside.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from bcrit.analysis.studies.driver import SetAside
from bcrit.tuner.cluster import ClusterError, Room

# A trial whose worker process died this often on one node, which is still there, is given up. Chosen, not studied.
_DEATHS = 3
# Workers that die before they report, with none in between that reports, until nodes are held to be at fault: this many
# more than there are workers that have yet to report. Chosen, not studied.
_STILLBORN = 3

Whereabouts = Collection[str]
"""The node of every worker that there is, by Ray's id; "" for one that is starting."""


@dataclass
class _Node:
    host: str  # its name
    trained: bool = False  # whether a trial has trained there
    # Trials that failed there before they trained, and of which nothing is known from elsewhere yet.
    failed: set[str] = field(default_factory=set)
    strikes: int = 0  # trials that failed there and trained elsewhere, since a trial last trained there
    problem: str | None = None  # why it was set aside; None while it is used


class Nodes:
    """The nodes where workers have been, by Ray's id, and what is held against each."""

    def __init__(self, there: Callable[[], Mapping[str, Room]], note: Callable[[str], None]) -> None:
        self._there, self._note = there, note  # gives the nodes that are there now and have room; tells the user
        self._nodes: dict[str, _Node] = {}
        self._stillborn = 0
        self._failures: dict[str, dict[str, str | None]] = defaultdict(dict)  # why a trial did not train, by node
        # where a trial's worker died: its node, and the others that the trial was on
        self._deaths: dict[str, list[tuple[str, Collection[str]]]] = defaultdict(list)
        self._resumed: dict[str, int] = {}  # the step from which a trial went on

    @property
    def set_aside(self) -> list[str]:
        """Those that are not used."""
        return [name for name, node in self._nodes.items() if node.problem is not None]

    @property
    def not_used(self) -> tuple[SetAside, ...]:
        """The same by their names for people, and why; may be asked by another thread."""
        return tuple(SetAside(of.host, of.problem) for of in list(self._nodes.values()) if of.problem is not None)

    def look(self) -> None:
        """Raise a ClusterError where Ray itself has ended."""
        self._there()

    def host(self, name: str) -> str:
        """A node's name for people."""
        return self._nodes[name].host

    def used(self, name: str) -> bool:
        """Whether it was not set aside."""
        return self._nodes[name].problem is None

    def suspect(self, name: str) -> bool:
        """Whether nothing ever trained there."""
        return not self._nodes[name].trained

    def barred(self, name: str, workers: Whereabouts, patient: bool = True) -> Collection[str]:
        """The trials that a node may not have: it failed them, and another node is to say whose fault that was.

        While one is `patient`, workers that are starting count as that other node's.
        """
        failed = self._nodes[name].failed
        return failed if failed and self._others(name, workers, ready=not patient) else ()

    # What happens

    def came_up(self, name: str, host: str, problem: str | None) -> None:
        """A worker is ready there, unless the workload cannot be loaded."""
        self._stillborn = 0
        self._nodes.setdefault(name, _Node(host))
        if problem is not None:
            self._put_aside(name, f"the workload cannot be loaded there: {problem}")

    def trains(self, trial_id: str, name: str) -> bool:
        """A trial trains there; whether it had failed elsewhere before it trained, which was the other node's fault."""
        self._nodes[name].trained, self._nodes[name].strikes = True, 0
        failures = self._failures.pop(trial_id, {})
        for other, why in failures.items():
            node = self._nodes[other]
            node.failed.discard(trial_id)
            node.strikes += 1
            if not node.trained or node.strikes > 1:
                self._put_aside(other, f"trials fail there that train elsewhere: {why}")
        return bool(failures)

    def failed(self, trial_id: str, name: str, why: str | None, workers: Whereabouts) -> bool:
        """A trial failed there before it trained; whether by itself: on two nodes, or where there is only one."""
        before = self._failures[trial_id]
        again = name in before  # as nobody else could take it
        before[name] = why
        if again or len(before) > 1 or not self._others(name, workers):
            for node in before:
                self._nodes[node].failed.discard(trial_id)
            return True
        self._nodes[name].failed.add(trial_id)
        return False

    def died(self, trial_id: str, name: str, beside: Collection[str] = ()) -> bool:
        """A worker died with a trial; whether it is the trial's doing.

        Where its node died too that says nothing, and neither where one did that the trial was on `beside` it.
        """
        self._deaths[trial_id].append((name, beside))
        alive = self._there().keys()
        counts = Counter(node for node, others in self._deaths[trial_id] if {node, *others} <= alive)
        return len(counts) > 1 or max(counts.values(), default=0) >= _DEATHS

    def went_on(self, trial_id: str, step: int) -> None:
        """A trial went on from a checkpoint; where that was a later one, it came forward in spite of the deaths."""
        if step > self._resumed.get(trial_id, 0):
            self._resumed[trial_id] = step
            self._deaths.pop(trial_id, None)

    def recorded(self, trial_id: str) -> None:
        """A trial has its outcome: nothing more is to be found out from it."""
        self._resumed.pop(trial_id, None)
        self._failures.pop(trial_id, None)
        self._deaths.pop(trial_id, None)

    def stillborn(self, workers: Whereabouts) -> bool:
        """A worker died before it reported; whether nodes are held to be at fault by now."""
        self._stillborn += 1
        return self._stillborn >= _STILLBORN + sum(not name for name in workers)

    def none_start(self, reason: str, workers: Whereabouts) -> None:
        """Workers do not start. On which node, Ray does not say; it is none of those where one is ready.

        That there is no such node is a ClusterError.
        """
        ready = {*workers} - {""}
        if not ready:
            raise ClusterError(f"workers cannot be started: {reason}")
        self._stillborn = 0
        for name, room in self._there().items():
            if name not in ready and self._nodes.setdefault(name, _Node(room.host)).problem is None:
                self._put_aside(name, f"workers cannot be started there: {reason}")

    def _put_aside(self, name: str, problem: str) -> None:
        if self._nodes[name].problem is not None:
            return  # several trials had failed there: it is said once
        self._nodes[name].problem = problem
        self._note(f"{self.host(name)} (node {name[:8]}) is not used any more: {problem}")
        if set(self._there()) <= set(self.set_aside):
            reasons = "; ".join(f"{self.host(other)}: {self._nodes[other].problem}" for other in self.set_aside)
            raise ClusterError(f"no node can run the experiment: {reasons}")

    def _others(self, name: str, workers: Whereabouts, ready: bool = False) -> bool:
        """Whether another node than this is used, or may be soon: unless `ready`, workers that are starting count."""
        there = set(self._there()) - {name, *self.set_aside}
        return not there.isdisjoint(workers) or (bool(there) and "" in workers and not ready)
