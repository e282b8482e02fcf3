"""The numbers of one network are those of the libraries, on the stated rows."""

import math

import pytest
import torch
from torch import nn

from bcrit.tuner.stages.measure import Options, Rows, finite, mean_loss, measure, sharpness_alone
from bcrit.tuner.training.landscape import LossSurface, eigenvalues, random_directions, sharpness, trace
from bcrit.tuner.training.landscape.keskar import STARTS
from bcrit.tuner.training.settings import Settings
from tests.tuner.stages.small import Blobs, Unsteady

SETTINGS = Settings(4, 0, "sgd", {"lr": 0.5})


def network(steps: int = 50) -> nn.Module:
    run = Blobs().begin(SETTINGS)
    run.train(steps)
    return run.model.eval()


def rows(size: int = 64) -> Rows:
    workload = Blobs()
    return Rows(workload.sample("train", size, 0), workload.sample("validation", size, 0))


def test_every_number_is_that_of_the_library() -> None:
    model, workload, part = network(), Blobs(), rows(40)
    found = measure(model, workload, part, Options(eps=(1e-3, 5e-4), subspace=5, iterations=4), seed=3)
    surface = LossSurface(model, workload.loss, part.train)
    n = surface.weights.size
    assert surface.n_examples == 40 and found["train_loss"] == surface.value()
    assert found["validation_loss"] == pytest.approx(LossSurface(model, workload.loss, part.validation).value())
    boxes = [(rise.eps, rise.directions) for rise in found["rises"]]
    assert boxes == [(1e-3, None), (5e-4, None), (1e-3, 5), (5e-4, 5)]
    for rise in found["rises"]:
        directions = None if rise.directions is None else random_directions(n, 5, 3)
        expected = sharpness(surface, directions=directions, eps=rise.eps, max_iterations=4, seed=3)
        assert (rise.value, rise.f_max, rise.iterations) == (expected.value, expected.f_max, 4)
        assert rise.searches == STARTS
    assert found["top_eigenvalue"] == eigenvalues(surface, seed=3).values[0]
    assert (found["trace"], found["problem"]) == (trace(surface, seed=3).value, None)


def test_sharpness_alone_is_that_of_the_largest_box() -> None:
    model, part = network(), rows(40)
    options = Options(eps=(5e-4, 1e-3), subspace=5, iterations=4)
    whole = measure(model, Blobs(), part, options, seed=3)
    found = sharpness_alone(model, Blobs(), part, options, seed=3)
    [largest] = [rise for rise in whole["rises"] if (rise.eps, rise.directions) == (1e-3, None)]
    assert found == {"train_loss": whole["train_loss"], "sharpness": largest.value, "problem": None}
    with pytest.raises(ValueError, match="random in evaluation mode too"):
        sharpness_alone(model, Unsteady(), part, options, seed=3)


def test_without_a_subspace_there_is_the_full_space_alone() -> None:
    found = measure(network(), Blobs(), rows(), Options(eps=(1e-3,), subspace=0), seed=0)
    assert [(rise.eps, rise.directions) for rise in found["rises"]] == [(1e-3, None)]


def test_a_loss_that_is_random_in_evaluation_is_refused() -> None:
    with pytest.raises(ValueError, match="random in evaluation mode too"):
        measure(network(), Unsteady(), rows(), Options(), seed=0)


def test_weights_without_a_finite_loss_have_a_problem_and_no_numbers() -> None:
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    assert measure(model, Blobs(), rows(), Options(), seed=0) == {"problem": "its training loss is not finite"}


def test_a_box_in_which_the_loss_overflows_is_missing_with_the_reason() -> None:
    found = measure(network(), Blobs(), rows(), Options(eps=(1e-3, 1e39), subspace=0), seed=0)
    assert [rise.eps for rise in found["rises"]] == [1e-3]
    assert "must be finite in the whole box" in found["problem"] and found["top_eigenvalue"] is not None


def test_the_mean_loss_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, part = network(), rows().train
    whole = mean_loss(model, Blobs(), part)
    monkeypatch.setattr("bcrit.tuner.stages.measure.CHUNK", 7)
    assert mean_loss(model, Blobs(), part) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": 0}, "'seeds' must be at least 1"),
        ({"examples": 0}, "'examples' must be at least 1"),
        ({"iterations": 0}, "'iterations' must be at least 1"),
        ({"subspace": -1}, "'subspace' must be at least 0"),
        ({"warm_starts": 1}, "'warm_starts' must be 0 or at least 2"),
        ({"warm_starts": -2}, "'warm_starts' must be 0 or at least 2"),
        ({"eps": (1e-3, 0.0)}, "'eps' must be positive"),
        ({"eps": (math.nan,)}, "'eps' must be positive"),
        ({"eps": ()}, "'eps' must be positive"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**given)  # type: ignore[arg-type]


def test_only_finite_numbers_are_stored() -> None:
    assert finite(1.5) == 1.5 and finite(math.inf) is None and finite(math.nan) is None
