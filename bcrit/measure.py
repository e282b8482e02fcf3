"""`bcrit landscape` and `bcrit adaptive`: train, store what was measured, make the report anew, show the answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcrit.ask import AS_JSON, RUN
from bcrit.runs import Address, Trust, Workers
from bcrit.search_spaces.problems import InputError
from bcrit.terminal import Display, Screen, print_json, say, show, wide_console

if TYPE_CHECKING:
    from bcrit.analysis.records.run_folder import RunFolder
    from bcrit.search_spaces.outcome import Stage
    from bcrit.tuner.protocol.proposal import Proposal
    from bcrit.tuner.session import Train
    from bcrit.tuner.training.batch_schedule import Ramp


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
        int,
        typer.Option(metavar="N", min=0, help="Also train the largest batch size from N iterates of the smallest."),
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
    """A ramp as it is written on the command line.

    Raises:
        ValueError: it is none.
    """
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
    from bcrit.tuner.session import Stopped, training_beside, use_code

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
    if as_json:
        print_json(answer.facts)
    else:
        show(answer)
    say(wide_console(stderr=as_json), f"\nresult: {folder.address(file)}\nreport: {folder.address(REPORT)}")
