"""Every problem of an experiment file in one message: the rule, the name, the value, the remedy."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_LONGEST, _MOST = 300, 30  # characters of a problem, and problems, in a message; chosen


def _cut(problem: str) -> str:
    """What is too long without its middle: a sentence begins with what is wrong and ends with the remedy."""
    return problem if len(problem) <= _LONGEST else f"{problem[:190]} ... {problem[-105:]}"


class InputError(ValueError):
    """Something that the user gave is wrong; the message says what and how to mend it."""

    def __init__(self, where: str, problems: Iterable[str]) -> None:
        self.problems = tuple(dict.fromkeys(map(_cut, problems)))  # one sentence each
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        more = [f"  - and {len(self.problems) - _MOST} more"] if len(self.problems) > _MOST else []
        listed = [f"  - {problem}" for problem in self.problems[:_MOST]]
        super().__init__(without_passwords("\n".join([f"{where}: {count}", *listed, *more])))


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
        elif "betas" in steps and _RULES.get(item["type"]) == _MAPPING:  # as PyTorch's optimizers have them
            sentences.append(
                "'space.betas' is given by beta1 and beta2, each a number or a dimension; write both instead"
            )
        elif item["type"] == "value_error":
            sentences.append(f"'{key}': {item['ctx']['error']}")
        elif item["type"] == "union_tag_invalid":
            scales = item["ctx"]["expected_tags"]
            sentences.append(f"'{key}': there is no scale {item['ctx']['tag']!r}; the scales are {scales}")
        else:
            sentences.append(f"'{key}' {_rule(item)}, but it is {_short(item['input'])}")
        # `{lr: 0.1, schedule: choice of constant, cosine}` has an empty key 'cosine'.
        if item["input"] is None and item["type"] != "missing" and len(steps) > 1:
            sentences[-1] += "; in braces a comma ends a value, so put one that has a comma in quotes"
    return sentences


_MAPPING: Final = "must be a mapping of keys"
# The rule behind each of pydantic's types of error, with the context that it comes with in braces.
_RULES: Final = {
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), _MAPPING),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("literal_error", "enum"), "must be {expected}"),
    "string_type": "must be a word",
    "string_too_long": "must have at most {max_length} characters",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must have a character",
}

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


# Tags of the dimension union stand in pydantic's addresses; `linear` is also a schedule, but addresses of a schedule's
# parameters remain readable without it.
_TAGS = {"linear", "log", "reverse_log", "integer", "fixed", "choice"}


def _unknown_key(steps: list[str], model: type[BaseModel]) -> str:
    valid = _valid_keys(model, steps[:-1])
    return f"there is no key '{'.'.join(steps)}'; {did_you_mean(steps[-1], valid)}the keys are {', '.join(valid)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question with the name that is nearest, and a blank behind it; empty where none is near."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'? " if close else ""


# user:password@host, up to the last @, for one may be in it; and ?password=..., up to a colon at its end.
_PASSWORD: Final = re.compile(
    r"(://[^\s:/@]*:)\S*(?=@)|([?&](?:\w*password|passwd|pwd|\w*token|\w*secret\w*|\w*access_key)=)"
    r"[^\s&'\"]+?(?=:?(?:[\s&'\"]|$))",
    re.I,
)
# Control characters but tab and newline, marks that turn the direction of writing, and halves of characters.
_UNSHOWN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def without_passwords(text: str) -> str:
    """Text in which the passwords of URLs are three stars."""
    return _PASSWORD.sub(r"\1\2***", text)


def printable(text: str) -> str:
    """Text as a terminal may have it: no passwords, and what would steer the terminal written out."""
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), without_passwords(text))


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
