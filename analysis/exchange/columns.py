"""Which column of somebody's table is what: as the user says, or guessed from usual names, which is then said."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bcrit.analysis.exchange.files import column_names, readable
from bcrit.analysis.exchange.run import SPELLINGS, hyperparameter_names
from bcrit.analysis.records.number_table import found_column, named_columns, usual
from bcrit.search_spaces.load import a_file, read_yaml
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError

# Spellings of the roles that columns have, as `usual` writes them. Chosen from what trackers and papers use, not
# studied.
ROLES: Mapping[str, tuple[str, ...]] = {
    "batch_size": ("batch_size", "bs", "train_batch_size", "global_batch_size", "batchsize", "batch"),
    "steps_to_target": ("steps_to_target", "steps_to_result", "steps_to_goal", "steps"),
    "trial_id": ("trial_id", "trial", "run_id", "run", "id"),
    "step": ("step", "steps", "global_step", "iteration", "iter"),
    "seed": ("seed", "random_seed", "rng_seed"),
    "outcome": ("outcome", "status", "state"),
    "max_steps": ("max_steps", "train_steps", "num_steps", "step_budget"),
    "seconds": ("train_seconds", "seconds", "train_time", "time_s", "duration", "runtime"),
}
# What Optuna's `trials_dataframe`, MLflow's `search_runs` and Ray's `get_dataframe` put before the names of settings.
_PREFIX = re.compile(r"^(params?|config|hparams|hyperparameters)[_./](?=.)", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"^(user_attrs|attrs)[_./](?=.)", re.IGNORECASE)
TRIAL_ROLES = ("batch_size", "steps_to_target", "trial_id", "seed", "outcome", "max_steps", "seconds")
MEASUREMENT_ROLES = ("trial_id", "step", "seconds")
# Names of hyperparameters that are recognised beside lr and momentum. Chosen, not studied.
_HYPERPARAMETERS = SPELLINGS | {
    *("weight_decay", "wd", "beta1", "beta2", "beta_1", "beta_2", "eps", "epsilon", "nesterov", "optimizer"),
    *("schedule", "lr_schedule", "warmup", "warmup_steps", "warmup_fraction", "decay_fraction", "end_factor"),
    *("end_learning_rate_factor", "learning_rate_decay_steps", "label_smoothing", "dropout", "clip_norm", "grad_clip"),
}
OUTCOMES = {outcome.value: outcome for outcome in Outcome}


@dataclass(frozen=True)
class Mapped:
    """The user's wishes: column there by role here."""

    columns: Mapping[str, str] = field(default_factory=dict)  # of `ROLES`
    hyperparameters: Mapping[str, str] | None = None  # name there by name here; None = guess
    # What the words in the outcome column mean; None = it ended by itself.
    outcomes: Mapping[str, Outcome | None] = field(default_factory=dict)


def read_mapping(text: str | None) -> Mapped:
    """Read the option --columns: `batch_size=bs,lr=learning_rate`, or a YAML file with the same keys; None = guess.

    A key that is no role is the name that a hyperparameter gets. `outcomes`, in a file only, says what words mean.
    """
    if text is None:
        return Mapped()
    if Path(text).suffix in (".yaml", ".yml"):
        with readable(text, "the mapping cannot be read"):
            content = read_yaml(a_file(text, piped=True).read_text(encoding="utf-8"), text)
        if not isinstance(content, dict):
            raise InputError(text, ["a mapping has one line a column, such as 'batch_size: bs'"])
    else:
        content = dict[str, Any](named_columns(text))
    outcomes, named = content.pop("outcomes", {}), content.pop("hyperparameters", None)
    if isinstance(named, list):
        named = {str(name): str(name) for name in named}
    if not isinstance(outcomes, dict) or not (named is None or isinstance(named, dict)):
        raise InputError("--columns", ["'outcomes' and 'hyperparameters' must be mappings"])
    if unknown := [word for word in outcomes.values() if word not in (None, "complete", *OUTCOMES)]:
        known = f"they are complete, {', '.join(OUTCOMES)}"
        raise InputError("--columns", [f"there is no outcome '{unknown[0]}'; {known}"])
    told = {str(name): str(there) for name, there in content.items()}
    columns = {role: told.pop(role) for role in list(told) if role in ROLES}
    hyperparameters = None if named is None and not told else {**(named or {}), **told}
    return Mapped(columns, hyperparameters, {str(k).lower(): OUTCOMES.get(v) for k, v in outcomes.items()})


def assign(
    mapped: Mapped, columns: Sequence[str], roles: Sequence[str], needed: Sequence[str], where: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Give every role its column, as the user says or by the usual names: (column by role, those that were guessed)."""
    bare = {usual(_ATTRIBUTE.sub("", _PREFIX.sub("", name))): name for name in reversed(columns)}
    lower = bare | {usual(name): name for name in reversed(columns)}
    there = f"columns are {', '.join(columns)}"
    taken = {found_column(name, columns) for name in mapped.columns.values()}
    found, guessed = {}, {}
    for role in roles:
        told = mapped.columns.get(role)
        if told is not None and (column := found_column(told, columns)) is not None:
            found[role] = column
        elif told is None or role in ("trial_id", "seconds"):
            spelled = next((lower[s] for s in ROLES[role] if s in lower), None)
            if spelled is not None and spelled not in taken:
                found[role] = guessed[role] = spelled
        if told is not None and role not in found and role != "seconds":
            raise InputError(where, [f"there is no column '{told}' for '{role}'; the {there}"])
    if missing := [role for role in needed if role not in found]:
        how = {r: f"name it by --columns {r}=COLUMN, or as one of {', '.join(ROLES[r])}. The {there}" for r in missing}
        raise InputError(where, [f"a column '{role}' is needed; {remedy}" for role, remedy in how.items()])
    return found, guessed


def settings_among(columns: Iterable[str]) -> dict[str, str]:
    """The columns that are hyperparameters by their names, as ours: usual ones, and those marked as settings."""
    there = [name for name in columns if _PREFIX.match(name) or usual(name) in _HYPERPARAMETERS]
    bare = {name: _PREFIX.sub("", name) for name in there}
    if len(set(bare.values())) < len(there):
        return hyperparameter_names(there)
    ours = hyperparameter_names(bare.values())
    return {name: ours[bare[name]] for name in there}


def trial_names(path: str, mapped: Mapped) -> list[str]:
    """The columns that may hold names of trials, which are words (00012 is not 12)."""
    columns, told = column_names(path), mapped.columns.get("trial_id", "")
    return [n for n in columns if n == found_column(told, columns) or usual(n) in ROLES["trial_id"]]
