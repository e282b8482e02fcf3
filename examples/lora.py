"""A script that fine-tunes by LoRA with the Trainer of Hugging Face; the lines marked `# bcrit` let it be measured.

A small GPT with random weights learns to sort digits through its adapters alone, so that nothing is downloaded: give
`AutoModelForCausalLM.from_pretrained(...)` and your data their places. It needs `pip install bcrit[hf] peft`.
"""

import argparse
import tempfile
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

from bcrit import report  # bcrit

LENGTH, DIGITS = 6, 10


class Report(TrainerCallback):  # bcrit
    """Reports each evaluation."""  # bcrit

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **rest: Any) -> None:  # bcrit
        """Called after each evaluation."""  # bcrit
        report(step=state.global_step, val_loss=metrics["eval_loss"])  # bcrit


def make(n: int, seed: int) -> TensorDataset:
    """Sequences of six digits, followed by the same six in order."""
    digits = torch.randint(DIGITS, (n, LENGTH), generator=torch.Generator().manual_seed(seed))
    return TensorDataset(torch.cat([digits, digits.sort(1).values], 1))


def collate(rows: list[tuple[torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Only the sorted half is to be predicted."""
    tokens = torch.stack([row[0] for row in rows])
    labels = tokens.clone()
    labels[:, :LENGTH] = -100  # not counted in the loss
    return {"input_ids": tokens, "labels": labels}


parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--max-steps", type=int, default=200)
given = parser.parse_args()
set_seed(0)  # one base model for all trials
model = GPT2LMHeadModel(
    GPT2Config(vocab_size=DIGITS, n_positions=2 * LENGTH, n_embd=32, n_layer=2, n_head=2, bos_token_id=0)
)
set_seed(given.seed)
adapters = LoraConfig(r=8, lora_alpha=16, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        get_peft_model(model, adapters),
        TrainingArguments(
            output_dir=folder,
            max_steps=given.max_steps,
            per_device_train_batch_size=given.batch_size,
            per_device_eval_batch_size=256,
            learning_rate=given.lr,
            lr_scheduler_type="constant",
            eval_strategy="steps",
            eval_steps=5,
            seed=given.seed,
            dataloader_drop_last=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        collate,
        make(4096, seed=0),
        make(256, seed=1),
        callbacks=[Report()],  # bcrit
    )
    trainer.train()
