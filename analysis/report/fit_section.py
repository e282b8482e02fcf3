"""The section on the fit: how well the curve fits, what else would, what else is called critical, what comes next."""

from __future__ import annotations

from bcrit.analysis.fit.models import clearly_better
from bcrit.analysis.fit.next_batch_size import sentence as next_sentence
from bcrit.analysis.fit.regimes import sentence as regimes_sentence
from bcrit.analysis.fit.result import HyperbolaFit
from bcrit.analysis.report.answer import Answer, Plot, Rows, Table, table_of
from bcrit.analysis.report.regimes_plot import regimes_plot
from bcrit.analysis.report.residuals_plot import residuals_plot
from bcrit.analysis.run import Run
from bcrit.analysis.wording import interval_text, readable, value_text

_MODELS = {
    "perfect_scaling": "perfect scaling",
    "flat": "flat",
    "hyperbola": "hyperbola (used here)",
    "two_asymptotes": "two straight lines",
    "p_norm": "free knee (p-norm)",
}
_DEFINITIONS = {
    "2x": "twice the minimum (used here)",
    "20_percent_over_linear": "20 % over linear scaling",
    "efficiency": "sample efficiency",
    "steps_double": "steps double",
    "examples_double": "examples double",
    "asymptotes_cross": "asymptotes cross",
}


def fit_section(analysis: Run) -> Answer | None:
    """The section.

    Args:
        analysis: of the run.

    Returns:
        None where there is no fit.
    """
    fit = analysis.fit
    if fit is None:
        return None
    what_follows = (regimes_sentence(fit.regimes()), next_sentence(fit.next_batch_size(), fit.unit))
    parts: list[Plot | Rows] = [
        Plot(
            "residuals",
            residuals_plot(fit),
            "How far the measured steps lie above the fitted curve. Points that scatter without order speak for the "
            "curve, an arch against it. Shaded: one standard deviation of the scatter.",
        )
    ]
    bands = regimes_plot(fit)
    if bands is not None:
        parts.append(
            Plot(
                "regimes",
                bands,
                "Perfect scaling (twice the batch size, nearly half the steps) ends where training takes 20 % more "
                f"{fit.unit} than at the smallest batch sizes. On the plateau, twice the batch size saves less than a "
                f"tenth of the steps. White: the {readable(100 * fit.level)} % interval of a boundary. Dots: the "
                "batch sizes of this run, orange where such an interval crosses them.",
            )
        )
    parts += [
        Rows("Other curves through the same points", _models(fit)),
        Rows("What else is called the critical batch size", _definitions(fit)),
    ]
    sentences = (_verdict(fit), *(sentence for sentence in what_follows if sentence is not None))
    return Answer("fit", "How well the curve fits", sentences, tuple(parts))


def _verdict(fit: HyperbolaFit) -> str:
    missed = f"The curve misses the measured steps by {readable(100 * fit.rms_log_residual)} % (root mean square)"
    if fit.degrees_of_freedom < 1:
        return "Two batch sizes always lie on a curve, so nothing is known of how well it fits."
    if fit.lack_of_fit_p_value is None:
        return f"{missed}; there are too few batch sizes to tell whether another curve would do better."
    if fit.lack_of_fit:
        return f"{missed}, and the points bend away from it by more than they scatter: read the notes on b_crit."
    better = clearly_better(fit.models)
    if better is not None:
        name = _MODELS[better[0].name].split(" (")[0]
        return f"{missed}. By the information criterion another curve does clearly better: {name}."
    return f"{missed}, and nothing in the points speaks for a knee of another shape."


def _models(fit: HyperbolaFit) -> Table:
    """The candidates, the best first; without enough studies for the criterion, last."""
    known = [model.aicc for model in fit.models if model.aicc is not None]
    least = min(known, default=0.0)
    return table_of(
        [
            {
                "curve": _MODELS[model.name],
                "S(B)": model.formula,
                "parameters": ", ".join(f"{name} = {readable(value)}" for name, value in model.parameters.items()),
                "misses by (rms)": f"{readable(100 * model.rms_log_residual)} %",
                "AICc above the best": "too few points" if model.aicc is None else readable(model.aicc - least),
                "weight": None if model.weight is None else f"{100 * model.weight:.0f} %",
            }
            for model in sorted(fit.models, key=lambda model: (model.aicc is None, model.aicc or 0.0))
        ]
    )


def _definitions(fit: HyperbolaFit) -> Table:
    return table_of(
        [
            {
                "definition": _DEFINITIONS[entry.name],
                f"batch size ({fit.unit})": (
                    "not identified" if entry.batch_size is None else value_text(entry.batch_size)
                ),
                "interval": interval_text(None, entry.low, entry.high),
                "what it is": entry.definition,
            }
            for entry in fit.definitions()
        ]
    )


__all__ = ["fit_section"]
