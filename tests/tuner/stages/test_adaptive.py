"""`adaptive` on small runs: what it trains, on which seeds, with which rates of the run, and what it refuses."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from bcrit.analysis.questions.adaptive.result import Adaptive
from bcrit.analysis.records.repair import set_aside
from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.session import Stopped
from bcrit.tuner.stages.adaptive import Options, Tuned, prepare, tuned
from bcrit.tuner.stages.adaptive import adaptive as measured
from bcrit.tuner.training.batch_schedule import ByNoise, Fixed, Ramp
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.digits import DigitsMLP
from tests.analysis.report import runs
from tests.tuner.stages import small
from tests.tuner.stages.small import Blobs, InProcess, experiment, filled

QUADRATIC = {**small.QUADRATIC, "resolution": 0.005}
DIGITS = {
    "workload": "digits_mlp",
    "batch_sizes": [16, 64, 256],
    "target": "val_loss < 0.4",
    "search": {"protocol": "sobol", "trials": 6, "stopping": "none"},
    "confirm": {"points": 1, "seeds": 1},
}

OPTIONS = Options((40.0,), (Ramp(((0, 16), (10, 64))),), seeds=2)


class InEights(DigitsMLP):
    """Its batches hold whole eights, as ghost batches or sequences of tokens ask for."""

    def rows(self, batch_size: int) -> int:
        if batch_size % 8:
            raise ValueError(f"batches hold whole eights, but {batch_size} is none; choose a multiple")
        return batch_size


class Normalised(Blobs):
    """With statistics over the whole batch."""

    def model(self, settings: Settings) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))


class Mixing(Blobs):
    """Its loss says that it mixes examples."""

    divisible = False


@pytest.fixture(scope="module")
def quadratic(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return filled(tmp_path_factory.mktemp("quadratic") / "run", experiment(**QUADRATIC))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return filled(tmp_path_factory.mktemp("digits") / "run", experiment(**DIGITS))


@pytest.fixture(scope="module")
def found(digits: RunFolder) -> Adaptive:
    return measured(digits, OPTIONS, InProcess(digits))


def test_every_fixed_size_and_every_schedule_is_trained_on_the_same_fresh_seeds(
    found: Adaptive, digits: RunFolder
) -> None:
    names = ["B = 16", "B = 64", "B = 256", "r = 40", "ramp 0:16, 10:64"]
    assert [one.schedule for one in found.answers] == names
    seeds = {name: [run.seed for run in found.runs_of(name)] for name in names}
    assert len({tuple(s) for s in seeds.values()}) == 1 and len(seeds["r = 40"]) == 2
    assert not set(seeds["r = 40"]) & set(Run(digits).trials["seed"])
    assert all(run.outcome == "reached" for run in found.runs)


def test_after_a_kill_only_what_is_missing_is_trained_and_the_numbers_are_the_same(
    found: Adaptive, digits: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(digits.root, tmp_path / "run")
    folder = RunFolder.at(tmp_path / "run")
    set_aside(folder, [t["trial_id"] for t in folder.read(TRIALS).to_pylist() if t["stage"] == "adaptive"])
    first, second, third = InProcess(folder, at_most=7), InProcess(folder), InProcess(folder)
    with pytest.raises(Stopped):
        measured(folder, OPTIONS, first)
    lines: list[str] = []
    assert measured(folder, OPTIONS, second, lines.append) == found
    assert (len(first.trained), len(second.trained)) == (7, 3)
    assert [line.partition(":")[0] for line in lines] == ["B = 16", "B = 64", "B = 256", "r = 40", "ramp 0"]
    assert measured(folder, OPTIONS, third) == found and third.trained == []


def test_all_that_decides_a_run_is_in_its_name(digits: RunFolder) -> None:
    bench, names = prepare(digits, (), 2), set[str]()
    for schedule in (Fixed(64), Ramp(((0, 64),)), ByNoise(40.0, 16, 256), ByNoise(41.0, 16, 256)):
        for most in (90, 91):
            names |= {p.trial_id for p in bench.proposals(schedule, most)}
    assert len(names) == 16


def test_what_runs_use_is_what_they_say(found: Adaptive) -> None:
    for run in found.runs_of("B = 64"):
        assert run.examples == 64 * (run.steps or 0) and set(run.batch_sizes) == {None, 64}
    for run in found.runs_of("ramp 0:16, 10:64"):
        steps = run.steps or 0
        assert run.examples == 16 * min(steps, 10) + 64 * max(steps - 10, 0)
    for run in found.runs_of("r = 40"):
        sizes = [b for b in run.batch_sizes if b is not None]
        assert all(16 <= b <= 256 and b % 8 == 0 for b in sizes)
        assert any(n is not None for n in run.noise_scales)


def adaptive(folder: RunFolder, options: Options) -> Adaptive:
    return measured(folder, options, InProcess(folder))


def test_the_micro_batch_is_half_of_the_smallest_batch(found: Adaptive) -> None:
    assert (found.micro_batch, found.noise, found.low, found.high) == (8, "b_simple", 16, 256)


def test_the_quadratic_is_exact_and_needs_one_seed(quadratic: RunFolder) -> None:
    made = adaptive(quadratic, Options(seeds=5))
    assert made.deterministic and made.n_seeds == 1 and made.noise == "b_noise" and made.micro_batch is None
    for one in made.of("noise"):
        assert one.gamma_predicted is not None and 0.8 < one.gamma_predicted <= 1.0
        assert one.ratio is not None and one.ratio == pytest.approx(one.ratio_predicted, rel=0.25)  # coarsely tuned


def test_the_default_rates_span_the_knee_within_the_tuned_sizes(quadratic: RunFolder) -> None:
    made = adaptive(quadratic, Options())
    b_crit = made.e_min / made.s_min
    shares = [(one.exchange_rate or 0) / b_crit for one in made.of("noise")]
    assert set(shares) <= {1 / 16, 1 / 4, 1.0, 4.0, 16.0} and 1.0 in shares


def test_a_workload_that_makes_whole_eights_only_follows_the_noise_and_refuses_other_ramps(tmp_path: Path) -> None:
    workload = "tests.tuner.stages.test_adaptive:InEights"
    folder = filled(tmp_path / "run", experiment(**{**DIGITS, "workload": workload}))
    made = adaptive(folder, Options((40.0, 60.0), seeds=1))
    assert [run.outcome for run in made.runs if run.schedule.startswith("r =")] == ["reached"] * 2
    refused = "(?s)whole eights, but 10 is none.*training set of 1437 examples, but one is 2000"
    with pytest.raises(InputError, match=refused):
        adaptive(folder, Options(ramps=(Ramp(((0, 8), (9, 10), (20, 2000))),)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": 0}, "'seeds' must be at least 1"),
        ({"exchange_rates": (-1.0,)}, "must be positive"),
        ({"exchange_rates": (30.01, 8.0, 30.02)}, "several 'r = 30'; keep one"),
        ({"ramps": (Ramp(((0, 8), (9, 16))),) * 2}, "several 'ramp 0:8, 9:16'; keep one"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [("Normalised", "batch normalisation does; set 'ghost_batch_size'"), ("Mixing", "its loss mixes them")],
)
def test_examples_that_influence_each_other_are_refused(tmp_path: Path, name: str, message: str) -> None:
    workload = f"tests.tuner.stages.test_adaptive:{name}"
    spec = experiment(batch_sizes=[4, 8, 16], target="val_loss < 0.6", workload=workload)
    with pytest.raises(InputError, match=message):
        prepare(filled(tmp_path / "run", spec), (), 1)


def test_every_seed_is_drawn_before_more_of_them_are_asked_for(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", experiment(batch_sizes=[4, 8, 16], target="val_loss < 0.6"))
    few, many = (prepare(folder, (), seeds).seeds for seeds in (2, 5))
    assert list(few) == list(many)[:2] and len(set(many)) == 5


# --- the rates of the run ---

SIZES = (8, 32, 128, 512)


def rows(n_sizes: int = 4, stage: str = "confirm", **more: Any) -> list[dict[str, Any]]:
    """A search trial and two re-runs at each batch size, S = 20 (1 + 64 / B)."""
    spec, found = runs.experiment(batch_sizes=SIZES), []
    for place, b in enumerate(SIZES[:n_sizes]):
        point = {name: value[place] if isinstance(value, tuple) else value for name, value in more.items()}
        steps = round(20 * (1 + 64 / b))
        found.append(runs.trial(spec, b, 0, Outcome.REACHED, steps, **point))
        if stage == "confirm":
            for n in (1, 2):
                repeats = f"b{b}-search-0"
                found.append(
                    runs.trial(spec, b, n, Outcome.REACHED, steps, stage=Stage.CONFIRM, repeats=repeats, **point)
                )
    return found


def of(**more: Any) -> Tuned:
    return tuned(rows(**more), runs.experiment(batch_sizes=SIZES), "run")


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
    spec = runs.experiment(batch_sizes=SIZES, optimizer="muon")
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
