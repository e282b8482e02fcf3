"""Which column of somebody's table is what: named by the user, or guessed from common names and said so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bcrit.analysis.exchange.names import KNOWN
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError

# Spellings that are recognised, in lower case. Chosen from what trackers and papers use, not studied.
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "batch_size": ("batch_size", "bs", "train_batch_size", "global_batch_size", "batchsize", "batch"),
    "steps_to_target": ("steps_to_target", "steps_to_result", "steps_to_goal", "steps"),
    "trial_id": ("trial_id", "trial", "run_id", "run", "id"),
    "step": ("step", "steps", "global_step", "iteration", "iter"),
    "seed": ("seed", "random_seed", "rng_seed"),
    "outcome": ("outcome", "status", "state"),
    "max_steps": ("max_steps", "train_steps", "num_steps", "step_budget"),
    "seconds": ("train_seconds", "seconds", "train_time", "time_s"),
}
_TRIALS = ("batch_size", "steps_to_target", "trial_id", "seed", "outcome", "max_steps", "seconds")
_MEASUREMENTS = ("trial_id", "step", "seconds")
# Names of hyperparameters that are recognised beside lr and momentum. Chosen, not studied.
_HYPERPARAMETERS = {spelling for spellings in KNOWN.values() for spelling in spellings} | {
    *("weight_decay", "wd", "beta1", "beta2", "beta_1", "beta_2", "eps", "epsilon", "nesterov", "optimizer"),
    *("schedule", "lr_schedule", "warmup", "warmup_steps", "warmup_fraction", "decay_fraction", "end_factor"),
    *("end_learning_rate_factor", "learning_rate_decay_steps", "label_smoothing", "dropout", "clip_norm", "grad_clip"),
}
_WORDS: Mapping[str, Outcome | None] = {
    **{outcome.value: outcome for outcome in Outcome},
    **dict.fromkeys(("", "complete", "completed", "finished", "success", "ok", "done"), None),
    **dict.fromkeys(("infeasible", "nan", "diverge"), Outcome.DIVERGED),
    **dict.fromkeys(("fail", "error", "crashed", "incomplete", "killed"), Outcome.FAILED),
    **dict.fromkeys(("stopped", "early_stopped"), Outcome.PRUNED),
    **dict.fromkeys(("oom", "cuda out of memory"), Outcome.OUT_OF_MEMORY),
}


@dataclass(frozen=True)
class Mapped:
    """The user's wishes: column there by role here.

    Attributes:
        columns: of the roles in `SPELLINGS`.
        hyperparameters: name there by name here; None = guess.
        outcomes: what the words in the outcome column mean; None = it ended by itself.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    hyperparameters: Mapping[str, str] | None = None
    outcomes: Mapping[str, Outcome | None] = field(default_factory=dict)


def read_mapping(text: str | None) -> Mapped:
    """Read the option --columns: `batch_size=bs,lr=learning_rate`, or a YAML file with the same keys.

    A key that is no role is the name that a hyperparameter gets. `outcomes`, in a file only, says what words mean.

    Args:
        text: the option; None = guess everything.

    Returns:
        The wishes.

    Raises:
        InputError: it cannot be read.
    """
    if text is None:
        return Mapped()
    if Path(text).suffix in (".yaml", ".yml"):
        content = _file(text)
    else:
        pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
        if wrong := [left for left, sign, right in pairs if not (left.strip() and sign and right.strip())]:
            rule = "it reads NAME=COLUMN,NAME=COLUMN or names a YAML file"
            raise InputError("--columns", [f"{rule}, but '{wrong[0]}' has no '=' with something on both sides"])
        content = {left.strip(): right.strip() for left, _, right in pairs}
    outcomes = content.pop("outcomes", {})
    named = content.pop("hyperparameters", None)
    if isinstance(named, list):
        named = {str(name): str(name) for name in named}
    if not isinstance(outcomes, dict) or not (named is None or isinstance(named, dict)):
        raise InputError("--columns", ["'outcomes' and 'hyperparameters' must be mappings"])
    extra = {str(name): str(there) for name, there in content.items() if name not in SPELLINGS}
    hyperparameters = None if named is None and not extra else {**(named or {}), **extra}
    columns = {name: str(there) for name, there in content.items() if name in SPELLINGS}
    return Mapped(columns, hyperparameters, {str(k).lower(): _outcome(v) for k, v in outcomes.items()})


