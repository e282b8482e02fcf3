"""What cannot be trained with batch sizes that change is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from bcrit.search_spaces.problems import InputError
from bcrit.tuner.adaptive.bench import prepare
from bcrit.tuner.training.settings import Settings
from tests.tuner.landscape.small import Blobs, experiment, filled


class Normalised(Blobs):
    """With statistics over the whole batch."""

    def model(self, settings: Settings) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))


class Mixing(Blobs):
    """Its loss says that it mixes examples."""

    divisible = False


@pytest.mark.parametrize(
    ("name", "message"),
    [("Normalised", "batch normalisation does; set 'ghost_batch_size'"), ("Mixing", "its loss mixes them")],
)
def test_examples_that_influence_each_other_are_refused(tmp_path: Path, name: str, message: str) -> None:
    workload = f"tests.tuner.adaptive.test_bench:{name}"
    spec = experiment(batch_sizes=[4, 8, 16], target="val_loss < 0.6", workload=workload)
    with pytest.raises(InputError, match=message):
        prepare(filled(tmp_path / "run", spec), (), 1, print)


def test_every_seed_is_drawn_before_more_of_them_are_asked_for(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", experiment(batch_sizes=[4, 8, 16], target="val_loss < 0.6"))
    few, many = (prepare(folder, (), seeds, print).seeds for seeds in (2, 5))
    assert list(few) == list(many)[:2] and len(set(many)) == 5
