"""Sensitivity in sentences."""

from __future__ import annotations

from collections.abc import Mapping

from bcrit.analysis.optimum.sentences import words
from bcrit.analysis.sensitivity.share import Share
from bcrit.analysis.sensitivity.trend import Trend
from bcrit.analysis.sensitivity.verdicts import Verdict
from bcrit.analysis.wording import enumeration, readable


def sentences(
    shares: Mapping[int, Share], verdicts: Mapping[str, Verdict], over: Trend, margin: float, declared: bool
) -> tuple[str, ...]:
    """The sentences, the verdicts first.

    Args:
        shares: of the studies that reached the target, by batch size.
        verdicts: over all studies.
        over: trend of the near-optimal volume.
        margin: share of the fewest steps that is near-optimal.
        declared: whether a search space was declared.
    """
    if not shares:
        return ("No study reached the target, so nothing is known of the sensitivity to hyperparameters.",)
    return tuple(s for s in (_matters(verdicts), *_shares(shares, margin, declared), _trend(over)) if s)


def _matters(verdicts: Mapping[str, Verdict]) -> str:
    texts = {
        "sensitive": "tune {}: the near-optimal trials lie closer together there than the search as a whole",
        "insensitive": "{} hardly matters: near-optimal trials are spread over its whole range",
        "not known": "whether {} matters is not known: too few trials are near-optimal",
    }
    parts = []
    for kind, text in texts.items():
        names = [words(name) for name, verdict in verdicts.items() if verdict.kind == kind]
        if names:
            listed = text.format(enumeration(names))
            parts.append(listed if len(names) == 1 else _plural(listed))
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""


def _plural(text: str) -> str:
    return text.replace("matters", "matter").replace("its whole range", "their whole ranges")


def _shares(shares: Mapping[int, Share], margin: float, declared: bool) -> list[str]:
    box = "the search space" if declared else "the range that was tried"
    known = {b: s for b, s in shares.items() if s.known}
    found = [
        f"At batch size {readable(b)}, {_percent(s.value)} of {box} (95 % interval {_percent(s.low)} to "
        f"{_percent(s.high)}) costs at most {100 * margin:.0f} % more steps than the best."
        for b, s in ((b, known[b]) for b in dict.fromkeys((min(known), max(known)) if known else ()))
    ]
    vague = [readable(b) for b in shares if b not in known]
    if vague:
        found.append(
            f"At batch size {', '.join(vague)} the share is hardly known: too many trials were cut off early, or too "
            "few were run."
        )
    return found


def _percent(share: float | None) -> str:
    value = 100 * (share or 0.0)
    return f"{value:.2g} %" if value < 10 else f"{value:.0f} %"


def _trend(over: Trend) -> str:
    if over.slope is None:
        return ""
    factor = (
        f"a doubling of the batch size multiplies it by {2**over.slope:.2f} ({2**over.low:.2f} to {2**over.high:.2f})"
    )
    if over.kind == "no trend":
        return f"The near-optimal region shows no clear trend with the batch size over {over.n} studies: {factor}."
    return f"The near-optimal region {over.kind} with the batch size: {factor}, over {over.n} studies."


__all__ = ["sentences"]
