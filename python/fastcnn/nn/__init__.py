"""Layers, networks of layers, and losses; names and defaults are those of ``torch.nn``."""

from fastcnn.nn import init
from fastcnn.nn.containers import Sequential
from fastcnn.nn.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sigmoid,
    SiLU,
    Tanh,
)
from fastcnn.nn.loss import CrossEntropyLoss
from fastcnn.nn.module import Module
from fastcnn.nn.parameter import Buffer, Parameter

__all__ = [
    "AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm2d", "Buffer", "Conv2d", "CrossEntropyLoss", "Flatten",
    "LeakyReLU", "Linear", "MaxPool2d", "Module", "Parameter", "ReLU", "Sequential", "SiLU", "Sigmoid",
    "Tanh", "init",
]  # fmt: skip
