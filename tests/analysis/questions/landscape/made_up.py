"""A landscape of three batch sizes, made up."""

from dataclasses import replace
from typing import Any

from bcrit.analysis.questions.landscape.result import Kind, Landscape, LossPath, Network, Rise, WarmStarts, WarmState

SIZES = (8, 64, 256)


def network(batch_size: int, tuned: bool, number: int, sharpness: float, **more: Any) -> Network:
    rises = tuple(Rise(eps, p, sharpness * eps / 1e-3, 0.3, 10, 5, True) for p in (None, 100) for eps in (1e-3, 5e-4))
    given = Network(
        batch_size=batch_size,
        tuned=tuned,
        number=number,
        seed=11 + number,
        trial_id=f"b{batch_size}-confirm-{number}" if tuned else None,
        point=f"made-up-{batch_size if tuned else SIZES[0]}",
        checkpoint=f"checkpoints/{batch_size}.pt",
        outcome="reached",
        steps=100,
        n_weights=17,
        metric=0.9,
        same_curve=True if tuned else None,
        curve_difference=0.0 if tuned else None,
        recorded_steps=100 if tuned else None,
        train_loss=0.1 + 0.001 * sharpness,
        validation_loss=0.2,
        weight_distance=3.0,
        weight_norm=5.0,
        rises=rises,
        top_eigenvalue=2 * sharpness,
        top_residual=1e-6,
        trace=9 * sharpness,
        trace_error=0.5,
    )
    return replace(given, **more)


def landscape(**more: Any) -> Landscape:
    """Tuned winners stay at sharpness 1 to 2, un-tuned ones grow to 10 and more."""
    networks = [
        network(b, tuned, n, (1 if tuned else 10 * b / 256) + 0.5 * n)
        for b in SIZES
        for tuned in ((True, False) if b > SIZES[0] else (True,))
        for n in range(2)
    ]
    alphas = (-0.5, 0.0, 0.5, 1.0, 1.5)
    paths = tuple(
        LossPath(kind, tuned, 8, 256, 0, 4.0, alphas, (None, 0.1, 0.7 if tuned else 0.05, 0.2, 3.0), (4.0, 1, 1, 1, 4))
        for tuned in (True, False)
        for kind in ("line", "curve")
    )
    found = Landscape("loss < 1", "examples", 48, 64, 32, 0, "cpu", "2.0", tuple(networks), paths, ("one note",))
    return replace(found, **more)


def warm_starts() -> WarmStarts:
    """From 0, 10 and 100 updates of batch size 8: the large batch gains by the last of them, un-tuned more."""
    kinds: tuple[Kind, ...] = ("small", "tuned", "un-tuned")
    ends = {"small": (0.1, 0.5, 0.9), "tuned": (0.86, 0.86, 0.9), "un-tuned": (0.8, 0.8, 0.88)}
    states = tuple(
        WarmState(
            kind=kind,
            number=number,
            small_steps=steps,
            large_steps=0 if kind == "small" else 25,
            last={"val_accuracy": ends[kind][place] + 0.01 * number, "val_loss": None},
            best={"val_accuracy": 0.95, "val_loss": 0.4},
            train_loss=0.01,
            sharpness=10 * (1 - ends[kind][place]) + number,
            weight_distance=2.0 + place,
            problem=None,
        )
        for number in range(2)
        for place, steps in enumerate((0, 10, 100))
        for kind in kinds
    )
    return WarmStarts(8, 256, 8, 100.0, 64, 1e-3, "val_accuracy", states)
