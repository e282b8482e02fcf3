"""What failed is run again with mended code, from another folder, and nothing else is."""

import shutil
from pathlib import Path

import pytest

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.runs import checked_experiment
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner.code import MOST_BYTES
from bcrit.tuner.protocol.protocol import resolved
from tests.bcrit.command import ROOT, bcrit, refused
from tests.tuner.stages.small import filled

BROKEN = """
from scripted import ExactHyperbola

class Mine(ExactHyperbola):
    def begin(self, settings):
        if settings.batch_size == 64 and BROKEN:
            raise KeyError("a column that is not there")
        return super().begin(settings)

BROKEN = True
"""
EXPERIMENT = """
workload: "mine:Mine"
batch_sizes: [8, 64]
target: loss < 1
space: {lr: log from 0.01 to 1, momentum: 0.9}
budget: {steps: 2000}
search: {trials: 4, protocol: sobol}
boundary: {max_rounds: 0}
confirm: {points: 1, seeds: 1}
"""


def outcomes(run: Path) -> dict[str, tuple[str, float]]:
    rows = RunFolder.at(run).read(TRIALS).to_pylist()
    return {row["trial_id"]: (row["outcome"], row["ended_at"]) for row in rows}


@pytest.mark.usefixtures("one_ray")
def test_what_failed_is_run_again_with_other_code(tmp_path: Path) -> None:
    first, mended, run = tmp_path / "first", tmp_path / "mended", tmp_path / "run"
    for folder, text in ((first, BROKEN), (mended, BROKEN.replace("BROKEN = True", "BROKEN = False"))):
        folder.mkdir()
        (folder / "mine.py").write_text(text)
        shutil.copy(ROOT / "tests" / "scripted.py", folder)
        (folder / "random.py").write_text("raise RuntimeError('Python has one of its own')")
    (first / "mine.yaml").write_text(EXPERIMENT)
    (first / "data.bin").write_bytes(bytes(MOST_BYTES))  # too much to be code, which matters to a cluster alone
    begun = bcrit("tune", "mine.yaml", "--out", run, "--workers", 1, cwd=first)
    assert begun.returncode == 1 and "no copy of your code is kept, so resume this run from the same" in begun.stderr
    before = outcomes(run)
    failed = {name for name, (outcome, _) in before.items() if outcome == "failed"}
    assert failed and all(name.startswith("b0000064") for name in failed)
    done = bcrit("resume", run, "--retry-failed", "--code", mended, "--workers", 1, cwd=tmp_path)
    assert f"{len(failed)} trials are run again" in done.stderr
    after = outcomes(run)
    assert "failed" not in {outcome for outcome, _ in after.values()}
    assert {f"b0000064-search-{number:04d}" for number in range(4)} <= after.keys()  # no more are needed now
    assert all(after[name] == end for name, end in before.items() if name not in failed)
    hashes = [session["code_sha256"] for session in RunFolder.at(run).read_environment()]
    assert hashes[0] is None and len(hashes[1]) == 64


def test_tune_with_resume_goes_on_with_the_run_of_the_same_experiment_alone(tmp_path: Path) -> None:
    text = EXPERIMENT.replace('"mine:Mine"', "noisy_quadratic").replace("loss < 1", "risk < 0.5")
    file, run = tmp_path / "mine.yaml", tmp_path / "run"
    file.write_text(text)
    experiment, _ = checked_experiment(read_yaml(text, "mine.yaml"), "mine.yaml")
    filled(run, resolved(experiment, 4))
    before = outcomes(run)
    done = bcrit("tune", file, "--out", run, "--resume")
    assert done.returncode == 0 and "the run was complete; nothing was run" in done.stdout
    assert outcomes(run) == before
    assert "give --out RUN" in refused(bcrit("tune", file, "--resume"))
    file.write_text(text.replace("risk < 0.5", "risk < 0.6"))
    told = refused(bcrit("tune", file, "--out", run, "--resume"))
    assert f"the run there is of another experiment than {file}: its target differ" in told
