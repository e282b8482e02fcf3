"""The workload of a run that is to be trained again: loaded, or one message why not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Target
from bcrit.tuner.workloads.registry import WORKLOADS, Entry, load_workload, workload_of_run
from tests.tuner.landscape.small import Blobs, experiment

MODULE = """
class Good:
    unit = "examples"
    metrics = {"loss": "minimize"}
    hyperparameters = ()

    def __init__(self, size=3):
        self.size = size

    @property
    def n_examples(self):
        raise RuntimeError("the data were loaded")

    def begin(self, settings):
        return None

class Half:
    unit = "examples"
    hyperparameters = ()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory of its own, with a module of a user's, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import not_there\n")
    return tmp_path


@pytest.mark.parametrize(("name", "entry"), WORKLOADS.items(), ids=WORKLOADS)
def test_an_entry_says_what_its_class_says(name: str, entry: Entry) -> None:
    workload = load_workload(name, {})
    target = Target.model_validate(entry.target)
    assert set(entry.metrics) == set(workload.metrics)
    assert entry.unit == workload.unit
    assert workload.metrics[target.metric] is target.direction


def test_options_reach_the_class() -> None:
    assert len(load_workload("noisy_quadratic", {"dimensions": 7}).spectrum) == 7  # type: ignore[attr-defined]


def test_a_class_in_the_current_directory_is_found_and_its_data_are_not_loaded(folder: Path) -> None:
    assert load_workload("mine:Good", {"size": 5}).size == 5  # type: ignore[attr-defined]


REFUSED: dict[str, tuple[str, dict[str, object], str]] = {
    "unknown name": (
        "digits_mpl",
        {},
        "no workload 'digits_mpl'; did you mean 'digits_mlp'? the built-in ones are digits_mlp, "
        "image_classifier, language_model, autoencoder, policy_gradient, noisy_quadratic, "
        "and a class or function of your own is written module:name",
    ),
    "no class": ("mine:", {}, "there is no workload 'mine:'"),
    "no module": ("yours:Good", {}, "needs the module 'yours', which is neither installed nor in"),
    "broken module": (
        "broken:Good",
        {},
        "needs the module 'broken', but importing it failed with ModuleNotFoundError: No module named 'not_there'",
    ),
    "unknown class": ("mine:Goob", {}, "has no class or function 'Goob'; did you mean 'Good'? it has Good, Half"),
    "unknown option": ("mine:Good", {"width": 1}, "unexpected keyword argument 'width'; its options are size"),
    "no options": ("digits_mlp", {"width": 1}, "it has no options, remove them"),
    "bad value": ("noisy_quadratic", {"dimensions": 0}, "'dimensions' must be a whole number"),
    "half a workload": (
        "mine:Half",
        {},
        "must have unit, metrics, n_examples, hyperparameters, begin, but 'mine:Half' lacks metrics, n_examples, begin",
    ),
    "abstract class": ("bcrit.tuner.workloads.supervised:SupervisedWorkload", {}, "abstract"),
}


@pytest.mark.parametrize(("name", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_loaded_is_refused_with_the_remedy(
    folder: Path, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_workload(name, options)


def test_the_workload_of_the_run_is_loaded() -> None:
    assert isinstance(workload_of_run(experiment(), "run"), Blobs)


def test_a_run_of_elsewhere_is_refused() -> None:
    with pytest.raises(InputError, match="an imported run describes trials of elsewhere"):
        workload_of_run(experiment(imported={"format": "mlperf", "source": "there"}), "run")


def test_a_module_that_ends_the_program_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quits.py").write_text("raise SystemExit('no data here')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no data here"):
        workload_of_run(experiment(workload="quits:Thing"), "run")
