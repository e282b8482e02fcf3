"""Paths: between the right networks, with the losses of the networks at their ends."""

import pytest
from torch import nn

from bcrit.analysis.questions.landscape.result import Network
from bcrit.tuner.stages.measure import End, Rows, between, first_and_largest, mean_loss
from bcrit.tuner.training.settings import Settings
from tests.tuner.stages.small import Blobs

WORKLOAD = Blobs()
ROWS = Rows(WORKLOAD.sample("train", 64, 0), WORKLOAD.sample("validation", 32, 0))


def network(batch_size: int, tuned: bool = True) -> Network:
    return Network(batch_size, tuned, 0, 7, None, "p", "c", "reached", 9, 17, 0.1, None, None, None)


def end(batch_size: int, tuned: bool = True, steps: int = 20, width: int = 3) -> End:
    run = WORKLOAD.begin(Settings(batch_size, 0, "sgd", {"lr": 0.5 if tuned else 0.1, "width": width}))
    run.train(steps)
    return network(batch_size, tuned), run.model.eval()


def losses(model: nn.Module) -> tuple[float, float]:
    return mean_loss(model, WORKLOAD, ROWS.train), mean_loss(model, WORKLOAD, ROWS.validation)


def test_only_the_first_and_the_last_batch_size_stay() -> None:
    ends = [end(4), end(8), end(8, False), end(16), end(16, False)]
    found: list[End] = []
    for each in ends:
        found = first_and_largest([*found, each])
    assert [(e[0].batch_size, e[0].tuned) for e in found] == [(4, True), (16, True), (16, False)]


def test_both_kinds_lead_to_the_tuned_and_to_the_un_tuned_network() -> None:
    ends = [end(4), end(16), end(16, False)]
    paths, problems = between(ends, WORKLOAD, ROWS)
    assert [(p.kind, p.tuned) for p in paths] == [("line", True), ("curve", True), ("line", False), ("curve", False)]
    assert problems == [] and {(p.first, p.second) for p in paths} == {(4, 16)}
    for path, second in zip(paths, [ends[1], ends[1], ends[2], ends[2]], strict=True):
        for alpha, model in ((0.0, ends[0][1]), (1.0, second[1])):
            place = path.alphas.index(alpha)
            assert (path.train_loss[place], path.validation_loss[place]) == losses(model)


@pytest.mark.parametrize("ends", [[], [end(4)]], ids=["none", "one batch size"])
def test_one_batch_size_has_no_paths(ends: list[End]) -> None:
    assert between(ends, WORKLOAD, ROWS) == ((), ["there are no paths: they need networks of two batch sizes"])


def test_networks_of_different_sizes_have_no_path_and_say_so() -> None:
    paths, problems = between([end(4), end(16, width=5)], WORKLOAD, ROWS)
    assert paths == () and "there is no line to batch size 16: the two networks must have the same" in problems[0]
