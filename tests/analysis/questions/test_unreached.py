"""A target that was not reached: how near it was, which one was common, and whether the budget would do."""

import math
from pathlib import Path

import numpy as np
import pytest

from bcrit.analysis.questions.unreached import ask, times_as_many
from bcrit.analysis.report import Answer
from bcrit.analysis.run import Run
from bcrit.search_spaces.target import Target
from tests.analysis.folders import Made, experiment, write_run

STEPS = np.unique(np.geomspace(1, 100, 60).round())
LOSS, ACCURACY = (Target.model_validate(said) for said in ("loss < 0.1", "accuracy > 0.9"))


@pytest.mark.parametrize(
    ("values", "target", "factor"),
    [
        (STEPS**-0.4, LOSS, 10 ** (1 / 0.4) / 100),  # a power of the step is gone on with
        (STEPS**-0.1, LOSS, 1e10 / 100),
        (0.2 + 0.1 * np.log(STEPS), ACCURACY, math.exp(7) / 100),
        (np.maximum(STEPS**-0.4, 0.3), LOSS, math.inf),  # has stopped improving
        (STEPS**-0.6, LOSS, None),  # reached
        (np.full(len(STEPS), np.nan), LOSS, None),
    ],
    ids=["power", "slow", "logarithm", "flat", "reached", "none"],
)
def test_the_pace_of_the_last_half_is_gone_on_with(values: np.ndarray, target: Target, factor: float | None) -> None:
    found = times_as_many(STEPS, values, target)
    assert found == (math.inf if factor and factor > 1e6 else factor and pytest.approx(factor, rel=1e-6))


def test_too_few_evaluations_have_no_pace() -> None:
    assert times_as_many(np.array([1.0, 100.0]), np.array([1.0, 0.5]), LOSS) is None
    assert times_as_many(np.array([100.0]), np.array([0.5]), LOSS) is None


def curve(power: float) -> list[tuple[int, float]]:
    return [(int(step), float(step**-power)) for step in STEPS]


def test_six_sizes_have_a_target_in_common_and_what_should_give_is_told(tmp_path: Path) -> None:
    powers = {8: 0.6, 16: 0.45, 32: 0.4, 64: 0.3, 128: 0.2, 256: 0.1, 512: 0.05}
    spec = experiment(list(powers), "loss < 0.1", confirm={"seeds": 0})
    runs = {f"b{b}": Made(b, curve(power)) for b, power in powers.items()}
    worse = {f"w{b}": Made(b, curve(0.04)) for b in powers}
    run = Run(write_run(tmp_path / "run", spec, {**runs, **worse}))
    found = ask(run)
    assert isinstance(found, Answer)
    assert [each["batch_size"] for each in found.facts["best"]] == list(powers)[1:]
    assert found.facts["best"][0]["trial"] == "b16" and found.facts["best"][0]["best"] == pytest.approx(100**-0.45)
    assert found.facts["strictest"] == {"target": "loss < 0.631", "n": 6}  # 100^-0.1 = 0.63096
    assert "The strictest target that 6 batch sizes reached is loss < 0.631" in found.sentences[0]
    assert "At batch size 16 and 32 a larger budget may do" in found.sentences[1] and "3.16 times" in found.sentences[1]
    assert "At batch size 64, 128, 256 and 512 loosen the target" in found.sentences[2]
    assert all(sentence in run.ask("steps").terminal for sentence in found.sentences)
    common = Run(run.folder, Target.model_validate("loss < 0.631"))
    assert common.studies["steps"].notna().sum() == 6
    assert "the run was made for loss < 0.1" in str(ask(common))


def test_divergence_is_named_where_most_of_it_is_that(tmp_path: Path) -> None:
    made = {f"{b}-{n}": Made(b, curve(0.1), "diverged" if n else "exhausted") for b in (8, 16) for n in range(4)}
    run = Run(write_run(tmp_path / "run", experiment([8, 16], "loss < 0.1"), made))
    found, said = ask(run), "t batch size 8 and 16 most trials diverged (6 in all)"
    assert isinstance(found, Answer) and said in (run.no_fit or "")
    assert str(run.ask("steps").terminal).count(said) == 1, "what keeps a run from its curve is said once"
    made = {name: Made(run.batch_size, run.curve) for name, run in made.items()}
    found = ask(Run(write_run(tmp_path / "other", experiment([8, 16], "loss < 0.1"), made)))
    assert isinstance(found, Answer) and "diverged" not in str(found.sentences)
