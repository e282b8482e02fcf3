"""What a program of the user's tells: lines of its output, or the log files that it writes as it goes."""

import json
import re
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from pydantic import field_validator, model_validator

from bcrit.search_spaces.options import Frozen
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.training.reported import Ended

FOLDER: Final = "trial_folder"
"""The placeholder of a folder of the trial's own, which is removed when it ends."""
POLL_SECONDS: Final = 0.2
"""How often log files are read, chosen: training that needs them takes minutes."""
# What logs call the counter of optimizer updates, in the order of trust; the last counts calls of `wandb.log`.
_STEPS: Final = ("step", "global_step", "trainer/global_step", "train/global_step", "_step")
_SAID: Final = re.compile(r"(?:^|\s)bcrit:\s+(.*)")
_PAIR: Final = re.compile(r"(\S+?)\s*=\s*(\S+)")

_KINDS: Final = ("line", "jsonl", "tensorboard", "wandb")

Row = dict[str, Any]
Timed = tuple[float, Row] | None
"""What was reported, and when (`time.time`); None where there is nothing yet."""


class Log(Frozen):
    """Where a program that knows nothing of us tells its steps and metrics: one of four."""

    line: str | None = None  # regular expression of a line of its output, with groups named `step` and as the metrics
    jsonl: str | None = None  # a file of JSON objects, one a line
    tensorboard: str | None = None  # a folder with event files, at any depth
    wandb: str | None = None  # a folder with offline runs, at any depth
    step: str | None = None  # what the log calls the optimizer update; None = the first of the usual names

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {value: f"{{{FOLDER}}}"} if value in ("tensorboard", "wandb") else value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in _KINDS) != 1:
            raise ValueError(f"'report' has one of {', '.join(_KINDS)}")
        if self.line is None and f"{{{FOLDER}}}" not in self.path:
            raise ValueError(
                f"each trial must log into a folder of its own, but '{self.path}' is the same for all; "
                f"write it below {{{FOLDER}}}, and give that to the program too"
            )
        return self

    @field_validator("line")
    @classmethod
    def _expression(cls, value: str | None) -> str | None:
        try:
            groups = re.compile(value or "(?P<step>)").groupindex
        except re.error as error:
            raise ValueError(f"it is no regular expression: {error}") from error
        if "step" not in groups:
            raise ValueError(r"a group must be named 'step', as in 'step (?P<step>\d+) val_loss (?P<val_loss>\S+)'")
        return value

    @property
    def kind(self) -> str:
        """Which of the four."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def path(self) -> str:
        """Where it is written; empty for lines."""
        return self.jsonl or self.tensorboard or self.wandb or ""


def said(line: str) -> Row | None:
    """What a line reports that is meant for us; None for any other."""
    found = _SAID.search(line)
    if found is None:
        return None
    text = found[1].strip()
    with suppress(ValueError):
        row = (
            json.loads(text) if text.startswith("{") else {name: _number(value) for name, value in _PAIR.findall(text)}
        )
        if isinstance(row, dict) and "step" in row:
            return row
    raise Ended(Outcome.FAILED, f"a report reads 'bcrit: step=10 val_loss=0.5', but it was 'bcrit: {text[:200]}'")


def matched(expression: str) -> Callable[[str], Row | None]:
    """Read lines by a regular expression, whose named groups are step and metrics."""
    pattern = re.compile(expression)

    def read(line: str) -> Row | None:
        found = pattern.search(line)
        return None if found is None else {n: _number(v) for n, v in found.groupdict().items() if v is not None}

    return read


def _number(text: str) -> float | str:
    """A number as programs print it; anything else as it stands."""
    try:
        return float(text.replace(",", "").removesuffix("%"))
    except ValueError:
        return text


def fitting(rows: Iterable[Timed], log: Log, metric: str) -> Iterator[Timed]:
    """Of what a log says the rows that are reports: with the target's metric, at a step beyond the last one's."""
    names, last = (log.step,) if log.step else _STEPS, -1.0
    for timed in rows:
        if timed is None:
            yield None
            continue
        at, row = timed
        step = next((row[name] for name in names if isinstance(row.get(name), int | float)), None)
        if step is not None and step > last and isinstance(row.get(metric), int | float):
            last = step
            kept = {n: v for n, v in row.items() if isinstance(v, int | float) and n not in MEASUREMENTS.names}
            yield at, {"step": step, **{n: v for n, v in kept.items() if not isinstance(v, bool) and n not in names}}


def logged(log: Log, path: Path, program: subprocess.Popen[str]) -> Iterator[Timed]:
    """The rows of log files as they grow, to the end of the program."""
    read = _json_lines(path) if log.jsonl else _events(path) if log.tensorboard else _offline(path)
    while True:
        ended = program.poll() is not None
        yield from read()
        if ended:
            return
        yield None
        time.sleep(POLL_SECONDS)


def _json_lines(path: Path) -> Callable[[], Iterator[Timed]]:
    place = 0

    def read() -> Iterator[Timed]:
        nonlocal place
        new = _from(path, place) if path.is_file() else b""
        whole = new[: new.rfind(b"\n") + 1]
        place += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError):  # a line that is no JSON says nothing
                if isinstance(row := json.loads(line), dict):
                    yield time.time(), row

    return read


def _events(folder: Path) -> Callable[[], Iterator[Timed]]:
    """Event files of TensorBoard: records of a length, its checksum, a message and its checksum (TFRecord)."""
    from tensorboardX.proto.event_pb2 import Event  # comes with Ray Tune

    places: dict[Path, int] = {}
    now: Row = {}  # what was logged at the latest step

    def read() -> Iterator[Timed]:
        for path in sorted(folder.rglob("*tfevents*")):
            new, place = _from(path, places.get(path, 0)), 0
            while place + 12 <= len(new):
                (length,) = struct.unpack_from("<Q", new, place)
                if place + 16 + length > len(new):
                    break  # it is still being written
                event = Event.FromString(new[place + 12 : place + 12 + length])
                place += 16 + length
                for value in event.summary.value:
                    if (number := _scalar(value)) is not None:
                        if now.get("step") != event.step:
                            now.clear()
                        now.update({"step": event.step, value.tag: number})
                        yield event.wall_time, dict(now)
            places[path] = places.get(path, 0) + place

    return read


def _from(path: Path, place: int) -> bytes:
    """What has been written to a file beyond a place."""
    with path.open("rb") as file:
        file.seek(place)
        return file.read()


def _scalar(value: Any) -> float | None:
    """The number of a summary, written in the old way or, by Keras, as a tensor; None where it is none."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if not value.HasField("tensor"):
        return None
    tensor = value.tensor
    if len(tensor.tensor_content) == 4:
        return float(struct.unpack("<f", tensor.tensor_content)[0])
    numbers = [*tensor.float_val, *tensor.double_val]
    return float(numbers[0]) if len(numbers) == 1 else None


