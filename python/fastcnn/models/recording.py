"""What a network's ``forward`` does, as plain data, and a network whose ``forward`` is such data.

A recording is a list of steps. Each calls a library layer of the network by its path, or one op, on values
numbered in the order they appear (0 is the input) and on parameters by name. No code is in it, and none is
looked up by name: layers are found in the network, ops in the fixed set below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn import _core
from fastcnn.functional._arguments import shape_text
from fastcnn.nn import Module, _state
from fastcnn.nn.parameter import Buffer, Parameter
from fastcnn.nn.tracing import Trace, Value, record

# What a forward pass may consist of besides layers.
_OPS = frozenset(f["name"] for f in _core.functions()) | {
    "adaptive_avg_pool2d", "add", "avg_pool2d", "batch_norm_apply", "batch_norm_inference",
    "batch_norm_stats", "concat", "conv2d", "flatten", "global_avg_pool2d", "linear", "max_pool2d",
    "pad_channels", "running_statistics", "scale", "slice_channels", "softmax", "subsample",
    "unflatten",
}  # fmt: skip
_MAX_CONSTANT = 4096  # numbers in one constant array: they are written as text
_MAX_STEPS = 100_000
_PER_IMAGE = "per image"  # the key of a number that is multiplied by the batch size
_MAX_VALUE = 1 << 31  # elements of one value, per image

Steps = Mapping[str, Any]  # {"steps": [...], "result": number of a value}
IsLayer = Callable[[Module], bool]


class Recorded(Module):
    """A network read from a file that holds a recording of its ``forward``, for inputs of one shape.

    It has the parts, names and parameters of the network it was recorded from, and trains like it.

    Parameters
    ----------
    input_shape : sequence of int
        Of one input, without the batch.
    eval_steps, train_steps
        Recordings of the two modes.
    is_layer : callable
        Which parts a step may call.
    """

    def __init__(
        self, input_shape: Sequence[int], eval_steps: Steps, train_steps: Steps, is_layer: IsLayer
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        self._recordings = {False: eval_steps, True: train_steps}
        self._is_layer = is_layer

    def forward(self, x: Any) -> Any:
        if x.shape[1:] != self.input_shape:
            raise ValueError(
                f"this network was recorded for inputs of shape {shape_text(self.input_shape)} and a batch, "
                f"got {shape_text(x.shape)}"
            )
        recording = self._recordings[self.training]
        layers = dict(self.named_modules())  # one that was put in a layer's place may be any
        if self._recordings[True] is not self._recordings[False]:
            self._check_modes(layers)
        held = dict(self.state_entries())
        values: list[Value] = [x]
        for step in recording["steps"]:
            operands = [_value_of(o, values, held) for o in step["in"]]
            if "layer" in step:
                values.append(layers[step["layer"]](*operands))
            elif step["op"] in _OPS:
                attrs = {k: _of_batch(v, x.shape[0]) for k, v in step["attrs"].items()}
                values += record(step["op"], operands, attrs)
            else:
                raise ValueError(f"no op named {step['op']!r:.50} for a recording")
        return values[recording["result"]]

    def _check_modes(self, modules: Mapping[str, Module]) -> None:
        """What parts of one's own do is in the recordings of the whole, which know one mode for all of them."""
        for path, part in modules.items():
            if type(part) is Module and part.training != self.training:
                other, own = ("training" if m.training else "eval" for m in (part, self))
                raise ValueError(
                    f"{path} is in {other} mode, the network in {own} mode: a file holds what its class computes when "
                    "all parts are in one mode. Set that of the layers inside it, or build the network from its class "
                    "and read fastcnn.load_weights"
                )

    def check(self) -> None:
        """Record both modes once, so that a damaged recording is an error now, not at the first use."""
        layers = dict(self.named_modules())
        for training, recording in self._recordings.items():
            if len(recording["steps"]) > _MAX_STEPS:
                raise ValueError(f"more than {_MAX_STEPS} steps")
            for path in (step["layer"] for step in recording["steps"] if "layer" in step):
                if path not in layers or not self._is_layer(layers[path]):
                    raise ValueError(f"no layer {path!r:.100} for a recording")
            trace, _, y = _traced(self, self.input_shape, training, batch=2)
            if not isinstance(y, Value):
                raise ValueError(f"the result is {type(y).__name__}, not a value")
            for v in (v for node in trace.graph.nodes() for v in node["outputs"]):
                if math.prod(trace.graph.shape(v)) > 2 * _MAX_VALUE:
                    raise ValueError(f"a value of shape {shape_text(trace.graph.shape(v))} is too large")


def _of_batch(attribute: Any, batch: int) -> Any:
    return attribute[_PER_IMAGE] * batch if isinstance(attribute, dict) else attribute


