"""Ray itself: started on this machine or reached at an address, how many workers it holds, and how it is left."""

import logging
import math
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.resources import Resources

# Tune reads these when it is imported: its own display, loggers, interrupt handler and frequent snapshots are off,
# because ours do their work.
SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a path of data in an experiment is seen from where the command was started
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # what Tune knows is which workers there are: nothing to go on from
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # `Workers` says how many are asked for
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # in a Ray job too the workers have the run's copy of the user's code
    "RAY_DEDUP_LOGS": "0",  # it would print what a raylet said as it died in our main thread, between our lines
}
# How long to wait for a cluster's address to answer.
_PROBE_SECONDS = 10.0
# How often a cluster is asked how large it is now. Chosen, not studied.
_COUNT_SECONDS = 5.0
_STARTS = 2  # a start that failed is tried once more: on a busy machine Ray's own time limits are too short


class ClusterError(Exception):
    """Ray or its machines cannot go on, and why: no fault of the experiment's, and no outcome of a trial."""


class NotStarted(ClusterError):
    """Ray does not start on this machine."""


Hiring = Callable[[Resources], Callable[[], int]]
"""How many workers there should be now, for trials that occupy this."""


@contextmanager
def ray_running(
    address: str | None,
    workers: int | None,
    kinds: Sequence[Resources],
    code: str | None,
    starting: Callable[[], None] = lambda: None,
) -> Iterator[Hiring]:
    """A Ray of our own on this machine (no address), or a cluster's, for trials of several kinds.

    Gives how many workers of a kind there should be now where all are of it. That changes as a cluster grows and
    shrinks; `workers` None = as many as there is room for. `code` is a folder that
    the workers of a cluster are to have as their working directory. A cluster that cannot be reached, or too little
    room for one trial, is an InputError, before `starting` is called and Ray starts wherever that can be known.
    """
    os.environ.update(SETTINGS)
    if address is None:  # a head of ours that died does not come back; a cluster's may, within Ray's minute
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    _authenticate(address)
    if address is None:
        _check_room(workers, kinds)
    else:
        _probe(address)
    import ray

    for name in ("ray", "ray.tune"):  # what matters to the user is an outcome of a trial, or an exception
        logging.getLogger(name).setLevel(logging.CRITICAL)
    starting()
    _start(address, None if workers is None else _cpus(workers, kinds), code)
    try:
        for resources in kinds if address is None else ():
            if _held(resources) < 1:
                raise InputError("resources", [f"a trial needs {_need(resources)}, but Ray was given less"])
        yield partial(_wanted, workers, address is not None)
    finally:
        ray.shutdown()


class OneRay(ExitStack):
    """Called as `ray_running` by several sessions after each other: Ray starts once for all that ask for the same."""

    _asked: tuple[Any, ...] | None = None
    _hiring: Hiring

    @contextmanager
    def __call__(
        self,
        address: str | None,
        workers: int | None,
        kinds: Sequence[Resources],
        code: str | None,
        starting: Callable[[], None] = lambda: None,
    ) -> Iterator[Hiring]:
        """The Ray that is there, which ends with the whole and not with who asked for it."""
        asked = (address, workers, kinds, None if address is None else code)
        if asked == self._asked:
            starting()
        else:
            self.close()
            self._asked, self._hiring = None, self.enter_context(ray_running(*asked, starting))
            self._asked = asked
        yield self._hiring


def _wanted(workers: int | None, grows: bool, resources: Resources) -> Callable[[], int]:
    """How many workers there should be: what there is room for, or what the user said.

    The user's word counts even where a cluster has less room, so that it grows with what waits.
    """
    if grows and workers is not None:
        return lambda: workers
    room, counted = _held(resources), time.monotonic()

    def now() -> int:
        nonlocal room, counted
        if grows and time.monotonic() - counted > _COUNT_SECONDS:
            room, counted = _held(resources), time.monotonic()
        return max(1, room) if grows else min(room, workers or room)

    return now


@dataclass(frozen=True)
class Room:
    """A node that has room for trials."""

    host: str  # its name
    trials: int  # how many fit onto it, or parts of those that span nodes


def rooms(resources: Resources, own: bool = False) -> dict[str, Room]:
    """The nodes that Ray has now, by Ray's id; those without room for a trial are left out.

    Where a Ray of our own has none any more it has ended, which is a ClusterError: Ray does not always end its driver.
    """
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [node for node in nodes if node["Alive"]]
    if own and not alive:
        raise ClusterError("Ray's process on this machine (the raylet) has ended")
    held = {n["NodeID"]: Room(str(n["NodeManagerHostname"]), _fit(n["Resources"].get, resources)) for n in alive}
    return {name: room for name, room in held.items() if room.trials}


def _held(resources: Resources) -> int:
    """How many trials fit onto all of them."""
    return _spread([room.trials for room in rooms(resources).values()], resources.nodes or 1)


