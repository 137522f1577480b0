"""What the tests of orders of use share: networks, threads side by side, arrays."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
import pytest
from graphs import LAYOUTS

import fastcnn
from fastcnn import nn
from fastcnn.nn.engine import TrainingStep

EVERY_LAYOUT = (*LAYOUTS, "auto")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
HYPER = np.float32([0.5, 0, 0, 0, 0, 1])  # lr, momentum, weight decay, dampening, nesterov, first step


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def labels(n: int, classes: int = 10) -> np.ndarray:
    return np.random.default_rng(n).integers(0, classes, n)


def sgd(model: nn.Module, lr: float = 0.1, **options: float) -> fastcnn.optim.SGD:
    return fastcnn.optim.SGD(model.parameters(), lr=lr, **options)


def training_step(model: nn.Module, layout: str = "auto", **options: float) -> TrainingStep:
    return TrainingStep(model, sgd(model, **options), nn.CrossEntropyLoss(), layout)


def convolutions(channels: int = 64, norm: bool = False) -> nn.Module:
    """3x3 and 1x1 convolutions whose implementations pack their weights."""
    fastcnn.manual_seed(1)
    norms = [nn.BatchNorm2d(channels)] if norm else []
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), *norms, nn.ReLU(), nn.Conv2d(channels, channels, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10),
    )  # fmt: skip


def fresh(new: nn.Module, model: nn.Module) -> nn.Module:
    """new with model's numbers: a network that has kept nothing from earlier runs."""
    new.load_state_dict(model.state_dict())
    return new


def in_threads(*bodies: Callable[[], None]) -> None:
    """Runs them side by side; the first exception of any is raised here."""
    failures: list[BaseException] = []

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise failures[0]
