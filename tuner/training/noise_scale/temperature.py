"""The learning rate that the noise scale says is best, and the temperature that a noise scale was measured at."""

from __future__ import annotations


def optimal_lr(batch_size: float, lr_max: float, b_noise: float) -> float:
    """The best learning rate of one SGD step, lr_max / (1 + b_noise / batch_size) (McCandlish et al. 2018, eq. 2.6).

    Args:
        batch_size: rows an update.
        lr_max: |G|^2 / (G'HG), the best one without noise (eq. 2.5).
        b_noise: tr(H Sigma) / (G'HG).

    Raises:
        ValueError: a number is not positive.
    """
    if not (batch_size > 0 and lr_max > 0 and b_noise >= 0):
        raise ValueError(
            f"batch_size > 0, lr_max > 0 and b_noise >= 0 must hold, but they are {batch_size}, {lr_max} and "
            f"{b_noise}; a scale that is not resolved has no temperature"
        )
    return lr_max / (1.0 + b_noise / batch_size)


def temperature(lr: float, batch_size: float, lr_max: float, b_noise: float, momentum: float = 0.0) -> float:
    """How hot a run is: its learning rate over the best one, T = lr / lr_max(batch_size), the latter of `optimal_lr`.

    A run that stays at one temperature settles where the noise scale is about proportional to 1/T: halving the learning
    rate about doubles what is measured (McCandlish et al. 2018, app. C). So a noise scale says something about a task
    only at a tuned learning rate, and two are compared only at one temperature.

    Args:
        lr: the run's learning rate.
        batch_size: its rows an update.
        lr_max: |G|^2 / (G'HG).
        b_noise: tr(H Sigma) / (G'HG).
        momentum: of a heavy ball or Nesterov's method, whose long steps are those of lr / (1 - momentum).

    Raises:
        ValueError: a number is out of its range.
    """
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"0 <= momentum < 1 must hold, but momentum={momentum}; give the heavy ball's")
    return lr / (1.0 - momentum) / optimal_lr(batch_size, lr_max, b_noise)
