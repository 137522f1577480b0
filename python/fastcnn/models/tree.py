"""An architecture as plain data, and back: library layers with their options, networks by name, and recordings
of the forward pass of any other class.

What is read is checked against the weights it came with before anything is built, so that a damaged or
hostile description cannot ask for more memory than its file holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn import nn
from fastcnn.models.recording import Recorded, record_forward
from fastcnn.models.registry import available, create, spec
from fastcnn.models.resnet_cifar import ResNetCifar
from fastcnn.nn import _state
from fastcnn.nn import layers as library

Tensors = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

_MAX_DEPTH = 32
_MAX_LAYERS = 100_000
_MAX_NUMBER = 1 << 31
_MAX_NAME = 200

# Module classes that are networks of the registry as a whole.
_NETWORKS: dict[type, str] = {ResNetCifar: "resnet20_cifar"}

_LAYERS: dict[str, type[nn.Module]] = {k: v for k, v in vars(library).items() if k in library.__all__}

# The arrays a layer may own.
_ARRAYS: dict[str, tuple[str, ...]] = {
    "Conv2d": ("weight", "bias"),
    "Linear": ("weight", "bias"),
    "BatchNorm2d": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
}


def describe(model: nn.Module, input_shape: Sequence[int] | None = None) -> dict[str, Any]:
    """The architecture as JSON-able data.

    A network of the registry is its name, library layers in `Sequential` a tree. For anything else, `forward`
    is recorded for inputs of ``input_shape``, without the batch.

    Raises
    ------
    ValueError
        When a recording is needed and there is no input shape, or it cannot be made.
    """
    name = _NETWORKS.get(type(model))
    options = None if name is None else _network_options(name, model)
    if options is not None:
        return {"type": "network", "name": name, "options": options}
    if isinstance(model, Recorded):
        input_shape = model.input_shape
    elif _is_tree(model):
        return _Describer().root(model)
    if input_shape is None:
        raise ValueError(
            f"{type(model).__name__} is neither a network of fastcnn.models as it was created nor library layers "
            "in Sequential: its forward is recorded when it is saved. Give save an input_shape=(C, H, W), or use "
            "fastcnn.save_weights"
        )
    members = _Describer().root(model, recorded=True)
    return {"type": "recorded", "members": members, **record_forward(model, input_shape, _is_layer)}


def _is_layer(module: nn.Module) -> bool:
    """A library layer as its class made it: nothing added to it."""
    kind = type(module).__name__
    return (
        _LAYERS.get(kind) is type(module)
        and "forward" not in module.__dict__
        and not module._modules
        and {*_arrays(module)} <= {*_ARRAYS.get(kind, ())}
    )


def _is_plain(module: nn.Module) -> bool:
    """A Sequential as its class makes it."""
    return (
        type(module) is nn.Sequential
        and "forward" not in module.__dict__
        and list(module._modules) == [str(i) for i in range(len(module._modules))]
        and None not in module._modules.values()
        and not _arrays(module)
    )


def _arrays(module: nn.Module) -> dict[str, nn.Parameter | nn.Buffer]:
    return {**module._parameters, **module._buffers}


def _is_tree(model: nn.Module) -> bool:
    return all(_is_layer(m) or _is_plain(m) for m in model.modules())


class _Describer:
    """Writes down the parts of a network; what appears twice is written once and referred to by its path."""

    def __init__(self) -> None:
        self.seen: dict[int, str] = {}

    def root(self, model: nn.Module, recorded: bool = False) -> dict[str, Any]:
        node = self._node(model, "")
        if recorded:  # it stands for the whole, whose forward is the recording
            node = {"parameters": [], "buffers": [], **node, "type": "Module"}
        first: dict[int, str] = {}
        tied = []
        for path, module in list(model.named_modules()):
            for name, held in _arrays(module).items():
                full = f"{path}.{name}" if path else name
                if held is not None and first.setdefault(id(held), full) != full:
                    tied.append([full, first[id(held)]])
        return {**node, "tied": tied} if tied else node

    def _node(self, module: nn.Module, path: str) -> dict[str, Any]:
        if id(module) in self.seen:
            return {"type": "shared", "with": self.seen[id(module)]}
        self.seen[id(module)] = path
        kind = type(module).__name__
        if _is_layer(module):
            config = _plain(module.config())
            shapes = {name: held.shape for name, held in _arrays(module).items() if held is not None}
            _check_arrays(kind, config, shapes, path or kind)  # what is written can be read
            return {"type": kind, "config": config}
        layers = [
            [name, self._node(child, f"{path}.{name}" if path else name)]
            for name, child in module.named_children()
        ]
        if _is_plain(module):
            return {"type": "Sequential", "layers": layers}
        members = {"parameters": module._parameters, "buffers": module._buffers}
        names = {kind: [k for k, held in own.items() if held is not None] for kind, own in members.items()}
        return {"type": "Module", **names, "layers": layers}


def _network_options(name: str, model: nn.Module) -> dict[str, int] | None:
    """The options that make this network; None when it was changed after it was created."""
    state = model.state_dict()
    options = {}
    for key, (entry, axis) in spec(name).sizes.items():
        if entry not in state or state[entry].ndim <= axis:
            return None
        options[key] = int(state[entry].shape[axis])
    with _state.streams_kept():
        unchanged = create(name, **options)
    return options if _structure(unchanged) == _structure(model) else None


def _structure(model: nn.Module) -> list[Any]:
    """What tells two networks apart: each module's name, class and options."""
    return [
        (name, type(m), "forward" in m.__dict__, _plain(m.config()) if _is_layer(m) else None)
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
        return _Builder(tensors).root(description)


class _Builder:
    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.made: dict[str, nn.Module] = {}

    def root(self, node: Any) -> nn.Module:
        if isinstance(node, Mapping) and node.get("type") == "recorded":
            return self._recorded(node)
        model = self._build(node, "", 0)
        self._tie(model, node.get("tied", []))
        return model

    def _recorded(self, node: Mapping[str, Any]) -> nn.Module:
        members: Any = node.get("members")
        shape: Any = node.get("input_shape")
        sizes = isinstance(shape, list) and all(isinstance(n, int) and n > 0 for n in shape)
        _expect(sizes, "the input shape of a recording", shape)
        _expect(isinstance(members, Mapping), "the parts of a network", members)
        train_steps = node["eval"] if node.get("train") is None else node["train"]
        model = Recorded(shape, node["eval"], train_steps, _is_layer)
        self._fill(model, members, "", 0)
        self._tie(model, members.get("tied", []))
        model.check()
        return model

    def _tie(self, model: nn.Module, tied: Any) -> None:
        entries = dict(model.state_entries())
        for name, first in tied:
            path, _, last = name.rpartition(".")
            owner = self.made[path]
            members = owner._parameters if last in owner._parameters else owner._buffers
            if last not in members or entries[first].shape != members[last].shape:
                raise ValueError(f"{name!r:.100} cannot be {first!r:.100}")
            members[last] = entries[first]

    def _build(self, node: Any, prefix: str, depth: int) -> nn.Module:
        where = prefix.rstrip(".") or "the network"
        typed = isinstance(node, Mapping) and isinstance(node.get("type"), str)
        _expect(typed, "a layer with a type", node, where)
        if depth > _MAX_DEPTH or len(self.made) > _MAX_LAYERS:
            raise ValueError(f"more than {_MAX_DEPTH} levels or {_MAX_LAYERS} layers")
        kind = node["type"]
        if kind == "shared":
            return self.made[node["with"]]
        made: nn.Module
        if kind == "Module":
            made = nn.Module()
            self._fill(made, node, prefix, depth)
        elif kind == "Sequential":
            made = self._sequential(node.get("layers"), prefix, depth)
        elif kind == "network":
            made = self._network(node.get("name"), node.get("options"), prefix)
        else:
            made = self._layer(kind, node.get("config"), prefix, where)
        self.made[prefix.rstrip(".")] = made
        return made

    def _fill(self, module: nn.Module, node: Any, prefix: str, depth: int) -> None:
        """Gives a module the parts, parameters and buffers of a described one."""
        where = prefix.rstrip(".") or "the network"
        listed = isinstance(node, Mapping) and isinstance(node.get("layers"), list)
        _expect(listed, "the parts of a module", node, where)
        self.made[prefix.rstrip(".")] = module
        for name in node["parameters"]:
            module._parameters[_name(name, where)] = nn.Parameter(self._array(prefix + name))
        for name in node["buffers"]:
            value = self._array(prefix + name)
            module._buffers[_name(name, where)] = nn.Buffer(value, value.dtype)
        for name, child in node["layers"]:
            module.add_module(name, self._build(child, f"{prefix}{_name(name, where)}.", depth + 1))

    def _array(self, name: str) -> np.ndarray:
        if name not in self.tensors:
            raise ValueError(f"the file has no array {name!r:.100}")
        return self.tensors[name]

    def _layer(self, kind: str, config: Any, prefix: str, where: str) -> nn.Module:
        if kind not in _LAYERS:
            raise ValueError(f"{where}: no layer named {kind!r:.50}; known: {', '.join(_LAYERS)}")
        _expect(isinstance(config, Mapping), f"the options of a {kind}", config, where)
        for option, value in config.items():
            _check_option(option, value, where)
        names = [name for name in _ARRAYS.get(kind, ()) if prefix + name in self.tensors]
        _check_arrays(kind, config, {name: self.tensors[prefix + name].shape for name in names}, where)
        return _LAYERS[kind](**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})

    def _sequential(self, layers: Any, prefix: str, depth: int) -> nn.Module:
        _expect(isinstance(layers, list), "a list of layers", layers, prefix.rstrip("."))
        children = []
        for i, item in enumerate(layers):
            named = isinstance(item, list) and len(item) == 2 and item[0] == str(i)
            _expect(named, f"the name {str(i)!r} and a layer", item, f"{prefix}{i}")
            children.append(self._build(item[1], f"{prefix}{i}.", depth + 1))
        return nn.Sequential(*children)

    def _network(self, name: Any, options: Any, prefix: str) -> nn.Module:
        if name not in available():
            raise ValueError(f"no network named {name!r:.50}; available: {', '.join(available())}")
        entry = spec(name)
        known = isinstance(options, Mapping) and set(options) == set(entry.sizes)
        _expect(known, f"the options {', '.join(entry.sizes)}", options, name)
        for key, (tensor, axis) in entry.sizes.items():
            value = self.tensors.get(prefix + tensor)
            if value is None or value.ndim <= axis or value.shape[axis] != options[key]:
                raise ValueError(f"{name}: {key}={options[key]!r:.50} does not fit the weights")
        return create(name, **options)


