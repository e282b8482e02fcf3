"""What batch sizes that change along training gained: the verdict, every schedule, and what it rests on."""

import math
from collections.abc import Sequence
from typing import Any, Final

from bcrit.analysis import report as draw
from bcrit.analysis.numbers import Estimate, interval_text, readable, value_text
from bcrit.analysis.questions.adaptive.result import Adaptive, ScheduleResult
from bcrit.analysis.records.json_values import plain
from bcrit.analysis.records.run_folder import ADAPTIVE
from bcrit.analysis.report import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.run import Run

_REPORT_ALONE: Final = ("gamma of fixed", "gamma predicted", "at an end")  # columns for which a terminal has no room
_COLORS: Final = (draw.VERMILLION, draw.ORANGE, draw.GREEN, draw.ACCENT, draw.PURPLE, draw.INK)


def ask(run: Run) -> Answer | str:
    """Show what `bcrit adaptive` measured of batch sizes that change along training."""
    found = run.folder.read_result(ADAPTIVE, Adaptive) if run.target is None else None
    if found is None:
        return "no change of batch sizes was measured at this target; `bcrit adaptive` trains with some"
    said, whole = sentences(found), answer_table(found)
    parts = (
        Plot(
            "adaptive-frontier",
            _frontier_plot(found),
            "Examples against steps to the target. Below the curve of the fixed batch sizes is a gain. "
            "A schedule is compared "
            "with its mean batch size held fixed. The dashed curve is the hyperbola with their s_min and e_min.",
        ),
        Plot(
            "adaptive-batch-sizes",
            _along_plot(found),
            "The batch size along training, one line a seed; dots end where the target was reached.",
        ),
        Rows("Every schedule: geometric means over seeds", whole),
        Rows("The learning rates that go with the batch sizes", rate_table(found), folded=True),
    )
    short = whole.only(lambda name: name not in _REPORT_ALONE)
    return Answer(
        "adaptive",
        "Batch sizes that change along training",
        (*said, *_stale(run, found)),
        parts,
        facts={**plain(found), "sentences": list(said)},
        terminal=(Rows(f"batch sizes that change along training to {found.target}", short), *said),
    )


def _stale(run: Run, found: Adaptive) -> list[str]:
    """Whether the run has gone on since."""
    confirmed = run.studies[(run.studies["source"] == "confirm") & run.studies["steps"].notna()]
    if sorted(int(b) for b in confirmed["batch_size"]) == sorted(found.tuned_at):
        return []
    return ["Since this was measured other batch sizes have been confirmed: run `bcrit adaptive` again."]


def sentences(found: Adaptive) -> tuple[str, ...]:
    """The verdict first, then each schedule, then what it rests on."""
    said = [_pooled(found), *(answer_sentence(found, one) for one in found.of("noise", "ramp"))]
    return (*(sentence for sentence in said if sentence), *_fixed(found), *_rests_on(found), *found.notes)


def answer_sentence(found: Adaptive, one: ScheduleResult) -> str:
    """What one schedule needed."""
    name = f"With {one.schedule}"
    sizes = [b for run in found.runs_of(one.schedule) for b in run.batch_sizes if b is not None]
    if one.kind == "noise" and sizes:
        name += f" (batch sizes {min(sizes):,} to {max(sizes):,} along training)"
    if one.steps is None or one.examples is None:
        return f"{name} {one.n_reached} of {one.n_runs} seeds reached the target, so it has no number."
    text = f"{name} it took {readable(one.steps)} steps and {readable(one.examples)} {found.unit}"
    if one.ratio is None:
        return f"{text}."
    ratio = Estimate(one.ratio, one.ratio_low, one.ratio_high)
    text += f", both {_number(ratio)} times those of its mean batch size held fixed, "
    text += readable(one.examples / one.steps)
    if one.kind == "ramp":  # of several exchange rates one would show a gain by chance: their mean has the verdict
        text += f" ({verdict(found, ratio, [one.steps])})"
    text += f"; gamma is {_number(Estimate(one.gamma, one.gamma_low, one.gamma_high))}"
    if one.gamma_fixed is not None:
        text += f", where fixed batch sizes have {readable(one.gamma_fixed)}"
    if one.gamma_predicted is not None:
        text += f" and the noise scale along the runs predicts {readable(one.gamma_predicted)}"
    beyond = " It lies beyond the fixed batch sizes that were trained: extrapolated." if one.outside else ""
    return f"{text}.{beyond}"


