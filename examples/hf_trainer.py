"""A training function around the Trainer of Hugging Face: a small GPT learns to sort digits.

It needs `pip install transformers accelerate`; nothing is downloaded.
"""

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

LENGTH, DIGITS = 6, 10


def make(n: int, seed: int) -> TensorDataset:
    """Sequences of six digits, followed by the same six in order."""
    digits = torch.randint(DIGITS, (n, LENGTH), generator=torch.Generator().manual_seed(seed))
    return TensorDataset(torch.cat([digits, digits.sort(1).values], 1))


def collate(rows: list[tuple[Tensor]]) -> dict[str, Tensor]:
    """Only the sorted half is to be predicted."""
    tokens = torch.stack([row[0] for row in rows])
    labels = tokens.clone()
    labels[:, :LENGTH] = -100  # not counted in the loss
    return {"input_ids": tokens, "labels": labels}


TRAINING, VALIDATION = make(4096, seed=0), make(256, seed=1)


def train(config: Any, report: Callable[..., None]) -> None:
    """One trial: the Trainer's loop at `config.batch_size`, evaluated on the grid of all trials."""

    class Evaluate(TrainerCallback):
        """Evaluates at the steps of the grid and reports; `report` ends the training when the trial is over."""

        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
        ) -> None:
            self.on_step_end(args, state, control)

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
        ) -> None:
            if state.global_step in (0, self.next_step):
                self.next_step = config.next_evaluation(state.global_step)
                report(step=state.global_step, val_loss=trainer.evaluate()["eval_loss"])

        next_step = 0

    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=DIGITS, n_positions=2 * LENGTH, n_embd=32, n_layer=2, n_head=2, bos_token_id=0)
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=config.max_steps,
            per_device_train_batch_size=config.batch_size,
            per_device_eval_batch_size=256,
            learning_rate=config.lr,
            lr_scheduler_type="constant",
            seed=config.seed,
            dataloader_drop_last=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, collate, TRAINING, VALIDATION)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Evaluate())
        trainer.train()
