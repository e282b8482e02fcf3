"""What a question came to, with three faces: the terminal, `--json` and a section of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from bcrit.analysis.numbers.wording import value_text
from bcrit.analysis.report.figure import Figure


@dataclass(frozen=True)
class Table:
    """Rows of text."""

    head: tuple[str, ...]  # names of the columns
    rows: tuple[tuple[str, ...], ...]  # cells, as many as the head has names

    def only(self, wanted: Callable[[str], bool]) -> Table:
        """Its columns with such names."""
        kept = [place for place, name in enumerate(self.head) if wanted(name)]
        return Table(tuple(self.head[k] for k in kept), tuple(tuple(row[k] for k in kept) for row in self.rows))


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table with the columns of its first row; numbers are shown with three digits, None and NaN as a dash."""
    return Table(
        tuple(rows[0]) if rows else (), tuple(tuple(value_text(cell) for cell in row.values()) for row in rows)
    )


@dataclass(frozen=True)
class Plot:
    """A figure with its caption."""

    kind: ClassVar[str] = "plot"
    name: str  # unique in the page; letters, digits and '-'
    figure: Figure  # texts from users went through `label`
    caption: str  # what to see in it, in plain words; also the text for those who do not see it


@dataclass(frozen=True)
class Rows:
    """A table with its heading."""

    kind: ClassVar[str] = "rows"
    heading: str  # may be empty
    table: Table
    folded: bool = False  # in the page the reader unfolds it: for long tables
    brief: bool = False  # the terminal shows it; the page shows all
    # Columns by place with their names: the terminal leaves out the last of them that do not fit.
    spare: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A sentence between figures and tables."""

    kind: ClassVar[str] = "text"
    text: str
    heading: str = ""
    warning: bool = False  # set off in the page
    verbatim: bool = False  # as it is, line by line; the reader unfolds it


@dataclass(frozen=True)
class Words:
    """Words, each with what it means."""

    kind: ClassVar[str] = "words"
    meanings: Mapping[str, str]
    heading: str = ""  # with a heading they are a glossary, in two columns


@dataclass(frozen=True)
class Key:
    """A mark of a legend."""

    mark: str  # plotly's symbol, `line` or `line-dash`
    color: str
    text: str
    ends: tuple[str, ...] = ()  # what the ends of the colour scale are, where marks are coloured by a number


@dataclass(frozen=True)
class Panels:
    """Figures of one kind side by side; where they are many, one place with a list to choose from."""

    kind: ClassVar[str] = "panels"
    name: str  # of what they show; with a key, of a figure
    of: str  # what the keys are
    figures: Mapping[int, Figure]
    legend: tuple[Key, ...]


Part: TypeAlias = Plot | Rows | Text | Words | Panels


@dataclass(frozen=True)
class Answer:
    """All text is unescaped; the page escapes it."""

    name: str  # of the command, and the anchor in the page
    title: str  # the section's heading
    sentences: tuple[str, ...]  # the verdict first, each a paragraph; none where figures and tables say it
    parts: tuple[Part, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)  # the object of `--json`: plain, finite numbers or null
    notes: tuple[str, ...] = ()  # what to know when reading it
    yes: bool = True  # False: the question was asked and the answer is "no" (exit code 1)
    on_page: bool = True  # False: too little for a section of the report
    sections: tuple[Answer, ...] = ()  # of a page of its own, below the answer
    # What the terminal shows, where that is not the brief tables, the sentences and the notes: words that the page says
    # elsewhere, at its top or its end. A Text stands out.
    terminal: tuple[str | Rows | Text, ...] = ()

    @property
    def brief(self) -> tuple[Rows, ...]:
        """The tables that the terminal shows."""
        return tuple(part for part in self.parts if isinstance(part, Rows) and part.brief)