def verdict(found: Adaptive, ratio: Estimate, steps: Sequence[float]) -> str:
    """Whether a ratio of steps and examples shows a gain; `steps` are of the schedules that it is a mean over.

    A number shows nothing, whatever its interval over seeds, that is nearer to 1 than two standard deviations of what
    the fixed batch sizes miss their curve by beyond the spread over seeds, or than the distance of two evaluations over
    the root of the seeds.
    """
    value, low, high = ratio.value or math.nan, ratio.low, ratio.high
    grids = [max(1 / s, found.resolution) / math.sqrt(found.n_seeds) for s in steps]
    coarse = abs(math.log(value)) <= max(2 * found.misfit, sum(grids) / len(grids))
    if (low is None or high is None) and not found.deterministic:
        return "without an interval, which needs three seeds, neither a gain nor a loss is shown"
    if coarse:
        unsure = low is not None and high is not None and low <= 1 <= high
        why = "" if unsure else ", because what fixed ones need is known no better"
        return f"neither a gain nor a loss is shown{why}"
    if found.deterministic or low is None or high is None:
        return "a gain" if value < 1 else "a loss"
    if high < 1:
        return "a gain"
    return "a loss" if low > 1 else "neither a gain nor a loss is shown"


def _pooled(found: Adaptive) -> str:
    if found.pooled is None:
        return "No schedule that follows the noise scale has a number beside that of a fixed batch size."
    steps = [one.steps for one in found.of("noise") if one.ratio is not None and one.steps is not None]
    n, pooled = len(steps), Estimate(found.pooled, found.pooled_low, found.pooled_high)
    text = (
        f"Batch sizes that follow the noise scale need {_number(pooled)} times the "
        f"steps and {found.unit} of their mean held fixed (mean of {n} exchange rate{'s' if n > 1 else ''}"
        f"{'' if found.deterministic else f', {found.n_seeds} seed' + ('s' if found.n_seeds > 1 else '')}): "
        f"{verdict(found, pooled, steps)}."
    )
    if found.pooled_predicted is not None:
        text += f" The theory predicts {readable(found.pooled_predicted)} from the noise scale along these runs."
    return text


def _fixed(found: Adaptive) -> list[str]:
    scatter = f"{100 * math.expm1(found.scatter):.1f} %"
    gaps = [one.schedule for one in found.of("fixed") if one.steps is None]
    text = (
        f"The fixed batch sizes were trained again with the same learning rates, seeds and code: s_min is "
        f"{readable(found.s_min)} steps, e_min {readable(found.e_min)} {found.unit}, and their steps lie within "
        f"{scatter} of the curve that schedules are compared with ({100 * math.expm1(found.misfit):.1f} % beyond the "
        "spread over seeds)."
    )
    left = [f"Not every seed reached the target at {', '.join(gaps)}: left out of the curve."] if gaps else []
    return [text, *left]


def _rests_on(found: Adaptive) -> list[str]:
    kept = ", ".join(f"{name} {value}" for name, value in found.kept.items())
    kept = f" {kept} as at batch size {found.kept_from:,}." if kept else ""
    source = "known exactly" if found.noise == "b_noise" else "measured between the micro-batches of each update"
    return [
        f"All runs are trained to {found.target}. The learning rate follows the batch size by what the studies tuned "
        f"at fixed ones, on straight lines of log lr between them.{kept}",
        f"The noise scale is {found.noise}, {source}, times {readable(found.factor)}, which makes its mean over "
        "training the b_crit of the fixed batch sizes; r is the examples paid for a step less, and B = sqrt(r N). "
        "The gamma that is measured does not use the factor; the predicted one changes little with it.",
        "The theory (McCandlish et al. 2018, appendix D) takes the best learning rate of every moment for granted, and "
        "small steps; tuned constant rates are neither, so that what it predicts is a guide, not a bound. Where "
        "micro-batches are made one after another time goes with the examples, not with the steps.",
    ]


def _number(of: Estimate) -> str:
    if of.value is None:
        return "not known"
    if of.low is None or of.high is None:
        return readable(of.value)
    return f"{readable(of.value)} (95 %: {readable(max(of.low, 0.0))} to {readable(of.high)})"


