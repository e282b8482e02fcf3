"""A gradient in pieces is the whole one, for every model; where memory gives out, nothing but the pieces changes."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bcrit.tuner.training.micro_batches import MOST_PIECES, Accumulation, MicroBatches, division_problem, smallest_piece
from bcrit.tuner.workloads.autoencoder import Autoencoder, AutoencoderSize
from bcrit.tuner.workloads.image_classifier import read_classifier
from bcrit.tuner.workloads.language_model import FAMILIES
from bcrit.tuner.workloads.layers import GhostBatchNorm, Standardise, batch_normalisation
from bcrit.tuner.workloads.protocol import read_model
from bcrit.tuner.workloads.supervised import cross_entropy

CPU = torch.device("cpu")
N = 24


def classifier(name: Any, size: int, ghost: int | None = 4) -> nn.Module:
    norm = batch_normalisation(ghost)
    return nn.Sequential(Standardise([0.3] * 3, [0.4] * 3), read_classifier(name).build((3, size, size), 10, 0.0, norm))


class LanguageLoss(nn.Module):
    """A sequence's mean loss, as the workload has it."""

    def __init__(self, name: Any) -> None:
        super().__init__()
        self.scores = read_model(name, FAMILIES, {}).build(11, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        scores, targets = self.scores(tokens[:, :-1]), tokens[:, 1:]
        return cross_entropy(scores.flatten(0, 1), targets.flatten()).view_as(targets).mean(dim=1, keepdim=True)


TRANSFORMER = {"name": "transformer", "layers": 2, "width": 16, "hidden": 16, "heads": 2, "dropout": 0.0}
MODELS = {
    "fully connected": lambda: classifier("fc_16_8", 8),
    "simple CNN": lambda: classifier({"name": "simple_cnn", "filters": [4, 4], "hidden": 16}, 8),
    "ResNet-8": lambda: classifier("resnet_8", 8),
    "LSTM": lambda: LanguageLoss({"name": "lstm", "embedding": 8, "hidden": 8, "layers": 2}),
    "Transformer": lambda: LanguageLoss(TRANSFORMER),
    "GPT": lambda: LanguageLoss({**TRANSFORMER, "gpt": True}),
    "autoencoder": lambda: Autoencoder((3, 8, 8), AutoencoderSize(filters=(4, 4), hidden=8, code=8)),
    "VAE": lambda: Autoencoder((3, 8, 8), AutoencoderSize(filters=(4, 4), hidden=8, code=8, variational=True)),
}


class Problem:
    """A model with its data and the way its gradient is taken."""

    def __init__(self, name: str, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model: nn.Module = MODELS[name]()  # type: ignore[no-untyped-call]
        language = isinstance(self.model, LanguageLoss)
        self.inputs = torch.randint(0, 11, (N, 7)) if language else torch.randint(0, 256, (N, 3, 8, 8))
        self.targets = torch.randint(0, 10, (N,))
        self.sees: list[int] = []

    def loss(self, examples: Tensor) -> Tensor:
        self.sees.append(len(examples))
        outputs: Tensor = self.model(self.inputs[examples])
        if outputs.shape[1] == 10:
            return nn.functional.cross_entropy(outputs, self.targets[examples])
        return outputs.sum(dim=1).mean()

    def taken(self, rows: int | None, examples: Tensor) -> dict[str, Tensor]:
        """The gradients and buffers that this leaves behind."""
        torch.manual_seed(5)
        MicroBatches(self.model, self.loss, CPU, N, rows)(examples)
        grads = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        return {**grads, **dict(self.model.named_buffers())}


@pytest.mark.parametrize("rows", [4, 8, 20, 23], ids=lambda rows: f"{rows} of {N}")
@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_in_pieces_is_the_gradient(name: str, rows: int) -> None:
    whole, pieces = Problem(name), Problem(name)
    least = smallest_piece(whole.model)
    assert least is not None
    rows -= rows % least
    # The draws of the VAE are the same on the CPU as long as a piece has a multiple of 16 numbers.
    rows -= rows % 2 if name == "VAE" else 0
    examples = torch.randperm(N)
    expected, found = whole.taken(None, examples), pieces.taken(rows, examples)
    assert whole.sees[-1] == N and pieces.sees[-2:] == [rows, N - N // rows * rows or rows]
    assert set(found) == set(expected) and len(found) > 2
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=2e-4, atol=1e-5 * float(value.abs().max() + 1e-3), msg=key)


def test_it_is_the_mean_of_the_examples_gradients_taken_one_by_one() -> None:
    problem = Problem("fully connected")
    found = problem.taken(7, torch.arange(N))
    parameters = list(problem.model.parameters())
    ones = [torch.autograd.grad(problem.loss(torch.tensor([i])), parameters) for i in range(N)]
    for (name, _), *each in zip(problem.model.named_parameters(), *ones, strict=True):
        torch.testing.assert_close(found[name], torch.stack(each).mean(dim=0))


def test_gradients_are_new_tensors_and_nothing_is_added_to_what_was_there() -> None:
    problem = Problem("fully connected")
    take = MicroBatches(problem.model, problem.loss, CPU, N, 10)
    kept = []
    for _ in range(2):
        take(torch.arange(N))
        kept.append([p.grad for p in problem.model.parameters()])
    for first, second in zip(*kept, strict=True):
        assert first is not second and first is not None and second is not None and torch.equal(first, second)


# Where memory gives out


class Hungry(nn.Module):
    """Has everything that a failed try may spoil, and fits into memory up to `limit` rows; it fails late."""

    def __init__(self, limit: int, error: BaseException, at_backward: bool = False) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 8), GhostBatchNorm(8, 2), nn.Linear(8, 1)
        self.limit, self.error, self.at_backward, self.fits = limit, error, at_backward, 0

    def forward(self, inputs: Tensor) -> Tensor:
        out = nn.functional.dropout(self.norm(self.first(inputs)), 0.5)
        if len(inputs) > self.limit:
            if not self.at_backward:
                raise self.error
            self.last(out).sum().backward()  # leaves half a gradient behind
            raise self.error
        outputs: Tensor = self.last(out)
        return outputs


ERRORS = {
    "CUDA": torch.cuda.OutOfMemoryError("CUDA out of memory"),
    "CPU": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    "Python": MemoryError(),
}


def taking(model: nn.Module, rows: int | None, n: int = 16, **more: Any) -> MicroBatches:
    inputs = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    return MicroBatches(model, lambda examples: model(inputs[examples]).square().mean(), CPU, n, rows, **more)


@pytest.mark.parametrize("at_backward", [False, True])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_after_a_failed_try_all_is_as_if_the_pieces_had_been_small_from_the_start(
    error: BaseException, at_backward: bool
) -> None:
    ends = []
    for limit, rows in ((5, None), (99, 4)):
        torch.manual_seed(3)
        model = Hungry(limit, error, at_backward)
        take = taking(model, rows)
        for _ in range(3):
            take(torch.arange(16))
            model.limit = 99  # a piece stays as small as it became
        assert take.micro_batch == take.rows == 4  # 16 and 8 do not fit
        state = {name: p.grad for name, p in model.named_parameters()} | dict(model.named_buffers())
        ends.append([*state.values(), torch.get_rng_state()])
    for halved, small in zip(*ends, strict=True):
        assert halved is not None and small is not None and torch.equal(halved, small)


def test_half_of_a_piece_is_whole_ghost_batches() -> None:
    torch.manual_seed(0)
    model = Hungry(3, ERRORS["Python"])
    take = taking(model, 12)
    take(torch.arange(16))
    assert take.rows == 2  # 12, 6, and not 3


def test_where_one_ghost_batch_does_not_fit_it_says_so() -> None:
    torch.manual_seed(0)
    take = taking(Hungry(1, ERRORS["CUDA"]), None)
    with pytest.raises(MemoryError, match="not even 2 rows fit into memory: OutOfMemoryError: CUDA out of memory"):
        take(torch.arange(16))


def test_where_other_processes_take_as_many_pieces_none_is_halved() -> None:
    take = taking(Hungry(5, ERRORS["CUDA"]), 8, alone=False)
    with pytest.raises(MemoryError, match="8 rows at a time do not fit .* a smaller 'execution.micro_batch': OutOf"):
        take(torch.arange(16))
    assert take.rows == 8


@pytest.mark.parametrize("why", ["batch normalisation", "a contrastive loss"])
def test_a_batch_that_is_one_whole_is_never_divided(why: str) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.BatchNorm1d(5) if why == "batch normalisation" else nn.Linear(5, 5)

        def forward(self, inputs: Tensor) -> Tensor:
            raise ERRORS["CUDA"]

    take = taking(Whole(), None, divisible=why == "batch normalisation")
    with pytest.raises(MemoryError, match="this model or loss needs all of it at once: OutOfMemoryError"):
        take(torch.arange(16))


def test_other_errors_pass_through() -> None:
    torch.manual_seed(0)
    take = taking(Hungry(3, RuntimeError("shapes differ")), None)
    with pytest.raises(RuntimeError, match="shapes differ"):
        take(torch.arange(16))
    assert take.micro_batch is None


def test_a_rehearsal_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = Hungry(99, MemoryError())
    take, before, state = taking(model, None), [b.clone() for b in model.buffers()], torch.get_rng_state()
    take.rehearse(torch.arange(16))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, before, model.buffers()))


