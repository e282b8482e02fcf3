"""The distributions of Optuna's trials as dimensions of a search space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bcrit.analysis.exchange.imported_run import Notes
from bcrit.analysis.exchange.settings import one_type, our_names
from bcrit.analysis.exchange.spaces import Axis, interval
from bcrit.analysis.exchange.tried_space import box_scale
from bcrit.search_spaces.dimensions import Choice

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def searched(distributions: Iterable[Mapping[str, BaseDistribution]], notes: Notes) -> dict[str, Axis]:
    """The dimensions that trials were drawn from; one that changed on the way is as wide as all its forms together.

    Args:
        distributions: of each trial, by parameter.
        notes: for dimensions that cannot be told.

    Returns:
        Dimensions by parameter. A choice among numbers is a box on their range, since numbers have an order.
    """
    forms: dict[str, list[tuple[str, list[Any]]]] = {}
    distributions = list(distributions)
    ours = our_names(name for of_trial in distributions for name in of_trial)
    for of_trial in distributions:
        for name, distribution in of_trial.items():
            form = _form(ours[name], distribution)
            if form not in forms.setdefault(name, []):
                forms[name].append(form)
    found: dict[str, Axis] = {}
    for name, several in forms.items():
        scales = {scale for scale, _ in several}
        values = [value for _, of_form in several for value in of_form]
        if len(scales) > 1:
            notes.add("Parameters whose distribution changed its kind are left out of the search space", 1, name)
        elif scales == {"choice"}:
            options = list(dict.fromkeys(values))
            found[name] = Choice.model_validate({"scale": "choice", "options": options})
        else:
            found[name] = interval(scales.pop(), min(values), max(values), name, notes)
    return found


def _form(name: str, distribution: BaseDistribution) -> tuple[str, list[Any]]:
    """(scale, ends or options)."""
    choices = getattr(distribution, "choices", None)
    if choices is None:
        low, high, log = distribution.low, distribution.high, distribution.log  # type: ignore[attr-defined]
        whole = isinstance(low, int) and not log
        return "log" if log else "integer" if whole else "linear", [low, high]
    if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
        low, high = min(choices), max(choices)
        return box_scale(name, low, high, whole=all(isinstance(choice, int) for choice in choices)), [low, high]
    return "choice", one_type([parameter_value(choice) for choice in choices])


def parameter_value(value: Any) -> Any:
    """A parameter's value as a setting: None, which is a choice like others, becomes a word."""
    return "none" if value is None else value


__all__ = ["parameter_value", "searched"]
