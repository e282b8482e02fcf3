"""Figures of the loss between two networks: along the straight line and along the curve of Keskar et al. 2016."""

from __future__ import annotations

from bcrit.analysis.landscape.result import Landscape, LossPath
from bcrit.analysis.report.answer import Plot
from bcrit.analysis.report.figure import (
    ACCENT,
    GREY,
    VERMILLION,
    Trace,
    figure,
    hover,
    linear_axis,
    value_axis,
    vertical,
)

_WORDS = {
    "line": ("straight line", "(1 − α) x₀ + α x₁"),
    "curve": ("curve", "cos(α π/2) x₀ + sin(α π/2) x₁"),
}


def path_plots(found: Landscape) -> list[Plot]:
    """One figure a kind of path, with the tuned and the un-tuned network at its end."""
    plots = []
    for kind, (name, formula) in _WORDS.items():
        paths = [path for path in found.paths if path.kind == kind]
        if not paths:
            continue
        losses = [f for path in paths for f in (*path.train_loss, *path.validation_loss) if f is not None]
        ends = [vertical(alpha, color=GREY, width=1, dash="dot") for alpha in (0, 1)]
        drawn = figure(
            [trace for path in paths for trace in _traces(path)],
            linear_axis("α"),
            value_axis("loss", losses),
            shapes=ends,
        )
        first, second = paths[0].first, paths[0].second
        caption = (
            f"Loss along the {name} {formula} from the winner at batch size {first:,} (α = 0) to the networks at "
            f"{second:,} (α = 1). Lines: training loss, dashed: validation loss. A narrower valley is sharper in this "
            "one direction."
        )
        plots.append(Plot(f"landscape-{kind}", drawn, caption))
    return plots


def _traces(path: LossPath) -> list[Trace]:
    kind, color = ("tuned", ACCENT) if path.tuned else ("un-tuned", VERMILLION)
    traces = []
    for what, losses, dash in (("training", path.train_loss, "solid"), ("validation", path.validation_loss, "dash")):
        pairs = list(zip(path.alphas, losses, strict=True))
        traces.append(
            {
                "name": f"to the {kind} network, {what}",
                "mode": "lines",
                "x": list(path.alphas),
                "y": list(losses),
                "hovertext": [hover({"α": alpha, f"{what} loss": loss}) for alpha, loss in pairs],
                "line": {"color": color, "dash": dash, "width": 2},
            }
        )
    return traces


__all__ = ["path_plots"]
