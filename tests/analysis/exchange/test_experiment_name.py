"""Names of folders from places of every kind."""

from __future__ import annotations

import pytest

from bcrit.analysis.exchange.run import experiment_name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sqlite:///a/study.db", "study"),
        ("runs/my run (2).csv", "my-run-2"),
        ("/x/../..", "other"),
        ("", "other"),
        ("a/" + "x" * 300, "x" * 100),
        ("<b>", "b"),
    ],
)
def test_a_folder_s_name_is_plain(source: str, name: str) -> None:
    assert experiment_name(source, "other") == name
