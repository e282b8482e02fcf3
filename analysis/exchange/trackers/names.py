"""Which setting of logged runs is the batch size and which the seed, and which column of their logs counts progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bcrit.analysis.exchange.trackers.run import LoggedRun
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target

_BATCH_SIZES: Final = ("batch_size", "bs", "global_batch_size", "train_batch_size", "batchsize")
_SEEDS: Final = ("seed", "random_seed", "rng_seed", "manual_seed")
"""Words for them, the likelier first; a nested name is known by its last word. Chosen."""
_SHOWN = 40  # names listed in a message; chosen


@dataclass(frozen=True)
class Reading:
    """How logged runs are to be read. Names of options in messages are those of the command line.

    Attributes:
        target: what "reached" means.
        batch_size: name of the setting that holds it; None = the only one that is named like one.
        seed: name of the setting that holds it; None = the only one that is named like one, if any.
        counter: name of the log's column that counts progress; None = the first of `counters` that is there.
        counters: names of columns that are known to count optimizer updates.
        iterations: names of columns that count something else, taken only with a factor and without any of `counters`.
        steps_per_count: optimizer updates in one count; None = 1.
        examples_per_count: training examples in one count, instead: an epoch's size where the counter counts epochs.
        unit: what a batch counts.
    """

    target: Target
    batch_size: str | None = None
    seed: str | None = None
    counter: str | None = None
    counters: tuple[str, ...] = ("step", "global_step")
    iterations: tuple[str, ...] = ()
    steps_per_count: float | None = None
    examples_per_count: float | None = None
    unit: str = "examples"

    def steps(self, batch_size: int) -> float:
        """Optimizer updates in one count at a batch size."""
        if self.examples_per_count is not None:
            return self.examples_per_count / batch_size
        return 1.0 if self.steps_per_count is None else self.steps_per_count

    @property
    def factor(self) -> str:
        """What one count is, in words."""
        if self.examples_per_count is not None:
            return f"{self.examples_per_count:,.12g} {self.unit}"
        return "one step" if self.steps_per_count in (None, 1) else f"{self.steps_per_count:,.12g} steps"


@dataclass(frozen=True)
class Names:
    """What was found: names in the source."""

    batch_size: str
    seed: str | None
    counter: str


def find_names(runs: Sequence[LoggedRun], reading: Reading, where: str) -> Names:
    """Find the settings and the counter, and check that the target can be judged.

    Args:
        runs: at least one.
        reading: what the user said of them.
        where: their source, for messages.

    Returns:
        The names.

    Raises:
        InputError: one of them cannot be found, or what the user said contradicts itself; lists what there is.
    """
    problems = _factors(reading)
    settings = list(dict.fromkeys(name for run in runs for name in run.known))
    logged = list(dict.fromkeys(str(name) for run in runs for name in [*run.log.columns, *sorted(run.broken)]))
    found: dict[str, Any] = {"seed": None}
    for role, asked, words, option in (
        ("batch_size", reading.batch_size, _BATCH_SIZES, "--batch-size-param"),
        ("seed", reading.seed, _SEEDS, "--seed-param"),
    ):
        found[role] = name = _setting(settings, asked, words)
        if name is None and (asked is not None or role == "batch_size"):
            said = (
                f"no setting is named '{asked}'"
                if asked
                else "no setting, or more than one, is named like a batch size"
            )
            problems.append(f"{said}; name it with {option}; the settings are {listed(settings)}")
    metric = reading.target.metric
    if metric not in logged:
        problems.append(f"the target's metric '{metric}' was never logged; what was logged is {listed(logged)}")
    found["counter"] = _counter(logged, reading)
    if found["counter"] is None:
        problems.append(_no_counter(logged, reading))
    if problems:
        raise InputError(where, problems)
    return Names(**found)


def _factors(reading: Reading) -> list[str]:
    steps, examples = reading.steps_per_count, reading.examples_per_count
    problems = [
        f"{option} must be a positive number, but it is {factor:g}"
        for option, factor in (("--steps-per-iteration", steps), ("--examples-per-iteration", examples))
        if factor is not None and not 0 < factor < 1e18
    ]
    if steps is not None and examples is not None:
        problems.append("an iteration is so many steps or so many examples: give one of the two options")
    return problems


def _setting(settings: Sequence[str], asked: str | None, words: Sequence[str]) -> str | None:
    """The setting that was asked for, whole or by its last word; else the only one that is named like it."""
    if asked in settings:
        return asked
    for word in [asked.lower()] if asked is not None else words:
        there = [name for name in settings if name.lower() == word] or [n for n in settings if last_word(n) == word]
        if there:
            return there[0] if len(there) == 1 else None
    return None


def _counter(logged: Sequence[str], reading: Reading) -> str | None:
    if reading.counter is not None:
        return reading.counter if reading.counter in logged else None
    sure = next((name for name in reading.counters if name in logged), None)
    given = reading.steps_per_count is not None or reading.examples_per_count is not None
    return sure or (next((name for name in reading.iterations if name in logged), None) if given else None)


def _no_counter(logged: Sequence[str], reading: Reading) -> str:
    if reading.counter is not None:
        return f"nothing named '{reading.counter}' was logged; what was logged is {listed(logged)}"
    there = [name for name in reading.iterations if name in logged]
    counts = f"'{there[0]}' need not count optimizer updates" if there else "no column that counts updates was logged"
    return (
        f"{counts}; name the counter with --step-key, or say what an iteration is with --steps-per-iteration or "
        f"--examples-per-iteration; what was logged is {listed(logged)}"
    )


def last_word(name: str) -> str:
    """The last word of a nested name: `lr` of `optimizer/lr` and of `optim.lr`."""
    return name.replace(".", "/").rpartition("/")[2].lower()


def listed(names: Iterable[str]) -> str:
    """Names for a message; of very many the first."""
    every = [name if len(name) <= 80 else name[:77] + "..." for name in names]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return (", ".join(every[:_SHOWN]) + more) if every else "nothing"


__all__ = ["Names", "Reading", "find_names", "last_word", "listed"]
