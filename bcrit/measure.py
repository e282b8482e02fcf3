"""What is trained beside a study: `bcrit pilot` before it, `bcrit landscape` and `bcrit adaptive` after it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcrit.ask import AS_JSON, RUN
from bcrit.runs import Address, Trust, Workers, checked_experiment, free_folder, read_experiment_file, watched
from bcrit.search_spaces.load import dump_data, read_yaml
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import Display, Screen, say, say_notes, tell, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.questions.pilot import Proposal as Proposed
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.analysis.run import Run
    from bcrit.search_spaces.experiment import Experiment
    from bcrit.search_spaces.outcome import Stage
    from bcrit.tuner.protocol.proposal import Proposal
    from bcrit.tuner.session import SessionResult, Train
    from bcrit.tuner.training.batch_schedule import Ramp

_SEEDS = 5  # as many as knew the mean of B_simple to a factor 1.3 to 1.6 on digits (95 %); three, to 1.3 to 3.6


def pilot(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment, as `bcrit tune` takes it.")
    ],
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Where to run. Default: the middle of the experiment's.")
    ] = None,
    sizes: Annotated[
        int | None,
        typer.Option(
            min=1, max=3, help="Batch sizes to run at: 1, or 3. Default: 3 where gradient noise cannot be measured."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs with the noise scale; one has no interval.")] = _SEEDS,
    write: Annotated[
        Path | None, typer.Option(metavar="NEW.yaml", help="Write the proposed experiment to this new file.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Run folder of the pilot; one that was stopped is gone on with. Default: runs/NAME-pilot ..."
        ),
    ] = None,
    trust: Trust = None,
    address: Address = None,
    workers: Workers = None,
    as_json: AS_JSON = False,
) -> None:
    """Propose the batch sizes to study, the box of the learning rate, the budget, and what the study will cost.

    At one batch size the learning rate is searched in the experiment's box; all else stands at one value (momentum 0.9,
    constant schedule, the middle of a box). The best one runs on fresh seeds with its gradient noise scale measured
    along the way, whose mean hints at b_crit. Where gradient noise cannot be measured, as in a function or program of
    yours, the same is done at three batch sizes, and the curve through their steps is the hint. Some updates are timed
    at each batch size. It takes a few per cent of the study, with three batch sizes up to a third.

    A pilot is a run like any other, in a folder of its own. One that was stopped or killed goes on when the same
    command is given with --out and its folder; one that is complete is answered from there.

    Nothing else is written without --write. What is proposed is a place to begin; `bcrit tune` measures.
    """
    from bcrit.analysis.questions.pilot import answer as answer_of
    from bcrit.analysis.records.run_folder import REPORT, TIMING, RunFolder
    from bcrit.tuner.cluster import OneRay
    from bcrit.tuner.stages.pilot import plan, proposed, read, timing

    errors, console = Screen(stderr=True), wide_console(stderr=as_json)
    if write is not None:
        _check_free(write)
    where = str(experiment)
    data = read_yaml(read_experiment_file(experiment), where)
    checked, notes = checked_experiment(data, where)
    if batch_size is not None:
        checked_experiment({**data, "batch_sizes": [batch_size]}, "--batch-size")
    say_notes(errors, notes)
    with redirect_stdout(sys.stderr):  # what a user's code prints
        planned = plan(checked, data, where, batch_size, seeds, None if sizes is None else sizes > 1)
    folder = RunFolder.at(out) if out is not None else free_folder(planned.search.name)
    options = {"batch-size": batch_size, "sizes": sizes, "seeds": seeds, "write": write, "out": folder}
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    again = shlex.join(map(str, ("bcrit", "pilot", where, *given)))

    with OneRay() as ray:

        def ran(at: RunFolder, what: Experiment) -> tuple[SessionResult, Run]:
            return watched(at, what, _is_new(at, what), address, workers, again, folder, ray=ray)

        result, run = ran(folder, planned.search)
        found = read(planned, run)
        if found.measured.steps is not None:
            say(errors, f"timing updates at {len(found.grid.batch_sizes)} batch sizes")
            _, timed = ran(RunFolder.at(folder.address(TIMING)), timing(planned, found))
            found = proposed(planned, found, timed, result.workers or None)
    answer = answer_of(found)
    tell(answer, as_json)
    say(console, f"\nrun: {folder}\nreport: {folder.address(REPORT)}")
    if found.proposal is None:
        raise typer.Exit(1)
    if write is not None:
        _write(write, found.proposal, where, found.measured.batch_size)
        say(console, f"\nwrote {write}; go on with:  bcrit tune {write}")


def _is_new(folder: RunFolder, experiment: Experiment) -> bool:
    """Whether the folder is free, and not that of the same experiment; that it is neither is an InputError."""
    from bcrit.analysis.records.run_folder import EXPERIMENT

    if not folder.occupied():
        return True
    if folder.has(EXPERIMENT) and folder.read_experiment() == experiment:
        return False
    what = "there is something else than this pilot (another experiment, another --batch-size, other --seeds)"
    raise InputError(str(folder), [f"{what}; choose another place with --out"])


def _check_free(path: Path) -> None:
    """Refuse a place that cannot be written to before any time is spent."""
    if path.exists():
        raise InputError("--write", [f"'{path}' exists and is not overwritten; choose another name"])
    if not path.parent.is_dir():
        raise InputError("--write", [f"'{path}' cannot be written: there is no folder '{path.parent}'; make it"])
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        why = f"'{path}' cannot be written: {error.strerror}; choose a place that you may write to"
        raise InputError("--write", [why]) from error


def _write(path: Path, proposal: Proposed, where: str, batch_size: int) -> None:
    comments = (
        f"# Proposed by `bcrit pilot {where}`, run at batch size {batch_size}: batch_sizes, the box of lr,\n"
        "# centre and budget are the pilot's, the rest is the experiment's.\n"
    )
    try:
        with path.open("x", encoding="utf-8") as sink:
            sink.write(comments + dump_data(proposal.data))
    except OSError as error:
        raise InputError("--write", [f"'{path}' cannot be written: {error.strerror}"]) from error


def landscape(
    run: RUN,
    seeds: Annotated[int, typer.Option(min=1, help="Confirmation runs of each study, as far as there are.")] = 3,
    eps: Annotated[
        list[float] | None,
        typer.Option(metavar="E", help="Size of the box of sharpness; repeatable. Default: 0.001 and 0.0005."),
    ] = None,
    subspace: Annotated[
        int, typer.Option(min=0, metavar="P", help="Directions of the random subspace; 0 leaves it out.")
    ] = 100,
    examples: Annotated[
        int, typer.Option(min=1, help="Rows of the training set that the loss is taken on, as far as there are.")
    ] = 4096,
    iterations: Annotated[int, typer.Option(min=1, help="Of L-BFGS-B in each search for the highest loss.")] = 10,
    warm_starts: Annotated[
        int, typer.Option(metavar="N", min=0, help="Also train the largest batch size from N iterates of the smallest.")
    ] = 0,
    trust: Trust = None,
    address: Address = None,
    workers: Workers = None,
    as_json: AS_JSON = False,
) -> None:
    """Measure sharpness and curvature around the confirmed winners, and add them to the report.

    For the winner of every study, and for a run at the same batch size that keeps the hyperparameters of the smallest
    one, trained to the same target: sharpness in the full space and a random subspace (Keskar et al. 2016), the top
    eigenvalue and the trace of the Hessian, the distance from the start; and the loss between the smallest and the
    largest batch size. The loss f stands beside every number, because sharpness and curvature fall with it.

    Weights are made by training the confirmation runs again, as trials of the run beside its study: 2 x seeds a batch
    size, on the workers that `bcrit tune` would have. What has finished stays, in RUN/trials and RUN/checkpoints, so a
    call after a kill goes on where it stopped. Memory of the subspace: 4 x P bytes a weight.

    --warm-starts 6 trains the smallest batch size for its whole search budget, and from 6 of its iterates (from none to
    the last one) the largest batch size for the whole of its own, tuned and with the smallest one's hyperparameters:
    seeds x (6 + 2 x 6) training runs, of full length but for the iterates.
    """
    from bcrit.analysis.records.run_folder import LANDSCAPE
    from bcrit.tuner.stages.landscape import STAGES
    from bcrit.tuner.stages.landscape import landscape as measure
    from bcrit.tuner.stages.measure import Options

    def options() -> Options:
        chosen = {"eps": tuple(eps)} if eps else {}
        return Options(
            seeds, subspace=subspace, examples=examples, iterations=iterations, warm_starts=warm_starts, **chosen
        )

    _measured("landscape", run, LANDSCAPE, measure, options, STAGES, address, workers, as_json)


def adaptive(
    run: RUN,
    exchange_rate: Annotated[
        list[float] | None,
        typer.Option(
            metavar="R",
            help="Examples paid for a step less, B = sqrt(R N); repeatable. Default: 1/16, 1/4, 1, 4, 16 times b_crit.",
        ),
    ] = None,
    ramp: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGES", help="A fixed schedule, 'from step:batch size', as in 0:16,50:64,200:256; repeatable."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every schedule, on seeds that the run has not used.")] = 5,
    trust: Trust = None,
    address: Address = None,
    workers: Workers = None,
    as_json: AS_JSON = False,
) -> None:
    """Train with batch sizes that grow with the noise scale, and say what that gains over fixed ones.

    From the confirmed studies of a run comes the learning rate of every batch size. With it are trained, on the same
    fresh seeds and to the same target: every fixed batch size, and batch sizes that follow the gradient noise scale N
    along training, B = sqrt(R N), for several exchange rates R (McCandlish et al. 2018, appendix D). The answer is how
    many times the steps and examples of their mean batch size held fixed they need, with an interval over seeds, beside
    what theory predicts.

    They are trials of the run beside its study, on the workers that `bcrit tune` would have; what has finished stays,
    so a call after a kill goes on where it stopped.

    Needs three confirmed batch sizes on both sides of b_crit, whose winners have a constant learning rate; a
    SupervisedWorkload without batch normalisation (ghost batches are fine), or noisy_quadratic.
    """
    from bcrit.analysis.records.run_folder import ADAPTIVE
    from bcrit.tuner.stages.adaptive import STAGES, Options
    from bcrit.tuner.stages.adaptive import adaptive as measure

    def options() -> Options:
        return Options(tuple(exchange_rate or ()), tuple(_stages(text) for text in ramp or ()), seeds)

    _measured("adaptive", run, ADAPTIVE, measure, options, STAGES, address, workers, as_json)


def _stages(text: str) -> Ramp:
    """A ramp as it is written on the command line; what is none is a ValueError."""
    from bcrit.tuner.training.batch_schedule import Ramp

    try:
        stages = tuple((int(start), int(size)) for start, size in (part.split(":") for part in text.split(",")))
    except ValueError as error:
        raise ValueError(
            f"a ramp is written 'from step:batch size' with commas between, but it is '{text}'; try 0:16,50:64"
        ) from error
    return Ramp(stages)


def _measured(
    name: str,
    run: str,
    file: str,
    measure: Callable[[RunFolder, Any, Train, Callable[[str], None]], Any],
    options: Callable[[], Any],
    stages: Collection[Stage],
    address: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Measure with the options, store it in the file, make the report anew, and show the answer of that name."""
    from bcrit.analysis.records.run_folder import REPORT, RunFolder
    from bcrit.analysis.report.build import finish
    from bcrit.supervise import cluster_failures
    from bcrit.tuner.code import use_code
    from bcrit.tuner.session import Stopped, training_beside

    errors, folder, again = Screen(stderr=True), RunFolder.at(run), f"bcrit {name} {run}"
    try:
        chosen = options()
    except ValueError as error:
        raise InputError(name, [str(error)]) from error
    with redirect_stdout(sys.stderr):  # what a user's code prints
        use_code(folder, None)
        experiment = folder.read_experiment()
        with training_beside(folder, experiment, stages, address, workers) as train, cluster_failures(run, again):

            def shown(proposals: Sequence[Proposal]) -> None:
                with Display(experiment, errors, proposals) as display:
                    train(proposals, display)

            try:
                found = measure(folder, chosen, shown, lambda line: say(errors, line))
            except Stopped:
                raise KeyboardInterrupt from None
    folder.write_result(file, found)
    answer = finish(folder).ask(name)
    tell(answer, as_json)
    say(wide_console(stderr=as_json), f"\nresult: {folder.address(file)}\nreport: {folder.address(REPORT)}")
