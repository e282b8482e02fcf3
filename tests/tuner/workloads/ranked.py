"""Training in ranks that `torchrun`, or we, started: a function, and as a program the same; or alone, all the same."""

import os
import signal
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

PLACES = ("LOCAL_RANK", "GROUP_RANK", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")


def train(config: Any, report: Callable[..., None]) -> None:
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.manual_seed(config.seed)
    model: nn.Module = nn.Linear(4, 1)
    if size > 1:
        dist.init_process_group("gloo")
        model = nn.parallel.DistributedDataParallel(model)
    found = float(config.get("leaves") is not None and (config.checkpoint / "state").exists())
    pids = torch.zeros(size)
    pids[rank] = os.getpid()
    optimizer = torch.optim.SGD(model.parameters(), config.lr)
    draws = torch.Generator().manual_seed(config.seed)
    for step in range(config.max_steps + 1):
        if step == 5 and rank == config.get("failing", -1):
            fail(config.how)
        rows = torch.randn(config.batch_size, 4, generator=draws).chunk(size)[rank]
        loss = ((model(rows) - rows.sum(1, keepdim=True)) ** 2).mean()
        total = torch.cat([loss.detach()[None] / size, pids if step == 0 else pids * 0, torch.tensor([found])])
        if size > 1:
            dist.all_reduce(total)
        if rank == 0 or not config.get("first_only"):
            more = {f"pid_{n}": total[1 + n] for n in range(size)} if step == 0 else {}
            places = {name.lower(): float(os.environ.get(name, -1)) for name in PLACES}
            loss_ = total[0] if rank == 0 else torch.tensor(0.0)  # of what another rank says nothing counts
            report(step=step, loss=loss_, found=total[-1], threads=torch.get_num_threads(), **places, **more)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def fail(how: str) -> None:
    """Fail as told."""
    if how in ("killed", "machine"):
        os.kill(os.getpid() if how == "killed" else os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    if how == "memory":
        raise MemoryError("nothing is left")
    raise ZeroDivisionError("as it was told")


def say(step: int, **metrics: Any) -> None:
    """Report as a program does, whichever rank it is."""
    print(f"bcrit: step={step} " + " ".join(f"{name}={float(value)!r}" for name, value in metrics.items()))


if __name__ == "__main__":
    batch_size, lr, steps, failing, how = sys.argv[1:]
    given = {"batch_size": int(batch_size), "lr": float(lr), "max_steps": int(steps), "seed": 7}
    facts = {**given, "failing": int(failing), "how": how}
    train(SimpleNamespace(**facts, get=facts.get), say)
