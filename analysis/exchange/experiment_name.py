"""The name of an imported run and of its folder, made from where it came from."""

from __future__ import annotations

import re


def experiment_name(source: str, otherwise: str) -> str:
    """A name for the folder from the last part of a source's place: letters, digits, '-', '_' and '.' only."""
    stem = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    stem = re.sub(r"\.(csv|db|json|jsonl|journal|log|parquet|sqlite3?)$", "", stem)
    plain = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9_.-]+", "-", stem)).strip("-._")
    return plain[:100].rstrip("-._") or otherwise


__all__ = ["experiment_name"]
