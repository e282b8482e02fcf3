import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bcrit.tuner.workloads.autoencoder import Autoencoder, AutoencoderSize, AutoencoderWorkload

SIZES = {"filters": [3, 4], "hidden": 16, "code": 4}


def test_it_needs_no_labels(pictured: dict[str, Any]) -> None:
    (Path(pictured["source"]) / "train-labels-idx1-ubyte.gz").unlink()
    assert AutoencoderWorkload(pictured, {"name": "autoencoder", **SIZES}).n_examples == 48


SIZE = AutoencoderSize(filters=(2, 3), hidden=5, code=4)
SHAPE = (1, 8, 8)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts_by_hand() -> None:
    flat = 3 * 2 * 2
    encoder = (1 * 2 * 16 + 2) + (2 * 3 * 16 + 3) + (flat * 5 + 5)
    decoder = (4 * 5 + 5) + (5 * flat + flat) + (3 * 2 * 16 + 2) + (2 * 1 * 16 + 1)
    assert count(Autoencoder(SHAPE, SIZE)) == encoder + (5 * 4 + 4) + decoder
    assert count(Autoencoder(SHAPE, SIZE.model_copy(update={"variational": True}))) == encoder + (5 * 8 + 8) + decoder


def test_the_decoder_gives_an_image_of_the_inputs_shape() -> None:
    for shape in ((3, 32, 32), (1, 28, 28)):
        model = Autoencoder(shape, AutoencoderSize())
        assert model.decoder(model.encoder(torch.rand(2, *shape))).shape == (2, *shape)


def test_a_decoder_that_knows_nothing_loses_a_bit_a_pixel() -> None:
    model = Autoencoder(SHAPE, SIZE)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    losses = model(torch.randint(256, (6, *SHAPE), dtype=torch.uint8))
    assert losses.shape == (6, 2)
    torch.testing.assert_close(losses[:, 0], torch.full((6,), 64 * math.log(2)))
    assert not losses[:, 1].any()


def test_the_divergence_is_that_of_normal_distributions() -> None:
    model = Autoencoder(SHAPE, SIZE.model_copy(update={"variational": True}))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    means, log_variances = torch.tensor([0.5, -1.0, 0.0, 2.0]), torch.tensor([0.0, -1.0, 0.7, 0.2])
    with torch.no_grad():
        model.encoder[-1].bias.copy_(torch.cat([means, log_variances]))  # type: ignore[operator]
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(means, (log_variances / 2).exp()), normal(0.0, 1.0)).sum()
    divergence = model(torch.zeros(3, *SHAPE, dtype=torch.uint8))[:, 1]
    torch.testing.assert_close(divergence, expected.expand(3))


def test_the_variational_code_is_drawn_and_the_plain_one_is_not() -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (2, *SHAPE), dtype=torch.uint8)
    plain, drawn = Autoencoder(SHAPE, SIZE), Autoencoder(SHAPE, SIZE.model_copy(update={"variational": True}))
    assert torch.equal(plain(images), plain(images))
    assert not torch.equal(drawn.eval()(images), drawn(images))


def test_images_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match="need a height and width divisible by 8, but images have 28 x 28 pixels"):
        Autoencoder((1, 28, 28), AutoencoderSize(filters=(4, 4, 4)))
