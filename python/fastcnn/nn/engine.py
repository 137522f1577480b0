"""From a module to plans: tracing, the cache of plans, and the training step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import _core
from fastcnn.functional import _arguments
from fastcnn.nn import _state
from fastcnn.nn.parameter import Buffer, Parameter, shape_text
from fastcnn.nn.tracing import Trace, Value
from fastcnn.plan import Plan

if TYPE_CHECKING:
    from fastcnn.nn.module import Module

# Plans kept per model: enough for training, validation and their last, smaller batches. Their buffers are
# borrowed from one pool, so a plan itself is small.
_CACHE = 16


class _Cache:
    """The most recently used plans."""

    def __init__(self) -> None:
        self._plans: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Any) -> Any:
        if key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key]
        plan = self._plans[key] = make()
        while len(self._plans) > _CACHE:
            self._plans.popitem(last=False)
        return plan


def _machine() -> tuple[str, int]:
    return _core.isa(), _core.get_num_threads()


def _structure(module: Module) -> tuple[Any, ...]:
    """What a trace depends on besides the input: modes, settings, members, frozen parameters."""
    parts = [(id(m), m.training, m._settings) for m in module.modules()]
    held = [(id(p.tensor), p.requires_grad) for p in module.parameters()]
    return (*parts, *held, *(id(b.tensor) for b in module.buffers()))


def check_input(who: str, x: Any) -> np.ndarray:
    if isinstance(x, (Parameter, Buffer)):
        x = x.data
    _arguments.check_arrays(who, input=x)
    if x.ndim == 0:
        raise ValueError(f"{who}: expected an input of at least one dimension, got a scalar")
    return x


def bump(counters: Sequence[Buffer]) -> None:
    for c in counters:
        c.tensor.numpy()[...] += 1


class ForwardBackward:
    """A module's plan for one input shape, in two sections: the result, then all gradients."""

    def __init__(self, module: Module, shapes: Sequence[tuple[int, ...]], layout: str) -> None:
        trace = Trace(module)
        xs = [trace.input(s) for s in shapes]
        y = _single_result(module, module(*xs))
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        dy = trace.input(y.shape, name="gradient of the result")
        used = [trace.tensor(p) for p in self.parameters]
        gradients = trace.graph.backward(y.id, dy.id, [x.id for x in xs] + used)
        self.shapes = list(shapes)
        self.has = [g is not None for g in gradients]
        outputs = [y.id] + [g for g in gradients if g is not None]
        self.plan = Plan(_core.Plan(trace.graph, outputs, [dy.id], layout), trace)
        self.counters = trace.counters
        self.result_shape = y.shape

    def forward(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        y = self.plan.core.run(0, dict(enumerate(xs)))[0]
        bump(self.counters)
        return y

    def backward(self, dy: np.ndarray, accumulate: bool) -> Any:
        results = iter(self.plan.core.run(1, {len(self.shapes): dy}).items())
        grads = [next(results)[1] if has else None for has in self.has]
        count = len(self.shapes)
        for p, g in zip(self.parameters, grads[count:], strict=True):
            if accumulate and p.grad is not None and g is not None:
                p.grad = p.grad + g
            elif g is not None or not accumulate:
                p.grad = g
        dx = [
            np.zeros(s, np.float32) if g is None else g
            for s, g in zip(self.shapes, grads[:count], strict=True)
        ]
        return dx[0] if count == 1 else tuple(dx)


class Inference:
    """A module's plan for one input shape, without a backward pass: batch norm folded, weights packed once."""

    def __init__(self, module: Module, shapes: Sequence[tuple[int, ...]], layout: str) -> None:
        trace = Trace(module)
        y = _single_result(module, module(*[trace.input(s) for s in shapes]))
        self.plan = Plan(_core.Plan(trace.graph, [y.id], [], layout), trace)

    def forward(self, xs: Sequence[np.ndarray]) -> np.ndarray:
        return self.plan.core.run(0, dict(enumerate(xs)))[0]


def _single_result(module: Module, y: Any) -> Value:
    if not isinstance(y, Value):
        raise TypeError(
            f"{type(module).__name__}.forward: expected one traced value as result, got {type(y).__name__}"
        )
    return y


class Runner:
    """Runs a module on arrays: traces it once per input shape and mode, and keeps the plans."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._cache = _Cache()
        self._seen = -1
        self._key: tuple[Any, ...] = ()
        self._last: ForwardBackward | None = None

    def key(self) -> tuple[Any, ...]:
        if self._seen != _state.structure():
            self._key, self._seen = _structure(self.module), _state.structure()
        return (self._key, _machine())

    def _plan_for(self, shapes: tuple[tuple[int, ...], ...], training: bool, layout: str) -> Any:
        kind = ForwardBackward if training else Inference
        return self._cache.get(
            (shapes, training, layout, self.key()), lambda: kind(self.module, shapes, layout)
        )

    def plan(self, shape: tuple[Any, ...], training: bool | None, layout: str) -> Plan:
        shapes = shape if shape and isinstance(shape[0], tuple) else (shape,)
        mode = self.module.training
        if training is None or training == mode:
            return self._plan_for(shapes, mode, layout).plan
        with self.module.in_mode(training):
            return self._plan_for(shapes, training, layout).plan

    def forward(self, xs: Sequence[Any]) -> np.ndarray:
        who = type(self.module).__name__
        arrays = [check_input(who, x) for x in xs]
        plan = self._plan_for(tuple(a.shape for a in arrays), self.module.training, "auto")
        if self._last is not None and self._last is not plan:
            self._last.plan.core.drop_forward()
        self._last = plan if isinstance(plan, ForwardBackward) else None
        return plan.forward(arrays)

    def backward(self, dy: Any, accumulate: bool) -> Any:
        who = f"{type(self.module).__name__}.backward"
        if self._last is None or not self._last.plan.core.holds_forward:
            mode = (
                ""
                if self.module.training
                else " in training mode: eval mode keeps nothing for the backward pass"
            )
            raise ValueError(f"{who}: call the module on an input first{mode}")
        _arguments.check_arrays(who, dy=dy)
        if dy.shape != self._last.result_shape:
            raise ValueError(
                f"{who}: expected the gradient of a result of shape {shape_text(self._last.result_shape)}, "
                f"got {shape_text(dy.shape)}"
            )
        return self._last.backward(dy, accumulate)


class TrainingStep:
    """Whole training steps of a model: forward, loss, backward and update as one call into the core.

    Parameters
    ----------
    model : Module
    optimizer : fastcnn.optim.Optimizer
    loss : CrossEntropyLoss
    layout : "auto", "nhwc" or "interleaved"
    """

    def __init__(self, model: Module, optimizer: Any, loss: Any, layout: str = "auto") -> None:
        self.model, self.optimizer, self.loss, self.layout = model, optimizer, loss, layout
        self._runner = model.runner()
        self._cache = _Cache()

    def _check(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        x = check_input(type(self.model).__name__, x)
        y = np.asarray(y)
        if y.dtype.kind not in "iu":
            raise TypeError(f"labels: expected integers, got {y.dtype}")
        if y.shape != x.shape[:1]:
            raise ValueError(
                f"labels: expected one per image, got shape {shape_text(y.shape)} for input {shape_text(x.shape)}"
            )
        return x, np.ascontiguousarray(y, dtype=np.int64)

    def _check_range(self, y: np.ndarray, classes: int) -> None:
        if y.size and (y.min() < 0 or y.max() >= classes):
            i = int(np.flatnonzero((y < 0) | (y >= classes))[0])
            raise ValueError(f"labels: expected 0 to {classes - 1}, got labels[{i}] = {y[i]}")

    def training_plan(self, shape: tuple[int, ...]) -> Plan:
        return self._training(shape)[0]

    def _training(self, shape: tuple[int, ...]) -> Any:
        if not self.model.training:
            self.model.train()
        key = ("train", shape, self._runner.key(), self.optimizer.key(), self.loss.reduction)
        return self._cache.get(key, lambda: self._make_training(shape))

    def _make_training(self, shape: tuple[int, ...]) -> Any:
        trace = Trace(self.model)
        x, labels = trace.input(shape), trace.input(shape[:1], "int64", "labels")
        logits = _single_result(self.model, self.model(x))
        loss, correct = self.loss.record(logits, labels)
        parameters = [p for p in self.optimizer.parameters if p.requires_grad]
        gradients = trace.graph.backward(loss.id, None, [trace.tensor(p) for p in parameters])
        self.optimizer.record(trace, parameters, gradients)
        core = _core.Plan(trace.graph, [loss.id, correct.id], [], self.layout)
        return Plan(core, trace), logits.shape[-1], trace.counters

    def step(self, x: Any, y: Any) -> tuple[float, int]:
        """One step on a batch: x (N, C, H, W) float32, y (N,) integers. The loss before the update, and how many
        images the model had right."""
        x, y = self._check(x, y)
        plan, classes, counters = self._training(x.shape)
        self._check_range(y, classes)
        self.optimizer.begin_step()
        out = plan.core.run(0, {0: x, 1: y})
        self.optimizer.end_step()
        bump(counters)
        return float(out[0][0]), int(out[1][0])

    def evaluate_batch(self, x: Any, y: Any) -> tuple[float, int]:
        """Sum of the losses and number of right answers over a batch, as the model predicts (in eval mode)."""
        x, y = self._check(x, y)
        with self.model.in_mode(False):
            key = ("evaluate", x.shape, self._runner.key())
            plan, classes = self._cache.get(key, lambda: self._make_evaluation(x.shape))
        self._check_range(y, classes)
        out = plan.core.run(0, {0: x, 1: y})
        return float(out[0][0]), int(out[1][0])

    def _make_evaluation(self, shape: tuple[int, ...]) -> Any:
        trace = Trace(self.model)
        x, labels = trace.input(shape), trace.input(shape[:1], "int64", "labels")
        logits = _single_result(self.model, self.model(x))
        loss, correct = self.loss.record(logits, labels, "sum")
        return Plan(_core.Plan(trace.graph, [loss.id, correct.id], [], self.layout), trace), logits.shape[-1]


def first_non_finite(model: Module, x: np.ndarray) -> str | None:
    """Path and class of the first module whose result on x holds a NaN or an infinity; None when there is none.

    Parameters of modules are looked at first: a bad weight is the cause, a bad result its effect.
    """
    trace = Trace(model)
    _single_result(model, model(trace.input(x.shape)))
    core = _core.Plan(trace.graph, [call.output for call in trace.calls], [], "nhwc")
    results = core.run(0, {0: np.ascontiguousarray(x, np.float32)})
    for i, call in enumerate(trace.calls):
        path, module = call.path, call.module
        if np.isfinite(results[i]).all():
            continue
        bad = [k for k, p in module.named_parameters() if not np.isfinite(p.data).all()]
        text = f"{type(module).__name__} '{path}'" if path else type(module).__name__
        return f"{text} ({bad[0]} is not finite)" if bad else text
    return None
