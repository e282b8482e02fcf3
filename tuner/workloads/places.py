"""Where code of the user's is found: in the folder of the command or of the run, and nowhere else without a word.

A workload is code, and an experiment file may be somebody else's: what is installed runs only where the user names it.
"""

import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Final

from bcrit.search_spaces.problems import did_you_mean

EVERYTHING: Final = "*"
_trusted = {"bcrit.tuner.workloads", "optuna.samplers", "ray.tune.search"}
_folders: set[str] = set()


def trust(modules: Iterable[str]) -> None:
    """Let these modules, and what is below them, be imported from anywhere; `EVERYTHING` where a driver has checked."""
    _trusted.update(modules)


def reach(folder: str | Path) -> None:
    """Let modules of the user's be found in a folder: after all that is installed, but before the working folder.

    So a module of theirs called `random` hides nothing. It lasts, because a module may import its neighbours later.
    """
    _folders.add(str(folder))
    if str(folder) not in sys.path:
        here = (place for place, path in enumerate(sys.path) if path in ("", os.getcwd()))
        sys.path.insert(next(here, len(sys.path)), str(folder))


def found(path: str, what: str) -> Any:
    """The class or function at `module:name`; where it cannot be had, a ValueError says why of `what`.

    It is looked for in the folders that were reached, and nowhere else unless its module is trusted (`check_place`).
    """
    module_name, _, name = path.partition(":")
    check_place(module_name, what)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module may even try to end the program
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{what} needs the module '{error.name}', which is neither installed nor in {os.getcwd()}; "
                "correct the name, or start in the folder that holds the module"
            ) from error
        raise ValueError(
            f"{what} needs the module '{module_name}', but importing it failed with "
            f"{type(error).__name__}: {error}; mend the module, or install what it needs"
        ) from error
    it = getattr(module, name, None)
    if not callable(it):
        own = [k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", None) == module_name]
        raise ValueError(
            f"{what}: the module '{module_name}' has no class or function '{name}'; "
            f"{did_you_mean(name, own)}it has {', '.join(own) or 'none'}"
        )
    return it


def lies(file: str) -> bool:
    """Whether a file is there, seen from the folder of the command or of the run's code."""
    return any(Path(folder, file).exists() for folder in (os.getcwd(), *_folders))


def check_place(module: str, what: str) -> None:
    """See that a module is the user's own before it, or a package around it, is imported.

    It must lie in a folder that was reached, and not among what is installed below it, or be trusted. Otherwise a
    ValueError says so of `what` ("workload 'subprocess:Popen'"). Of a module that is nowhere nothing is said.
    """
    parts = module.split(".")
    names = [".".join(parts[: i + 1]) for i in range(len(parts))]
    if not _trusted.isdisjoint([EVERYTHING, *names]):
        return
    foreign = next((file for file in _files(parts) if not _is_own(file)), None)
    if foreign is None:
        return
    if PathFinder.find_spec(parts[0], [path for path in sys.path if path in _folders]) is not None:
        problem = f"your module '{parts[0]}' is hidden by another of that name ({foreign}); give yours another name"
    else:
        problem = (
            f"the module '{module}' is not in {os.getcwd()} ({foreign}), and what is installed is not run because a "
            f"file says so; correct the name, or name the module with --trust {parts[0]}"
        )
    raise ValueError(f"{what}: {problem}")


def _files(parts: Iterable[str]) -> Iterator[str]:
    """Where Python finds packages, each in the one before it, and a module, without running any of them."""
    places: list[str] | None = None
    for part in parts:
        try:  # by the part alone: a folder without `__init__.py` is looked for in packages that are not imported
            spec = importlib.util.find_spec(part) if places is None else PathFinder.find_spec(part, places)
        except ValueError:  # it is there, but of no file: `__main__`
            yield "part of the program that runs"
            return
        if spec is None:
            return
        if spec.origin is not None:
            yield spec.origin
        places = list(spec.submodule_search_locations or ())


def _is_own(file: str) -> bool:
    """Whether a file lies in a folder of the user's code; environments and Python itself may lie below one, too."""
    path = Path(file)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return (
        any(path.is_relative_to(folder) for folder in _folders)
        and not installed
        and not path.is_relative_to(sysconfig.get_path("stdlib"))
    )
