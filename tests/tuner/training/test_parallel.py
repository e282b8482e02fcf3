"""A run of several processes makes the updates of one, whatever is averaged, divided or extrapolated."""

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Execution, Probes
from bcrit.tuner.checkpoints import packed_state, unpacked_state
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.parallel import Parallel, _layers
from bcrit.tuner.training.reported import Died, tensors
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.supervised import why_not_shared
from bcrit.tuner.workloads.child import Call
from bcrit.tuner.workloads.layers import GhostBatchNorm
from bcrit.tuner.workloads.ranks import RankError, Ranks
from bcrit.tuner.workloads.supervised import SupervisedWorkload
from tests.tuner.training.test_state import PROPOSAL
from tests.tuner.workloads.test_launch import near

HERE = "tests.tuner.training.test_parallel"
CALL = Call(f"{HERE}:Shared", "", {}, 0.02, threads=1, gpus=0, forked=False)
MANY = 500


class Shared(SupervisedWorkload):
    """A network with ghost batches; it fails on a rank that is told to."""

    hyperparameters = ("dropout", "fails")

    def model(self, settings: Settings) -> nn.Module:
        dropout = nn.Dropout(settings.number("dropout"))
        # Without a bias before the normalisation: its gradient is rounding alone, and Adam makes whole updates of that.
        relu = nn.ReLU(inplace=True)  # of a view, which is what the layer before gives
        layers = [nn.Linear(4, 16, bias=False), GhostBatchNorm(16, 4), relu, dropout, nn.Linear(16, 8), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(8, 3))

    def train_data(self) -> Examples:
        return _data(MANY, 1)

    def validation_data(self) -> Examples:
        return _data(101, 2)

    def training_loss(self, settings: Settings) -> Any:
        fails, rank = settings.number("fails"), settings.parallel.rank if settings.parallel else 0

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            if rank and fails == 1:
                raise ZeroDivisionError("as it was told")
            if rank and fails == 2:
                raise MemoryError("nothing is left")
            if rank and fails == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.loss(outputs, targets)

        return loss


def _data(n: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 4, generator=generator)
    return inputs, inputs[:, :3].argmax(dim=1)


def settings(optimizer: str = "momentum", more: Mapping[str, Any] | None = None, **others: Any) -> Settings:
    given = {"lr": 0.1 if optimizer != "adam" else 0.01, "momentum": 0.9, **(more or {})}
    return Settings(64, 5, optimizer, given, **others)


@pytest.mark.parametrize(
    ("batch_size", "why"),
    [
        (63, "a batch of 63 rows cannot be shared evenly by 2 processes; choose a multiple of 2"),
        (62, "a batch of 62 rows cannot be computed 31 at a time, because ghost batches of 4 must stay whole"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(batch_size: int, why: str) -> None:
    made = Ranks(CALL, 2)
    try:
        with pytest.raises(ValueError, match=why):
            made.begin(Shared(), Settings(batch_size, 0, "sgd", {"lr": 0.1}))
    finally:
        made.close()


SAID = "rank 1(: ZeroDivisionError: as it was told|: MemoryError: .*nothing is left| of the trial died)"
REFUSED = {
    "lamb": (settings("lamb"), "which lamb needs whole; choose one of adadelta, adagrad, adam, "),
    "probes": (settings(probes=Probes(measure=("weight_distance",))), "which probes need whole; remove 'probes'"),
    "compiled": (settings(execution=Execution(compile=True)), "which is not compiled; remove 'compile'"),
}


@pytest.mark.parametrize(("given", "why"), REFUSED.values(), ids=REFUSED)
def test_what_needs_whole_weights_is_refused_where_they_are_divided(given: Settings, why: str) -> None:
    execution = given.execution.model_copy(update={"sharded": True})
    model, divided = Shared().model(given), replace(given, execution=execution, parallel=Parallel(0, 2))
    assert why in str(why_not_shared(model, divided, True))
    assert why_not_shared(model, replace(given, parallel=Parallel(0, 2)), True) is None
    model.scale = nn.Parameter(torch.tensor(1.0))
    scalar = settings(execution=Execution(sharded=True), parallel=Parallel(0, 2))
    assert "along its first axis, but 'scale' has none; give it the shape (1,)" in str(
        why_not_shared(model, scalar, True)
    )


def test_the_layers_of_lists_are_divided_one_by_one_but_for_those_that_share_a_weight() -> None:
    shared, tied, plain = nn.Linear(3, 3), nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    tied.weight = shared.weight
    block = nn.ModuleDict({"a": nn.Linear(3, 3), "list": plain})
    model = nn.ModuleDict({"blocks": nn.ModuleList([block, shared]), "head": tied, "rest": nn.Linear(3, 1)})
    assert [*_layers(model)] == [block] and [*_layers(nn.Sequential(plain, shared))] == [plain[0], shared]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("fails", "kind", "nodes"),
    [(1, RankError, 1), (2, MemoryError, 1), (3, Died, 1), (1, RankError, 2), (3, Died, 2)],
    ids=["error", "memory", "death", "error on another machine", "death on another machine"],
)
def test_what_fails_on_another_rank_is_told_by_this_one(fails: int, kind: type[Exception], nodes: int) -> None:
    made = Ranks(CALL, 2 // nodes, near(2) if nodes > 1 else None)
    run = made.begin(Shared(), settings("sgd", {"fails": fails}))
    with pytest.raises(kind, match=SAID):
        run.train(1)
    assert not made.alive


@pytest.mark.timeout(300)
def test_ranks_on_two_machines_make_the_updates_of_one_process() -> None:
    made = Ranks(CALL, 2, near(2))
    try:
        alone, shared = Shared().begin(settings()), made.begin(Shared(), settings())
        alone.train(10)
        shared.train(10)
        assert shared.evaluate() == pytest.approx(alone.evaluate(), rel=1e-5, abs=1e-6) and made.alive
    finally:
        made.close()
    assert not made.alive


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.long)], ids=lambda n: f"{n} processes")
def ranks(request: pytest.FixtureRequest) -> Iterator[Ranks]:
    made = Ranks(CALL, request.param)
    yield made
    made.close()