def _frontier_plot(found: Adaptive) -> draw.Figure:
    all_of = {kind: [one for one in found.of(kind) if one.steps is not None] for kind in ("fixed", "noise", "ramp")}
    shown = [one for mine in all_of.values() for one in mine]
    steps, examples = (_seeds(found, shown, name) for name in ("steps", "examples"))
    hyperbola = [
        (s, found.e_min * (1 + 1 / (s / found.s_min - 1))) for s in found.frontier_steps if s > 1.01 * found.s_min
    ]
    traces: list[draw.Trace] = [
        draw.line(found.frontier_steps, found.frontier_examples, color=draw.GREY, width=2)
        | {"name": "curve through the fixed batch sizes"},
        draw.line([s for s, _ in hyperbola], [e for _, e in hyperbola], color=draw.GREY, dash="dash")
        | {"name": "hyperbola"},
    ]
    for kind, name, color, symbol in (
        ("fixed", "fixed batch size", draw.INK, "circle"),
        ("noise", "follows the noise scale", draw.VERMILLION, "diamond"),
        ("ramp", "ramp", draw.GREEN, "square"),
    ):
        mine = all_of[kind]
        if kind != "fixed":  # every seed as a small mark
            x, y = (_seeds(found, mine, name) for name in ("steps", "examples"))
            small = draw.points(x, y, color=color, size=4, showlegend=False, hoverinfo="skip")
            small["marker"]["opacity"] = 0.5
            traces.append(small)
        hovers = [
            {
                "schedule": one.schedule,
                "steps": one.steps,
                found.unit: one.examples,
                **({} if one.kind == "fixed" else {"over fixed": _interval(one, "ratio")}),
            }
            for one in mine
        ]
        x, y = [one.steps or 0.0 for one in mine], [one.examples or 0.0 for one in mine]
        traces.append(draw.points(x, y, hovers, color=color, symbol=symbol, size=10) | {"name": name})
    return draw.figure(
        [trace for trace in traces if trace["x"]],
        draw.log_axis("steps to the target", steps, pad=1.1),
        draw.log_axis(f"{draw.label(found.unit)} to the target", examples, pad=1.1),
    )


def _seeds(found: Adaptive, of: Sequence[ScheduleResult], name: str) -> list[float]:
    runs = (run for one in of for run in found.runs_of(one.schedule) if run.steps is not None)
    return [float(getattr(run, name)) for run in runs]


def _along_plot(found: Adaptive) -> draw.Figure:
    traces, examples, sizes = list[draw.Trace](), list[float](), list[float]()
    for place, one in enumerate(found.of("noise", "ramp")):
        name, color = draw.label(one.schedule), _COLORS[place % len(_COLORS)]
        for number, run in enumerate(found.runs_of(one.schedule)):
            rows = [(e, b, t) for e, b, t in zip(run.at_examples, run.batch_sizes, run.at_steps, strict=True) if b]
            hovers = [{"schedule": name, "seed": run.number + 1, "step": t, "batch size": b} for _, b, t in rows]
            drawn = draw.line([e for e, _, _ in rows], [b for _, b, _ in rows], hovers, color=color, width=1.2)
            dots = {"color": color, "size": [0] * (len(rows) - 1) + [7]}
            legend = {"name": name, "showlegend": number == 0, "legendgroup": name}
            traces.append({**drawn, **legend, "mode": "lines+markers", "marker": dots})
            examples += [float(e) for e in run.at_examples if e]
            sizes += [float(b) for b in run.batch_sizes if b]
    return draw.figure(
        traces,
        draw.log_axis(f"{draw.label(found.unit)} used", examples, pad=1.1),
        draw.log_axis(f"batch size ({draw.label(found.unit)})", sizes, ticks=found.tuned_at),
    )


def answer_table(found: Adaptive) -> Table:
    """One row a schedule."""
    rows = []
    for one in found.answers:
        row: dict[str, Any] = {
            "schedule": one.schedule,
            "reached": f"{one.n_reached} of {one.n_runs}",
            "steps": one.steps,
            found.unit: one.examples,
            "over fixed": _interval(one, "ratio"),
            "predicted": one.ratio_predicted,
            "gamma": _interval(one, "gamma"),
            "gamma of fixed": one.gamma_fixed,
            "gamma predicted": one.gamma_predicted,
            "at an end": None if one.clipped is None else f"{100 * one.clipped:.0f} %",
        }
        rows.append(row)
    return table_of(rows)


def rate_table(found: Adaptive) -> Table:
    """The tuned learning rates."""
    pairs = zip(found.tuned_at, found.rates, strict=True)
    return table_of([{"batch size": b, "learning rate": rate, "optimizer": found.optimizer} for b, rate in pairs])


def _interval(one: ScheduleResult, name: str) -> str | None:
    value, low, high = (getattr(one, f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return None
    return value_text(value) if low is None else interval_text(value, low, high)
