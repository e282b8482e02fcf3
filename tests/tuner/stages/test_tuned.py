"""What a run is asked for: learning rates by batch size, and why some runs are refused."""

from typing import Any

import pytest

from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError
from bcrit.tuner.stages.adaptive import Tuned, tuned
from tests.analysis.report.runs import experiment, trial

SIZES = (8, 32, 128, 512)


def rows(n_sizes: int = 4, stage: str = "confirm", **more: Any) -> list[dict[str, Any]]:
    """A search trial and two re-runs at each batch size, S = 20 (1 + 64 / B)."""
    spec, found = experiment(batch_sizes=SIZES), []
    for place, b in enumerate(SIZES[:n_sizes]):
        point = {name: value[place] if isinstance(value, tuple) else value for name, value in more.items()}
        steps = round(20 * (1 + 64 / b))
        found.append(trial(spec, b, 0, Outcome.REACHED, steps, **point))
        if stage == "confirm":
            for n in (1, 2):
                repeats = f"b{b}-search-0"
                found.append(trial(spec, b, n, Outcome.REACHED, steps, stage=Stage.CONFIRM, repeats=repeats, **point))
    return found


def of(**more: Any) -> Tuned:
    return tuned(rows(**more), experiment(batch_sizes=SIZES), "run")


def test_the_rates_are_those_of_the_confirmed_winners() -> None:
    found = of(lr=(0.1, 0.2, 0.4, 0.5), momentum=0.9)
    assert (found.batch_sizes, found.rates) == (SIZES, (0.1, 0.2, 0.4, 0.5))
    assert list(found.steps) == [180, 60, 30, 22]
    assert found.kept["momentum"] == 0.9 and not found.notes and found.kept_from in (32, 128)


def test_where_momentum_differs_the_effective_rate_is_kept() -> None:
    found = of(lr=0.1, momentum=(0.0, 0.9, 0.9, 0.9))
    assert found.rates == pytest.approx((0.01, 0.1, 0.1, 0.1))
    [note] = found.notes
    assert "also differ in momentum" in note and "keep lr / (1 - momentum)" in note


def test_where_the_velocity_is_a_mean_momentum_leaves_the_rate_as_it_is() -> None:
    spec = experiment(batch_sizes=SIZES, optimizer="muon")
    found = tuned(rows(lr=0.1, momentum=(0.0, 0.9, 0.9, 0.9)), spec, "run")
    assert found.rates == (0.1,) * 4
    assert "also differ in momentum" in found.notes[0] and "keep lr" not in found.notes[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"n_sizes": 2}, "a frontier needs 3 batch sizes.*but there are 2"),
        ({"stage": "search"}, "but there are 0"),
        (
            {"schedule": ("constant", "linear", "constant", "cosine")},
            "batch size 32, 512 have a learning rate schedule",
        ),
        ({"warmup_steps": 5}, "have a warm-up"),
        ({"ema_decay": 0.9}, "averaged weights"),
    ],
    ids=["two sizes", "not confirmed", "schedules", "warm-up", "averages"],
)
def test_what_has_no_meaning_where_the_batch_size_changes_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        of(**more)
