"""The first commands of a newcomer: demo, init, check, doctor."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from bcrit.analysis.records.json_values import plain
from bcrit.ask import AS_JSON
from bcrit.runs import Trust, Workers, checked_experiment, read_experiment_file, tune
from bcrit.search_spaces.load import read_yaml
from bcrit.search_spaces.options import COMMAND
from bcrit.search_spaces.problems import InputError, did_you_mean
from bcrit.terminal import Screen, print_json, say, say_notes, tell, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.report import Answer
    from bcrit.search_spaces.experiment import Experiment
    from bcrit.tuner.stages.pilot import Glance

EXAMPLES: Final = Path(__file__).parent / "examples"
"""The experiments that come along, in a checkout and in a wheel."""

# What scripts call the settings that every trial has; the first that a script names is taken.
_OPTIONS: Final = {
    "batch_size": ("batch-size", "batch_size", "per_device_train_batch_size", "train-batch-size", "batch", "bs", "b"),
    "lr": ("lr", "learning-rate", "learning_rate", "max-lr", "base-lr"),
    "seed": ("seed", "random-seed", "random_seed"),
    "max_steps": ("max-steps", "max_steps", "steps", "num-steps", "num_steps", "max-iters", "max_iters", "iters"),
}
_OPTION: Final = r"""["']--?({})["']"""
_DEFAULT: Final = r"""[^()]*?\bdefault\s*=\s*([\d._]+(?:[eE][+-]?\d+)?)"""  # in the same call
_EPOCHS: Final = ("epochs", "num-epochs", "num_epochs", "max-epochs", "max_epochs", "n-epochs", "n_epochs")
_ENDLESS: Final = 1_000_000  # epochs that no trial gets through
_LR_SIDE: Final = 30  # how far the first box of the learning rate goes to both sides of what is used now; chosen
_SCRIPT: Final = """\
# Written by `bcrit init --from {script}`. Look at each line with a mark (<--), then:  bcrit check {file}
name: {name}
workload:
  # Run for every trial with its own values in the braces.{marks}
  command: "{command}"
{report}batch_sizes: [8, 16, 32, 64, 128, 256, 512]  # <-- six or more, from far too small to far too large
target: val_loss < 0.5  # <-- the metric that is reported, and a value that every batch size can reach

space:
  lr: {box}

budget: {{steps: 300, examples: 50_000}}  # <-- a trial may train steps + examples / batch_size updates
confirm: {{points: 1, seeds: 3}}
"""
_PRINTS: Final = 'print(f"bcrit: step={step} val_loss={val_loss}", flush=True)'

Kind = Literal["classifier", "lm", "lora", "rl"]
_KINDS: Final = {
    "classifier": "fashion_mnist.yaml",
    "lm": "shakespeare.yaml",
    "lora": "lora.yaml",
    "rl": "cartpole.yaml",
}


def demo(
    out: Annotated[str | None, typer.Option(help="Run folder. Default: runs/digits, or runs/digits-2 ...")] = None,
    workers: Workers = None,
    as_json: AS_JSON = False,
) -> None:
    """Measure a small network on handwritten digits: a whole study in about a minute.

    It needs no file and no download, and writes a run folder with its report, as `bcrit tune` does.
    """
    tune(EXAMPLES / "digits.yaml", out, workers=workers, as_json=as_json)


def init(
    script: Annotated[
        Path | None, typer.Option("--from", metavar="SCRIPT", help="Measure this script of yours, as it is.")
    ] = None,
    workload: Annotated[
        str | None, typer.Option(metavar="NAME", help="Begin with this built-in workload; `bcrit workloads` has them.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="Begin with what is nearest to this kind of training.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="NEW.yaml", help="Where to write. Default: named like the script or example.")
    ] = None,
) -> None:
    """Write an experiment to begin with: for a script of yours, for a built-in workload, or for a kind of training.

    Without options it asks. Nothing is overwritten. It says the next command.
    """
    given = [option for option in (script, workload, kind) if option is not None]
    if not given and sys.stdin.isatty():
        asked = typer.prompt("A script of yours (its path), or one of classifier, lm, lora, rl, demo", default="demo")
        script, kind = (None, asked) if asked in _KINDS else (None if asked == "demo" else Path(asked), None)
        given, workload = [asked], "digits_mlp" if asked == "demo" else None
    if len(given) != 1:
        raise InputError("init", ["give one of --from SCRIPT, --workload NAME and --kind; or none, on a terminal"])
    if script is not None:
        files = _of_script(script, out)
    elif kind is not None:
        files = _of_example(EXAMPLES / _KINDS[kind], out)
    else:
        files = _of_example(_of_workload(workload or ""), out)
    if taken := [path for path in files if path.exists()]:
        raise InputError("init", [f"'{taken[0]}' exists and is not overwritten; choose another name with --out"])
    for path, text in files.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError("init", [f"'{path}' cannot be written: {error.strerror}; choose another place"]) from error
    console, first = wide_console(), next(iter(files))
    say(console, f"wrote {' and '.join(map(str, files))}")
    prints = script is not None and "bcrit: step=" in script.read_text(encoding="utf-8", errors="replace")
    if script is not None and not prints and "report:" not in files[first]:
        say(console, f"have {script} print where it evaluates:  {_PRINTS}")
    say(console, f"look it over; then:  bcrit check {first}")


def _of_script(script: Path, out: Path | None) -> dict[Path, str]:
    """The experiment for a script, whose options are looked for in its text."""
    if not script.is_file():
        meant = did_you_mean(str(script), [*_KINDS, "demo"])
        raise InputError("init", [f"there is no script '{script}'; {meant}correct its path"])
    text = read_experiment_file(script)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", script.stem).strip("._-") or "script"
    file = out or Path(f"{script.stem}.yaml")
    if re.search(r"^def train\(config, report\b", text, re.MULTILINE):
        module = ".".join(script.with_suffix("").parts)
        text = _SCRIPT.format(script=script, file=file, name=name, command="", marks="", report="", box=_box_of(None))
        start, end = text.index("workload:"), text.index("batch_sizes:")
        return {file: f'{text[:start]}workload: "{module}:train"\n{text[end:]}'}
    words, missing, said = [_runner(script), str(script)], [], []
    for setting, options in _OPTIONS.items():
        found = _first(options, text)
        if setting == "max_steps" and found is None and (epochs := _first(_EPOCHS, text)):
            words.append(f"--{epochs} {_ENDLESS}")
            said.append("bcrit ends each trial, so these are simply far too many epochs: base no schedule on them.")
            continue
        if found is None:
            missing.append(setting)
        words.append(f"{'-' if found and len(found) == 1 else '--'}{found or options[0]} {{{setting}}}")
    if missing:
        said.insert(0, f"the script has no option for {', '.join(missing)}: name what it has, or add it.")
    return {
        file: _SCRIPT.format(
            script=script,
            file=file,
            name=name,
            command=" ".join(words),
            marks="".join(f"\n  # <-- {mark}" for mark in said),
            report=_report_of(text),
            box=_box_of(_default_of(_first(_OPTIONS["lr"], text), text)),
        )
    }


def _first(options: tuple[str, ...], text: str) -> str | None:
    """The first of these options that a script has."""
    return next((option for option in options if re.search(_OPTION.format(re.escape(option)), text)), None)


def _default_of(option: str | None, text: str) -> float | None:
    """The number that a script takes where the option is not given."""
    found = option and re.search(_OPTION.format(re.escape(option)) + _DEFAULT, text)
    return float(found[2]) if found else None


def _box_of(lr: float | None) -> str:
    """The first box of the learning rate, around the script's own."""
    if not lr:
        return f"log from 0.001 to 1  # <-- about a factor {_LR_SIDE} to both sides of what you use"
    low, high = f"{lr / _LR_SIDE:.1g}", f"{lr * _LR_SIDE:.1g}"
    return f"log from {low} to {high}  # <-- a factor {_LR_SIDE} to both sides of the script's own, {lr:g}"


def _runner(script: Path) -> str:
    return {".py": "python", ".sh": "sh", ".R": "Rscript", ".jl": "julia"}.get(script.suffix, "")


def _report_of(text: str) -> str:
    """Where a script logs already; otherwise it is to print."""
    if "bcrit" in text:
        return ""
    for sign, log in (("wandb.init", "wandb"), ("SummaryWriter", "tensorboard"), ("TensorBoardLogger", "tensorboard")):
        if sign in text:
            said = "  # <-- logged there; its folder must be given {trial_folder}" if log == "tensorboard" else ""
            return f"  report: {log}{said}\n"
    return ""


def _of_workload(name: str) -> Path:
    from bcrit.tuner.workloads.registry import WORKLOADS

    for path in sorted(EXAMPLES.glob("*.yaml")):
        choice = read_yaml(path.read_text(encoding="utf-8"), path.name)["workload"]
        if name in WORKLOADS and name == (choice if isinstance(choice, str) else choice.get("name")):
            return path
    known = ", ".join(WORKLOADS)
    raise InputError("--workload", [f"there is no workload '{name}'; {did_you_mean(name, WORKLOADS)}they are {known}"])


def _of_example(example: Path, out: Path | None) -> dict[Path, str]:
    """An example and the code that it names."""
    text, file = example.read_text(encoding="utf-8"), out or Path(example.name)
    files = {file: text}
    for named in re.findall(r"examples[./](\w+)", text):
        if (code := EXAMPLES / f"{named}.py").is_file():
            files[Path(code.name)] = code.read_text(encoding="utf-8")
    files[file] = re.sub(r"examples[./](?=\w+(:|\.py))| Start in the repository's root\.", "", text)
    return files


def check(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment.")],
    trust: Trust = None,
    as_json: AS_JSON = False,
) -> None:
    """Begin one trial at the smallest and one at the largest batch size, and say how long a step takes and what fails.

    Two updates are made (a function or program trains to its second report) in the middle of the search space, by the
    code that trains every trial, on this machine without Ray. Nothing is written.
    """
    where = str(experiment)
    checked, notes = checked_experiment(read_yaml(read_experiment_file(experiment), where), where)
    from contextlib import redirect_stdout

    from bcrit.tuner.stages.pilot import glance

    errors = Screen(stderr=True)
    say_notes(errors, notes)
    found = []
    for batch_size in dict.fromkeys((checked.batch_sizes[0], checked.batch_sizes[-1])):
        say(errors, f"training at batch size {batch_size:,} ...")
        with redirect_stdout(sys.stderr):  # what a user's code prints
            found.append(glance(checked, batch_size, _impatient(checked, errors)))
    answer = _checked(found, where, checked.unit)
    tell(answer, as_json)
    if not answer.yes:
        raise typer.Exit(1)


def _impatient(experiment: Experiment, errors: Screen) -> Callable[[float], None]:
    """Says once, where a trial is silent for long, what is waited for."""
    told: list[str] = []

    def waiting(seconds: float) -> None:
        if seconds < _QUIET_SECONDS or told:
            return
        asks = "still waiting for the first evaluation"
        if experiment.workload.name == COMMAND:
            line = f"bcrit: step=10 {experiment.target.metric}=0.5"
            asks += f", a line such as '{line}' or what 'report' in the experiment names"
        told.append(f"{asks}; Ctrl-C ends this")
        say(errors, told[0])

    return waiting


_QUIET_SECONDS: Final = 30.0  # longer than programs take to import their libraries; chosen


def _checked(found: list[Glance], where: str, unit: str) -> Answer:
    from bcrit.analysis.numbers import duration, pace
    from bcrit.analysis.report import Answer, Rows, table_of

    rows = [
        {
            "batch size": f"{one.batch_size:,}",
            "a step": "-" if one.step_seconds is None else pace(one.step_seconds),
            "steps between evaluations": "-" if one.evaluate_every is None else f"{one.evaluate_every:,}",
            "to the first one": "-" if one.start_seconds is None else pace(one.start_seconds),
            "memory": "-" if one.memory is None else f"{one.memory / 1e9:.2f} GB",
            "longest trial": "-"
            if one.step_seconds is None
            else f"{one.budget_steps:,} steps, {duration(one.step_seconds * one.budget_steps / 3600)}",
        }
        for one in found
    ]
    said = [f"At batch size {one.batch_size:,} it ended: {one.problem}" for one in found if one.problem is not None]
    good = not said
    if good:
        measured = ", ".join(f"{name} = {value:.4g}" for name, value in found[-1].metrics.items())
        said.append(f"Both trained and were evaluated; at batch size {found[-1].batch_size:,} ({unit}): {measured}.")
        said.append(f"Next:  bcrit pilot {where}   (proposes the study)   or   bcrit tune {where}")
    facts: dict[str, Any] = {"batch_sizes": [plain(one) for one in found], "sentences": said}
    return Answer("check", "A first look", tuple(said), (Rows(where, table_of(rows), brief=True),), facts, yes=good)


def doctor(
    place: Annotated[str, typer.Option("--out", help="Where runs are to go: a folder, or a URI as s3://...")] = "runs",
    address: Annotated[str | None, typer.Option(help="Also see whether this Ray cluster can be joined.")] = None,
    as_json: AS_JSON = False,
) -> None:
    """Look this machine over: versions, Ray, GPUs, memory, disk, and whether runs can be written where they are to go.

    Says what is wrong and what to do, and exits with 1 where something is.
    """
    found = list(_examined(place, address))
    if as_json:
        lines = [{"what": what, "found": said, "good": good} for what, said, good in found]
        print_json({"good": all(good for _, _, good in found), "found": lines})
    else:
        for what, said, good in found:
            say(wide_console(), f"{' ' if good else '!'} {what:12} {said}", style=None if good else "bold")
    if not all(good for _, _, good in found):
        raise typer.Exit(1)


def _examined(place: str, address: str | None) -> Iterator[tuple[str, str, bool]]:
    """What was looked at, what was found, and whether that is well."""
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.search_spaces.resources import Resources
    from bcrit.tuner.cluster import ClusterError, ray_running
    from bcrit.tuner.pulse import described

    facts = described(seed=0)
    yield "python", f"{facts['python']} on {facts['system']} ({sys.executable})", True
    for package, found in facts["packages"].items():
        yield package, found or f"is not installed; pip install {package}", found is not None
    extras = [name for name in ("datasets", "gymnasium", "transformers", "accelerate", "lightning") if find_spec(name)]
    yield "extras", ", ".join(extras) or "none (pip install bcrit[data], bcrit[rl], bcrit[hf])", True
    yield "processors", f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", True
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield "memory", f"{memory / 1e9:.1f} GB", memory > 2e9
    yield "GPUs", ", ".join(facts["devices"]) or "none that PyTorch can use: trials run on the CPU", True
    for what, disk in (("disk", "."), ("disk of /tmp", "/tmp")):  # noqa: S108  (where Ray puts its session)
        free = shutil.disk_usage(disk).free
        yield what, f"{free / 1e9:.1f} GB free{'' if free > 1e9 else '; Ray needs a gigabyte'}", free > 1e9
    folder = RunFolder.at(place)
    try:
        good = folder.creatable()
        said = f"{folder} can be written to" if good else f"{folder} cannot be written to; choose another with --out"
    except (OSError, InputError) as error:
        good, said = False, f"{place}: {str(error).splitlines()[0]}"
    yield "run folder", said, good
    token = "one that this account's Ray clusters demand" if (Path.home() / ".ray/auth_token").is_file() else "none"
    yield "Ray's token", f"{token}; a run on this machine alone makes its own", True
    kind = Resources()
    try:
        with ray_running(address, None, [kind], None, lambda: None) as hiring:
            at_once = hiring(kind)()
            room = f"starts, with room for {at_once} trial{'' if at_once == 1 else 's'} at once"
            yield "Ray", room if address is None else f"{address} answers", True
    except (ClusterError, InputError) as error:
        yield "Ray", str(error), False
