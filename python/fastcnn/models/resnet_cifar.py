"""Residual networks for 32x32 images (He, Zhang, Ren, Sun: Deep Residual Learning, 2015, section 4.2).

Three stages of n basic blocks with 16, 32 and 64 channels, 6n + 2 layers. The shortcut into a wider stage is
the paper's option A, without parameters: every second pixel, and zeros for the channels that are new.
"""

from __future__ import annotations

from typing import Any

from fastcnn import functional as F
from fastcnn import nn


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False, init="he")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and the shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Any) -> Any:
        """(N, in, H, W) -> (N, out, H / stride, W / stride), rounded up."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1:
            x = F.subsample(x, self.stride)
        if self.new_channels:
            before = self.new_channels // 2
            x = F.pad_channels(x, before, self.new_channels - before)
        return F.relu(y + x)


class ResNetCifar(nn.Module):
    """6n + 2 layers for inputs (N, C, 32, 32); the parameters' names are those of the common PyTorch code."""

    def __init__(self, blocks: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, num_classes, init="he")

    @staticmethod
    def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_channels, out_channels, stride)
        return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Any) -> Any:
        """(N, C, 32, 32) -> (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.flatten(self.pool(x)))


def resnet20_cifar(num_classes: int = 10, in_channels: int = 3) -> ResNetCifar:
    """ResNet-20: 269,722 parameters with ten classes; He initialisation as in the paper."""
    return ResNetCifar(3, num_classes, in_channels)
