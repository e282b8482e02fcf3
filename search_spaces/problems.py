"""Every problem of an experiment file in one message: the rule, the name, the value, the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError


class InputError(ValueError):
    """Something that the user gave is wrong; the message says what and how to mend it.

    Attributes:
        problems: one sentence each.
    """

    def __init__(self, where: str, problems: Iterable[str]) -> None:
        """Join the problems into one message.

        Args:
            where: the file or option they were found in.
            problems: one sentence each.
        """
        self.problems = tuple(dict.fromkeys(problems))
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{where}: {count}", *(f"  - {problem}" for problem in self.problems)]))


def describe(error: ValidationError, model: type[BaseModel], given: Any) -> list[str]:
    """Turn pydantic's errors into sentences.

    Args:
        error: what validation raised.
        model: the model that was validated, for the names of valid keys.
        given: the data, for the keys that were given.

    Returns:
        One sentence a problem, each beginning with the key's address.
    """
    sentences = []
    for item in error.errors():
        steps = [str(step) for step in item["loc"] if step not in _TAGS]
        key = ".".join(steps) or "experiment"
        if item["type"] == "extra_forbidden":
            sentences.append(_unknown_key(steps, model))
        elif item["type"] == "missing":
            sentences.append(f"'{key}' is missing; add it")
        elif item["type"] == "value_error":
            sentences.append(f"'{key}': {item['ctx']['error']}")
        elif item["type"] == "union_tag_invalid":
            scales = item["ctx"]["expected_tags"]
            sentences.append(f"'{key}': there is no scale {item['ctx']['tag']!r}; the scales are {scales}")
        else:
            rule = item["msg"][0].lower() + item["msg"][1:]
            sentences.append(f"'{key}': {rule}, but it is {_short(item['input'])}")
    return sentences


_TAGS = {"linear", "log", "reverse_log", "integer", "fixed", "choice"}
# Tags of the dimension union stand in pydantic's addresses; `linear` is also a schedule, but addresses of a schedule's
# parameters remain readable without it.


def _unknown_key(steps: list[str], model: type[BaseModel]) -> str:
    valid = _valid_keys(model, steps[:-1])
    close = difflib.get_close_matches(steps[-1], valid, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"there is no key '{'.'.join(steps)}'; {hint}the keys are {', '.join(valid)}"


def _valid_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    fields: Mapping[str, Any] = model.model_fields
    for step in path:
        inner = fields[step].annotation if step in fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ["low", "high", "hard_low", "hard_high", "scale"]
        fields = inner.model_fields
    return list(fields)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
