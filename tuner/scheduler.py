"""Where Ray Tune meets the protocol: Tune runs workers, the protocol says what to try, the ledger remembers.

A worker is a trial of Tune's that lasts as long as the run. It brings rows and is handed the experiment's next trial in
the same exchange, so that a trial costs the driver a few milliseconds and no actor, directory or state of Tune's. Tune
keeps what it is good at: asking for resources (and with them for nodes of a cluster that grows), starting workers where
there is room, noticing their deaths, carrying results, stopping everything.

What went wrong with a machine is no outcome of a trial. A trial whose worker died, or that failed before it trained, is
tried again elsewhere, and only the second node makes it a fact. A node where trials fail that train elsewhere, or where
the workload cannot be loaded, is set aside.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from bcrit.search_spaces.options import Resources
from bcrit.search_spaces.outcome import Outcome
from bcrit.tuner.cluster import ClusterError, Room
from bcrit.tuner.dispatch import Dispatcher, Row
from bcrit.tuner.ledger import Ledger, trial_row
from bcrit.tuner.protocol.proposal import Proposal
from bcrit.tuner.protocol.protocol import PerStudyProtocol
from bcrit.tuner.trainable import to_text
from bcrit.tuner.training.trial import Ending

# A trial whose worker process died this often on one node, which is still there, is given up. Chosen, not studied.
_DEATHS = 3
# Workers that die before they report, with none in between that reports, until nodes are held to be at fault: this many
# more than there are workers that have yet to report. Chosen, not studied.
_STILLBORN = 3
# How long nothing may run while a trial that failed on one node waits for workers of another to start. Chosen: a worker
# starts in 5 to 30 s.
_PATIENCE = 60.0
# Reports of one worker stand at least this far apart, and those of all workers together too: a report costs the driver
# about a millisecond, so that they take at most a tenth of its time, but a trial that ends is reported at once.
_REPORT_SECONDS = 0.2
_ALL_REPORT_SECONDS = 0.01


@dataclass
class Node:
    """What is known of a node where a worker has been.

    Attributes:
        host: its name.
        trained: whether a trial has trained there.
        failed: trials that failed there before they trained, and of which nothing is known from elsewhere yet.
        strikes: trials that failed there and trained elsewhere, since a trial last trained there.
        problem: why it was set aside; None while it is used.
    """

    host: str
    trained: bool = False
    failed: set[str] = field(default_factory=set)
    strikes: int = 0
    problem: str | None = None


@dataclass
class _Worker:
    trial: Trial  # Tune's
    node: str = ""
    proposal: Proposal | None = None
    trained: bool = False  # whether the proposal's training has begun to make steps


class WorkerScheduler(FIFOScheduler):
    """Tune's scheduler: hands trials to workers and records what they bring; all knowledge is in the ledger.

    Attributes:
        ledger: what has been recorded.
        nodes: the nodes where workers have been, by Ray's id.
        notes: what the user should know, in order.
        retried: how often a trial was begun again, because its worker died or it failed before it trained.
        stopping: set to end the run; the trials in flight are stopped and leave no row.
        error: what ended the run before it was complete. Tune passes over what is raised here.
    """

    def __init__(
        self,
        protocol: PerStudyProtocol,
        ledger: Ledger,
        nodes: Callable[[], Mapping[str, Room]],
        notice: Callable[[WorkerScheduler], None],
    ) -> None:
        """Join protocol and ledger.

        Args:
            protocol: what to try next.
            ledger: what has been recorded.
            nodes: gives the nodes that are there now and have room for a worker, by Ray's id.
            notice: called after every change.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger, self._there, self._notice = ledger, nodes, notice
        self._dispatcher = Dispatcher(protocol, ledger.records, protocol.experiment.target, self._record)
        self._places: dict[str, str] = {}  # the node where a trial ran that is not recorded yet
        self.nodes: dict[str, Node] = {}
        self.notes: list[str] = []
        self.retried = 0
        self.stopping = False
        self.error: Exception | None = None
        self._workers: dict[str, _Worker] = {}
        self._changed = False  # since trials were handed out the last time
        self._stood = time.monotonic()  # since when nothing runs
        self._stillborn = 0
        self._failures: dict[str, dict[str, Ending]] = defaultdict(dict)  # of trials that did not train, by node
        self._deaths: dict[str, list[str]] = defaultdict(list)  # nodes on which a trial's worker died

    @property
    def running(self) -> list[Proposal]:
        """The trials that workers are at."""
        return self._dispatcher.running

    @property
    def set_aside(self) -> list[str]:
        """Ids of the nodes that are not used."""
        return [name for name, node in self.nodes.items() if node.problem is not None]

    @property
    def n_workers(self) -> int:
        """Workers that are ready."""
        return sum(worker.node != "" for worker in self._workers.values())

    # What Tune calls

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A worker was asked for."""
        self._workers[trial.trial_id] = _Worker(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """A worker is ready, or brings rows: record them and say how it goes on."""
        worker = self._workers[trial.trial_id]
        with self._recording():
            if "node" in result:
                self._came_up(worker, result)
            elif worker.proposal is not None:
                self._brought(worker, result["rows"], result["ending"])
                result["rows"] = result["ending"] = None  # Tune keeps the last result of every trial
            goes_on = worker.proposal is not None
            if self._changed:
                self._changed = False
                self._hand_out(tune_controller)
            self._notice(self)
            if self.nodes[worker.node].problem is not None:
                return TrialScheduler.STOP
            if goes_on:
                return TrialScheduler.CONTINUE
        return TrialScheduler.NOOP  # it was told to train just now, or waits until there is something for it

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A worker died, or could not be started."""
        worker = self._workers.pop(trial.trial_id, None)
        if worker is None:
            return
        with self._recording():
            if worker.proposal is not None:
                self._died(worker, worker.proposal)
            elif not worker.node:
                self._stillborn += 1
                if self._stillborn >= _STILLBORN + len(self._workers) - self.n_workers:
                    self._none_start(_last_words(trial))
            self._hand_out(tune_controller)
            self._notice(self)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A worker was stopped, as its node was set aside."""
        self._lose(self._workers.pop(trial.trial_id))
        self._hand_out(tune_controller)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """A worker that had not started is not wanted any more."""
        self._workers.pop(trial.trial_id, None)

    # What workers bring

    def _came_up(self, worker: _Worker, result: Mapping[str, Any]) -> None:
        worker.node, self._stillborn, self._changed = str(result["node"]), 0, True
        self.nodes.setdefault(worker.node, Node(str(result["host"])))
        if result["problem"] is not None:
            self._put_aside(worker.node, f"the workload cannot be loaded there: {result['problem']}")

    def _brought(self, worker: _Worker, rows: list[dict[str, Any]], ending: Ending | None) -> None:
        proposal, node = worker.proposal, self.nodes[worker.node]
        assert proposal is not None
        if not worker.trained and any(row["step"] > 0 for row in rows):
            worker.trained = node.trained = True
            node.strikes = 0
            self._acquit(proposal.trial_id)
        if ending is None:
            self._dispatcher.reported(proposal.trial_id, rows)
            return
        if ending.outcome is Outcome.FAILED and ending.steps == 0 and not self._settled(worker, proposal, ending):
            self._lose(worker)
            return
        self._set_free(worker)
        self._dispatcher.ended(proposal.trial_id, rows, ending)
        for trial_id, max_steps in self._dispatcher.falls().items():
            for other in self._workers.values():
                if other.proposal is not None and other.proposal.trial_id == trial_id:
                    _actor(other).lower.remote(trial_id, max_steps)

    def _record(self, proposal: Proposal, rows: Sequence[Row], ending: Ending | None) -> None:
        """Write down what the dispatcher lets go."""
        self.ledger.measured(rows)
        if ending is not None:
            place = self._places.pop(proposal.trial_id)
            self.ledger.finished(trial_row(proposal, ending, host=self.nodes[place].host, node=place))
            self._failures.pop(proposal.trial_id, None)
            self._deaths.pop(proposal.trial_id, None)

    def _set_free(self, worker: _Worker) -> None:
        worker.proposal, worker.trained, self._changed = None, False, True

    def _lose(self, worker: _Worker) -> None:
        """Nothing is to be recorded of what a worker was at; the protocol proposes it again."""
        if worker.proposal is not None:
            self._dispatcher.lost(worker.proposal.trial_id)
            del self._places[worker.proposal.trial_id]
            self._set_free(worker)
            self.retried += 1

    # Whose fault it was

    def _settled(self, worker: _Worker, proposal: Proposal, ending: Ending) -> bool:
        """Whether a trial that failed before it trained failed by itself: on two nodes, or where there is only one."""
        before = self._failures[proposal.trial_id]
        again = worker.node in before  # as nobody else could take it
        before[worker.node] = ending
        if again or len(before) > 1 or not self._others(worker.node):
            for node in before:
                self.nodes[node].failed.discard(proposal.trial_id)
            return True
        self.nodes[worker.node].failed.add(proposal.trial_id)
        return False

    def _acquit(self, trial_id: str) -> None:
        """A trial trains that had failed elsewhere before it trained: that was the other node's fault."""
        for name, ending in self._failures.pop(trial_id, {}).items():
            node, self._changed = self.nodes[name], True
            node.failed.discard(trial_id)
            node.strikes += 1
            if not node.trained or node.strikes > 1:
                self._put_aside(name, f"trials fail there that train elsewhere: {ending.message}")

    def _put_aside(self, name: str, problem: str) -> None:
        if self.nodes[name].problem is not None:
            return  # several trials had failed there: it is said once
        self.nodes[name].problem = problem
        self.notes.append(f"{self.nodes[name].host} (node {name[:8]}) is not used any more: {problem}")
        if set(self._there()) <= set(self.set_aside):
            reasons = "; ".join(f"{self.nodes[other].host}: {self.nodes[other].problem}" for other in self.set_aside)
            raise ClusterError(f"no node can run the experiment: {reasons}")

    def _none_start(self, reason: str) -> None:
        """Workers do not start. On which node, Ray does not say; it is none of those where one is ready.

        Raises:
            ClusterError: there is no such node.
        """
        ready = {worker.node for worker in self._workers.values()} - {""}
        if not ready:
            raise ClusterError(f"workers cannot be started: {reason}")
        self._stillborn = 0
        for name, room in self._there().items():
            if name not in ready and self.nodes.setdefault(name, Node(room.host)).problem is None:
                self._put_aside(name, f"workers cannot be started there: {reason}")

    def _others(self, name: str, ready: bool = False) -> bool:
        """Whether another node than this is used, or may be soon: unless `ready`, workers that are starting count."""
        workers = {worker.node for worker in self._workers.values()}
        there = set(self._there()) - {name, *self.set_aside}
        return bool(there & workers) or (bool(there) and "" in workers and not ready)

    def _died(self, worker: _Worker, proposal: Proposal) -> None:
        """A worker died with a trial. Where its node died too that says nothing; else it may be the trial's doing."""
        deaths = self._deaths[proposal.trial_id]
        deaths.append(worker.node)
        alive = self._there()
        counts = Counter(node for node in deaths if node in alive)
        if len(counts) < 2 and max(counts.values(), default=0) < _DEATHS:
            self._lose(worker)
            return
        now = time.time()
        message = "the worker process died, also when the trial was tried again"
        steps = self.ledger.last_step(proposal.trial_id)
        self._set_free(worker)
        self._dispatcher.ended(
            proposal.trial_id, [], Ending(Outcome.FAILED, message, steps, None, None, 0.0, 0.0, now, now)
        )

    # What is handed out

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Tune's choice, as it asks all the time; nothing may run any more because one node is to judge another."""
        if not self.running and time.monotonic() - self._stood > _PATIENCE:
            with self._recording():
                self._hand_out(tune_controller, patient=False)
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen

    def _hand_out(self, controller: Any, patient: bool = True) -> None:
        """Give every waiting worker a trial, as long as there are trials; end the run where nothing is left.

        Args:
            controller: Tune's.
            patient: whether a trial that failed on a node waits for workers of another that are starting.
        """
        waiting = [
            w for w in self._workers.values() if w.node and w.proposal is None and not self.nodes[w.node].problem
        ]
        for suspects in (False, True):  # a node under suspicion works only where nobody else does
            if suspects and self.running:
                break
            for worker in waiting:
                barred = self._barred(worker.node, patient)
                if self.stopping or worker.proposal is not None or (barred and not suspects and self._suspect(worker)):
                    continue
                proposal = self._dispatcher.take(barred)
                if proposal is not None:
                    self._give(controller, worker, proposal)
                elif not barred:
                    break
        if not self.running:
            self._stood = time.monotonic()
            self.stopping = self.stopping or self._dispatcher.complete

    def _give(self, controller: Any, worker: _Worker, proposal: Proposal) -> None:
        worker.proposal, self._places[proposal.trial_id] = proposal, worker.node
        seconds = max(_REPORT_SECONDS, _ALL_REPORT_SECONDS * len(self._workers))
        # As Tune calls `train`, but with what is to be trained: handing a trial over takes no call of its own.
        controller._schedule_trial_task(
            trial=worker.trial,
            method_name="begin",
            args=(to_text(proposal), seconds),
            on_result=controller._on_training_result,
            on_error=controller._trial_task_failure,
        )

    def _barred(self, name: str, patient: bool) -> Collection[str]:
        """The trials that a node may not have: it failed them, and another node is to say whose fault that was."""
        failed = self.nodes[name].failed
        return failed if failed and self._others(name, ready=not patient) else ()

    def _suspect(self, worker: _Worker) -> bool:
        """Whether nothing ever trained on a worker's node."""
        return not self.nodes[worker.node].trained

    @contextmanager
    def _recording(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # raised again when Tune has ended: see `error`
            self.error, self.stopping = self.error or error, True

    def __getstate__(self) -> dict[str, Any]:
        """Tune may pickle its scheduler; ours is rebuilt from the ledger, so there is nothing to keep."""
        return {}


def _actor(worker: _Worker) -> Any:
    """Ray's handle of a worker, whose methods are called in the order of the calls."""
    return worker.trial.temporary_state.ray_actor


def _last_words(trial: Trial) -> str:
    """What a worker's error came to, in one line."""
    told = "" if trial.error_file is None else Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    return next((line.strip() for line in reversed(told.splitlines()) if line.strip()), "Ray does not say why")


class Workers(Searcher):
    """Tune's search algorithm: asks for workers, as many as are wanted."""

    def __init__(self, scheduler: WorkerScheduler, wanted: Callable[[], int]) -> None:
        """Watch how many there are.

        Args:
            scheduler: who employs them.
            wanted: how many there should be.
        """
        super().__init__()
        self._scheduler, self._wanted = scheduler, wanted
        self._living: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """Ask for one more worker, `None` for "not now", or `FINISHED`."""
        if self._scheduler.stopping:
            return str(Searcher.FINISHED)
        if len(self._living) >= self._wanted():
            return None
        self._living.add(trial_id)
        return {"avoid": sorted(self._scheduler.set_aside)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A worker is gone."""
        self._living.discard(trial_id)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher; there is nothing to keep."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: resuming replays the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was saved."""


class StopWhenAsked(Stopper):
    """Stops all workers once the scheduler was told to, or has nothing left."""

    def __init__(self, scheduler: WorkerScheduler) -> None:
        """Watch a scheduler.

        Args:
            scheduler: whose `stopping` is watched.
        """
        self._scheduler = scheduler

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No worker is stopped for itself."""
        return False

    def stop_all(self) -> bool:
        """Whether the run was told to end."""
        return self._scheduler.stopping


def place(resources: Resources, config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Where a worker may run: on any node with room that was not set aside.

    Args:
        resources: what a trial occupies.
        config: what `Workers.suggest` said of the worker.

    Returns:
        Tune's request for resources.
    """
    bundle = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    avoid = config.get("avoid")
    selector: dict[str, Any] = (
        {"bundle_label_selector": [{"ray.io/node-id": f"!in({','.join(avoid)})"}]} if avoid else {}
    )
    return tune.PlacementGroupFactory([bundle], **selector)
