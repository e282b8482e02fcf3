"""A plain data-parallel loop, as `torchrun` or bcrit starts it; the lines marked `# bcrit` are all that it needs.

workload: {command: "python ddp_script.py --batch-size {batch_size} --lr {lr} --seed {seed} --steps {max_steps}"}
resources: {processes: 4, gpus: 4, cpus: 16}
"""

import argparse
import os

import torch
from sklearn.datasets import load_digits
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bcrit import report  # bcrit

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)  # of all ranks together
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=200)
given = parser.parse_args()
rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
device = (
    torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
)
torch.manual_seed(given.seed)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16).float().to(device), torch.tensor(y).to(device)
model: nn.Module = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(device)
if size > 1:
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    model = DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=given.lr, momentum=0.9)
order = torch.Generator().manual_seed(given.seed)  # the same on every rank
step = 0
while step < given.steps:
    for batch in torch.split(torch.randperm(1437, generator=order), given.batch_size)[: 1437 // given.batch_size]:
        own = batch.chunk(size)[rank]  # each rank takes its share of the batch
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[own]), y[own]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step += 1
        if step % 5 == 0 and rank == 0:
            with torch.no_grad():
                loss = nn.functional.cross_entropy(model(x[1437:]), y[1437:])
            report(step=step, val_loss=loss)  # bcrit
        if step == given.steps:
            break
if size > 1:
    dist.destroy_process_group()
