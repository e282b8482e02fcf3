import pytest

from bcrit.search_spaces.presets import (
    AVERAGING,
    DOMAINS,
    EXTRAPOLATED,
    OPTIMIZERS,
    SCHEDULES,
    STEPS_OF,
    WARMUP,
    derived,
    domains_of,
)
from bcrit.search_spaces.space import SearchSpace


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_default_box_is_a_dimension_inside_its_domain(schedule: str) -> None:
    space = SearchSpace.model_validate(SCHEDULES[schedule])
    for name, dimension in space.root.items():
        ends = (dimension.low, dimension.high) if hasattr(dimension, "low") else (dimension.value,)  # type: ignore[union-attr]
        assert all(DOMAINS[name].contains(float(end)) for end in ends), name


def test_extrapolating_optimizers_have_all_of_their_base_and_their_own() -> None:
    for name, base in EXTRAPOLATED.items():
        assert set(OPTIMIZERS[name].names) - set(OPTIMIZERS[base].names) == {
            "extrapolation_lr",
            "extrapolation",
            "local_batch_size",
        }
        assert set(OPTIMIZERS[name].needed) == {*OPTIMIZERS[base].needed, "extrapolation_lr"}


def test_names_with_a_meaning_of_ours_have_a_domain() -> None:
    assert {*WARMUP, *AVERAGING, *STEPS_OF} <= set(DOMAINS)


@pytest.mark.parametrize(
    ("point", "found"),
    [
        ({"lr": 0.1}, set()),
        ({"decay_fraction": 0.5, "decay_steps": 7}, {"decay_steps"}),
        ({"decay_fraction": None, "decay_steps": None}, set()),
        ({"decay_fraction": float("nan"), "decay_steps": float("nan")}, set()),
        ({"warmup_steps": 5}, set()),
        ({"warmup_fraction": 0.0, "warmup_steps": 0, "decay_fraction": 0.5}, {"warmup_steps", "decay_steps"}),
    ],
    ids=lambda value: str(value if isinstance(value, dict) else sorted(value)),
)
def test_what_was_computed_from_a_share_is_no_hyperparameter_of_its_own(
    point: dict[str, float | None], found: set[str]
) -> None:
    assert derived(point) == found


def test_a_hyperparameter_of_one_optimizer_alone_has_a_domain_only_there() -> None:
    assert not domains_of("rmsprop")["alpha"].contains(1.0) and domains_of("asgd")["alpha"].contains(1.0)
    assert "alpha" not in domains_of("own") and domains_of("momentum") == DOMAINS
    assert all(set(domains_of(name)) - set(DOMAINS) <= set(OPTIMIZERS[name].names) for name in OPTIMIZERS)
