"""An architecture as plain data, and back: library layers with their options, and networks by name.

What is read is checked against the weights it came with before anything is built, so that a damaged or
hostile description cannot ask for more memory than its file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastcnn import nn
from fastcnn.models.registry import available, create, spec
from fastcnn.models.resnet_cifar import ResNetCifar
from fastcnn.nn import _state

__all__ = ["build", "describe"]

Tensors = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

_MAX_DEPTH = 32
_MAX_LAYERS = 100_000
_MAX_NUMBER = 1 << 31

# Module classes that are networks of the registry as a whole.
_NETWORKS: dict[type, str] = {ResNetCifar: "resnet20_cifar"}

_LAYERS: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (
        nn.Conv2d,
        nn.MaxPool2d,
        nn.AvgPool2d,
        nn.AdaptiveAvgPool2d,
        nn.BatchNorm2d,
        nn.ReLU,
        nn.Tanh,
        nn.Sigmoid,
        nn.Flatten,
        nn.Linear,
    )
}


def describe(model: nn.Module) -> dict[str, Any]:
    """The architecture as JSON-able data; ValueError for module classes that are not the library's."""
    name = _NETWORKS.get(type(model))
    if name is not None:
        return _describe_network(name, model)
    if type(model) is nn.Sequential:
        return {
            "type": "Sequential",
            "layers": [[key, describe(child)] for key, child in model._modules.items()],
        }
    kind = type(model).__name__
    if _LAYERS.get(kind) is not type(model):
        raise ValueError(
            f"{kind} is a module class of your own: its code cannot be saved. Use fastcnn.save_weights, and "
            "fastcnn.load_weights into a new instance"
        )
    return {"type": kind, "config": _plain(model.config())}


def _describe_network(name: str, model: nn.Module) -> dict[str, Any]:
    state = model.state_dict()
    options = {key: int(state[entry].shape[axis]) for key, (entry, axis) in spec(name).sizes.items()}
    with _state.streams_kept():
        unchanged = create(name, **options)
    if _structure(unchanged) != _structure(model):
        raise ValueError(f"this {name} was changed after it was created: use fastcnn.save_weights")
    return {"type": "network", "name": name, "options": options}


def _structure(model: nn.Module) -> list[Any]:
    """What tells two networks apart: each module's name, class and options."""
    return [
        (name, type(m), _plain(m.config()) if type(m) in _LAYERS.values() else None)
        for name, m in model.named_modules()
    ]


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


def build(description: Mapping[str, Any], tensors: Tensors) -> nn.Module:
    """The network that `describe` described, for weights of these names and shapes.

    Raises
    ------
    ValueError
        For anything that is not such a description, or does not fit the weights.
    """
    with _state.streams_kept():
        return _Builder(tensors).build(description, "", 0)


class _Builder:
    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.layers = 0

    def build(self, node: Any, prefix: str, depth: int) -> nn.Module:
        where = prefix.rstrip(".") or "the network"
        if not isinstance(node, Mapping) or not isinstance(node.get("type"), str):
            raise ValueError(f"{where}: expected a layer with a type, got {node!r:.100}")
        self.layers += 1
        if depth > _MAX_DEPTH or self.layers > _MAX_LAYERS:
            raise ValueError(f"more than {_MAX_DEPTH} levels or {_MAX_LAYERS} layers")
        kind = node["type"]
        if kind == "Sequential":
            return self._sequential(node.get("layers"), prefix, depth)
        if kind == "network":
            return self._network(node.get("name"), node.get("options"), prefix)
        if kind not in _LAYERS:
            raise ValueError(f"{where}: no layer named {kind!r:.50}; known: {', '.join(_LAYERS)}")
        config = node.get("config")
        if not isinstance(config, Mapping):
            raise ValueError(f"{where}: expected the options of a {kind}, got {config!r:.100}")
        for option, value in config.items():
            _check_option(option, value, where)
        if kind in _CHECKS:
            _CHECKS[kind](config, self._shapes(prefix), where)
        return _LAYERS[kind](**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})

    def _shapes(self, prefix: str) -> Shapes:
        names = ("weight", "bias", "running_mean", "running_var")
        return {n: self.tensors[prefix + n].shape for n in names if prefix + n in self.tensors}

    def _sequential(self, layers: Any, prefix: str, depth: int) -> nn.Module:
        if not isinstance(layers, list):
            raise ValueError(f"{prefix.rstrip('.')}: expected a list of layers, got {layers!r:.100}")
        children = []
        for i, item in enumerate(layers):
            if not (isinstance(item, list) and len(item) == 2 and item[0] == str(i)):
                raise ValueError(f"{prefix}{i}: expected the name {str(i)!r} and a layer, got {item!r:.100}")
            children.append(self.build(item[1], f"{prefix}{i}.", depth + 1))
        return nn.Sequential(*children)

    def _network(self, name: Any, options: Any, prefix: str) -> nn.Module:
        if name not in available():
            raise ValueError(f"no network named {name!r:.50}; available: {', '.join(available())}")
        entry = spec(name)
        if not isinstance(options, Mapping) or set(options) != set(entry.sizes):
            raise ValueError(f"{name}: expected the options {', '.join(entry.sizes)}, got {options!r:.100}")
        for key, (tensor, axis) in entry.sizes.items():
            value = self.tensors.get(prefix + tensor)
            if value is None or value.ndim <= axis or value.shape[axis] != options[key]:
                raise ValueError(f"{name}: {key}={options[key]!r:.50} does not fit the weights")
        return create(name, **options)


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def _check_option(option: str, value: Any, where: str) -> None:
    """A truth value, a number of ordinary size, a short text, or a short list of integers."""
    if isinstance(value, list):
        good = len(value) <= 8 and all(isinstance(v, int) and abs(v) <= _MAX_NUMBER for v in value)
    elif isinstance(value, str):
        good = len(value) <= 100
    elif isinstance(value, (int, float)):
        good = abs(value) <= _MAX_NUMBER
    else:
        good = value is None
    if not good:
        raise ValueError(f"{where}: {option!r:.50} cannot be {value!r:.50}")


def _check_conv2d(config: Mapping[str, Any], shapes: Shapes, where: str) -> None:
    shape = shapes.get("weight", ())
    want = (config.get("out_channels"), config.get("in_channels"), *_pair(config.get("kernel_size")))
    groups = config.get("groups", 1)
    if len(shape) != 4 or not isinstance(groups, int) or (shape[0], shape[1] * groups, *shape[2:]) != want:
        raise ValueError(
            f"{where}: Conv2d of {want!r:.100} with {groups} groups, but the weights are {shape}"
        )


def _check_linear(config: Mapping[str, Any], shapes: Shapes, where: str) -> None:
    want = (config.get("out_features"), config.get("in_features"))
    if shapes.get("weight") != want:
        raise ValueError(f"{where}: Linear of {want!r:.100}, but the weights are {shapes.get('weight')}")


def _check_batch_norm(config: Mapping[str, Any], shapes: Shapes, where: str) -> None:
    want = (config.get("num_features"),)
    if any(shape != want for shape in shapes.values()) or not shapes:
        raise ValueError(f"{where}: BatchNorm2d of {want!r:.100}, but the arrays are {shapes}")


# What a layer would allocate, held against the arrays in the file.
_CHECKS: dict[str, Callable[[Mapping[str, Any], Shapes, str], None]] = {
    "Conv2d": _check_conv2d,
    "Linear": _check_linear,
    "BatchNorm2d": _check_batch_norm,
}
