"""The model as training calls it: at a precision, compiled or not. Evaluation calls the model itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bcrit.search_spaces.options import Execution


def build_forward(model: nn.Module, execution: Execution, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What training calls for a batch's outputs.

    With `precision: bfloat16`, layers that gain by it compute in bfloat16 (PyTorch's autocast decides which) and the
    outputs are float32 again, so that the loss is. Gradients need no scaling, since bfloat16 has float32's range.
    With `compile`, each size of batch is compiled once, and not for shapes in general, which is slower. Evaluation
    uses neither: it measures the same function at every precision, in the shapes of the validation set.

    Args:
        model: on the device.
        execution: precision and compilation.
        device: of the model.

    Returns:
        The model itself where neither is asked for.
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
