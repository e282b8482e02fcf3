"""What is printed of a measurement, where the user's own code prints too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from bcrit.analysis.records.run_folder import REPORT, RunFolder
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.digits import DigitsMLP
from tests.bcrit.command import bcrit
from tests.tuner.landscape.small import experiment, filled


class Loud(DigitsMLP):
    """It prints whenever a model is made."""

    def model(self, settings: Settings) -> nn.Module:
        print("a model of mine")
        return super().model(settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workload, sizes = "tests.bcrit.test_measured:Loud", [16, 64, 256]
    path = tmp_path_factory.mktemp("run") / "run"
    filled(path, experiment(workload=workload, batch_sizes=sizes, target="val_loss < 0.4", confirm={"seeds": 1}))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("adaptive", "--seeds", "1", "--exchange-rate", "40"),
        ("landscape", "--seeds", "1", "--eps", "0.001", "--subspace", "0", "--examples", "99", "--iterations", "1"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_stdout_is_the_answer_alone_and_the_report_has_it(run: Path, arguments: tuple[str, ...]) -> None:
    command, *options = arguments
    done = bcrit(command, run, *options, "--json")
    assert done.returncode == 0, done.stderr
    assert "a model of mine" in done.stderr and json.loads(done.stdout)["sentences"]
    assert f'id="{command}"' in RunFolder.at(run).read_text(REPORT)
