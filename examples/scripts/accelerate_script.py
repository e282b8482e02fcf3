"""A plain loop under Hugging Face Accelerate; the lines marked `# bcrit` are all that it needs to be measured.

The command of a trial begins with `accelerate launch accelerate_script.py --batch-size {batch_size} --lr {lr}`.
"""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bcrit import report  # bcrit

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=200)
given = parser.parse_args()
set_seed(given.seed)
accelerator = Accelerator()
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16).float(), torch.tensor(y)
rows = given.batch_size // accelerator.num_processes  # each process takes its share of the batch
loader = DataLoader(TensorDataset(x[:1437], y[:1437]), rows, shuffle=True, drop_last=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=given.lr, momentum=0.9)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
step = 0
while step < given.steps:
    for inputs, targets in loader:
        optimizer.zero_grad()
        accelerator.backward(nn.functional.cross_entropy(model(inputs), targets))
        optimizer.step()
        step += 1
        if step % 5 == 0:
            with torch.no_grad():
                device = accelerator.device
                loss = nn.functional.cross_entropy(model(x[1437:].to(device)), y[1437:].to(device))
            report(step=step, val_loss=loss)  # bcrit
        if step == given.steps:
            break
accelerator.end_training()
