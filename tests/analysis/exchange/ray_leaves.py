"""Leaves in the folder that is its argument what Ray Tune's own loggers write of five trials.

Three work, one raises, one reports a NaN. A process of its own: Ray reads its settings and its token once a process.
"""

import logging
import sys
from typing import Any

import ray
from ray import tune

from tests.analysis.exchange.made import evaluations


class Planted(tune.Trainable):
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        point, count = self.config["point"], self.iteration + 1
        if point["how"] == "raises" and count == 3:
            raise RuntimeError("no luck")
        step, value = evaluations(point["batch_size"])[count - 1]
        value = float("nan") if point["how"] == "diverges" and count == 5 else value
        return {"global_step": step, "val_loss": value, "note": "text", "done": count == 5}


if __name__ == "__main__":
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    points = [(16, "works"), (64, "works"), (256, "works"), (64, "diverges"), (64, "raises")]
    grid = tune.grid_search([{"batch_size": size, "how": how} for size, how in points])
    tune.Tuner(
        Planted,
        param_space={"point": grid, "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="exp", storage_path=sys.argv[1], verbose=0),
    ).fit()
