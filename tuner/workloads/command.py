"""A program of the user's, in any language, as a training function: started, read and stopped for each trial.

    workload: {command: "python train.py --batch-size {batch_size} --lr {lr} --seed {seed}"}

It reports on its standard output, `bcrit: step=10 val_loss=0.5`, or in what it logs anyway. It does not wait for a
verdict: where the trial is over, it gets SIGTERM, with all that it started, and later SIGKILL.
"""

import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Final

from pydantic import Field, StrictInt

from bcrit.search_spaces.dimensions import Choice
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import COMMAND, Frozen
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.problems import did_you_mean
from bcrit.search_spaces.space import hyperparameter
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.data import says_no_memory
from bcrit.tuner.training.reported import Ended
from bcrit.tuner.workloads.child import GRACE_SECONDS, USERS_PATH, VARIABLE, Reporter
from bcrit.tuner.workloads.function import OF_THE_TRIAL, Config, TrainingFunction
from bcrit.tuner.workloads.logs import FOLDER, POLL_SECONDS, Log, Row, Timed, clocked, fitting, logged, matched, said
from bcrit.tuner.workloads.places import lies
from bcrit.tuner.workloads.processes import die_with_parent, end_below
from bcrit.tuner.workloads.protocol import read_choice

_LINES: Final = 50  # last lines of its errors that are kept for messages; chosen
_LAUNCHERS: Final = ("torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "srun", "torch.distributed.run")
_PLACE: Final = re.compile(r"\{\{(\w+)\}\}|\{([A-Za-z_]\w*)\}")  # {name}; {{name}} is {name} itself


class Command(Frozen):
    """The options of the workload; what else stands among them are settings that are the same in all trials."""

    command: Annotated[str, Field(min_length=1)]  # for /bin/sh, with {placeholders}
    report: Log | None = None  # None: lines that begin with `bcrit:`
    reads: tuple[str, ...] = ()  # settings that it takes from its environment, as BCRIT_LR
    unit: str = "examples"  # what a batch is made of
    n_examples: StrictInt | None = Field(default=None, ge=1)  # size of the training set; None = not known
    metrics: dict[str, Direction] = {}  # which way each improves; empty = not known
    ends_at_budget: bool = False  # whether its schedule ends at `budget_steps`: re-runs are then no longer

    @property
    def placed(self) -> set[str]:
        """The placeholders, which must have a value in every trial."""
        texts = (self.command, "" if self.report is None else self.report.path)
        return {name for text in texts for _, name in _PLACE.findall(text) if name}

    @property
    def names(self) -> set[str]:
        """All that the program is given by name."""
        read = (name.lower() for name in re.findall(r"\$\{?BCRIT_(\w+)", self.command))
        return self.placed | {*self.reads, *read}


def _read(options: Mapping[str, Any]) -> tuple[Command, dict[str, Any]]:
    """The command, and the settings beside it; what is wrong with it is a ValueError."""
    known = {name: value for name, value in options.items() if name in Command.model_fields}
    return read_choice(Command, known, COMMAND, COMMAND), {n: v for n, v in options.items() if n not in known}


def declared(options: Mapping[str, Any]) -> TrainingFunction:
    """What is known of a program; that its options cannot be is a ValueError."""
    made, _ = _read(options)
    return TrainingFunction(COMMAND, dict(options), made.unit, made.n_examples, made.metrics, made.ends_at_budget)


def problems(experiment: Experiment, note: Callable[[str], None]) -> Iterator[str]:
    """What is wrong with the command of an experiment, before anything runs.

    The note is told what can be run, but hardly is what was meant.
    """
    made, settings = _read(experiment.workload.options)
    space, used = experiment.space, made.names
    always = {*OF_THE_TRIAL, FOLDER, "optimizer", *settings, *space.root}
    sometimes = {hyperparameter(address) for address in space.addresses} - always
    sometimes |= {steps for share, steps in STEPS_OF.items() if share in always | sometimes}
    searched = {
        hyperparameter(address)
        for address, axis in space.axes.items()
        if not (isinstance(axis, Choice) and len(axis.options) == 1)
    }
    for name in sorted(used - always - sometimes):
        yield (
            f"'workload': there is no setting '{name}' for the command; {did_you_mean(name, always | sometimes)}the "
            f"settings are {', '.join(sorted(always | sometimes))}; braces that are meant are doubled, {{{{{name}}}}}"
        )
    for name in sorted(made.placed & sometimes):
        yield (
            f"'workload': not every trial has '{name}', so it is no placeholder; read BCRIT_{name.upper()} in the "
            f"program, and add 'reads: [{name}]' beside the command"
        )
    if missing := sorted(({"batch_size"} | searched) - used):
        options = " ".join(f"--{name.replace('_', '-')} {{{name}}}" for name in missing)
        yield (
            f"'workload': the command never uses {', '.join(missing)}, so it would train as if there were no such "
            f"setting; add {options}, or, if the program reads BCRIT_{missing[0].upper()}, "
            f"'reads: [{', '.join(missing)}]'"
        )
    for name in sorted(set(settings) - used):
        yield (
            f"'workload': '{name}' stands beside the command, but the command never uses it; "
            f"{did_you_mean(name, Command.model_fields)}remove it, or add {{{name}}}"
        )
    if "seed" not in used:
        note("the command never uses {seed}: re-runs differ by chance alone, and a run cannot be repeated")
    if not used & {"max_steps", "budget_steps"}:
        note(
            "the command never uses {max_steps} or {budget_steps}: bcrit stops it when its trial is over, so it must "
            "train at least that long; one that ends sooner by itself has failed"
        )
    launcher = re.search(rf"\b({'|'.join(_LAUNCHERS)})\b", made.command)
    ranks, gpus = max(of.launched for of in experiment.kinds), max(of.gpus for of in experiment.kinds)
    if ranks > 1 and launcher:
        yield (
            f"'resources.processes': the command is started {ranks} times, once for each rank, but '{launcher[1]}' "
            "starts ranks of its own; remove one of the two"
        )
    if ranks == 1 and gpus > 1 and not launcher:
        note(
            f"the command is started once, for {gpus:g} GPUs; if it is to be started for each, as torchrun would, add "
            f"'processes: {experiment.resources.gpus:g}' to resources"
        )
    if said := not_there(experiment.workload.options):
        yield f"'workload': {said}"


def not_there(options: Mapping[str, Any]) -> str | None:
    """Why a command cannot be started on this machine: the shell does not understand it, or a file is not there."""
    line = _filled(_read(options)[0].command, {}, quoted=True)
    checked = subprocess.run(["/bin/sh", "-n", "-c", line], capture_output=True, text=True, check=False)  # noqa: S603
    try:
        words = shlex.split(line)
    except ValueError as error:
        return f"the command cannot be read: {error}; mind the quotes"
    if checked.returncode or not words:
        return f"the shell does not understand the command: {checked.stderr.strip() or 'it is empty'}"
    if "=" not in words[0]:  # an assignment may stand before the program
        asked = ["/bin/sh", "-c", 'command -v -- "$1"', "sh", words[0]]
        known = subprocess.run(asked, env=_environment({}), capture_output=True, check=False)  # noqa: S603
        if known.returncode and not lies(words[0]):
            return f"there is no program '{words[0]}' here; install it, or correct the command"
    for word in words:
        if word.endswith((".py", ".sh")) and not (set(word) & set("{}$*")) and not lies(word):
            return f"there is no file '{word}' in {os.getcwd()}; start in the folder that holds it"
    return None


def train(config: Config, report: Reporter) -> None:
    """Run the program of a trial from beginning to end."""
    made, _ = _read({name: value for name, value in config.items() if name in Command.model_fields})
    log, begun, n = made.report, time.time(), 0
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # the group gets it, which this process leads
    kept = config.checkpoint
    folder = kept.parent / "trial"  # of all ranks; it goes with the trial
    folder.mkdir(exist_ok=True)
    settings = {**config, FOLDER: str(folder), "checkpoint": str(kept)}
    program = subprocess.Popen(  # noqa: S602  (the command line is the user's own; values are quoted)
        _filled(made.command, settings, quoted=True),
        shell=True,
        cwd=report.folder,
        env=_environment(settings, wandb=log is not None and log.wandb is not None),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=partial(die_with_parent, signal.SIGKILL),
    )
    output = _Output(program, kept=report.heard and (log is None or log.line is not None))
    try:
        if not report.heard:
            rows = output.rows(lambda line: None)
        elif log is None:
            rows = output.rows(said)
        else:
            path = Path(_filled(log.path, settings))
            read = output.rows(matched(log.line)) if log.line else logged(log, path, program)
            rows = fitting(read, log, report.metric)
        # One that goes on has a clock that does.
        reports = (timed and timed[1] for timed in rows) if report.goes_on else clocked(rows, begun)
        for one in reports:
            if one is not None:
                report(**one)
                n += 1
            elif report.over:
                return
        output.judge()
        if report.heard and not n:
            where = f"line of its output was 'bcrit: step=... {report.metric}=...'"
            if log is not None:
                where = f"'{report.metric}' with a step was in what it told ({log.kind})"
            raise Ended(Outcome.FAILED, f"the program ended by itself, but no {where}")
    finally:
        _stop(program)


class _Output:
    """What a program prints, read as it comes so that the program never waits for a reader."""

    def __init__(self, program: subprocess.Popen[str], kept: bool) -> None:
        self._program, self._kept = program, kept
        self._lines: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        self._tail = deque[str](maxlen=_LINES)
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (program.stdout, program.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            if stream is self._program.stderr and line.strip():
                self._tail.append(line.strip())
            if self._kept:
                self._lines.put((time.time(), line))

    def rows(self, read: Callable[[str], Row | None]) -> Iterator[Timed]:
        """What its lines tell, to the end."""
        while True:
            ended = self._program.poll() is not None
            if ended:
                self._finish()
            try:
                at, line = self._lines.get(timeout=0 if ended else POLL_SECONDS)
            except queue.Empty:
                if ended:
                    return
                yield None
                continue
            row = read(line)
            yield None if row is None else (at, row)

    def _finish(self) -> None:
        """Read what is left; what the program left running may hold its output open."""
        for reader in self._readers:
            reader.join(1.0)

    def judge(self) -> None:
        """Wait for the end; any but a good one is the trial's outcome."""
        code = self._program.wait()
        self._finish()
        if not code:
            return
        # Its last line; of a program whose memory gave out that, though it may have been aborted on its way out.
        memory = [line for line in self._tail if says_no_memory(line)]
        last = "".join(f": {line[:400]}" for line in (memory or [*self._tail])[-1:])
        outcome = Outcome.OUT_OF_MEMORY if memory else Outcome.FAILED
        number = -code if code < 0 else code - 128
        if number in set(signal.Signals):  # of the program, or of one that its shell waited for
            hint = ", as the system does when memory runs out" if number == signal.SIGKILL else ""
            raise Ended(outcome, f"the program was killed by {signal.Signals(number).name}{hint}{last}")
        raise Ended(outcome, f"the program ended with exit code {code}{last}")


def _stop(program: subprocess.Popen[str]) -> None:
    """End the program and all that it started: SIGTERM, and after a grace SIGKILL."""
    if program.poll() is None:
        os.killpg(0, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            program.wait(GRACE_SECONDS - 1)  # before this process is killed itself
    end_below(os.getpid())


def _filled(text: str, settings: Mapping[str, Any], quoted: bool = False) -> str:
    """A text with the values of its placeholders; one without a value keeps its name."""

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return f"{{{found[1]}}}"
        written = _written(settings.get(found[2], found[2]))
        return shlex.quote(written) if quoted else written

    return _PLACE.sub(value, text)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _environment(settings: Mapping[str, Any], wandb: bool = False) -> dict[str, str]:
    """What the program inherits: the user's environment and the settings, as BCRIT_LR and so on."""
    own = {name: value for name, value in os.environ.items() if name not in (USERS_PATH, VARIABLE)}
    if USERS_PATH in os.environ:  # our own places would shadow those of another Python
        own["PYTHONPATH"] = os.environ[USERS_PATH]  # an empty one is none
    own["PYTHONUNBUFFERED"] = "1"  # a line that waits in a buffer tells nothing
    path, ours = own.get("PATH", os.defpath), str(Path(sys.executable).parent)
    active = {"VIRTUAL_ENV", "CONDA_PREFIX"} & set(own)  # else `python` is the Python that runs this
    own["PATH"] = os.pathsep.join([path, ours] if active else [ours, path])
    given = {n: v for n, v in settings.items() if n not in Command.model_fields and v is not None}
    own |= {f"BCRIT_{name.upper()}": _written(value) for name, value in given.items()}
    if wandb:
        own |= {"WANDB_MODE": "offline", "WANDB_DIR": settings[FOLDER]}
    return own
