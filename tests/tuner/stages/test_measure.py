"""The numbers of one network are those of the libraries, on the stated rows; paths lead between the right ones."""

import math

import pytest
import torch
from torch import nn

from bcrit.analysis.questions.landscape.result import Network
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.tuner.stages.measure import (
    Bench,
    End,
    Options,
    between,
    finite,
    first_and_largest,
    mean_loss,
    measure,
    sharpness_alone,
)
from bcrit.tuner.training.landscape import LossSurface, eigenvalues, random_directions, sharpness, trace
from bcrit.tuner.training.landscape.keskar import STARTS
from bcrit.tuner.training.settings import Settings
from tests.tuner.stages.small import Blobs, Unsteady, experiment

SETTINGS = Settings(4, 0, "sgd", {"lr": 0.5})


def network(steps: int = 50) -> nn.Module:
    run = Blobs().begin(SETTINGS)
    run.train(steps)
    return run.model.eval()


def bench(options: Options = Options(), size: int = 64, kind: type[Blobs] = Blobs) -> Bench:  # noqa: B008 (frozen)
    workload, nowhere = kind(), RunFolder.at("nowhere")
    parts = workload.sample("train", size, 0), workload.sample("validation", size, 0)
    return Bench(workload, experiment(seed=3), nowhere, options, 0.0, *parts)


def test_every_number_is_that_of_the_library() -> None:
    model, on = network(), bench(Options(eps=(1e-3, 5e-4), subspace=5, iterations=4), 40)
    found = measure(model, on)
    surface = LossSurface(model, on.workload.loss, on.train)
    n = surface.weights.size
    assert surface.n_examples == 40 and found["train_loss"] == surface.value()
    assert found["validation_loss"] == pytest.approx(LossSurface(model, on.workload.loss, on.validation).value())
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
    model, options = network(), Options(eps=(5e-4, 1e-3), subspace=5, iterations=4)
    whole, found = measure(model, bench(options)), sharpness_alone(model, bench(options))
    [largest] = [rise for rise in whole["rises"] if (rise.eps, rise.directions) == (1e-3, None)]
    assert found == {"train_loss": whole["train_loss"], "sharpness": largest.value, "problem": None}
    with pytest.raises(ValueError, match="random in evaluation mode too"):
        sharpness_alone(model, bench(options, kind=Unsteady))


def test_without_a_subspace_there_is_the_full_space_alone() -> None:
    found = measure(network(), bench(Options(eps=(1e-3,), subspace=0)))
    assert [(rise.eps, rise.directions) for rise in found["rises"]] == [(1e-3, None)]


def test_a_loss_that_is_random_in_evaluation_is_refused() -> None:
    with pytest.raises(ValueError, match="random in evaluation mode too"):
        measure(network(), bench(kind=Unsteady))


def test_weights_without_a_finite_loss_have_a_problem_and_no_numbers() -> None:
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    assert measure(model, bench()) == {"problem": "its training loss is not finite"}


def test_a_box_in_which_the_loss_overflows_is_missing_with_the_reason() -> None:
    found = measure(network(), bench(Options(eps=(1e-3, 1e39), subspace=0)))
    assert [rise.eps for rise in found["rises"]] == [1e-3]
    assert "must be finite in the whole box" in found["problem"] and found["top_eigenvalue"] is not None


def test_the_mean_loss_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, part = network(), bench().train
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


# --- between networks ---

ON = bench()


def told(batch_size: int, tuned: bool = True) -> Network:
    return Network(batch_size, tuned, 0, 7, None, "p", "c", "reached", 9, 17, 0.1, None, None, None)


def end(batch_size: int, tuned: bool = True, steps: int = 20, width: int = 3) -> End:
    run = ON.workload.begin(Settings(batch_size, 0, "sgd", {"lr": 0.5 if tuned else 0.1, "width": width}))
    run.train(steps)
    return told(batch_size, tuned), run.model.eval()


def losses(model: nn.Module) -> tuple[float, float]:
    return mean_loss(model, ON.workload, ON.train), mean_loss(model, ON.workload, ON.validation)


def test_only_the_first_and_the_last_batch_size_stay() -> None:
    ends = [end(4), end(8), end(8, False), end(16), end(16, False)]
    found: list[End] = []
    for each in ends:
        found = first_and_largest([*found, each])
    assert [(e[0].batch_size, e[0].tuned) for e in found] == [(4, True), (16, True), (16, False)]


def test_both_kinds_lead_to_the_tuned_and_to_the_un_tuned_network() -> None:
    ends = [end(4), end(16), end(16, False)]
    paths, problems = between(ends, ON)
    assert [(p.kind, p.tuned) for p in paths] == [("line", True), ("curve", True), ("line", False), ("curve", False)]
    assert problems == [] and {(p.first, p.second) for p in paths} == {(4, 16)}
    for path, second in zip(paths, [ends[1], ends[1], ends[2], ends[2]], strict=True):
        assert (path.alphas[0], path.alphas[-1], len(path.alphas)) == (-1, 2, 25)
        for alpha, model in ((0.0, ends[0][1]), (1.0, second[1])):
            place = path.alphas.index(alpha)
            assert (path.train_loss[place], path.validation_loss[place]) == losses(model)


@pytest.mark.parametrize("ends", [[], [end(4)]], ids=["none", "one batch size"])
def test_one_batch_size_has_no_paths(ends: list[End]) -> None:
    assert between(ends, ON) == ((), ["there are no paths: they need networks of two batch sizes"])


def test_networks_of_different_sizes_have_no_path_and_say_so() -> None:
    paths, problems = between([end(4), end(16, width=5)], ON)
    assert paths == () and "there is no line to batch size 16: the two networks must have the same" in problems[0]
