"""Every problem of an experiment file in one message: the rule, the name, the value, the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


class InputError(ValueError):
    """Something that the user gave is wrong; the message says what and how to mend it."""

    def __init__(self, where: str, problems: Iterable[str]) -> None:
        self.problems = tuple(dict.fromkeys(problems))  # one sentence each
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{where}: {count}", *(f"  - {problem}" for problem in self.problems)]))


def describe(error: ValidationError, model: type[BaseModel], given: Any) -> list[str]:
    """Pydantic's errors as sentences, each beginning with the key's address; the model has the names of valid keys."""
    sentences = []
    for item in _merged(error.errors()):
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
            sentences.append(f"'{key}' {_rule(item)}, but it is {_short(item['input'])}")
    return sentences


_RULES: Final = {
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "string_type": "must be a word",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have {min_length} or more entries",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}
"""The rule behind each of pydantic's types of error, with the context that it comes with in braces."""

_PLAIN_TYPES = {"float", "int", "str", "bool", "constrained-int", "constrained-float", "constrained-str"}


def _rule(item: ErrorDetails) -> str:
    if "any_of" in item.get("ctx", {}):
        return "must be " + ", or ".join(dict.fromkeys(item["ctx"]["any_of"]))
    known = _RULES.get(item["type"])
    context = {key: f"{v:g}" if isinstance(v, float) else v for key, v in item.get("ctx", {}).items()}
    return known.format(**context) if known else item["msg"][0].lower() + item["msg"][1:]


def _merged(items: list[ErrorDetails]) -> list[ErrorDetails]:
    """Pydantic's errors without its echoes: one for a value of several possible types, none for a list's bad entries.

    It tries every type of `float | str` and complains of each, and it counts a list's entries without the bad ones.
    """
    found: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for item in items:
        loc = item["loc"]
        found.setdefault(loc[:-1] if loc and loc[-1] in _PLAIN_TYPES else loc, []).append(item)
    kept = []
    for loc, same in found.items():
        if len(same) > 1:
            whole = same[0].copy()
            whole["loc"], whole["ctx"] = loc, {"any_of": [_rule(item).removeprefix("must be ") for item in same]}
            kept.append(whole)
        elif same[0]["type"] != "too_short" or not any(len(o) > len(loc) and o[: len(loc)] == loc for o in found):
            kept.append(same[0])
    return kept


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
    """The value as the file has it."""
    text = str(value).lower() if isinstance(value, bool) else "empty" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
