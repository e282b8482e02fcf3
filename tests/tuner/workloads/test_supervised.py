from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Execution
from bcrit.search_spaces.target import Direction
from bcrit.tuner.training.data import Examples
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.supervised import DEFINITIONS, SelfSupervisedWorkload, SupervisedWorkload, cross_entropy


def settings(**others: float) -> Settings:
    return Settings(4, 0, "sgd", {"lr": 0.2, **others})


class Parity(SupervisedWorkload):
    """The shortest classifier: three methods. It counts how often its data are loaded."""

    loads = 0
    hyperparameters = ("width",)

    def model(self, settings: Settings) -> nn.Module:
        return nn.Linear(2, int(settings.number("width", 2)))

    def train_data(self) -> Examples:
        self.loads += 1
        return torch.eye(2).repeat(4, 1), torch.tensor([0, 1]).repeat(4)

    def validation_data(self) -> Examples:
        self.loads += 1
        return torch.eye(2), torch.tensor([0, 1])


class Line(Parity):
    """A regressor, with a loss and a metric of its own."""

    metrics = {"error": Direction.MINIMIZE}

    def validation_data(self) -> Examples:
        return torch.eye(2), torch.zeros(2, 2)

    def train_data(self) -> Examples:
        return self.validation_data()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        return {"error": self.loss(outputs, targets).item()}


class Uneven(Parity):
    def train_data(self) -> Examples:
        return torch.eye(2), torch.zeros(3)


def test_default_metrics_are_cross_entropy_and_the_share_of_right_answers() -> None:
    outputs, targets = torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 1, 1, 1])
    scored = Parity().score(outputs, targets)
    assert scored["val_accuracy"] == 0.5  # two zeros count as class 0
    assert scored["val_loss"] == pytest.approx(nn.functional.cross_entropy(outputs, targets).item())
    assert set(scored) == set(Parity.metrics)


def test_a_regressor_brings_its_own_loss_and_score() -> None:
    run = Line().begin(Settings(2, 0, "sgd", {"lr": 0.5}))
    run.train(300)
    assert run.evaluate()["error"] < 1e-6


def test_data_are_loaded_once_however_many_runs_begin() -> None:
    workload = Parity()
    assert workload.loads == 0
    for _ in range(3):
        workload.begin(settings()).train(1)
    assert workload.n_examples == 8
    assert workload.loads == 2


def test_a_diverged_run_evaluates_to_a_number_that_is_not_finite() -> None:
    run = Line().begin(Settings(2, 0, "sgd", {"lr": 1e9}))
    run.train(50)
    assert not torch.isfinite(torch.tensor(run.evaluate()["error"]))


def test_inputs_without_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Uneven\.train_data must return as many .* 2 inputs and 3 targets"):
        Uneven().begin(settings())


def test_a_sample_is_some_rows_in_their_order_and_depends_on_the_seed_alone() -> None:
    class Counting(Parity):
        def train_data(self) -> Examples:
            return torch.arange(100.0)[:, None], torch.arange(100)

    workload = Counting()
    inputs, targets = workload.sample("train", 30, seed=1)
    assert torch.equal(inputs[:, 0].long(), targets) and len(targets) == 30
    assert targets.tolist() == sorted(set(targets.tolist()))
    assert torch.equal(targets, workload.sample("train", 30, seed=1)[1])
    assert not torch.equal(targets, workload.sample("train", 30, seed=2)[1])
    assert torch.equal(workload.sample("train", 101, seed=0)[1], torch.arange(100))  # no more than there are


def test_a_trial_that_was_given_no_gpu_touches_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> tuple[int, int]:
        raise AssertionError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", asked)
    Parity().begin(settings()).train(1)


class Contrastive(Parity):
    divisible = False


def test_a_loss_over_the_whole_batch_is_not_computed_in_pieces() -> None:
    with pytest.raises(
        ValueError, match="4 rows cannot be computed 2 at a time, because the workload says that its loss"
    ):
        Contrastive().begin(replace(settings(), execution=Execution(micro_batch=2)))
    assert Parity().begin(replace(settings(), execution=Execution(micro_batch=2))).micro_batch == 2


class Sized(Parity):
    """A batch counts pairs of rows, and training minimises ten times the loss by which runs are judged."""

    def rows(self, batch_size: int) -> int:
        return 2 * batch_size

    def training_loss(self, settings: Settings) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda outputs, targets: 10 * self.loss(outputs, targets)


def test_rows_and_the_training_loss_may_differ_from_batch_size_and_loss() -> None:
    sized = Sized().begin(Settings(2, 0, "sgd", {"lr": 0.02}))
    plain = Parity().begin(Settings(4, 0, "sgd", {"lr": 0.2}))
    assert sized.evaluate() == plain.evaluate()
    sized.train(5)
    plain.train(5)
    assert sized.evaluate()["val_loss"] == pytest.approx(plain.evaluate()["val_loss"], rel=1e-5)


class Squares(nn.Module):
    """Two losses an example: the distance from a learned point, and the size of that point."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.tensor([0.5, 0.5]))

    def forward(self, examples: Tensor) -> Tensor:
        distance = ((examples - self.point) ** 2).sum(dim=1)
        return torch.stack([distance, (self.point**2).sum().expand(len(examples))], dim=1)


class Centre(SelfSupervisedWorkload):
    metrics = dict.fromkeys(("val_loss", "distance", "size"), Direction.MINIMIZE)
    terms = ("distance", "size")

    def model(self, settings: Settings) -> nn.Module:
        return Squares()

    def train_examples(self) -> Tensor:
        return torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def validation_examples(self) -> Tensor:
        return torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])


def test_terms_are_means_over_examples_and_the_loss_is_their_sum() -> None:
    metrics = Centre().begin(Settings(2, 0, "sgd", {"lr": 0.1})).evaluate()
    assert metrics == pytest.approx({"val_loss": 1.0, "distance": 0.5, "size": 0.5})


def test_the_sum_is_minimised() -> None:
    run = Centre().begin(Settings(2, 0, "sgd", {"lr": 0.1}))
    run.train(100)  # the least of |p - (2, 3)|^2 + |p|^2 is at p = (1, 1.5)
    assert run.evaluate()["size"] == pytest.approx(1 + 1.5**2)


SCORES = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4]])
LABELS = torch.tensor([0, 3])


def by_definition(scores: Tensor, labels: Tensor, eps: float, over: str) -> Tensor:
    """The naive twin: the smoothed target written out."""
    n_classes = scores.shape[1]
    rest = eps / n_classes if over == "all" else eps / (n_classes - 1)
    right = 1 - eps + rest if over == "all" else 1 - eps
    targets = torch.full_like(scores, rest)
    targets[torch.arange(len(labels)), labels] = right
    torch.testing.assert_close(targets.sum(1), torch.ones(len(labels)))
    return -(targets * scores.log_softmax(1)).sum(1)


@pytest.mark.parametrize("over", DEFINITIONS)
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.1, 0.5])
def test_smoothing_is_as_defined(over: str, eps: float) -> None:
    torch.testing.assert_close(cross_entropy(SCORES, LABELS, eps, over), by_definition(SCORES, LABELS, eps, over))
