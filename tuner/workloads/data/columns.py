"""Which column is which, where a data set does not say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

USUAL: Final = {
    "image": ("image", "img", "pixels", "images", "jpg", "png"),
    "label": ("label", "labels", "class", "target", "fine_label", "cls", "digit"),
    "text": ("text", "sentence", "content", "document"),
}
"""Names that the columns of data sets on the hub have, the most usual first."""


def find_column(role: str, columns: Iterable[str], chosen: Mapping[str, str], name: str) -> str:
    """The column that plays a role.

    Args:
        role: one of `USUAL`.
        columns: the names there are.
        chosen: what the user said, by role.
        name: of the data set, for messages.

    Returns:
        The column's name.

    Raises:
        ValueError: the user's choice is not there, or nothing was chosen and no usual name is there.
    """
    there = list(columns)
    if unknown := sorted(set(chosen) - set(USUAL)):
        raise ValueError(f"'columns' names {', '.join(unknown)}, but what can be named is {', '.join(USUAL)}")
    candidates = [chosen[role]] if role in chosen else list(USUAL[role])
    for candidate in candidates:
        if candidate in there:
            return candidate
    wanted = f"'{chosen[role]}'" if role in chosen else f"for the {role}"
    raise ValueError(
        f"'{name}' has no column {wanted}; its columns are {', '.join(there)}; name the right one with "
        f"'columns: {{{role}: ...}}' in 'data'"
    )
