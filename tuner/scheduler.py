"""Where Ray Tune meets the protocol: Tune runs workers, the protocol says what to try, the ledger remembers.

A worker is a trial of Tune's that lasts as long as the run. It brings rows and is handed the experiment's next trial in
the same exchange, so that a trial costs the driver a few milliseconds and no actor, directory or state of Tune's. Tune
keeps what it is good at: asking for resources (and with them for nodes of a cluster that grows), starting workers where
there is room, noticing their deaths, carrying results, stopping everything.

Whether a machine is at fault or a trial when something goes wrong is for `bcrit.tuner.nodes` to say.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from bcrit.analysis.records.run_folder import checkpoint
from bcrit.analysis.studies.driver import Running
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.resources import Resources
from bcrit.search_spaces.target import Target
from bcrit.tuner.checkpoints import remove, unfinished
from bcrit.tuner.cluster import Room
from bcrit.tuner.dispatch import Dispatcher, Row
from bcrit.tuner.ledger import Ledger, trial_row
from bcrit.tuner.nodes import Nodes
from bcrit.tuner.protocol.proposal import Proposal, Proposals
from bcrit.tuner.training.trial import Ending

# How long nothing may run while a trial that failed on one node waits for workers of another to start. Chosen: a worker
# starts in 5 to 30 s.
_PATIENCE = 60.0
# Reports of one worker stand at least this far apart, and those of all workers together too: a report costs the driver
# about a millisecond, so that they take at most a tenth of its time, but a trial that ends is reported at once.
_REPORT_SECONDS = 0.2
_ALL_REPORT_SECONDS = 0.01


Follow = Callable[[Proposal, Sequence[Row], Mapping[str, Any] | None], None]
"""Told what was just recorded of a trial: measurements, and its row where it has ended."""


@dataclass
class _Worker:
    trial: Trial  # Tune's
    node: str = ""
    sees_folder: bool = False  # whether it reads and writes the run folder itself
    proposal: Proposal | None = None
    trained: bool = False  # whether the proposal's training has begun to make steps
    step: int = 0  # where it was evaluated last
    since: float = 0.0  # when it was handed over, in seconds since 1970


class WorkerScheduler(FIFOScheduler):
    """Tune's scheduler: hands trials to workers and records what they bring; all knowledge is in the ledger.

    It asks `nodes` for those that are there now and have room for a worker, by Ray's id, and calls `notice` after every
    change.
    """

    def __init__(
        self,
        protocol: Proposals,
        target: Target,
        ledger: Ledger,
        nodes: Callable[[], Mapping[str, Room]],
        notice: Callable[[WorkerScheduler], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger, self._notice = ledger, notice
        self.follow: Follow | None = None
        self.notes: list[str] = []  # what the user should know, in order
        self.retried = 0  # how often a trial was begun again, because its worker died or it failed before it trained
        self.trained = False  # whether any trial has made a step
        self.stopping = False  # set to end the run; the trials in flight are stopped and leave no row
        self.interrupted = False  # whether the user ended it
        # What ended the run before it was complete. Tune passes over what is raised here.
        self.error: Exception | None = None
        self._dispatcher = Dispatcher(protocol, ledger.records, target, self._record)
        self.nodes = Nodes(nodes, self.notes.append)
        # The trials that may have a checkpoint to go on from; those of sessions before this one are there at first.
        self.unfinished: set[str] = set()
        self._places: dict[str, str] = {}  # the node where a trial ran that is not recorded yet
        self._workers: dict[str, _Worker] = {}
        self._changed = False  # since trials were handed out the last time
        self._stood = time.monotonic()  # since when nothing runs

    def goes_on_from(self, before: WorkerScheduler) -> None:
        """Be told what another one knew, whose turn is over: its workers had other resources."""
        self.follow, self.retried = before.follow, before.retried
        self.trained, self.unfinished = before.trained, before.unfinished
        self.notes += before.notes

    @property
    def running(self) -> list[Proposal]:
        """The trials that workers are at."""
        return self._dispatcher.running

    @property
    def at_work(self) -> tuple[Running, ...]:
        """The same with where and how far they are; may be asked by another thread."""
        return tuple(
            Running(p.trial_id, p.batch_size, p.stage, self.nodes.host(w.node), w.step, p.max_steps, w.since)
            for w in list(self._workers.values())
            if (p := w.proposal) is not None
        )

    @property
    def n_workers(self) -> int:
        """Workers that are ready."""
        return sum(node != "" for node in self._whereabouts)

    @property
    def _whereabouts(self) -> list[str]:
        """The node of every worker; "" for one that is starting."""
        return [worker.node for worker in list(self._workers.values())]

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
                self._heard(worker.proposal, result)
                if "preempted" in result:
                    return TrialScheduler.STOP
                if "died" in result:
                    self._died(worker, worker.proposal, result["died"], result["beside"])
                else:
                    self.nodes.went_on(worker.proposal.trial_id, result["resumed_at"])
                    self._brought(worker, result["rows"], result["ending"])
                result["rows"] = result["ending"] = result["files"] = None  # Tune keeps a trial's last result
            goes_on = worker.proposal is not None
            if self._changed:
                self._changed = False
                self._hand_out(tune_controller)
            self._notice(self)
            if not self.nodes.used(worker.node):
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
                self._died(worker, worker.proposal, "the worker process died")
            elif not worker.node and self.nodes.stillborn(self._whereabouts):
                self.nodes.none_start(_last_words(trial), self._whereabouts)
            self._hand_out(tune_controller)
            self._notice(self)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A worker was stopped, as its node was set aside, or leaves because it was told to."""
        self._lose(self._workers.pop(trial.trial_id))
        self._hand_out(tune_controller)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """A worker that had not started is not wanted any more."""
        self._workers.pop(trial.trial_id, None)

    # What workers bring

    def _came_up(self, worker: _Worker, result: Mapping[str, Any]) -> None:
        worker.node, worker.sees_folder, self._changed = str(result["node"]), bool(result["sees_folder"]), True
        self.nodes.came_up(worker.node, str(result["host"]), result["problem"])

    def _heard(self, proposal: Proposal, result: dict[str, Any]) -> None:
        """Keep the files that came with a report, and take note of the rest."""
        for path, content in result["files"]:
            self.ledger.keep(path, content)
        self.notes += [note for note in result["notes"] if note not in self.notes]
        if result["keeps"]:
            self.unfinished.add(proposal.trial_id)

    def _brought(self, worker: _Worker, rows: list[dict[str, Any]], ending: Ending | None) -> None:
        proposal = worker.proposal
        assert proposal is not None
        worker.step = rows[-1]["step"] if rows else worker.step
        if not worker.trained and any(row["step"] > 0 for row in rows):
            worker.trained = self.trained = True
            self._changed |= self.nodes.trains(proposal.trial_id, worker.node)
        if ending is None:
            self._dispatcher.reported(proposal.trial_id, rows)
            return
        if ending.outcome is Outcome.FAILED and ending.steps == 0:
            if not self.nodes.failed(proposal.trial_id, worker.node, ending.message, self._whereabouts):
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
        row = None
        if ending is not None:
            place = self._places.pop(proposal.trial_id)
            row = trial_row(proposal, ending, host=self.nodes.host(place), node=place)
            self.ledger.finished(row)
            self.nodes.recorded(proposal.trial_id)
            if proposal.trial_id in self.unfinished:
                self.unfinished.discard(proposal.trial_id)
                self._forget(proposal.trial_id)
        if self.follow is not None:
            self.follow(proposal, rows, row)

    def _forget(self, trial_id: str) -> None:
        try:
            remove(self.ledger.folder, [trial_id])
        except OSError as error:
            self.notes.append(f"the checkpoint of {trial_id} stays until the next session removes it: {error}")

    def _set_free(self, worker: _Worker) -> None:
        worker.proposal, worker.trained, self._changed = None, False, True

    def _lose(self, worker: _Worker) -> None:
        """Nothing is to be recorded of what a worker was at; the protocol proposes it again."""
        if worker.proposal is not None:
            self._dispatcher.lost(worker.proposal.trial_id)
            del self._places[worker.proposal.trial_id]
            self.unfinished.add(worker.proposal.trial_id)
            self._set_free(worker)
            self.retried += 1

    def _died(self, worker: _Worker, proposal: Proposal, why: str, beside: Collection[str] = ()) -> None:
        if not self.nodes.died(proposal.trial_id, worker.node, beside):
            self._lose(worker)
            return
        now = time.time()
        message = f"{why}, also when the trial was tried again"
        steps = self.ledger.last_step(proposal.trial_id)
        self._set_free(worker)
        self._dispatcher.ended(
            proposal.trial_id, [], Ending(Outcome.FAILED, message, steps, None, None, 0.0, 0.0, now, now)
        )

    # What is handed out

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Tune's choice, as it asks all the time.

        Nothing may run any more because one node is to judge another, or because Ray has ended.
        """
        if not self.running and time.monotonic() - self._stood > _PATIENCE:
            with self._recording():
                self.nodes.look()
                self._hand_out(tune_controller, patient=False)
        elif self.running:
            with self._recording():
                self._dispatcher.ahead()
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen

    def _hand_out(self, controller: Any, patient: bool = True) -> None:
        """Give every waiting worker a trial, as long as there are trials; end the run where nothing is left.

        While it is `patient`, a trial that failed on a node waits for workers of another that are starting.
        """
        waiting = [w for w in self._workers.values() if w.node and w.proposal is None and self.nodes.used(w.node)]
        everywhere = self._whereabouts
        for suspects in (False, True):  # a node under suspicion works only where nobody else does
            if suspects and self.running:
                break
            for worker in waiting:
                barred = self.nodes.barred(worker.node, everywhere, patient)
                suspect = barred and self.nodes.suspect(worker.node)
                if self.stopping or worker.proposal is not None or (suspect and not suspects):
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
        worker.step, worker.since = 0, time.time()
        seconds = max(_REPORT_SECONDS, _ALL_REPORT_SECONDS * len(self._workers))
        folder, goes_on = self.ledger.folder, proposal.trial_id in self.unfinished
        wanted = [] if proposal.start is None else [checkpoint(proposal.start)]
        wanted += [unfinished(proposal.trial_id)] if goes_on else []
        sent = [path for path in wanted if not worker.sees_folder and folder.has(path)]
        files = {path: folder.read_bytes(path) for path in sent}
        # As Tune calls `train`, but with what is to be trained: handing a trial over takes no call of its own.
        controller._schedule_trial_task(
            trial=worker.trial,
            method_name="begin",
            args=(pickle.dumps(proposal), seconds, goes_on, files),
            on_result=controller._on_training_result,
            on_error=controller._trial_task_failure,
        )

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
        return {"avoid": sorted(self._scheduler.nodes.set_aside)}

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
    """Stops all workers once the scheduler was told to, has nothing left, or a bound is reached."""

    def __init__(self, scheduler: WorkerScheduler, due: Callable[[], bool]) -> None:
        self._scheduler, self._due = scheduler, due

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No worker is stopped for itself."""
        return False

    def stop_all(self) -> bool:
        """Whether the run is to end; Tune asks all the time, whether anything is reported or not."""
        self._scheduler.stopping = self._scheduler.stopping or self._due()
        return self._scheduler.stopping

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles it; there is nothing to keep."""
        return {}


def place(resources: Resources, config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Where a worker may run: on any node with room that was not set aside when `Workers.suggest` asked for it."""
    bundles, avoid = [resources.wanted] * (resources.nodes or 1), config.get("avoid")
    selector: dict[str, Any] = {}
    if avoid:
        selector["bundle_label_selector"] = [{"ray.io/node-id": f"!in({','.join(avoid)})"}] * len(bundles)
    return tune.PlacementGroupFactory(bundles, strategy="PACK" if len(bundles) == 1 else "STRICT_SPREAD", **selector)
