"""Reading what users name and write: files that are files, and the experiment as YAML, strict, without surprises."""

import errno
import os
import re
import stat
from collections.abc import Hashable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError, describe
from bcrit.search_spaces.target import Target

_DESCRIPTORS = re.compile(r"/dev/(stdin|fd/\d+)|/proc/[^/]+/fd/\d+")  # what a shell hands over; somebody writes there


def a_file(path: str | PathLike[str], piped: bool = False) -> Path:
    """The same path, where a file lies.

    A folder, a device, which may never end, and a named pipe, at which nobody may write, are an OSError that says so; a
    pipe of the shell (`<(...)`, `/dev/stdin`) too, unless what reads it does so once (`piped`).
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    shell = piped and _DESCRIPTORS.fullmatch(os.fspath(path))
    if not stat.S_ISREG(mode) and not (shell and stat.S_ISFIFO(mode)):
        raise OSError(errno.EINVAL, "it is no file but a device or a pipe; save what it gives in a file", str(path))
    return Path(path)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, with 1e-3 read as a number, and repeated keys and aliases refused."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse aliases: an experiment needs none, and nested ones grow without bound."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are refused; write the value out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key that stands twice: PyYAML would silently keep the last."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                problem = f"a key must be a plain word, but it is {key!r}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                problem = f"the key '{key}' stands twice; keep one"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1, which PyYAML reads, takes 1e-3 for a word because it has no dot.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][-+]?\d+)$"), list("-+0123456789.")
)


def read_yaml(text: str, where: str) -> Any:
    """Parse YAML into plain data; `where` is the file's name, for messages.

    Raises:
        InputError: it is not YAML, or uses tags (which can run code), or repeats a key.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a subclass of SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        what = str(getattr(error, "problem", None) or error)
        if "could not determine a constructor" in what:
            what = what.replace("could not determine a constructor for the tag", "YAML tags are refused: remove")
        raise InputError(where, [f"not readable as YAML{place}: {what}"]) from error


def parse_experiment(data: Any, where: str) -> Experiment:
    """The experiment that plain data describe, with all defaults filled in; `where` is the file's name, for messages.

    Raises:
        InputError: names every problem of the schema at once.
    """
    if not isinstance(data, dict):
        raise InputError(where, ["an experiment is a mapping of keys such as 'workload', 'batch_sizes', 'target'"])
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        raise InputError(where, describe(error, Experiment, data)) from error


def read_target(sentence: str, where: str) -> Target:
    """A target that a user wrote, `val_loss < 0.15`, at the place `where`: METRIC < NUMBER or METRIC > NUMBER."""
    try:
        return Target.model_validate(sentence)
    except ValidationError as error:
        raise InputError(where, describe(error, Target, sentence)) from error


def dump_experiment(experiment: Experiment) -> str:
    """The resolved experiment as YAML; `parse_experiment(read_yaml(...))` gives it back."""
    return yaml.safe_dump(experiment.to_dict(), sort_keys=False, allow_unicode=True, width=110)


def dump_data(data: Mapping[str, Any]) -> str:
    """An experiment's plain data as a person would write it: lists and small mappings on one line."""
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
