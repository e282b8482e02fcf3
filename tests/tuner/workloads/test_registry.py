"""The workload of a run that is to be trained again: loaded, or one message why not."""

import re
import sys
from pathlib import Path

import pytest

from bcrit.search_spaces.problems import InputError
from bcrit.tuner.workloads import places
from bcrit.tuner.workloads.registry import load_workload, workload_of_run
from tests.tuner.stages.small import Blobs, experiment

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
    monkeypatch.setattr(places, "_folders", set())
    monkeypatch.setattr(places, "_trusted", {"bcrit.tuner.workloads"})  # a worker in this process trusts everything
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import not_there\n")
    (tmp_path / "random.py").write_text("raise RuntimeError('the wrong one')\n")
    return tmp_path


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


def test_a_class_in_folders_that_are_no_packages_is_found(folder: Path) -> None:
    (folder / "some/where").mkdir(parents=True)
    (folder / "some/where/mine.py").write_text(MODULE)
    assert load_workload("some.where.mine:Good", {"size": 5}).size == 5  # type: ignore[attr-defined]


def test_what_is_installed_is_neither_imported_nor_called_unless_it_is_trusted(folder: Path) -> None:
    """Whatever a file names: a program's name, a module that acts when it is imported, a package below the folder."""
    for place in (".venv/lib/python3.11/site-packages/evil", "named/evil"):
        (folder / place).mkdir(parents=True)
        (folder / place / "__init__.py").write_text("raise RuntimeError('it ran')\n")
    sys.path.append(str(folder / ".venv/lib/python3.11/site-packages"))
    ran = folder / "ran"
    for name in ("subprocess:Popen", "os:system", "posix:system", "antigravity:x", "evil.part:Thing", "__main__:x"):
        module = name.partition(":")[0]
        with pytest.raises(ValueError, match=rf"the module '{module}' is not in .*or name the module with --trust"):
            load_workload(name, {"args": ["touch", str(ran)]})
    with pytest.raises(ValueError, match="your module 'random' is hidden by another of that name .*another name"):
        load_workload("random:Random", {})
    (folder / "borrowed.py").write_text("from subprocess import Popen\n")  # a class that cannot be one is not called
    with pytest.raises(ValueError, match="'borrowed:Popen' lacks unit, metrics, n_examples, hyperparameters, begin"):
        load_workload("borrowed:Popen", {"args": ["touch", str(ran)]})
    assert not ran.exists() and "antigravity" not in sys.modules
    places.trust(["subprocess"])
    with pytest.raises(ValueError, match="'subprocess:Popen' lacks"):
        load_workload("subprocess:Popen", {})


def test_the_workload_of_a_run_is_loaded_or_one_message_says_why_not(folder: Path) -> None:
    places.trust(["tests"])
    assert isinstance(workload_of_run(experiment(), "run"), Blobs)
    with pytest.raises(InputError, match="an imported run describes trials of elsewhere"):
        workload_of_run(experiment(imported={"format": "mlperf", "source": "there"}), "run")
    (folder / "quits.py").write_text("raise SystemExit('no data here')")  # a module may even end the program
    with pytest.raises(InputError, match="no data here"):
        workload_of_run(experiment(workload="quits:Thing"), "run")
