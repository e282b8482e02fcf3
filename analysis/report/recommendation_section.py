"""The report's parts on the recommendation: time against money, and the decision as the last words of the page."""

from __future__ import annotations

import math

from bcrit.analysis.recommendation.recommend import Recommendation
from bcrit.analysis.report import tables
from bcrit.analysis.report.answer import Answer, Plot, Rows
from bcrit.analysis.report.cost_plot import cost_plot
from bcrit.analysis.run import Run
from bcrit.analysis.wording import readable


def hardware_section(recommendation: Recommendation | None) -> Answer | None:
    """Time against money on every hardware that was given; None where there is one or none.

    Args:
        recommendation: None where nothing could be recommended.
    """
    figure = None if recommendation is None else cost_plot(recommendation, recommendation.unit)
    if recommendation is None or figure is None:
        return None
    parts: list[Plot | Rows] = [
        Plot(
            "cost",
            figure,
            "Each point is a kind and number of devices at its best batch size. Along the dotted line there is nothing "
            "both faster and cheaper; grey points are never worth it at these prices.",
        )
    ]
    if recommendation.break_even:
        parts.append(Rows("The price at which another kind would be chosen", tables.price_table(recommendation)))
    sentence = (
        "On a fixed number of devices time and money go together, so every hardware has one best batch size; which "
        "hardware to take is a matter of time against money."
    )
    return Answer("hardware", "Time against money", (sentence,), tuple(parts))


def closing_section(analysis: Run, recommendation: Recommendation | None) -> Answer:
    """The decision in one paragraph, for a reader of nothing else: it belongs at the very end of the page.

    Args:
        analysis: of the run, for what its numbers lack.
        recommendation: None where nothing could be recommended.
    """
    if recommendation is None:
        why = (analysis.no_fit or "no recommendation was computed").rstrip(".")
        text = f"Do not decide on a batch size from this run yet: {why}."
    else:
        text = recommendation.paragraph
    return Answer("decision", "In short", (" ".join([text, *_lacking(analysis)]),), ())


def _lacking(analysis: Run) -> list[str]:
    """What of the measurement itself should make a reader wait."""
    studies = analysis.studies[analysis.studies["steps"].notna()]
    told = []
    unconfirmed = studies.loc[studies["source"] != "confirm", "batch_size"].tolist()
    if unconfirmed:
        which = f"batch size {readable(unconfirmed[0])}" if len(unconfirmed) == 1 else f"{len(unconfirmed)} batch sizes"
        told.append(
            f"The steps at {which} are those of the luckiest single run of a search: confirm on fresh seeds before "
            "spending much."
        )
    edges = [edge for size in studies["batch_size"] for edge in analysis.last_edges(int(size)).to_dict("records")]
    edges = [edge for edge in edges if edge["kind"] == "box" and math.isnan(edge["widened_to"])]
    if edges:
        names = ", ".join(dict.fromkeys(str(edge["dimension"]) for edge in edges))
        count = len({edge["batch_size"] for edge in edges})
        told.append(
            f"At {count} of {len(analysis.studies)} batch sizes the best {names} lies at the end of what was searched: "
            "widen the search, since fewer steps may be possible."
        )
    return told


__all__ = ["closing_section", "hardware_section"]