# What cannot be divided


@pytest.mark.parametrize(
    ("model", "rows", "divisible", "message"),
    [
        (nn.BatchNorm1d(5), 8, True, "16 rows cannot be computed 8 at a time: its batch norm.* set the workload's 'gh"),
        (GhostBatchNorm(5, 4), 6, True, "because ghost batches of 4 must stay whole; choose a 'micro_batch' that is"),
        (nn.Linear(5, 5), 8, False, "says that its loss or model mixes examples; remove 'micro_batch'"),
    ],
    ids=["batch normalisation", "ghost", "contrastive"],
)
def test_pieces_that_would_be_another_objective_are_refused(
    model: nn.Module, rows: int, divisible: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        taking(model, rows, divisible=divisible)
    assert division_problem(model, 16, 16, divisible) is None
    with pytest.raises(ValueError, match=message.partition(":")[0].removeprefix("16 rows ")):
        Accumulation(model, line()[1], rows, MANY, None, divisible)


def test_pieces_are_whole_ghost_batches_of_every_layer() -> None:
    assert smallest_piece(nn.Sequential(GhostBatchNorm(2, 4), nn.Linear(2, 2), GhostBatchNorm(2, 6))) == 12
    assert smallest_piece(nn.Linear(2, 2)) == 1


REAL = """
import resource, torch
from torch import nn
torch.set_num_threads(1)
from bcrit.tuner.training.settings import Settings
from bcrit.search_spaces.target import Direction, Target
from bcrit.tuner.training.trial import Limits, Trial
from bcrit.tuner.workloads.supervised import SupervisedWorkload

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
    def forward(self, x):
        return (self.layer(x)[:, :, None] * torch.ones({width})).tanh().mean(dim=2)

class Task(SupervisedWorkload):
    def model(self, settings):
        return Wide()
    def train_data(self):
        x = torch.randn({rows}, 2, generator=torch.Generator().manual_seed(0))
        return x, (x.sum(dim=1) > 0).long()
    validation_data = train_data

def end():
    settings = Settings({rows}, 0, "sgd", {{"lr": 0.1}})
    target = Target(metric="val_loss", threshold=0.0, direction=Direction.MINIMIZE)
    trial = Trial(lambda: Task().begin(settings), target, Limits(3, False, (), 0.5))
    trial.advance(600)
    return trial.ending

free = end()
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + {spare} * 2**20, -1))
tight = end()
print(free.outcome.value, free.micro_batch, free.best_value)
print(tight.outcome.value, tight.micro_batch, tight.best_value, tight.message)
"""


def real(rows: int, width: int, spare: int) -> tuple[list[str], list[str]]:
    """What the same trial comes to without and with a limit (MiB beyond what is taken) set by the system."""
    code = REAL.format(rows=rows, width=width, spare=spare)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    free, tight = done.stdout.splitlines()
    return free.split(), tight.split()


def test_a_trial_that_runs_out_of_real_memory_goes_on_in_pieces() -> None:
    # 128 rows of 2 x 40,000 numbers of 4 bytes take 41 MB before and after the tanh.
    free, tight = real(128, 40_000, 60)
    assert free[:2] == ["exhausted", "None"]
    assert tight[0] == "exhausted" and 1 <= int(tight[1]) < 128
    assert float(tight[2]) == pytest.approx(float(free[2]), rel=1e-4)


def test_a_trial_whose_single_row_does_not_fit_ends_as_out_of_memory() -> None:
    free, tight = real(2, 10_000_000, 60)  # a row takes 80 MB
    assert free[0] == "exhausted" and tight[0] == "out_of_memory"


MANY = 2000
INPUTS = torch.randn(MANY, 3, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS.sum(1) + torch.randn(MANY, generator=torch.Generator().manual_seed(1))


def line() -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return model, lambda rows: ((model(INPUTS[rows])[:, 0] - TARGETS[rows]) ** 2).mean()


def heard(loss: Callable[[Tensor], Tensor], sizes: list[int]) -> Callable[[Tensor], Tensor]:
    """The loss, which writes down over how many examples it was taken."""

    def listening(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return loss(rows)

    return listening


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("n", [1, 7, 8, 9, 200, 1000])
def test_the_gradient_is_that_of_the_whole_batch(n: int) -> None:
    model, loss = line()
    rows = torch.arange(n)
    loss(rows).backward()  # type: ignore[no-untyped-call]
    whole = gradient(model).clone()
    Accumulation(model, loss, 4, MANY)(rows)
    assert torch.allclose(gradient(model), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("n", "largest", "pieces"), [(7, None, 1), (8, None, 2), (64, None, 16), (1000, None, 16), (1000, 10, 125)]
)
def test_a_batch_has_one_piece_or_up_to_sixteen_or_more_where_the_experiment_limits_them(
    n: int, largest: int | None, pieces: int
) -> None:
    model, loss = line()
    sizes: list[int] = []
    accumulation = Accumulation(model, heard(loss, sizes), 4, MANY, largest)
    accumulation(torch.arange(n))
    assert len(sizes) == pieces and (pieces <= MOST_PIECES or max(sizes) <= 10) and sum(sizes) == n
    assert pieces == 1 or all(size % 4 == 0 for size in sizes[:-1])
    assert (accumulation.noise._n == 0) is (pieces == 1), "a batch in one piece is not measured"


def test_the_noise_scale_is_that_of_the_data() -> None:
    model, loss = line()
    with torch.no_grad():
        miss = model(INPUTS) - TARGETS[:, None]
    table = (
        2 * miss * torch.cat([INPUTS, torch.ones(MANY, 1)], dim=1)
    ).double()  # of (model - target)^2, each example's
    mean = table.mean(0)
    truth = float((table - mean).square().sum() / (MANY - 1) / mean.square().sum())
    accumulation = Accumulation(model, loss, 4, MANY)
    stream = torch.Generator().manual_seed(2)
    for _ in range(300):
        accumulation(torch.randperm(MANY, generator=stream)[:64])
    assert accumulation.noise.value == pytest.approx(truth, rel=0.15)
