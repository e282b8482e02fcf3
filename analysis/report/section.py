"""A section of the report: what a topic says in sentences, then shows in figures and tables."""

from __future__ import annotations

from dataclasses import dataclass

from bcrit.analysis.report.figure import Figure
from bcrit.analysis.report.table import Table


@dataclass(frozen=True)
class Plot:
    """A figure with its caption.

    Attributes:
        name: unique in the page; letters, digits and '-'.
        figure: what `bcrit.analysis.report.figure.figure` returned; its texts from users went through `label`.
        caption: what to see in it, in plain words; the page escapes it.
    """

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Rows:
    """A table with its heading.

    Attributes:
        heading: what the rows are.
        table: the rows.
        folded: whether the reader has to unfold it: for long tables.
    """

    heading: str
    table: Table
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """One topic of the page. All text is unescaped; the page escapes it.

    Attributes:
        name: its anchor in the page, one word.
        title: its heading.
        sentences: the verdict first, each a paragraph.
        parts: figures and tables in the order in which they stand.
    """

    name: str
    title: str
    sentences: tuple[str, ...]
    parts: tuple[Plot | Rows, ...]


__all__ = ["Plot", "Rows", "Section"]