def _value_of(operand: Any, values: list[Value], held: Mapping[str, Any]) -> Any:
    if operand is None or isinstance(operand, int):
        return None if operand is None else values[operand]
    if "tensor" in operand:
        return held[operand["tensor"]]
    return np.array(operand["constant"], np.float32).reshape(operand["shape"])


def record_forward(model: Module, input_shape: Sequence[int], is_layer: IsLayer) -> dict[str, Any]:
    """The recording of both modes, as JSON can hold it.

    Raises
    ------
    ValueError
        When it would not say what ``forward`` does: it depends on the batch size, differs from call to call,
        or uses something that has no name in the model.
    """
    shape = tuple(int(n) for n in input_shape)
    both = {}
    for training in (False, True):
        recordings = {n: _steps(model, shape, training, n, is_layer) for n in (2, 3)}
        try:
            recordings[1] = _steps(model, shape, training, 1, is_layer)
        except ValueError:  # one image is refused: batch norm of single values
            pass
        alike = [_for_any_batch(recordings, n) for n in recordings]
        if any(other != alike[0] for other in alike):
            raise ValueError(
                f"{type(model).__name__}.forward does something else for another batch size, or for another "
                "call: it cannot be saved. Use fastcnn.save_weights"
            )
        both[training] = alike[0]
    same = both[True] == both[False]
    return {"input_shape": list(shape), "eval": both[False], "train": None if same else both[True]}


def _for_any_batch(recordings: Mapping[int, Steps], batch: int) -> dict[str, Any]:
    """The recording for this batch size, with numbers that grow with the batch in each of them written per image."""
    every = [recording["steps"] for recording in recordings.values()]

    def attribute(i: int, name: str, value: Any) -> Any:
        grows = type(value) is int and value and value % batch == 0
        per_image = value // batch if grows else 0
        found = [len(steps) > i and steps[i].get("attrs", {}).get(name) for steps in every]
        return {_PER_IMAGE: per_image} if grows and found == [n * per_image for n in recordings] else value

    steps = [
        {**step, "attrs": {k: attribute(i, k, v) for k, v in step["attrs"].items()}}
        if "attrs" in step
        else step
        for i, step in enumerate(recordings[batch]["steps"])
    ]
    return {**recordings[batch], "steps": steps}


def _traced(model: Module, shape: tuple[int, ...], training: bool, batch: int) -> tuple[Trace, Value, Any]:
    """One recording, its input, and what ``forward`` returned."""
    trace = Trace(model)
    x = trace.input((batch, *shape))
    with _state.mode(training):  # of all parts: which were set apart is not in the file
        return trace, x, model(x)


def _steps(
    model: Module, shape: tuple[int, ...], training: bool, batch: int, is_layer: IsLayer
) -> dict[str, Any]:
    trace, x, y = _traced(model, shape, training, batch)
    if not isinstance(y, Value):
        raise ValueError(
            f"{type(model).__name__}.forward: expected one value as result, got {type(y).__name__}"
        )
    nodes = trace.graph.nodes()
    parts = {id(m) for m in model.modules()}
    calls = {
        c.nodes.start: c for c in trace.calls if c.nodes and id(c.module) in parts and is_layer(c.module)
    }
    names = {id(held): name for name, held in reversed(list(model.state_entries()))}
    number = {x.id: 0}
    steps: list[dict[str, Any]] = []
    i = 0
    while i < len(nodes):
        call, node = calls.get(i), nodes[i]
        ids, outputs = (call.inputs, [call.output]) if call else (node["inputs"], node["outputs"])
        step: dict[str, Any] = {"layer": call.path} if call else {"op": node["op"], "attrs": node["attrs"]}
        if not call and node["op"] not in _OPS:
            raise ValueError(f"{type(model).__name__}.forward uses {node['op']}, which cannot be saved")
        steps.append({**step, "in": [_operand(v, number, trace, names) for v in ids]})
        for v in outputs:
            number[v] = len(number)
        i = call.nodes.stop if call else i + 1
    return {"steps": steps, "result": number[y.id]}


def _operand(v: int | None, number: Mapping[int, int], trace: Trace, names: Mapping[int, str]) -> Any:
    if v is None or v in number:
        return None if v is None else number[v]
    held = trace.held[v]
    if isinstance(held, (Parameter, Buffer)) and id(held) in names:
        return {"tensor": names[id(held)]}
    constant = held.data if isinstance(held, (Parameter, Buffer)) else held.numpy()
    if constant.dtype != np.float32 or constant.size > _MAX_CONSTANT:
        raise ValueError(
            f"forward uses an array of shape {shape_text(constant.shape)} that has no name in the model: "
            "keep it as a Buffer or Parameter of a module"
        )
    return {"constant": constant.ravel().tolist(), "shape": list(constant.shape)}
