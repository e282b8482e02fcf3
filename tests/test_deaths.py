"""The table of deaths names tests that there are, one in every row."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [
    line.strip("| ").split(" | ")
    for line in (ROOT / "docs" / "guides" / "what_a_death_is.md").read_text().splitlines()
    if line.startswith("| ")
][2:]
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
}


def test_every_death_is_proved_by_tests_that_there_are() -> None:
    assert len(ROWS) >= 17 and {len(row) for row in ROWS} == {5}
    for row in ROWS:
        named = re.findall(r"`(test_\w+)`", row[-1])
        assert named and set(named) <= TESTS, (row[0], set(named) - TESTS)
