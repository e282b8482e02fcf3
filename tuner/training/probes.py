"""What is measured beside training: the gradient noise scale, and how far the weights have moved."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from bcrit.search_spaces.presets import EXTRAPOLATED
from bcrit.search_spaces.tables import NOISE_SCALE, WEIGHT_DISTANCE
from bcrit.tuner.training.data import Examples, as_memory_allows, is_out_of_memory, picker
from bcrit.tuner.training.noise_scale.per_example import (
    CHUNK,
    CurvedScale,
    example_loss,
    measure_b_noise,
    parameters_of,
)
from bcrit.tuner.training.settings import Settings, learning_rate

_STREAM = 1  # third word of the seed: a stream that no epoch's order has (`Batches`)


class RunProbes:
    """The probes of one run: its gradient noise scale, and how far its weights have moved, measured on the side.

    They read the weights and draw from streams of their own, so the run trains as it would without, bit for bit.

    The noise scale is that of the training set (`n_examples` in `measure_b_noise`), at the weights that train and not
    their average, in the model's training mode. Each measurement draws its examples anew, without replacement, by the
    run's seed and the step. Where memory gives out, fewer of them are computed at a time, and below one at a time the
    columns stay empty: a probe never ends a run for want of memory.
    """

    changes = ("_last", "_chunk")

    def __init__(
        self,
        settings: Settings,  # `batch_size` in rows of the training set
        model: nn.Module,  # on the device, before the first update
        loss: Callable[[Tensor, Tensor], Tensor],  # of a batch's (outputs, targets), the mean over examples
        train: Examples,
        items_per_row: float,  # what a batch counts (tokens, say) in a row, the unit of the noise scale
    ) -> None:
        self._settings, self._model, self._loss = settings, model, loss
        self._device = next(model.parameters()).device
        self._pick, self._n_rows, self._data_device = picker(train, self._device), len(train[0]), train[0].device
        self._items_per_row = items_per_row
        measure = settings.probes.measure
        self._distance = WeightDistance(model) if "weight_distance" in measure else None
        self._scales = "noise_scale" in measure
        self._last: int | None = None
        self._chunk = CHUNK

    def measure(self, step: int, last: bool) -> Mapping[str, float | None]:
        """What is measured at an evaluation: columns of `NOISE_SCALE` and `WEIGHT_DISTANCE`.

        `last` asks for the noise scale in any case: at the target, or at the end.
        """
        found: dict[str, float | None] = {}
        if self._distance is not None:
            found[WEIGHT_DISTANCE[0].name] = _finite(self._distance.now())
        if self._scales and (last or is_due(step, self._last, self._settings.probes.per_decade)):
            found |= self._noise_scale(step)
        self._last = step
        return found

    def _noise_scale(self, step: int) -> Mapping[str, float | None]:
        examples = self._examples(step)
        loss, parameters = example_loss(self._model, self._loss), parameters_of(self._model)

        def attempt(chunk: int) -> CurvedScale:
            with np.errstate(over="ignore", invalid="ignore"):  # of a run that diverges, these end as empty cells
                return measure_b_noise(
                    loss, parameters, examples, n_examples=self._n_rows, chunk=chunk, seed=self._settings.seed
                )

        try:
            scale, self._chunk = as_memory_allows(attempt, self._chunk, self._device)
        except Exception as error:
            if is_out_of_memory(error):
                return {}
            raise
        lr, batch_size = effective_lr(self._settings, step), self._settings.batch_size
        heat = None if lr is None else scale.temperature(lr, batch_size)
        found = columns_of(scale, self._items_per_row) | {"lr_effective": lr, "temperature": heat}
        return {column.name: _finite(found[column.name]) for column in NOISE_SCALE}

    def _examples(self, step: int) -> Examples:
        stream = np.random.default_rng((self._settings.seed, step, _STREAM))
        n = min(self._settings.probes.examples, self._n_rows)
        rows = torch.from_numpy(stream.choice(self._n_rows, n, replace=False))
        return self._pick(rows.to(self._data_device))


def is_due(step: int, last: int | None, per_decade: int) -> bool:
    """Whether an evaluation is the first one at or after a point of the grid 0, 1, 10^(1/k), 10^(2/k), ...

    It depends on the steps alone, so runs with one evaluation grid are measured at the same steps.
    """
    return last is None or _points(step, per_decade) > _points(last, per_decade)


def _points(step: int, per_decade: int) -> int:
    """Points of the grid up to a step; 1e-9 keeps a power of ten that rounding takes for slightly less."""
    return 1 if step < 1 else 2 + math.floor(per_decade * math.log10(step) + 1e-9)


def effective_lr(settings: Settings, step: int) -> float | None:
    """The rate lr / (1 - momentum) of the update after `step`; None for optimizers that adapt: no SGD."""
    base = EXTRAPOLATED.get(settings.optimizer, settings.optimizer)
    if base not in ("sgd", "momentum", "nesterov"):
        return None
    momentum = 0.0 if base == "sgd" else settings.number("momentum")
    return learning_rate(settings.hyperparameters, step) / (1.0 - momentum)


def columns_of(scale: CurvedScale, items_per_row: float) -> dict[str, float | None]:
    """A noise scale as columns of the measurements table; a row of several items is that many items of noise each."""
    simple, noise = scale.simple, scale.noise
    in_items = {
        "b_simple": simple.value,
        "b_simple_low": simple.low,
        "b_simple_high": simple.high,
        "tr_sigma": simple.numerator,
        "b_noise": noise.value,
        "b_noise_low": noise.low,
        "b_noise_high": noise.high,
        "tr_h_sigma": noise.numerator,
    }
    found = {name: None if value is None else value * items_per_row for name, value in in_items.items()}
    return found | {"g_sq": simple.denominator, "g_h_g": noise.denominator, "lr_max": scale.lr_max}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


class WeightDistance:
    """|w_t - w_0|: how far the weights that train have moved from where they began (Hoffer, Hubara and Soudry 2017)."""

    def __init__(self, model: nn.Module) -> None:
        self._now = [p.detach() for p in model.parameters() if p.requires_grad]
        self._start = [p.clone() for p in self._now]

    @torch.no_grad()
    def now(self) -> float:
        """The distance of all weights together; waits for the device."""
        moved = torch._foreach_sub(self._now, self._start)
        # In float32 at least: the squares of a large bfloat16 tensor do not sum up in bfloat16.
        wide = [m if m.element_size() >= 4 else m.float() for m in moved]
        return float(torch.stack(torch._foreach_norm(wide)).double().norm())
