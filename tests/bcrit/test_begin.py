"""The first commands of a newcomer, as they are typed: init, check, doctor; demo is the command of the README."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bcrit.begin import EXAMPLES
from bcrit.search_spaces.load import parse_experiment, read_yaml
from tests.bcrit.command import ROOT, bcrit, refused

SCRIPT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("-b", "--batch_size", type=int)
parser.add_argument("--learning-rate", type=float)
parser.add_argument("--seed", type=int)
given = parser.parse_args()
for step in range(0, 1000, 5):
    print(f"bcrit: step={step} val_loss={10 / (1 + given.learning_rate * step)}", flush=True)
"""


def test_a_script_gets_an_experiment_with_its_own_options_and_marks_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    done = bcrit("init", "--from", "train.py", cwd=tmp_path)
    assert done.returncode == 0 and "bcrit check train.yaml" in done.stdout, done.stderr
    text = (tmp_path / "train.yaml").read_text()
    command = "python train.py --batch_size {batch_size} --learning-rate {lr} --seed {seed} --max-steps {max_steps}"
    assert parse_experiment(read_yaml(text, "x"), "x").workload.options["command"] == command
    assert "# <-- the script has no option for max_steps" in text
    assert "'train.yaml' exists and is not overwritten" in refused(bcrit("init", "--from", "train.py", cwd=tmp_path))
    assert (tmp_path / "train.yaml").read_text() == text


def test_the_box_and_the_length_come_from_what_the_script_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        'add("--bs", default=32)\nadd("--learning_rate", type=float, default=3e-3)\nadd("--num-epochs", default=10)\n'
    )
    assert bcrit("init", "--from", "mine.py", cwd=tmp_path).returncode == 0
    text = (tmp_path / "mine.yaml").read_text()
    choice = read_yaml(text, "x")
    assert choice["space"] == {"lr": "log from 0.0001 to 0.09"} and "the script's own, 0.003" in text
    command = "python mine.py --bs {batch_size} --learning_rate {lr} --seed {seed} --num-epochs 1000000"
    assert choice["workload"]["command"] == command and "no option for seed:" in text
    (tmp_path / "other.py").write_text('add("--lr", type=float)\nadd("--momentum", default=0.9)\n')
    assert bcrit("init", "--from", "other.py", cwd=tmp_path).returncode == 0
    choice = read_yaml((tmp_path / "other.yaml").read_text(), "x")
    assert (
        choice["space"] == {"lr": "log from 0.001 to 1"} and "--max-steps {max_steps}" in choice["workload"]["command"]
    )


def test_what_a_script_logs_already_is_read(tmp_path: Path) -> None:
    for sign, log in (("wandb.init()", "wandb"), ("SummaryWriter()", "tensorboard"), ("print()", None)):
        name = f"{log}.py"
        (tmp_path / name).write_text(f"import x\nx.{sign}\n")
        done = bcrit("init", "--from", name, cwd=tmp_path)
        choice = read_yaml((tmp_path / f"{log}.yaml").read_text(), "x")["workload"]
        assert choice.get("report") == log
        assert ('print(f"bcrit: step={step} val_loss={val_loss}", flush=True)' in done.stdout) == (log is None)