CASES = {
    "momentum": settings(),
    "adam with an average": settings("adam", {"ema_decay": 0.9}),
    "a schedule": settings("sgd", {"schedule": "cosine", "end_factor": 0.1, "decay_steps": 15}),
    "in pieces": settings(execution=Execution(micro_batch=4)),
    "extrapolated": settings("extrap_momentum", {"extrapolation_lr": 0.05, "local_batch_size": 32}),
    "fresh": settings("extrap_momentum", {"extrapolation_lr": 0.05, "extrapolation": "fresh"}),
}
DIVIDED = {
    "plainly": settings(execution=Execution(sharded=True)),
    "with an average": settings("adam", {"ema_decay": 0.9}, execution=Execution(sharded=True, micro_batch=4)),
    "extrapolated": settings("extrap_adam", {"extrapolation_lr": 0.005}, execution=Execution(sharded=True)),
}
FEW = pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.long)], indirect=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES)
def test_all_ranks_together_make_the_updates_of_one(ranks: Ranks, case: str) -> None:
    as_one(ranks, CASES[case])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", DIVIDED)
@FEW
def test_so_do_ranks_that_have_a_part_of_every_weight(ranks: Ranks, case: str) -> None:
    as_one(ranks, DIVIDED[case])


def as_one(ranks: Ranks, given: Settings) -> None:
    alone, shared = Shared().begin(given), ranks.begin(Shared(), given)
    for steps in (0, 1, 19):
        alone.train(steps)
        shared.train(steps)
        assert shared.evaluate() == pytest.approx(alone.evaluate(), rel=1e-5, abs=1e-6)
    for one, other in zip(tensors(alone.model), tensors(shared.weights), strict=True):  # rank 0 has the first rows
        torch.testing.assert_close(one[: len(other)] if one.ndim else one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.timeout(300)
def test_they_go_on_from_a_checkpoint_to_the_bit_and_draw_apart(ranks: Ranks) -> None:
    goes_on(ranks, settings("adam", {"dropout": 0.5}))


@pytest.mark.timeout(300)
@FEW
def test_so_do_those_that_have_a_part_of_every_weight(ranks: Ranks) -> None:
    goes_on(ranks, settings("adam", {"dropout": 0.5, "ema_decay": 0.9}, execution=Execution(sharded=True)))


def goes_on(ranks: Ranks, given: Settings) -> None:
    whole = ranks.begin(Shared(), given)
    whole.train(15)
    expected = whole.evaluate()
    first = ranks.begin(Shared(), given)
    first.train(6)
    state = unpacked_state(packed_state(first.state(), PROPOSAL), PROPOSAL)
    assert state is not None and len(state["ranks"]) == ranks.place.size - 1
    streams = [state["_randomness"], *(of["_randomness"] for of in state["ranks"])]
    assert len({bytes(stream["_states"][0].numpy()) for stream in streams}) == ranks.place.size
    second = ranks.begin(Shared(), given)
    second.load(state)
    second.train(9)
    assert second.evaluate() == expected
