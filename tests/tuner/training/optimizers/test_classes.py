from __future__ import annotations

import pytest
import torch

from bcrit.search_spaces.presets import EXTRAPOLATED, OPTIMIZERS
from bcrit.tuner.training.optimizers import arguments, class_of, keywords_of, parameters_of

REFUSED = {"lbfgs", "sparseadam", "optimizer"}
TORCH = sorted(
    name.lower()
    for name, found in vars(torch.optim).items()
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer) and name.lower() not in REFUSED
)
OURS = {"decoupled_weight_decay", "extrapolation", "extrapolation_lr", "local_batch_size"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_of_the_presets_is_one_of_the_class(name: str) -> None:
    assert set(OPTIMIZERS[name].names) - OURS <= set(keywords_of(class_of(name)))


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"sgd", "momentum", "nesterov", *EXTRAPOLATED}))
def test_the_presets_leave_out_no_parameter_of_the_class(name: str) -> None:
    # `sgd` and its two relatives are one class, of which each takes a part.
    assert set(keywords_of(class_of(name))) <= set(OPTIMIZERS[name].names)


@pytest.mark.parametrize("name", TORCH)
def test_every_class_of_torch_optim_can_be_named(name: str) -> None:
    assert issubclass(class_of(name), torch.optim.Optimizer)
    assert parameters_of(name).needed == ("lr",)


def test_parameters_of_a_class_beyond_the_presets_are_read_from_its_signature() -> None:
    assert parameters_of("adamax").names == ("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled_weight_decay")
    assert "decoupled_weight_decay" not in parameters_of("adafactor").names
    assert parameters_of("rprop").optional[:4] == ("eta1", "eta2", "step_size1", "step_size2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lbfgs", "evaluates the loss many times an update"),
        ("sparseadam", "sparse gradients only; choose adam"),
        ("adamm", "no optimizer 'adamm'; did you mean 'adam.*choose one of .*radam"),
        ("lr_scheduler", "no optimizer 'lr_scheduler'"),
    ],
)
def test_what_cannot_train_by_steps_is_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_of(name)


def test_fused_where_pytorch_has_it_and_no_weight_decay_of_its_own() -> None:
    assert arguments(torch.optim.AdamW, {}) == {"weight_decay": 0.0, "fused": True}
    assert arguments(torch.optim.RMSprop, {"alpha": 0.5}) == {"alpha": 0.5, "weight_decay": 0.0}


def test_an_entry_of_a_tuple_leaves_the_others_at_their_defaults() -> None:
    assert arguments(torch.optim.Adam, {"beta2": 0.5})["betas"] == (0.9, 0.5)


@pytest.mark.parametrize("value", ["true", 1, 0.0])
def test_a_flag_that_is_no_flag_is_refused(value: str | float) -> None:
    with pytest.raises(ValueError, match=f"'amsgrad' is true or false, .* but it is {value!r}"):
        arguments(torch.optim.Adam, {"amsgrad": value})