def _file(path: str) -> dict[str, Any]:
    try:
        content = read_yaml(Path(path).read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, [f"the mapping cannot be read: {error}"]) from error
    if not isinstance(content, dict):
        raise InputError(path, ["a mapping has one line a column, such as 'batch_size: bs'"])
    return dict(content)


def _outcome(word: Any) -> Outcome | None:
    known = {outcome.value: outcome for outcome in Outcome}
    if word in (None, "complete"):
        return None
    if word not in known:
        raise InputError("--columns", [f"there is no outcome '{word}'; they are complete, {', '.join(known)}"])
    return known[word]


def outcome_of(word: str | None, mapped: Mapped) -> Outcome | None:
    """What a word in the outcome column means; a `KeyError` where that is not known.

    Args:
        word: the cell.
        mapped: what the user said of it.

    Returns:
        The outcome; None = it ended by itself, reached or exhausted.
    """
    key = (word or "").strip().lower()
    return mapped.outcomes[key] if key in mapped.outcomes else _WORDS[key]


def assign(
    mapped: Mapped, columns: Sequence[str], measurements: bool, where: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Give every role its column, as the user says or by the usual names.

    Args:
        mapped: what the user said.
        columns: those of the table.
        measurements: whether it is the table of measurements.
        where: the table's name, for messages.

    Returns:
        (column by role, those of them that were guessed).

    Raises:
        InputError: the user names a column that is not there.
    """
    roles = _MEASUREMENTS if measurements else _TRIALS
    lower = {name.lower(): name for name in reversed(columns)}
    found, guessed = {}, {}
    for role in roles:
        told = mapped.columns.get(role)
        if told is not None and told in columns:
            found[role] = told
        elif told is None or (role in ("trial_id", "seconds")):
            spelled = next((lower[s] for s in SPELLINGS[role] if s in lower), None)
            if spelled is not None and spelled not in mapped.columns.values():
                found[role] = guessed[role] = spelled
        if told is not None and role not in found and not (role == "seconds"):
            raise InputError(where, [f"there is no column '{told}' for '{role}'; the columns are {', '.join(columns)}"])
    return found, guessed


def missing_column(role: str, columns: Sequence[str]) -> str:
    """The problem with a table in which no column has a role that is needed.

    Args:
        role: one of `SPELLINGS`.
        columns: those of the table.
    """
    usual = ", ".join(SPELLINGS[role])
    return (
        f"a column '{role}' is needed; name it by --columns {role}=COLUMN, or as one of {usual}. "
        f"The columns are {', '.join(columns)}"
    )


def hyperparameter_columns(mapped: Mapped, columns: Sequence[str], taken: Sequence[str], where: str) -> dict[str, str]:
    """The columns that hold hyperparameters: as the user says, or those with a usual name.

    Args:
        mapped: what the user said.
        columns: those of the table.
        taken: columns that have a role.
        where: the table's name, for messages.

    Returns:
        Name here by name there, where the user gives one; "" where it is to be chosen.

    Raises:
        InputError: the user names a column that is not there.
    """
    if mapped.hyperparameters is not None:
        if missing := [there for there in mapped.hyperparameters.values() if there not in columns]:
            raise InputError(where, [f"there is no column '{missing[0]}'; the columns are {', '.join(columns)}"])
        return {there: here for here, there in mapped.hyperparameters.items()}
    return {name: "" for name in columns if name not in taken and name.lower() in _HYPERPARAMETERS}


__all__ = ["SPELLINGS", "Mapped", "assign", "hyperparameter_columns", "missing_column", "outcome_of", "read_mapping"]
