"""Configurations made flat, whatever is in them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bcrit.analysis.exchange.logged import flat

Scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text('ab é<"\n', max_size=5))
Names = st.text(alphabet="abc_", min_size=1, max_size=4)
Nested = st.recursive(Scalar, lambda inner: st.dictionaries(Names, inner, max_size=3), max_leaves=12)


@settings(deadline=None)
@given(st.dictionaries(Names, Nested, max_size=4))
def test_every_leaf_is_there_once_under_its_path(nested: dict[str, object]) -> None:
    found = flat(nested)
    for name, value in found.items():
        inner: object = nested
        for part in name.split("/"):
            assert isinstance(inner, dict)
            inner = inner[part]
        assert inner is value


def test_lists_and_objects_become_texts() -> None:
    assert flat({"a": {"b": [1, {"c": 2}], 3: (4,)}, "d": {}}) == {"a/b": "[1, {'c': 2}]", "a/3": "(4,)"}