def _expect(good: bool, what: str, got: Any, where: str | None = None) -> None:
    if not good:
        raise ValueError(f"{'' if where is None else where + ': '}expected {what}, got {got!r:.100}")


def _name(name: Any, where: str) -> str:
    good = isinstance(name, str) and 0 < len(name) <= _MAX_NAME and "." not in name
    _expect(good, "the name of a part", name, where)
    return name


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


def _check_arrays(kind: str, config: Mapping[str, Any], shapes: Shapes, where: str) -> None:
    """What a layer would allocate, held against the arrays in the file."""
    weight = shapes.get("weight")
    if kind == "Conv2d":
        side, groups = config.get("kernel_size"), config.get("groups", 1)
        sides = side if isinstance(side, (list, tuple)) else (side, side)
        want = (config.get("out_channels"), config.get("in_channels"), *sides)
        got = weight or ()
        if len(got) != 4 or not isinstance(groups, int) or (got[0], got[1] * groups, *got[2:]) != want:
            text = f"Conv2d of {want!r:.100} with {groups} groups, but the weights are {got}"
            raise ValueError(f"{where}: {text}")
    elif kind == "Linear":
        want = (config.get("out_features"), config.get("in_features"))
        if weight != want:
            raise ValueError(f"{where}: Linear of {want!r:.100}, but the weights are {weight}")
    elif kind == "BatchNorm2d":
        want = (config.get("num_features"),)
        vectors = [shape for name, shape in shapes.items() if name != "num_batches_tracked"]
        if any(shape != want for shape in vectors) or not vectors:
            raise ValueError(f"{where}: BatchNorm2d of {want!r:.100}, but the arrays are {shapes}")
