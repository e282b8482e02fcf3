"""Where Ray Tune meets the protocol: Tune asks for a trial and reports what it did; the ledger remembers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from search_spaces.outcome import Outcome
from tuner.ledger import Ledger, trial_row
from tuner.protocol.proposal import Proposal
from tuner.protocol.protocol import SearchProtocol
from tuner.trainable import to_config
from tuner.training.trial import Ending

# A trial whose worker process died this often is given up. Ray's own retries are off: they pass over a trial that was
# not running yet, whose worker died while it was made ready.
_DEATHS = 3


class LedgerSearcher(Searcher):
    """One searcher for all studies. It holds no knowledge of its own: everything is in the ledger.

    Attributes:
        running: proposals in flight by Ray's trial id.
        stopping: set to end the run after the trials in flight were stopped.
        error: the first thing that went wrong in recording (a full disk, storage out of reach). It ends the run: Tune
            passes over what a searcher raises here, and the trial without a row would be proposed again without end.
    """

    def __init__(
        self,
        protocol: SearchProtocol,
        ledger: Ledger,
        notice: Callable[[Mapping[str, Proposal]], None],
    ) -> None:
        """Join protocol and ledger.

        Args:
            protocol: what to try next.
            ledger: what has been recorded.
            notice: called after every change with the proposals in flight.
        """
        super().__init__(metric="step", mode="max")
        self._protocol, self._ledger, self._notice = protocol, ledger, notice
        self.running: dict[str, Proposal] = {}
        self._deaths: Counter[str] = Counter()
        self.stopping = False
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """Give Tune the next trial, `None` for "not now", or `FINISHED`."""
        if self.stopping:
            return str(Searcher.FINISHED)
        names = {proposal.trial_id for proposal in self.running.values()}
        proposal = self._protocol.next_trial(self._ledger.records, names)
        if proposal is None:
            return None if self.running else str(Searcher.FINISHED)
        self.running[trial_id] = proposal
        self._notice(self.running)
        return to_config(proposal)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the measurements of a trial that goes on."""
        with self._recording():
            if trial_id in self.running:
                self._ledger.measured(result["rows"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record a trial's last measurements and its end. A trial that was merely stopped leaves no row."""
        proposal = self.running.pop(trial_id, None)
        if proposal is not None:
            with self._recording():
                self._record_end(proposal, result, error)
                self._notice(self.running)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # raised again when Tune has ended: see `error`
            self.error, self.stopping = self.error or error, True

    def _record_end(self, proposal: Proposal, result: dict[str, Any] | None, error: bool) -> None:
        ending = None if error or result is None else result.get("ending")
        if ending is not None and result is not None:
            self._ledger.measured(result["rows"])
        elif error:
            self._deaths[proposal.trial_id] += 1
            if self._deaths[proposal.trial_id] >= _DEATHS:
                ending = self._lost(proposal)
            # Otherwise no row is written, and so the protocol proposes the same trial again.
        if ending is not None:
            self._ledger.finished(trial_row(proposal, ending))

    def _lost(self, proposal: Proposal) -> Ending:
        """The ending of a trial whose worker process died again and again, after what it had reported."""
        now = time.time()
        return Ending(
            outcome=Outcome.FAILED,
            message="the worker process died, also when the trial was tried again",
            steps=self._ledger.last_step(proposal.trial_id),
            crossing=None,
            best_value=None,
            train_seconds=0.0,
            evaluate_seconds=0.0,
            started_at=now,
            ended_at=now,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher at the start; ours is rebuilt from the ledger, so there is nothing to keep."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: resuming replays the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was saved."""


class StopWhenAsked(Stopper):
    """Stops all trials once the searcher was told to."""

    def __init__(self, searcher: LedgerSearcher) -> None:
        """Watch a searcher.

        Args:
            searcher: whose `stopping` is watched.
        """
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped for itself."""
        return False

    def stop_all(self) -> bool:
        """Whether the run was told to end."""
        return self._searcher.stopping
