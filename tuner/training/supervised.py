"""One run of supervised training: model, loss, optimizer, schedule and data order brought together."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Execution
from bcrit.search_spaces.presets import EXTRAPOLATED
from bcrit.tuner.training.batch_schedule import PlannedBatches, Progress
from bcrit.tuner.training.data import (
    Batches,
    Examples,
    as_memory_allows,
    device_for,
    forget_memory,
    generators,
    most_memory,
    picker,
)
from bcrit.tuner.training.micro_batches import Accumulation, MicroBatches, division_problem
from bcrit.tuner.training.optimizers import ELEMENTWISE
from bcrit.tuner.training.parallel import ALONE, SharedGradient, divided, holding
from bcrit.tuner.training.probes import RunProbes
from bcrit.tuner.training.reported import RunState, load_state, state_of
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.updates import Updates

_EVALUATION_BATCH = 4096  # examples; chosen, not studied: bounds the memory of a large validation set's activations


class SupervisedRun:
    """A training run that depends on its settings alone, bit for bit on one device and thread count.

    The one exception: where memory gives out, batches are computed in smaller pieces (`MicroBatches`), and the curve
    differs by rounding and by the random draws of a model that makes any.

    How updates are divided into calls of `train`, when `evaluate` is called, and what else runs in the process between
    the calls make no difference: the run has its own stream of PyTorch's random numbers (initialisation, dropout) from
    the seed, and leaves the process' stream as it found it.
    """

    changes = (
        "weights",
        "_updates",
        "_gradient",
        "_batches",
        "_planned",
        "_randomness",
        "_probes",
        "_evaluation_batch",
    )

    def __init__(
        self,
        settings: Settings,
        build_model: Callable[[Settings], nn.Module],  # on the CPU, so that its numbers are those of every device
        loss: Callable[[Tensor, Tensor], Tensor],  # of a batch's (outputs, targets): the mean over examples, a scalar
        score: Callable[[Tensor, Tensor], Mapping[str, float]],  # the metrics of all validation (outputs, targets)
        train: Examples,  # on the device to train on or on the host
        validation: Examples,  # likewise
        divisible: bool = True,  # whether loss and model treat every example by itself: a batch may be divided
        items_per_row: float = 1.0,  # what a batch counts (tokens, say) in one row of the training set
    ) -> None:
        self._settings, self._score, self._validation = settings, score, validation
        self._parallel = settings.parallel or ALONE
        self._device = device = device_for(settings.gpus)
        forget_memory(device)
        self._evaluation_batch = _EVALUATION_BATCH
        self._batches = Batches(len(train[0]), settings.seed, train[0].device)
        self._batches.check(settings.batch_size)
        self._randomness = _Randomness(device, settings.seed)
        with self._randomness.in_use():
            self.model = build_model(settings)  # what is trained; not to be changed from outside
        if self._parallel.rank:
            self._randomness = _Randomness(device, settings.seed + _RANKS * self._parallel.rank)
        if settings.start is not None:
            self.model.load_state_dict(settings.start)
        execution, size = settings.execution, self._parallel.size
        if size > 1 and (problem := why_not_shared(self.model, settings, divisible)):
            raise ValueError(problem)
        self._parts = divided(self.model, device, size) if execution.sharded and size > 1 else None
        # What this rank updates: all, or its parts.
        self.weights = self.model.to(device) if self._parts is None else self._parts
        self.model.train()
        probes = settings.probes.measure
        self._probes = RunProbes(settings, self.model, loss, train, items_per_row) if probes else None
        self._updates = Updates(self.weights, settings)
        self.gradients_per_example = self._updates.gradients  # of each example, by one update
        mean_loss = _MeanLoss(picker(train, device), build_forward(self.model, execution, device), loss)
        plan, every, rows = settings.batches, len(train[0]), execution.micro_batch
        self._gradient: MicroBatches | Accumulation | SharedGradient
        if plan is not None and plan.micro_batch is not None:
            self._gradient = Accumulation(self.model, mean_loss, plan.micro_batch, every, rows, divisible)
        else:
            most = self._updates.local_batch // size if plan is None else every
            alone = self._parts is None
            self._gradient = own = MicroBatches(self.model, mean_loss, device, most, rows, divisible, alone)
            if size > 1:
                self._gradient = SharedGradient(own, self.model, self._parallel, self._parts)
        noise = self._gradient.noise if isinstance(self._gradient, Accumulation) else None
        self._planned = None if plan is None else PlannedBatches(settings, self._batches, noise, items_per_row)
        if execution.compile and not isinstance(self._gradient, Accumulation):
            # Compiled here, so that the seconds of the first update do not hold the compiler's.
            with self._randomness.in_use(advance=False):
                self._gradient.rehearse(torch.arange(self._updates.local_batch, device=train[0].device))

    @property
    def micro_batch(self) -> int | None:
        """Examples computed at a time where a batch is divided; None where it is whole."""
        return self._gradient.micro_batch

    @property
    def memory(self) -> int | None:
        """Bytes that were held at most since the run began: on its GPU; without one, by this process."""
        return most_memory(self._device)

    @property
    def average(self) -> nn.Module | None:
        """The moving average of the weights; None where none is kept."""
        return self._updates.average

    @property
    def progress(self) -> Progress | None:
        """How far a run with a plan of batch sizes has come; None without one."""
        return None if self._planned is None else self._planned.progress

    def train(self, steps: int) -> None:
        """Make this many optimizer updates; the device is waited for once, after the last."""
        with self._parallel.together("train", steps), self._randomness.in_use():
            for _ in range(steps):
                if self._planned is None:
                    self._updates.make(self._batches.take(self._settings.batch_size), self._gradient)
                else:
                    batch, lr = self._planned.next(self._updates.step)
                    self._updates.make(batch, self._gradient, lr)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """The metrics on the whole validation set, with the model in evaluation mode.

        Where weights are averaged, each metric is there a second time with the suffix `_ema`: that of the average.
        """
        with self._parallel.together("evaluate", None):
            self.model.eval()
            metrics = self._updates.metrics(self._evaluated if self._parts is None else self._evaluated_parts)
            self.model.train()
        return metrics

    def state(self) -> RunState:
        """What decides how the run goes on, with all its ranks; of another rank than 0 what differs from that."""
        if self._parallel.rank:
            return {name: of for name, of in state_of(self).items() if name in _OF_A_RANK or self._parts is not None}
        with self._parallel.together("state", None) as others:
            own = state_of(self)
        return {**own, "ranks": others} if others else own

    def load(self, state: RunState) -> None:
        """Go on from there."""
        own = {name: of for name, of in state.items() if name != "ranks"}
        if rank := self._parallel.rank:
            own |= state["ranks"][rank - 1]
        with self._parallel.together("load", state):
            load_state(self, own)

    def probe(self, last: bool) -> Mapping[str, float | None]:
        """What the probes find at these weights, for the measurements table; nothing where the settings have none.

        `last` says that this is where the target is reached, or the end of the run. Training goes on as if it had not
        been asked.
        """
        return {} if self._probes is None else self._probes.measure(self._updates.step, last)

    def _evaluated_parts(self, parts: nn.Module) -> Mapping[str, float]:
        assert self._parts is not None
        with holding(self._parts, parts):
            return self._evaluated(self.model)

    def _evaluated(self, model: nn.Module) -> Mapping[str, float]:
        inputs, targets = self._validation
        # A model that is random even in evaluation draws from a copy of the run's stream, which training never sees.
        with self._randomness.in_use(advance=False):
            outputs = self._parallel.whole(partial(self._all_outputs, model), inputs)
            return {} if self._parallel.rank else self._score(outputs, targets.to(self._device))

    def _all_outputs(self, model: nn.Module, inputs: Tensor) -> Tensor:
        outputs, self._evaluation_batch = as_memory_allows(
            partial(self._outputs, model, inputs),
            min(self._evaluation_batch, len(inputs)),
            self._device,
            least=1 if self._parts is None else None,
        )
        return outputs

    def _outputs(self, model: nn.Module, inputs: Tensor, rows: int) -> Tensor:
        """A model's outputs, part by part, from the run's stream as it is."""
        self._randomness.rewind()
        parts = [model(part.to(self._device, non_blocking=True)) for part in torch.split(inputs, rows)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


_OF_A_RANK = ("_gradient", "_randomness", "_evaluation_batch")
_RANKS = 2**33  # times the rank, added to the run's seed for the random numbers of another rank than 0


def not_even(rows: int, size: int) -> str:
    """That so many ranks have no equal shares of a batch."""
    return f"a batch of {rows} rows cannot be shared evenly by {size} processes; choose a multiple of {size}"


def why_not_shared(model: nn.Module, settings: Settings, divisible: bool) -> str | None:
    """Why the batches of a run, in rows, cannot be shared by so many ranks; None where they can."""
    size = 1 if settings.parallel is None else settings.parallel.size
    local = int(settings.number("local_batch_size", settings.batch_size))
    for rows in {settings.batch_size, min(local, settings.batch_size)} if size > 1 else ():
        if settings.batches is not None:
            return f"batch sizes that change cannot be shared by {size} processes; use one"
        if rows % size:
            return not_even(rows, size)
        if problem := division_problem(model, rows, rows // size, divisible):
            return f"with {size} processes {problem}"
    return why_not_divided(model, settings) if settings.execution.sharded else None


def why_not_divided(model: nn.Module, settings: Settings) -> str | None:
    """Why a model cannot be divided among ranks (`execution.sharded`); None where it can."""
    optimizer = EXTRAPOLATED.get(settings.optimizer, settings.optimizer)
    if optimizer not in ELEMENTWISE:
        known = ", ".join(sorted(ELEMENTWISE))
        return f"'sharded' divides every weight, which {optimizer} needs whole; choose one of {known}"
    if settings.probes.measure:
        return "'sharded' divides every weight, which probes need whole; remove 'probes'"
    if settings.execution.compile:
        return "'sharded' puts layers together as they compute, which is not compiled; remove 'compile'"
    if single := [name for name, p in model.named_parameters() if not p.ndim]:
        return (
            f"'sharded' divides every weight along its first axis, but '{single[0]}' has none; give it the shape (1,)"
        )
    return None


@dataclass
class _MeanLoss:
    """The loss over some examples, by their indices.

    It does not know the run: a circle of references would keep a finished run's memory on a GPU until Python looks for
    circles, and the next run would go on in smaller pieces for want of it.
    """

    pick: Callable[[Tensor], Examples]
    forward: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, examples: Tensor) -> Tensor:
        inputs, targets = self.pick(examples)
        return self.loss(self.forward(inputs), targets)


class _Randomness:
    """A run's own stream of PyTorch's random numbers, for layers that can only draw from the global one (dropout)."""

    changes = ("_states",)

    def __init__(self, device: torch.device, seed: int) -> None:
        self._places = generators(device)
        # Not by `torch.manual_seed`: it takes 0.1 ms or more, and reseeds devices that this run does not use.
        self._states = [torch.Generator(place.device).manual_seed(seed).get_state() for place in self._places]

    @contextmanager
    def in_use(self, advance: bool = True) -> Iterator[None]:
        """Put the run's stream in the global one's place; costs 5 us. `advance=False` forgets what was drawn."""
        outside = [place.get_state() for place in self._places]
        try:
            self.rewind()
            yield
            if advance:
                self._states = [place.get_state() for place in self._places]
        finally:
            for place, state in zip(self._places, outside, strict=True):
                place.set_state(state)

    def rewind(self) -> None:
        """Go back to where the stream was when it was put in place."""
        for place, state in zip(self._places, self._states, strict=True):
            place.set_state(state)


def build_forward(model: nn.Module, execution: Execution, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What training calls for a batch's outputs: the model itself where neither precision nor compilation is asked for.

    With `precision: bfloat16`, layers that gain by it compute in bfloat16 (PyTorch's autocast decides which) and the
    outputs are float32 again, so that the loss is. Gradients need no scaling, since bfloat16 has float32's range.
    With `compile`, each size of batch is compiled once, and not for shapes in general, which is slower. Evaluation
    uses neither: it measures the same function at every precision, in the shapes of the validation set.
    """
    forward: Callable[[Tensor], Tensor] = model
    if execution.compile:
        # What another run left compiled in this process counts against PyTorch's limit of variants, beyond which it
        # silently stops compiling: the curve would depend on what ran before. Code on disk is still reused.
        torch.compiler.reset()
        forward = torch.compile(model, dynamic=False)
    if execution.precision == "float32":
        return forward

    def in_bfloat16(inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            outputs = forward(inputs)
        return outputs.float()

    return in_bfloat16
