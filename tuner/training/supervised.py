"""One run of supervised training: model, loss, optimizer, schedule and data order brought together."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Execution
from bcrit.search_spaces.presets import AVERAGED
from bcrit.tuner.training.averaging import build_average
from bcrit.tuner.training.batch_schedule import Progress, RunningNoise, planned_updates
from bcrit.tuner.training.data import Examples, batches, picker
from bcrit.tuner.training.device import device_for, is_out_of_memory, release
from bcrit.tuner.training.micro_batches import Accumulation, MicroBatches
from bcrit.tuner.training.probes import RunProbes
from bcrit.tuner.training.schedule import learning_rate
from bcrit.tuner.training.settings import Settings
from bcrit.tuner.training.stepper import build_stepper

_EVALUATION_BATCH = 4096  # examples; chosen, not studied: bounds the memory of a large validation set's activations


class SupervisedRun:
    """A training run that depends on its settings alone, bit for bit on one device and thread count.

    The one exception: where memory gives out, batches are computed in smaller pieces (`MicroBatches`), and the curve
    differs by rounding and by the random draws of a model that makes any.

    How updates are divided into calls of `train`, when `evaluate` is called, and what else runs in the process between
    the calls make no difference: the run has its own stream of PyTorch's random numbers (initialisation, dropout) from
    the seed, and leaves the process' stream as it found it.
    """

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
        self._settings = settings
        self._score = score
        self._device = device = device_for(settings.gpus)
        self._validation = validation
        self._evaluation_batch = _EVALUATION_BATCH
        self._batches = batches(len(train[0]), settings.batch_size, settings.seed, train[0].device)
        self._randomness = _Randomness(device, settings.seed)
        with self._randomness.in_use():
            self._model = build_model(settings)
        if settings.start is not None:
            self._model.load_state_dict(settings.start)
        self._model.to(device)
        self._model.train()
        probes = settings.probes.measure
        self._probes = RunProbes(settings, self._model, loss, train, items_per_row) if probes else None
        self._stepper = build_stepper(self._model, settings)
        self._average = build_average(self._model, settings)
        self._step = 0
        mean_loss = _MeanLoss(picker(train, device), build_forward(self._model, settings.execution, device), loss)
        n, rows = self._stepper.local_batch, settings.execution.micro_batch
        self._planned = planned_updates(settings, len(train[0]), train[0].device, items_per_row)
        self._gradient: MicroBatches | Accumulation
        if settings.batches is not None and settings.batches.micro_batch is not None:
            every, piece = len(train[0]), settings.batches.micro_batch
            self._gradient = Accumulation(self._model, mean_loss, piece, every, rows, divisible)
        else:
            most = n if self._planned is None else len(train[0])
            self._gradient = MicroBatches(self._model, mean_loss, device, most, rows, divisible)
        if settings.execution.compile and isinstance(self._gradient, MicroBatches):
            # Compiled here, so that the seconds of the first update do not hold the compiler's.
            with self._randomness.in_use(advance=False):
                self._gradient.rehearse(torch.arange(n, device=train[0].device))

    @property
    def gradients_per_example(self) -> int:
        """Gradients of each example that one update takes."""
        return self._stepper.gradients

    @property
    def micro_batch(self) -> int | None:
        """Examples computed at a time where a batch is divided; None where it is whole."""
        return self._gradient.micro_batch

    @property
    def model(self) -> nn.Module:
        """What is trained, with its weights as they are now; not to be changed."""
        return self._model

    @property
    def average(self) -> nn.Module | None:
        """The moving average of the weights; None where none is kept."""
        return None if self._average is None else self._average.model

    @property
    def progress(self) -> Progress | None:
        """How far a run with a plan of batch sizes has come; None without one."""
        return None if self._planned is None else self._planned.progress(self._noise)

    @property
    def _noise(self) -> RunningNoise | None:
        return self._gradient.noise if isinstance(self._gradient, Accumulation) else None

    def train(self, steps: int) -> None:
        """Make this many optimizer updates; the device is waited for once, after the last."""
        with self._randomness.in_use():
            for _ in range(steps):
                self._update()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _update(self) -> None:
        batch, lr = self._next_batch()
        if lr is None:
            lr = learning_rate(self._settings.hyperparameters, self._step)
        self._stepper.step(lr, batch, self._gradient)
        if self._average is not None:
            self._average.update()
        self._step += 1

    def _next_batch(self) -> tuple[Tensor, float | None]:
        if self._planned is None:
            return next(self._batches), None
        return self._planned.next(self._step, self._noise)

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """The metrics on the whole validation set, with the model in evaluation mode.

        Where weights are averaged, each metric is there a second time with the suffix `_ema`: that of the average.
        """
        self._model.eval()
        metrics = dict(self._evaluated(self._model))
        self._model.train()
        if self._average is not None:
            averaged = self._evaluated(self._average.model)
            metrics |= {f"{name}{AVERAGED}": value for name, value in averaged.items()}
        return metrics

    def probe(self, last: bool) -> Mapping[str, float | None]:
        """What the probes find at these weights, for the measurements table; nothing where the settings have none.

        `last` says that this is where the target is reached, or the end of the run. Training goes on as if it had not
        been asked.
        """
        return {} if self._probes is None else self._probes.measure(self._step, last)

    def _evaluated(self, model: nn.Module) -> Mapping[str, float]:
        inputs, targets = self._validation
        # A model that is random even in evaluation draws from a copy of the run's stream, which training never sees.
        with self._randomness.in_use(advance=False):
            parts = self._outputs(model, inputs)
            return self._score(parts[0] if len(parts) == 1 else torch.cat(parts), targets.to(self._device))

    def _outputs(self, model: nn.Module, inputs: Tensor) -> list[Tensor]:
        """A model's outputs, part by part; where memory gives out, the whole again with parts of half the size."""
        while True:
            try:
                whole = len(inputs) <= self._evaluation_batch
                parts = (inputs,) if whole else torch.split(inputs, self._evaluation_batch)
                return [model(part.to(self._device, non_blocking=True)) for part in parts]
            except Exception as error:
                size = min(self._evaluation_batch, len(inputs))
                if size == 1 or not is_out_of_memory(error):
                    raise
                self._evaluation_batch = size // 2
            release(self._device)
            self._randomness.rewind()


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

    def __init__(self, device: torch.device, seed: int) -> None:
        self._places = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]
            self._places.append(torch.cuda.default_generators[device.index])
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
