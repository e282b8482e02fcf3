"""What a training function is given: everything that decides its trial, and two formulas of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bcrit.tuner.training.evaluation import next_evaluation
from bcrit.tuner.training.schedule import learning_rate
from bcrit.tuner.training.settings import Settings


class Config(Mapping[str, Any]):
    """A trial's settings by name: `config["lr"]`, `config.lr`, `config.get("momentum", 0.9)`, `dict(config)`.

    It has every hyperparameter of the search space (and `decay_steps`, `warmup_steps` where the space has shares of the
    budget), the workload's options, `optimizer` as the experiment names it, and

    - `batch_size`: training items an optimizer update must use,
    - `seed`: of initialisation and data order,
    - `budget_steps`: optimizer updates of the experiment's `budget` at this batch size, the same in search and re-runs
      of one point: what a schedule of the function's own may take for the length of training,
    - `max_steps`: optimizer updates after which the trial is over; a report at this very step counts. It differs
      between search and re-runs of one point, so no schedule may depend on it: use `lr_at`, or `budget_steps`.

    A name that a mapping's method has is found with brackets only.
    """

    def __init__(self, facts: Mapping[str, Any], resolution: float = 0.02) -> None:
        """Hold the settings.

        Args:
            facts: by name, as `settings_of` makes them; any mapping with `max_steps` will do to try a function out.
            resolution: of the evaluation grid.
        """
        self.__dict__.update(_facts=dict(facts), _resolution=resolution)

    def __getitem__(self, name: str) -> Any:
        try:
            return self._facts[name]
        except KeyError:
            raise KeyError(f"{name}; the settings are {', '.join(self._facts)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.__dict__.get("_facts", ()):
            raise AttributeError(f"there is no setting '{name}'; the settings are {', '.join(self.__dict__['_facts'])}")
        return self._facts[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"the settings of a trial cannot be changed, but '{name}' was set to {value!r}")

    def __repr__(self) -> str:
        return f"Config({self._facts!r}, resolution={self._resolution})"

    def lr_at(self, step: int) -> float:
        """The learning rate of the update after `step` updates, by `bcrit.tuner.training.schedule.learning_rate`.

        Args:
            step: optimizer updates made; the first update has step 0.

        Returns:
            `lr` times the factor of the space's `schedule` and warm-up; `lr` itself where there is neither.

        Raises:
            ValueError: the space has no `lr`.
        """
        if "lr" not in self._facts:
            raise ValueError("there is no learning rate without 'lr'; add it to 'space', searched or fixed")
        return learning_rate(self._facts, step)

    def next_evaluation(self, step: int) -> int:
        """The step of the next evaluation on the grid of all trials, at most `max_steps`.

        Evaluating there gives every trial and batch size the same relative resolution of steps-to-target. Other steps
        are allowed: a crossing is then known to the interval between two reports.

        Args:
            step: optimizer updates made.

        Returns:
            Optimizer updates.
        """
        return min(next_evaluation(step, self._resolution), int(self._facts["max_steps"]))


def settings_of(settings: Settings, max_steps: int, budget_steps: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a trial by name; a hyperparameter hides an option of its name, and the trial's own facts both."""
    own = {
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "budget_steps": budget_steps,
        "max_steps": max_steps,
    }
    return {"optimizer": settings.optimizer, **options, **settings.hyperparameters, **own}