def test_a_training_function_is_named_by_its_module(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def train(config, report):\n    pass\n")
    assert bcrit("init", "--from", "mine.py", cwd=tmp_path).returncode == 0
    assert read_yaml((tmp_path / "mine.yaml").read_text(), "x")["workload"] == "mine:train"


@pytest.mark.parametrize("kind", ["classifier", "lm", "lora", "rl"])
def test_a_kind_of_training_is_an_example_with_the_code_that_it_names(tmp_path: Path, kind: str) -> None:
    done = bcrit("init", "--kind", kind, "--out", "new.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "new.yaml").read_text()
    parse_experiment(read_yaml(text, "x"), "x")
    assert "examples" not in read_yaml(text, "x")["workload"].get("command", "")
    assert (tmp_path / "lora.py").exists() == (kind == "lora")


def test_a_workload_is_named_and_a_misspelt_one_is_not(tmp_path: Path) -> None:
    assert bcrit("init", "--workload", "digits_mlp", cwd=tmp_path).returncode == 0
    assert (tmp_path / "digits.yaml").read_text() == (EXAMPLES / "digits.yaml").read_text()
    assert "did you mean 'digits_mlp'?" in refused(bcrit("init", "--workload", "digit_mlp", cwd=tmp_path))
    assert "give one of --from SCRIPT" in refused(bcrit("init", cwd=tmp_path))
    assert "there is no script 'no.py'; correct its path" in refused(bcrit("init", "--from", "no.py", cwd=tmp_path))
    meant = refused(bcrit("init", "--from", "Classifier", cwd=tmp_path))  # as the question of `init` is answered
    assert "did you mean 'classifier'?" in meant


def test_a_check_tells_time_and_memory_of_a_step_at_both_ends(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "digits.yaml", tmp_path)
    done = bcrit("check", "digits.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["batch_sizes"]
    assert [(one["batch_size"], one["budget_steps"], one["evaluate_every"]) for one in found] == [
        (4, 2800, 1),
        (1024, 309, 1),
    ]
    assert all(0 < one["step_seconds"] < 5 and 1e8 < one["memory"] < 1e10 and one["problem"] is None for one in found)
    assert [path.name for path in tmp_path.iterdir()] == ["digits.yaml"]


def test_a_check_of_a_script_says_what_goes_wrong_and_is_the_answer_no(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        SCRIPT.replace("for step", "if given.batch_size > 99:\n    raise SystemExit('too large')\nfor step")
    )
    bcrit("init", "--from", "train.py", cwd=tmp_path)
    text = (tmp_path / "train.yaml").read_text()
    (tmp_path / "train.yaml").write_text(text.replace(" --max-steps {max_steps}", ""))
    done = bcrit("check", "train.yaml", cwd=tmp_path)
    assert done.returncode == 1 and "the command never uses {max_steps}" in done.stderr
    assert "At batch size 512 it ended: failed: the program ended with exit code 1: too large" in done.stdout
    assert "At batch size 8" not in done.stdout


def test_a_check_of_a_script_that_says_nothing_tells_once_what_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    bcrit("init", "--from", "train.py", cwd=tmp_path)
    text = (tmp_path / "train.yaml").read_text()
    (tmp_path / "train.yaml").write_text(text.replace(" --max-steps {max_steps}", ""))
    waits = "still waiting for the first evaluation, a line such as 'bcrit: step=10 val_loss=0.5'"
    assert waits not in bcrit("check", "train.yaml", cwd=tmp_path).stderr
    monkeypatch.setattr("bcrit.begin._QUIET_SECONDS", 0.0)
    done = bcrit("check", "train.yaml", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.count(waits) == 2  # at each of two batch sizes


def test_a_doctor_says_how_many_trials_this_machine_trains_at_once(tmp_path: Path) -> None:
    done = bcrit("doctor", "--json", cwd=tmp_path)
    found = {each["what"]: each for each in json.loads(done.stdout)["found"]}
    room = os.cpu_count()
    assert found["Ray"] == {
        "what": "Ray",
        "found": f"starts, with room for {room} trial{'s' if room != 1 else ''} at once",
        "good": True,
    }


def test_a_shell_is_told_the_options_of_the_command_that_is_typed() -> None:
    asked = {"_BCRIT_COMPLETE": "complete_bash", "COMP_WORDS": "bcrit fit --le", "COMP_CWORD": "2"}
    code = "import sys; sys.argv = ['bcrit']; from bcrit.cli import main; main()"
    words, environment = [sys.executable, "-c", code], {**os.environ, **asked}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["--level"]), done.stderr
