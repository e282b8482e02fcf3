"""What one trial occupies: cores, GPUs, machines, and more of them for large batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictInt, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator

from bcrit.search_spaces.options import Frozen

Devices = Annotated[StrictInt, Field(ge=1, le=1024)]
# Resources of Ray that have keys of their own here, or are none to ask for.
_RAYS_OWN = ("CPU", "GPU", "accelerator_type:", "node:")


class Resources(Frozen):
    """What one trial occupies."""

    cpus: float = Field(default=1, gt=0, le=1e6)
    """Cores, which is also PyTorch's number of threads."""
    gpus: float = Field(default=0, ge=0, le=1e6)
    """Devices, or a share of one, which limits its memory too. With 0 a trial stays on the CPU."""
    accelerator_type: str | None = Field(default=None, pattern=r"^[\w.-]{1,100}$")
    """Only devices of this kind, by Ray's name: `H100`, `A100`, `L4`; needs `gpus`."""
    processes: StrictInt | None = Field(default=None, ge=1, le=1024)
    """Processes of one machine that share each batch of a trial (data-parallel), one for each GPU where it has GPUs;
    `cpus` are those of all. A training function or program is started once for each, as `torchrun` starts its ranks.
    Without it as many as GPUs, where our own loop trains; else 1, and a program may start ranks itself."""
    devices_by_batch_size: dict[int, Devices] | Literal["auto"] | None = None
    """More devices for large batches: `{1024: 2, 4096: 8}` gives 2 to batch sizes from 1024 on and 8 to those from
    4096 on. They are GPUs where the trials have GPUs, else `processes`; `cpus` follow them. With `auto` the largest
    batch size has all that the other keys say, and each smaller one as many as leave every device at least the share
    of a batch that it has there. Batch sizes of one number of devices are trained together, and those of another
    after them."""
    custom: dict[str, float] | None = None
    """Custom resources of a Ray cluster that a trial takes, by their names: `{TPU: 4}`. It runs only where they are."""
    nodes: StrictInt | None = Field(default=None, ge=1, le=1024)
    """Machines of one trial, which share each batch; all numbers above are of each, but those of
    `devices_by_batch_size`, which are of a trial: one that a machine has enough for is on one machine. Without it
    1."""
    silence_seconds: float = Field(default=1800, gt=0, le=1e9)
    """A training function that reports nothing for so long is taken to hang. Chosen, not studied."""

    @model_validator(mode="after")
    def _one_gpu_each(self) -> Self:
        if self.accelerator_type is not None and not self.gpus:
            raise ValueError(
                f"'accelerator_type' is of GPUs, but gpus=0; write gpus: 1, or leave out '{self.accelerator_type}'"
            )
        if self.processes is not None and self.processes > 1 and self.gpus not in (0, self.processes):
            raise ValueError(
                f"'processes' share no GPU, but there are {self.processes} processes for gpus={self.gpus:g}; "
                "write one number for both, or leave 'processes' out"
            )
        return self

    @field_validator("devices_by_batch_size", mode="wrap")
    @classmethod
    def _numbers_by_size(cls, value: Any, known: ValidatorFunctionWrapHandler) -> Any:
        """One sentence where pydantic would have one for the numbers and another for the word."""
        try:
            return known(value)
        except ValidationError as error:
            raise ValueError(
                "it must be 'auto', or numbers of devices (1 to 1024) by batch size, as {1024: 2, 4096: 8}, "
                f"but it is {value!r:.60}"
            ) from error

    @model_validator(mode="after")
    def _devices_there(self) -> Self:
        given, each, nodes = self.devices_by_batch_size, self._of_node, self.nodes or 1
        if given == "auto" and each * nodes == 1:
            raise ValueError(
                "'devices_by_batch_size: auto' shares out what the other keys give the largest batch size, which is "
                "one device; write 'gpus' (or 'processes') and 'nodes' as that one is to have them"
            )
        for number in given.values() if isinstance(given, dict) and nodes > 1 else ():
            if number > each and (number % each or number > each * nodes):
                raise ValueError(
                    f"'devices_by_batch_size' takes whole machines beyond one, but of {nodes} with {each} devices each "
                    f"{number} are not some; write a multiple of {each} up to {each * nodes}"
                )
        return self

    @field_validator("custom")
    @classmethod
    def _rays_names(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        for name, amount in (value or {}).items():
            if not name or name.startswith(_RAYS_OWN):
                raise ValueError(
                    f"'{name}' is no custom resource of Ray; write cpus, gpus or accelerator_type, or another name"
                )
            if not 0 < amount <= 1e18 or (amount > 1 and amount != int(amount)):
                raise ValueError(
                    f"Ray counts a resource in whole numbers, or gives a share of 1, but '{name}' is {amount:g}"
                )
        return value or None

    @property
    def kind(self) -> str | None:
        """The kind of its devices as a resource of Ray, of which a node with such devices has 1."""
        return None if self.accelerator_type is None else f"accelerator_type:{self.accelerator_type}"

    @property
    def wanted(self) -> dict[str, float]:
        """What a trial takes, by Ray's names."""
        gpus = {"GPU": self.gpus} if self.gpus else {}
        kind = {} if self.kind is None else {self.kind: 0.001}  # as Ray itself asks for a kind
        return {"CPU": self.cpus, **gpus, **kind, **(self.custom or {})}

    @property
    def devices(self) -> float:
        """Those of one trial, by which hours and cost count: its GPUs, else its processes."""
        return self.gpus * (self.nodes or 1) or float(self.launched)

    def at(self, batch_size: int) -> Resources:
        """Those of the trials of a batch size."""
        given = self.devices_by_batch_size
        if given == "auto":
            raise ValueError("'devices_by_batch_size: auto' has no numbers before the experiment is checked")
        fewest = max((size for size in given or () if size <= batch_size), default=None)
        if given is None or fewest is None:
            return self.model_copy(update={"devices_by_batch_size": None})
        n, each = given[fewest], self._of_node
        nodes = max(1, n // each) if (self.nodes or 1) > 1 else 1
        here = n // nodes
        cpus, gpus = self.cpus * here / each, float(here) if self.gpus else 0.0
        processes = here if self.processes is not None or not self.gpus else None
        of_size = {"cpus": cpus, "gpus": gpus, "processes": processes, "nodes": nodes if nodes > 1 else None}
        return self.model_copy(update={**of_size, "devices_by_batch_size": None})

    def settled(self, batch_sizes: Sequence[int], fits: Callable[[int, int], bool]) -> Resources:
        """With numbers in the place of `auto`: a trial has a part of a machine that divides it, or whole machines.

        The largest batch size B_max has all, M devices. A smaller one has the most of these numbers n with
        B / n >= B_max / M that its batches can be shared by, which `fits(batch_size, n)` says. So no device computes a
        smaller share of a batch than there, where it was thought worth its price. Sizes below these have 1.
        """
        if self.devices_by_batch_size != "auto":
            return self
        each, nodes = self._of_node, self.nodes or 1
        parts = [n for n in range(1, each + 1) if each % n == 0]
        parts += [each * n for n in range(2, nodes + 1) if nodes % n == 0]
        found, largest = {1: 1}, max(batch_sizes)
        for size in sorted({*batch_sizes} - {largest}):
            enough = [n for n in parts if size * each * nodes >= largest * n and fits(size, n)]
            found[size] = max(enough, default=1)
        found[largest] = each * nodes
        changes = {size: n for (_, before), (size, n) in pairwise(found.items()) if n != before}
        return self.model_copy(update={"devices_by_batch_size": {1: found[1], **changes}})

    @property
    def ranks(self) -> int:
        """Processes that train one trial in our own loop."""
        return self._of_node * (self.nodes or 1)

    @property
    def launched(self) -> int:
        """How often a training function or program is started for one trial; it may start more itself."""
        return (self.processes or 1) * (self.nodes or 1)

    @property
    def _of_node(self) -> int:
        return self.processes or max(1, int(self.gpus))

    @property
    def threads(self) -> int:
        """PyTorch's, in each of them."""
        return max(1, int(self.cpus / self._of_node))
