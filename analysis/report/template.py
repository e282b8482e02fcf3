"""The page's templates: how they are found, and what all of them are given."""

from __future__ import annotations

from importlib import resources
from typing import Any

from bcrit.analysis.report.answer import Answer, Plot


def render(template: str, /, **words: Any) -> str:
    """Fill one of this folder's templates; every text is escaped, and a name that was not given is an error.

    Args:
        template: its file.
        words: what it shows; `css` and `plotly`, which every page holds, are added.

    Returns:
        The page.
    """
    # Jinja and plotly's script are needed by nothing else in this package.
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("bcrit.analysis", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = resources.files("bcrit.analysis.report").joinpath("page.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(words, css=css, plotly=get_plotlyjs())


def page_of(answer: Answer, generator: str) -> str:
    """A comparison as one HTML page that loads nothing from anywhere; the generator's name stands in its head."""
    parts = [part for section in answer.sections for part in section.parts]
    figures = {part.name: part.figure for part in parts if isinstance(part, Plot)}
    return render(
        "comparison.html",
        generator=generator,
        title=answer.title,
        runs=answer.facts["runs"],
        assumed=answer.facts["assumed"],
        answer=answer.sentences,
        caveats=answer.notes,
        sections=answer.sections,
        figures=figures,
    )
