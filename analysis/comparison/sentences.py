"""The comparison in words: what differs, what does not, what that means, and who needs fewer steps where."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bcrit.analysis.comparison.advantage import Advantage, Fastest, Stretch
from bcrit.analysis.comparison.ratios import Ratio
from bcrit.analysis.wording import duration, enumeration, readable

MOST_OTHERS = 3
"""So many pairs without the first run are put into words; more would hide the answer. Chosen, not studied."""


def sentences(
    ratios: Sequence[Ratio], advantages: Sequence[Advantage], fastest: Sequence[Fastest], baseline: str
) -> tuple[str, ...]:
    """The answer: every run against the first one, then what else differs, then the fastest trainings.

    Args:
        ratios: of all pairs.
        advantages: of all pairs that can be compared.
        fastest: of the runs with step times.
        baseline: label of the first run.
    """
    found: list[str] = []
    pairs: dict[tuple[str, str], list[Ratio]] = {}
    for ratio in ratios:
        pairs.setdefault((ratio.run, ratio.baseline), []).append(ratio)
    between = {(advantage.run, advantage.baseline): advantage for advantage in advantages}
    for names, rows in pairs.items():
        if names[1] == baseline:
            found.append(" ".join([_numbers(rows), *_meaning(rows)]))
            found += [_where(between[names])] if names in between else []
    others = [rows for names, rows in pairs.items() if names[1] != baseline and _differs(rows)]
    if len(others) <= MOST_OTHERS:
        found += [" ".join([_numbers(rows), *_meaning(rows)]) for rows in others]
    else:
        found.append(f"Of the other pairs, {len(others)} differ in at least one number; the table of ratios has them.")
    if len(fastest) > 1:
        each = "; ".join(
            f"{f.run} at batch size {readable(f.batch_size)}, {duration(f.hours)} ({readable(f.steps)} steps)"
            for f in sorted(fastest, key=lambda f: f.hours)
        )
        found.append(f"Shortest training within what was measured, on each run's own machine: {each}.")
    return tuple(found)


def _differs(rows: Sequence[Ratio]) -> bool:
    return any(row.verdict == "differs" for row in rows)


def _numbers(rows: Sequence[Ratio]) -> str:
    """One sentence on two runs: `momentum against sgd: b_crit is 4.1 times as large (2.9 to 5.8); ...`."""
    run, baseline = rows[0].run, rows[0].baseline
    differ = [f"{row.quantity} {_times(row)}" for row in rows if row.verdict == "differs"]
    same = [f"{row.quantity} ({_measured(row)})" for row in rows if row.verdict == "no difference seen"]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict == "not comparable":
            reasons.setdefault(row.reason, []).append(row.quantity)
    parts = differ
    if same:
        parts.append(f"no difference is seen in {enumeration(same)}")
    if len(reasons) == 1 and not parts:
        return f"{run} and {baseline} cannot be compared: {next(iter(reasons))}."
    parts += [f"{enumeration(names)} cannot be compared, because {reason}" for reason, names in reasons.items()]
    return f"{run} against {baseline}: {'; '.join(parts)}."


def _times(row: Ratio) -> str:
    if row.ratio is not None:
        return f"is {readable(row.ratio)} times as large ({_interval(row)})"
    if row.low is not None and row.low > 1:
        return f"is at least {readable(row.low)} times as large"
    return f"is at most {readable(row.high or math.inf)} times as large"


def _measured(row: Ratio) -> str:
    interval = _interval(row)
    found = f"ratio {readable(row.ratio)}, {interval}" if row.ratio is not None else f"ratio {interval}"
    return f"{found}; not beyond chance among so many ratios" if row.excludes_one else found


def _interval(row: Ratio) -> str:
    if row.low is None or row.high is None:
        return f"above {readable(row.low)}" if row.low is not None else f"below {readable(row.high or math.inf)}"
    return f"{readable(row.low)} to {readable(row.high)}"


def _meaning(rows: Sequence[Ratio]) -> list[str]:
    """What the pattern of the three verdicts means, where it has a name.

    Shallue et al. 2018 found the first (momentum against SGD), the search-cost study the second (a learning-rate
    schedule: e_min a fifth, s_min the same, hence b_crit a fifth).
    """
    run, baseline = rows[0].run, rows[0].baseline
    s, e, b = (_direction(row) for row in rows)
    if e == 0 and b in (1, -1) and s in (-b, None):
        far, near = (run, baseline) if b == 1 else (baseline, run)
        return [
            f"So no difference is seen at very small batch sizes, and {far} extends perfect scaling: it still profits "
            f"from batch sizes at which {near} no longer does."
        ]
    if s == 0 and e in (1, -1) and b in (e, 0):
        fewer, more = (run, baseline) if e == -1 else (baseline, run)
        smaller = f" Its b_crit is smaller for that reason, not because it scales worse than {more}." if b == e else ""
        return [f"So {fewer} saves at small batch sizes, and no difference is seen at very large ones.{smaller}"]
    if s is not None and s == e != 0 and b == 0:
        return [f"So {run if s == -1 else baseline} needs fewer steps at every batch size, by about the same factor."]
    if (s, e, b) == (0, 0, 0):
        return ["So none of the three numbers tells them apart; the intervals say how large a difference may still be."]
    return []


def _direction(row: Ratio) -> int | None:
    """1 larger than the baseline's, -1 smaller, 0 no difference seen, None not comparable."""
    if row.verdict == "not comparable":
        return None
    if row.verdict == "no difference seen":
        return 0
    return 1 if (row.ratio or row.low or 0.0) > 1 else -1


def _where(advantage: Advantage) -> str:
    """Who needs fewer steps from where to where."""
    run, baseline = advantage.run, advantage.baseline
    parts = [_stretch(stretch, run, baseline) for stretch in advantage.stretches]
    meet = "" if advantage.crossing is None else f" The curves meet at {readable(advantage.crossing)}."
    head = f"{run} and {baseline}, fewer steps by the curves, each batch size for itself"
    return f"{head}: {'; '.join(parts)}.{meet}{_hours(advantage)}"


def _stretch(stretch: Stretch, run: str, baseline: str) -> str:
    low, high = readable(stretch.low), readable(stretch.high)
    sizes = f"at batch size {low}" if low == high else f"at batch sizes {low} to {high}"
    if stretch.fewer is None:
        return f"{sizes} the two are not told apart"
    ratio, ends = stretch.strongest, (stretch.strongest_low, stretch.strongest_high)
    if stretch.fewer == baseline:
        ratio, ends = 1 / ratio, (1 / ends[1], 1 / ends[0])
    other = baseline if stretch.fewer == run else run
    return (
        f"{sizes} {stretch.fewer} (at {readable(stretch.strongest_at)} it takes {readable(ratio)} times the steps of "
        f"{other}, {readable(ends[0])} to {readable(ends[1])})"
    )


def _hours(advantage: Advantage) -> str:
    """Who needs fewer hours; nothing where the two are told apart nowhere."""
    if all(name is None for name, _, _ in advantage.faster):
        return ""
    parts = [
        f"at batch sizes {readable(a)} to {readable(b)} {name or 'not told apart'}" for name, a, b in advantage.faster
    ]
    if len(advantage.faster) == 1:
        parts = [f"{advantage.faster[0][0]} throughout"]
    return f" Fewer hours, with each run's own step times taken as exact: {'; '.join(parts)}."


__all__ = ["sentences"]
