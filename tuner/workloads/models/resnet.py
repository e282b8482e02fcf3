"""Residual networks of He et al. 2016: ResNet-8 for small images (their section 4.2) and ResNet-50, version 1."""

from __future__ import annotations

from torch import Tensor, nn

from bcrit.tuner.workloads.models.normalisation import Normalisation


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without parameters (option A: strided, new channels are 0)."""

    def __init__(self, before: int, channels: int, stride: int, norm: Normalisation) -> None:
        """Make the layers.

        Args:
            before: channels of the input.
            channels: of the output.
            stride: of the first convolution.
            norm: makes normalisation layers.
        """
        super().__init__()
        self.stride, self.new = stride, channels - before
        self.body = nn.Sequential(
            nn.Conv2d(before, channels, 3, stride, padding=1, bias=False),
            norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            norm(channels),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (n, before, h, w) to (n, channels, h / stride, w / stride)."""
        shortcut = nn.functional.pad(inputs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return nn.functional.relu(self.body(inputs) + shortcut)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut that is projected where the shape changes (option B).

    The stride is in the first convolution, as in the paper; many libraries have it in the second ("version 1.5").
    """

    def __init__(self, before: int, width: int, stride: int, norm: Normalisation) -> None:
        """Make the layers.

        Args:
            before: channels of the input.
            width: channels inside; the output has four times as many.
            stride: of the first convolution.
            norm: makes normalisation layers.
        """
        super().__init__()
        after = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 1, stride, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Conv2d(width, after, 1, bias=False),
            norm(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm(after))

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (n, before, h, w) to (n, 4 width, h / stride, w / stride)."""
        return nn.functional.relu(self.body(inputs) + self.shortcut(inputs))


def resnet_8(channels: int, n_classes: int, norm: Normalisation) -> nn.Module:
    """Seven 3 x 3 convolutions of 16, 32 and 64 channels, and a linear layer: He et al.'s design with n = 1.

    Args:
        channels: of an input of any size.
        n_classes: outputs.
        norm: makes normalisation layers.

    Returns:
        The model, with He's initialisation of the convolutions.
    """
    return _initialised(
        nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1, bias=False),
            norm(16),
            nn.ReLU(),
            BasicBlock(16, 16, 1, norm),
            BasicBlock(16, 32, 2, norm),
            BasicBlock(32, 64, 2, norm),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, n_classes),
        )
    )


def resnet_50(channels: int, n_classes: int, norm: Normalisation) -> nn.Module:
    """3, 4, 6 and 3 bottlenecks of width 64, 128, 256 and 512 (He et al. 2016, table 1).

    Args:
        channels: of an input of 224 x 224 in the paper; any size works.
        n_classes: outputs.
        norm: makes normalisation layers.

    Returns:
        The model, with He's initialisation of the convolutions.
    """
    stem = [nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False), norm(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    blocks, before = [], 64
    for stage, (n_blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
        for block in range(n_blocks):
            blocks.append(Bottleneck(before, width, 2 if stage > 0 and block == 0 else 1, norm))
            before = 4 * width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, n_classes)]
    return _initialised(nn.Sequential(*stem, *blocks, *head))


def _initialised(model: nn.Module) -> nn.Module:
    """Normal weights of variance 2 / (outputs of a weight), as the paper takes from He et al. 2015."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return model