def _spread(parts: Sequence[int], nodes: int) -> int:
    """How many trials of so many nodes fit, where each node has room for some parts, and no trial has two on one."""
    most = sum(parts) // nodes
    while sum(min(most, fit) for fit in parts) < nodes * most:
        most -= 1
    return most


def _fit(amount: Callable[[str, float], float], resources: Resources) -> int:
    """How many trials fit into the amounts of one node."""
    return min(int(amount(name, 0.0) / wanted + 1e-9) for name, wanted in resources.wanted.items())


def _need(resources: Resources) -> str:
    kind = "" if resources.accelerator_type is None else f" of kind {resources.accelerator_type}"
    custom = (f" and {amount:g} {name}" for name, amount in (resources.custom or {}).items())
    each = "" if resources.nodes is None else f" on each of {resources.nodes} nodes"
    return f"{resources.cpus:g} cpus and {resources.gpus:g} gpus{kind}{''.join(custom)}{each}"


def _cpus(workers: int, kinds: Sequence[Resources]) -> int:
    """The cores of so many workers of the smallest kind, and of one of any."""
    return max(math.ceil(workers * min(of.cpus for of in kinds)), *(math.ceil(of.cpus) for of in kinds))


def _start(address: str | None, cpus: int | None, code: str | None) -> None:
    import ray
    from ray.job_config import JobConfig

    # Ray puts the working folder first on its workers' path, where a user's `random.py` would end every one of them.
    # So it is told not to (as of a client's job), or not to bring these files; workers add the folder themselves, last
    # (`places.reach`). Only a checkout in which the command was started must be found before what is installed.
    given: dict[str, Any] = {"job_config": JobConfig(_client_job=True, _py_driver_sys_path=_checkout())}
    if address is not None and code is not None:
        hiding = (f"/{name}{end}" for name in sys.stdlib_module_names for end in (".py", "/__init__.py"))
        left_out = [path for path in hiding if Path(code + path).is_file()]
        given = {"runtime_env": {"working_dir": code, "excludes": left_out}}
    for left in reversed(range(_STARTS)):
        try:
            # address="local" also works beside the leftovers of a crashed cluster, which num_cpus alone does not.
            ray.init(
                address=address or "local",
                num_cpus=None if address is not None else cpus,
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **given,
            )
            return
        except Exception as error:  # Ray has no class of its own for a process of its own that does not come up
            ray.shutdown()
            reason = str(error).strip().split("\n")[0]
            if address is not None:
                problem = f"no cluster can be joined at '{address}': {reason}; {_token_hint()}"
                raise InputError("--address", [problem]) from error
            if not left:
                raise NotStarted(f"Ray does not start on this machine: {reason}") from error


def _checkout() -> list[str]:
    """The working folder, where this very package lies in it."""
    return [here] if (here := os.getcwd()) == str(Path(__file__).parents[2]) else []


def _authenticate(address: str | None) -> None:
    """Choose how Ray authenticates, unless the user did.

    A Ray of our own gets a token of its own: Ray would else write one into the user's home, which every Ray on this
    account would demand from then on. A cluster is given the token that is there; one that demands none does not mind.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if address is None:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    elif _has_token():
        os.environ["RAY_AUTH_MODE"] = "token"
    if "ray" in sys.modules:  # it has read the environment already; this is how it makes itself read it again
        from ray import _raylet

        _raylet.Config.initialize("")  # type: ignore[attr-defined]  # of the extension module
        _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


def _has_token() -> bool:
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return given or (Path.home() / ".ray" / "auth_token").is_file()


def _token_hint() -> str:
    if _has_token():
        return "if it demands a token, it may be another than the one here (RAY_AUTH_TOKEN, or ~/.ray/auth_token)"
    return "if it demands a token, give it in RAY_AUTH_TOKEN, or copy the cluster's ~/.ray/auth_token to this machine"


def _probe(address: str) -> None:
    """Find out quickly whether anything answers at HOST:PORT, for which Ray itself would wait many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError("--address", [f"no Ray cluster answers at '{address}': {error}; is it up?"]) from error


def _check_room(workers: int | None, kinds: Sequence[Resources]) -> None:
    """Find out before Ray starts whether this machine has room for one trial of each kind."""
    import torch

    cpus = _cpus(workers, kinds) if workers is not None else os.cpu_count() or 1
    amounts = {"CPU": float(cpus), "GPU": float(torch.cuda.device_count())}
    for resources in kinds:
        # Ray finds out of the kind of device; it has custom resources only where somebody started it with them.
        known = amounts | ({resources.kind: 1.0} if resources.kind else {})
        if _spread([_fit(known.get, resources)], resources.nodes or 1) < 1:
            have = f"{amounts['CPU']:g} cpus and {amounts['GPU']:g} gpus"
            cluster = "; custom resources and several nodes are those of a cluster, so give its --address"
            hint = cluster if resources.custom or resources.nodes else ""
            raise InputError("resources", [f"a trial needs {_need(resources)}, but there are {have}{hint}"])
