"""The table of networks: how each is built, what it reads, and what its options mean."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastcnn.models.lenet import lenet5
from fastcnn.models.resnet_cifar import resnet20_cifar
from fastcnn.nn import Module


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One line of the table.

    Parameters
    ----------
    build : callable
        Makes the network from its options.
    defaults : mapping
        Every option with its default.
    input_shape : tuple of int
        (C, H, W) with the default options.
    sizes : mapping
        For each option that decides a size: the parameter and its dimension that must equal it. A model file
        is checked by it before anything is built.
    summary : str
        What it is, in a line.
    """

    build: Callable[..., Module]
    defaults: Mapping[str, int]
    input_shape: tuple[int, int, int]
    sizes: Mapping[str, tuple[str, int]]
    summary: str


_MODELS: dict[str, ModelSpec] = {
    "lenet5": ModelSpec(
        build=lenet5,
        defaults={"num_classes": 10, "in_channels": 1},
        input_shape=(1, 28, 28),
        sizes={"num_classes": ("11.weight", 0), "in_channels": ("0.weight", 1)},
        summary="LeNet-5 with tanh and average pooling (LeCun et al. 1998)",
    ),
    "resnet20_cifar": ModelSpec(
        build=resnet20_cifar,
        defaults={"num_classes": 10, "in_channels": 3},
        input_shape=(3, 32, 32),
        sizes={"num_classes": ("linear.weight", 0), "in_channels": ("conv1.weight", 1)},
        summary="ResNet-20 for CIFAR, shortcut option A (He et al. 2015, section 4.2)",
    ),
}


def available() -> list[str]:
    """The names that `create` knows, sorted."""
    return sorted(_MODELS)


def spec(name: str) -> ModelSpec:
    """The line of the table; ValueError that lists the names when there is none."""
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"no network named {name!r}{hint}; available: {', '.join(available())}")
    return _MODELS[name]


def create(name: str, **options: int) -> Module:
    """A new network with freshly drawn weights (`fastcnn.manual_seed` decides them).

    Parameters
    ----------
    name : str
        One of `available()`.
    **options : int
        ``num_classes`` and ``in_channels``.

    Raises
    ------
    ValueError
        For names and options that do not exist, and values below 1.

    Examples
    --------
    >>> model = create("lenet5")
    >>> sum(p.data.size for p in model.parameters())
    61706
    """
    entry = spec(name)
    for key, value in options.items():
        if key not in entry.defaults:
            raise ValueError(f"{name}: no option {key!r}; it has {', '.join(entry.defaults)}")
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: {key} must be a whole number of at least 1, got {value!r}")
    chosen: dict[str, Any] = {**entry.defaults, **{key: int(value) for key, value in options.items()}}
    model = entry.build(**chosen)
    model.__dict__["last_input_shape"] = (chosen["in_channels"], *entry.input_shape[1:])  # until it has run
    return model
