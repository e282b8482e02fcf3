"""How many trials of a study run at once, where that is left to the run."""

from typing import Any

import pytest

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import parse_experiment
from bcrit.tuner.plan import resolved
from tests.simulate import scripted


def experiment(studies: int, **search: Any) -> Experiment:
    return scripted(batch_sizes=[2**i for i in range(studies)], search=search)


@pytest.mark.parametrize(
    ("workers", "studies", "trials", "at_once"),
    [(1, 8, 40, 2), (2, 8, 40, 2), (2, 1, 40, 4), (16, 8, 40, 4), (64, 8, 40, 16), (64, 8, 20, 10), (64, 1, 3, 2)],
    ids=str,
)
def test_it_follows_from_workers_batch_sizes_and_trials(workers: int, studies: int, trials: int, at_once: int) -> None:
    search = resolved(experiment(studies, trials=trials), workers).search
    assert search.parallel_per_study == search.at_once == at_once


def test_a_number_that_was_given_stays() -> None:
    given = experiment(8, parallel_per_study=3)
    assert resolved(given, 64) is given
    frozen = resolved(experiment(8), 64)
    assert resolved(parse_experiment(frozen.to_dict(), "again"), 2) == frozen  # a run that is resumed elsewhere
