"""Defines ResNet-18, 34 and 50 (He et al. 2016; stride on the 3x3 convolution) under torchvision's weight names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from clrernetlm.models.layers import RgbInput, conv_norm_relu, initialise_convolutions

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB
IMAGENET_STD = (0.229, 0.224, 0.225)


class BasicBlock(nn.Module):
    """Map (B, in, h, w) -> (B, width, h/stride, w/stride) by two 3x3 convolutions and a residual."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        x = conv_norm_relu(self.conv1, self.bn1, x)
        return conv_norm_relu(self.conv2, self.bn2, x, residual)


class Bottleneck(nn.Module):
    """Map (B, in, h, w) -> (B, 4 width, h/stride, w/stride) by 1x1, 3x3 and 1x1 convolutions and a residual."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        x = conv_norm_relu(self.conv1, self.bn1, x)
        x = conv_norm_relu(self.conv2, self.bn2, x)
        return conv_norm_relu(self.conv3, self.bn3, x, residual)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """Extract four maps, strides 4, 8, 16, 32, with `out_channels` channels from (B, 3, H, W) BGR in [0, 1]."""

    def __init__(self, depths: Sequence[int], block: type[BasicBlock] | type[Bottleneck]) -> None:
        super().__init__()
        self.input = RgbInput(IMAGENET_MEAN, IMAGENET_STD)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)

        def layer(in_channels: int, width: int, depth: int, stride: int) -> nn.Sequential:
            out_channels = width * block.expansion
            rest = (block(out_channels, width, 1) for _ in range(depth - 1))
            return nn.Sequential(block(in_channels, width, stride), *rest)

        self.layer1 = layer(64, 64, depths[0], stride=1)
        self.layer2 = layer(64 * block.expansion, 128, depths[1], stride=2)
        self.layer3 = layer(128 * block.expansion, 256, depths[2], stride=2)
        self.layer4 = layer(256 * block.expansion, 512, depths[3], stride=2)
        self.out_channels = tuple(width * block.expansion for width in (64, 128, 256, 512))
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = conv_norm_relu(self.conv1, self.bn1, self.input(images))  # (B, 64, H/2, W/2)
        level2 = self.layer1(F.max_pool2d(x, 3, stride=2, padding=1))  # (B, C2, H/4, W/4)
        level3 = self.layer2(level2)  # (B, C3, H/8, W/8)
        level4 = self.layer3(level3)  # (B, C4, H/16, W/16)
        return level2, level3, level4, self.layer4(level4)  # (B, C5, H/32, W/32)

    def stem(self) -> list[nn.Module]:
        """Return the layers up to the map of stride 4."""
        return [self.conv1, self.bn1, self.layer1]

    def imagenet_module(self) -> nn.Module:
        """Return the module whose weights have the names of the published ImageNet weights."""
        return self


def resnet18() -> ResNet:
    """Build ResNet-18: two basic blocks in each of four layers."""
    return ResNet((2, 2, 2, 2), BasicBlock)


def resnet34() -> ResNet:
    """Build ResNet-34: 3, 4, 6 and 3 basic blocks."""
    return ResNet((3, 4, 6, 3), BasicBlock)


def resnet50() -> ResNet:
    """Build ResNet-50: 3, 4, 6 and 3 bottlenecks."""
    return ResNet((3, 4, 6, 3), Bottleneck)
