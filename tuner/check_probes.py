"""Whether an experiment's probes can be measured on its workload: tried once, before anything runs."""

from __future__ import annotations

import torch

from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.options import Probes
from bcrit.search_spaces.presets import STEPS_OF
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.check_execution import our_loop
from bcrit.tuner.training.noise_scale import mixing_layer
from bcrit.tuner.training.noise_scale.ratio import MIN_BLOCKS
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.workloads.supervised import SupervisedWorkload

_FEW = 2 * MIN_BLOCKS  # examples: as few as the estimator takes


def probe_problems(workload: object, name: str, experiment: Experiment) -> list[str]:
    """What is wrong with `probes`.

    Where noise scales are wanted, a model is made at a corner of the space and one is measured on few examples: only
    that tells whether PyTorch can take second derivatives of every layer for single examples.

    Args:
        workload: what is trained: a workload, or whatever else the experiment names.
        name: the workload's.
        experiment: valid but for this.

    Returns:
        One sentence a problem.
    """
    probes = experiment.probes
    if not probes.measure:
        return []
    if not our_loop(workload):
        return [f"'probes': workload '{name}' computes its updates itself, where nothing can be probed; remove it"]
    assert isinstance(workload, SupervisedWorkload)  # says `our_loop`
    if taken := sorted(set(workload.metrics) & set(MEASUREMENTS.known)):
        return [
            f"'probes': the metric '{metric}' of '{name}' is a probe's column; name it otherwise" for metric in taken
        ]
    if not experiment.confirm.seeds:
        return [
            "'probes': only confirming runs are probed, but 'confirm.seeds' is 0; give it seeds, or remove the probes"
        ]
    why = why_no_scale(workload, experiment, "remove noise_scale") if "noise_scale" in probes.measure else None
    return [] if why is None else [f"'probes': noise_scale cannot be measured on workload '{name}': {why}"]


def why_no_scale(workload: SupervisedWorkload, experiment: Experiment, remedy: str) -> str | None:
    """Why gradient noise cannot be measured on a workload; None where it can.

    Args:
        workload: what is trained.
        experiment: valid; its first batch size and the low corner of its space are tried.
        remedy: what to do without it.
    """
    if not workload.divisible:
        return f"it says that its loss or model mixes examples, so one example has no gradient of its own; {remedy}"
    space, batch_size = experiment.space, experiment.batch_sizes[0]
    point = dict.fromkeys(STEPS_OF.values(), 1) | space.from_unit(dict.fromkeys(space.axes, 0.0))
    settings = Settings(batch_size, 0, experiment.optimizer, point)
    with torch.random.fork_rng(devices=[]):
        layer = mixing_layer(workload.model(settings).train())
    if layer is not None:
        return (
            f"{layer} normalises with the statistics of the batch, so one example has no gradient of its own; choose a "
            f"model without batch normalisation, or {remedy}"
        )
    probes = Probes(measure=("noise_scale",), examples=_FEW)
    try:
        workload.begin(Settings(batch_size, 0, experiment.optimizer, point, probes=probes)).probe(last=True)
    except Exception as error:  # PyTorch has many for what it cannot differentiate twice or for single examples
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}; {remedy}"
    return None
