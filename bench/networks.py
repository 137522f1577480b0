"""Training steps and inference of the networks that papers compare with, each built from layers.

This file needs nothing of its package, so that `versus` can run it on another checkout's fastcnn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastcnn
from fastcnn import functional as F
from fastcnn import nn
from fastcnn.nn.engine import TrainingStep


class VGG16(nn.Sequential):
    """Simonyan & Zisserman 2014, configuration D, without dropout."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1, init="he"), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        head = (nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000))
        super().__init__(*layers, nn.Flatten(), *head)


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, if wanted, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False, init="he")
        super().__init__(conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


class Residual(nn.Module):
    """He et al. 2015: two 3x3 convolutions or a bottleneck of 1x1, 3x3, 1x1, and a shortcut (option B)."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        first = [ConvNorm(inputs, width, 1)] if bottleneck else []
        first.append(ConvNorm(width if bottleneck else inputs, width, 3, stride))
        self.body = nn.Sequential(*first, ConvNorm(width, outputs, 1 if bottleneck else 3, relu=False))
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else ConvNorm(inputs, outputs, 1, stride, relu=False)

    def forward(self, x: Any) -> Any:
        return F.relu(self.body(x) + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Sequential):
    """He et al. 2015, table 1: (2, 2, 2, 2) blocks are ResNet-18, (3, 4, 6, 3) bottlenecks ResNet-50."""

    def __init__(self, depths: tuple[int, ...], bottleneck: bool) -> None:
        blocks: list[nn.Module] = []
        channels = 64
        for stage, depth in enumerate(depths):
            for i in range(depth):
                blocks.append(Residual(channels, 64 << stage, 2 if stage and i == 0 else 1, bottleneck))
                channels = (256 if bottleneck else 64) << stage
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))
        super().__init__(ConvNorm(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1), *blocks, *head)


class DenseLayer(nn.Sequential):
    """Huang et al. 2016: norm, ReLU, 1x1 to four times the growth, norm, ReLU, 3x3."""

    def __init__(self, inputs: int, growth: int) -> None:
        last = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        super().__init__(nn.BatchNorm2d(inputs), nn.ReLU(), ConvNorm(inputs, 4 * growth, 1), last)


class DenseChain(nn.Module):
    """One dense block: each layer reads what all before it gave, joined as x = concat(x, f(x)) or flat each time."""

    def __init__(self, depth: int, nested: bool, inputs: int = 64, growth: int = 32) -> None:
        super().__init__()
        self.nested = nested
        self.layers = nn.Sequential(*(DenseLayer(inputs + growth * i, growth) for i in range(depth)))
        self.head = nn.Linear(inputs + growth * depth, 10)

    def forward(self, x: Any) -> Any:
        parts = [x]
        for layer in self.layers:
            parts.append(layer(F.concat(parts)))
            if self.nested:
                parts = [F.concat(parts)]
        return self.head(F.flatten(F.global_avg_pool2d(F.concat(parts))))


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, int, int]]] = {
    "lenet5": (lambda: fastcnn.models.create("lenet5"), (1, 28, 28)),
    "resnet20": (lambda: fastcnn.models.create("resnet20_cifar"), (3, 32, 32)),
    "vgg16": (VGG16, (3, 224, 224)),
    "resnet18": (lambda: ResNet((2, 2, 2, 2), False), (3, 224, 224)),
    "resnet50": (lambda: ResNet((3, 4, 6, 3), True), (3, 224, 224)),
    "dense12": (lambda: DenseChain(12, True), (64, 28, 28)),
    "dense12_flat": (lambda: DenseChain(12, False), (64, 28, 28)),
    "dense48": (lambda: DenseChain(48, True), (64, 14, 14)),
    "dense48_flat": (lambda: DenseChain(48, False), (64, 14, 14)),
}
USES = (("infer", 1), ("infer", 16), ("train", 8))
LARGE = tuple((name, *use) for name in ("vgg16", "resnet18", "resnet50") for use in USES)
CASES = (*LARGE, *((name, what, 8) for name in NETWORKS if "dense" in name for what in ("infer", "train")))


def work(name: str, mode: str, batch: int) -> tuple[Callable[[], Any], np.ndarray, Any]:
    """One training step ("train") or prediction ("infer") to be repeated; the losses of the first three steps, or
    the output; the plan."""
    fastcnn.manual_seed(0)
    make, image = NETWORKS[name]
    model, rng = make(), np.random.default_rng(0)
    x, y = rng.standard_normal((batch, *image)).astype(np.float32), rng.integers(0, 10, batch)
    if mode == "infer":
        model.eval()
        return lambda: model(x), model(x), model.plan(x.shape)
    optimizer = fastcnn.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    step = TrainingStep(model, optimizer, nn.CrossEntropyLoss())
    losses = [step.step(x, y)[0] for _ in range(3)]
    return lambda: step.step(x, y), np.float32(losses), step.training_plan(x.shape)


def run(cases: tuple[tuple[str, str, int], ...] = CASES, rounds: int = 7) -> list[dict[str, Any]]:
    """Measure and print; the rows."""
    from .timing import alternate, case_name, show

    formats = {"ms": ".2f", "images/s": ",.0f", "GFLOP/s": ",.0f", "arena MB": ".0f", "moved MB": ",.0f"}
    columns = [("name", "network", "22s"), *((k, k, f) for k, f in formats.items())]

    def measured(case: tuple[str, str, int]) -> dict[str, Any]:
        once, _, plan = work(*case)
        seconds = alternate({"fastcnn": lambda: once() is None or None}, rounds)["fastcnn"]
        flops, moved = (sum(s[k] for s in plan.steps) for k in ("flops", "bytes"))
        rates = case[-1] / seconds, flops / seconds / 1e9
        figures = (seconds * 1e3, *rates, plan.arena_bytes / 1e6, moved / 1e6)
        return {"name": case_name(case), **dict(zip(formats, figures, strict=True))}

    return show(map(measured, cases), columns)
