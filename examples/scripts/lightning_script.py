"""A script with Lightning's Trainer; the lines marked `# bcrit` are all that it needs to be measured.

The command of a trial begins with `python lightning_script.py --batch-size {batch_size} --lr {lr}`.
"""

import argparse

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bcrit import report  # bcrit


class Report(lightning.Callback):  # bcrit
    """Reports each validation."""  # bcrit

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:  # bcrit
        """Called after each validation."""  # bcrit
        if not trainer.sanity_checking:  # bcrit
            report(step=trainer.global_step, val_loss=trainer.callback_metrics["val_loss"])  # bcrit


class Classifier(lightning.LightningModule):
    """A small network on handwritten digits."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The loss of a batch."""
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """The loss on what is held out."""
        self.log("val_loss", nn.functional.cross_entropy(self.model(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=200)
given = parser.parse_args()
lightning.seed_everything(given.seed, verbose=False)
x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(x / 16).float(), torch.tensor(y))
training, validation = torch.utils.data.random_split(data, [1437, 360], torch.Generator().manual_seed(0))
trainer = lightning.Trainer(
    max_steps=given.steps,
    max_epochs=-1,
    val_check_interval=5,
    check_val_every_n_epoch=None,
    accelerator="auto",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[Report()],  # bcrit
)
loader = DataLoader(training, given.batch_size, shuffle=True, drop_last=True)
trainer.fit(Classifier(given.lr), loader, DataLoader(validation, 360))
