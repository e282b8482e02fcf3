"""What `bcrit adaptive` and `bcrit landscape` do with what they measured: the report, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from bcrit.analysis.finish import finish
from bcrit.analysis.records.run_folder import REPORT, RunFolder
from bcrit.terminal import say, wide_console


def finish_and_print(
    folder: RunFolder, stored: str, facts: Mapping[str, Any], sentences: Sequence[str], table: Table, as_json: bool
) -> None:
    """Make the report anew; print the answer, which lies in the file `stored`, as one object or as a table."""
    finish(folder)
    console = wide_console(stderr=as_json)
    if as_json:
        print(json.dumps({**facts, "sentences": list(sentences)}, indent=2, allow_nan=False))
    else:
        console.print(table)
        for sentence in sentences:
            say(console, sentence)
    say(console, f"\nresult: {folder.address(stored)}\nreport: {folder.address(REPORT)}")