def _offline(folder: Path) -> Callable[[], Iterator[Timed]]:
    from bcrit.analysis.exchange.wandb_folders import read_offline

    seen: dict[Path, tuple[int, int]] = {}  # size, and rows by then

    def read() -> Iterator[Timed]:
        for path in sorted(folder.rglob("run-*.wandb")):
            size, (before, n) = path.stat().st_size, seen.get(path, (0, 0))
            if size == before:
                continue
            with suppress(InputError):  # a file that has just been opened has no beginning yet
                rows = read_offline(path).rows
                seen[path] = size, len(rows)
                for row in rows[n:]:
                    yield float(row.get("_timestamp", time.time())), row

    return read


def clocked(rows: Iterable[Timed], begun: float) -> Iterator[Row | None]:
    """The reports with the seconds of training by then, where the program does not say them.

    A report at step 0 starts the clock. Where there is none, what came before the first report was getting ready too.
    It then waits for the next one, at most as long as it took itself, and its updates count at the pace between both.
    """
    zero: float | None = None
    first: tuple[float, Row] | None = None  # waits
    for timed in rows:
        if timed is None:
            if first is not None and time.time() - first[0] > first[0] - begun:
                zero = begun
                yield {**first[1], "train_seconds": first[0] - begun}
                first = None
            yield None
            continue
        at, row = timed
        step = row["step"]
        if "train_seconds" in row or not isinstance(step, int | float):
            yield row
            continue
        if zero is None and first is None and step > 0:
            first = timed
            continue
        if first is not None:
            earlier = first[1]["step"]
            zero = first[0] - earlier * ((at - first[0]) / (step - earlier) if step > earlier else 0.0)
            yield {**first[1], "train_seconds": first[0] - zero}
            first = None
        zero = at if zero is None else zero
        yield {**row, "train_seconds": max(0.0, at - zero)}
    if first is not None:
        yield {**first[1], "train_seconds": first[0] - begun}
