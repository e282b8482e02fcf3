from __future__ import annotations

import torch

from bcrit.tuner.workloads.models.standardise import Standardise


def test_bytes_get_mean_0_and_variance_1_in_each_channel() -> None:
    images = torch.randint(256, (50, 2, 4, 4), dtype=torch.uint8)
    images[:, 1] //= 4
    numbers = images.double().transpose(0, 1).flatten(1)
    standard = Standardise(numbers.mean(1).tolist(), numbers.std(1, correction=0).tolist())(images)
    assert standard.dtype == torch.float32
    torch.testing.assert_close(standard.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.var((0, 2, 3), correction=0), torch.ones(2))
    assert not list(Standardise([0.0], [1.0]).parameters())
