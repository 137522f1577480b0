"""Tracing: a model's ``forward`` runs once on symbolic values and what it calls is recorded into a graph."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import _core
from fastcnn.nn import _state
from fastcnn.nn.parameter import Buffer, Parameter
from fastcnn.nn.value import Storage, Value

if TYPE_CHECKING:
    from fastcnn.nn.module import Module


_NONE: Mapping[str, Any] = {}
# Ops whose results are views in PyTorch.
_VIEWS = frozenset({"flatten", "slice_channels", "subsample", "unflatten"})


def _taken(module: Module, inputs: Sequence[Any], named: Mapping[str, Any]) -> Sequence[Any]:
    """The inputs, once forward takes so many."""
    forward = module.forward
    if type(module).__module__.partition(".")[0] != "fastcnn":
        try:
            inspect.signature(forward).bind(*inputs, **named)
        except TypeError as e:
            raise TypeError(
                f"{type(module).__name__}.forward does not take {len(inputs)} input{'s' * (len(inputs) != 1)} ({e}): "
                "write def forward(self, x), with a name for each input"
            ) from None
        except ValueError:  # one without a signature
            pass
    return inputs


def label_of(module: Module, path: str) -> str:
    """As messages name a part of a network."""
    return f"{type(module).__name__} '{path}'" if path else type(module).__name__


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a module, as it returned."""

    path: str
    module: Module
    inputs: tuple[int | None, ...]  # value ids; None for what is not a value
    output: int
    shape: tuple[int, ...]  # of the output
    nodes: range  # of the graph, recorded inside the call


class Trace:
    """One recording: the graph, which module is being called, and which value each parameter became."""

    def __init__(self, root: Module) -> None:
        self.root = root
        self.graph = _core.Graph()
        self.calls: list[Call] = []  # in order of return
        self.input_list: list[tuple[str, tuple[int, ...], str, bool]] = []  # name, shape, dtype, batched
        self.counters: list[Buffer] = []  # to be raised by one with every training step
        self.held: dict[int, Any] = {}  # by value id: the parameter or buffer; the core tensor of a constant
        self._tensors: dict[int, int] = {}
        self._nodes = 0
        self._stack: list[tuple[str, Module]] = []
        self._paths: dict[int, str] = {}
        for path, module in root.named_modules():
            self._paths.setdefault(id(module), path)
        for path, held in [*root.named_parameters(), *root.named_buffers()]:
            held.name = held.name or path

    def input(
        self, shape: Sequence[int], dtype: str = "float32", name: str = "input", batched: bool = True
    ) -> Value:
        self.input_list.append((name, tuple(shape), dtype, batched))
        return Value(self, self.graph.input(list(shape), dtype, batched, name))

    def tensor(self, held: Any, name: str = "") -> int:
        """The value id of a parameter, buffer, core tensor or constant array."""
        if isinstance(held, (Parameter, Buffer)):
            key, tensor, name = id(held.tensor), held.tensor, held.name
        elif isinstance(held, _core.Tensor):
            key, tensor = id(held), held
        else:
            tensor = _core.Tensor(np.array(held, dtype=np.float32, order="C"))
            key = id(tensor)
        if key not in self._tensors:
            value = self._tensors[key] = self.graph.tensor(tensor, name)
            self.held[value] = held if isinstance(held, (Parameter, Buffer)) else tensor
        return self._tensors[key]

    def alive(self) -> list[Any]:
        """Everything that the recording was made of."""
        return [*self.held.values(), *self.root.modules()]

    def call(self, module: Module, inputs: Sequence[Any], named: Mapping[str, Any] = _NONE) -> Any:
        """What ``module.forward`` returns; what it records bears the module's path."""
        path = self._paths.get(id(module))
        if path is None:  # made inside forward(): named after its caller
            if next(module.parameters(), None) is not None:
                raise ValueError(
                    f"{type(self.root).__name__}: forward uses a {type(module).__name__} with parameters that is no "
                    "part of the network, so it would never be trained: make it in __init__ as an attribute, a list of "
                    "layers as nn.Sequential(*layers)"
                )
            outer = self._stack[-1][0] if self._stack else ""
            path = self._paths[id(module)] = f"{outer}.{type(module).__name__}".strip(".")
        if not self._stack:  # what happens to its inputs in place stays inside
            inputs = [Value(self, x.id) if isinstance(x, Value) else x for x in inputs]
        ids = tuple(x.id if isinstance(x, Value) else None for x in inputs)
        first = self._nodes
        self._stack.append((path, module))
        try:
            with _state.recording():
                result = module.forward(*_taken(module, inputs, named), **named)
        finally:
            self._stack.pop()
        if result is None:
            raise TypeError(
                f"{label_of(module, path)}.forward: expected one traced value as result, got None: is a return missing?"
            )
        if isinstance(result, Value):
            self.calls.append(Call(path, module, ids, result.id, result.shape, range(first, self._nodes)))
        return result

    def label(self, op: str) -> str:
        """As messages name a call of ``op`` made now: by the library's layer, or by the module that calls it."""
        if not self._stack:
            return op
        path, module = self._stack[-1]
        library = type(module).__module__ == "fastcnn.nn.layers"
        return label_of(module, path) if library else f"{label_of(module, path)}: {op}"

    def record(self, op: str, inputs: Sequence[Any], attrs: dict[str, Any]) -> list[Value]:
        path = self._stack[-1][0] if self._stack else ""
        ids = [None if x is None else x.id if isinstance(x, Value) else self.tensor(x) for x in inputs]
        values = [x for x in inputs if isinstance(x, Value)]
        if any(x.storage is not None and x.storage.changed for x in values):
            raise ValueError(
                f"{self.label(op)}: its input is a view (slice, reshape) or has one, and the other was changed in "
                "place (inplace=True, +=), which is not seen here: write it without in place"
            )
        outputs = [Value(self, i) for i in self.graph.record(op, ids, attrs, path, self.label(op))]
        if op in _VIEWS:
            outputs[0].storage = values[0].storage = values[0].storage or Storage()
        self._nodes += 1
        return outputs


def record(op: str, inputs: Sequence[Any], attrs: dict[str, Any]) -> list[Value]:
    """Append ``op`` to the trace that the symbolic ones of ``inputs`` belong to; its outputs."""
    traces = {id(x.trace): x.trace for x in inputs if isinstance(x, Value)}
    if len(traces) != 1:
        raise ValueError(f"{op}: expected values of one trace, got {len(traces)}")
    return next(iter(traces.values())).record(op, inputs, attrs)
