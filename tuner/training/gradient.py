"""The seam between how a gradient is computed and what an update does with it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Gradient = Callable[[Tensor], None]
"""Computes the mean gradient over the examples at these indices, at the weights as they are now.

It leaves the gradient in `.grad` of every parameter, in tensors of its own: the caller may keep them, and what was in
`.grad` before is dropped and not added to. In how many pieces it goes over the examples is its own affair.
"""
