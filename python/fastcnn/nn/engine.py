"""From a module to plans: tracing, the cache of plans, and the training step."""

from __future__ import annotations

import difflib
import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastcnn import _core
from fastcnn._results import Pass
from fastcnn.functional import _arguments
from fastcnn.functional._arguments import shape_text
from fastcnn.nn import _state, settings
from fastcnn.nn.parameter import Buffer, Parameter
from fastcnn.nn.tracing import Trace, Value, label_of
from fastcnn.plan import Plan

if TYPE_CHECKING:
    from fastcnn.nn.module import Module

T = TypeVar("T")

# Plans kept per model: enough for training, validation and their last, smaller batches. Their buffers are
# borrowed from one pool, so a plan itself is small.
_CACHE = 16
# Passes of a model and thread that may wait for their backward pass at once; and bytes that those may hold of which
# only the result is kept, no loss: forward alone, in training mode, would hold one more arena than it works in.
_MAX_WAITING, _MAX_SPARE = 16, 64 << 20


_adding = threading.Lock()  # of gradients: threads may go back through one model side by side


class _Cache:
    """The most recently used plans. Threads may share it: two that miss at once both plan, and one plan stays."""

    def __init__(self) -> None:
        self._plans: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any:
        """The plan, now the most recently used; None when there is none."""
        plan = self._plans.get(key)
        if plan is not None:
            try:
                self._plans.move_to_end(key)
            except KeyError:  # another thread has just dropped it
                pass
        return plan

    def put(self, key: Any, plan: Any) -> Any:
        plan = self._plans.setdefault(key, plan)
        try:
            while len(self._plans) > _CACHE:
                self._plans.popitem(last=False)
        except KeyError:
            pass
        return plan


class _Structure:
    """What a trace depends on besides the input: modes, settings, members, frozen parameters."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, module: Module) -> None:
        parts: list[Any] = []
        for m in module.modules():
            children = tuple([(name, id(child)) for name, child in m._modules.items()])
            parts.append((id(m), m.training, m._settings, children))
        held = [(id(p.tensor), p.requires_grad) for p in module.parameters()]
        self._parts = (*parts, *held, *(id(b.tensor) for b in module.buffers()))
        self._hash = hash(self._parts)  # once: a key is looked up in every step

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Structure) and self._parts == other._parts


def check_input(who: str, x: Any) -> np.ndarray:
    # Nearly always: this is part of every call.
    if type(x) is np.ndarray and x.dtype == np.float32 and x.ndim:
        return x
    if isinstance(x, (Parameter, Buffer)):
        x = x.data
    elif not isinstance(x, np.ndarray) and hasattr(x, "__dlpack__"):
        x = np.from_dlpack(x)  # tensors of other libraries, and our own, without a copy
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
        y = _result(module, *xs, called=True)
        self._all = list(module.parameters())
        self.parameters = [p for p in self._all if p.requires_grad]
        used = [trace.tensor(p) for p in self.parameters]
        trace.graph.barrier()
        dy = trace.input(y.shape, name="gradient of the result")
        gradients = trace.graph.backward(y.id, dy.id, [x.id for x in xs] + used)
        self.shapes = list(shapes)
        self.has = [g is not None for g in gradients]
        outputs = [y.id] + [g for g in gradients if g is not None]
        self.plan = Plan(_core.Plan(trace.graph, outputs, layout), trace)
        self.arena_bytes = self.plan.arena_bytes
        self.counters = trace.counters
        self.result_shape = y.shape

    def forward(self, xs: Sequence[np.ndarray]) -> tuple[np.ndarray, Any]:
        """The result, and the run that :meth:`backward` goes on with."""
        run = self.plan.core.start()
        y = run.section(0, dict(enumerate(xs)))[0]
        bump(self.counters)
        return y, run

    def backward(self, run: Any, dy: np.ndarray) -> list[np.ndarray]:
        """Gradients of the inputs; those of the parameters are added to what is there."""
        results = iter(run.section(1, {len(self.shapes): dy}).items())
        grads = [next(results)[1] if has else None for has in self.has]
        count = len(self.shapes)
        with _adding:
            for p, g in zip(self.parameters, grads[count:], strict=True):
                if g is not None:
                    p.grad = g if p.grad is None else p.grad + g
        inputs = zip(self.shapes, grads[:count], strict=True)
        return [np.zeros(shape, np.float32) if g is None else g for shape, g in inputs]

    def versions(self) -> int:
        """A number that changes when an optimizer updates a parameter."""
        return sum(p.version for p in self._all)


class Inference:
    """A module's plan for one input shape, without a backward pass: batch norm folded, weights packed once."""

    def __init__(self, module: Module, shapes: Sequence[tuple[int, ...]], layout: str) -> None:
        trace = Trace(module)
        y = _result(module, *[trace.input(s) for s in shapes], called=True)
        self.plan = Plan(_core.Plan(trace.graph, [y.id], layout), trace)

    def forward(self, xs: Sequence[np.ndarray]) -> tuple[np.ndarray, None]:
        return self.plan.core.run(dict(enumerate(xs)))[0], None


class Probe:
    """Named values of an inference, and the gradients of one of them, without any parameter's."""

    def __init__(
        self, module: Module, shape: tuple[int, ...], values: Sequence[str], of: str, wrt: Sequence[str]
    ) -> None:
        trace = Trace(module)
        x = trace.input(shape)
        y = _result(module, x)
        named = _named_values(trace, x, y)
        wanted = [_value_named(named, name) for name in values]
        self.of_shape: tuple[int, ...] = ()
        if wrt:
            target = _value_named(named, of)
            seed = trace.input(trace.graph.shape(target), name="seed")
            self.of_shape = seed.shape
            ids = [_value_named(named, name) for name in wrt]
            for name, g in zip(wrt, trace.graph.backward(target, seed.id, ids), strict=True):
                if g is None:
                    raise ValueError(f"{of or 'the result'} does not depend on {name!r}")
                wanted.append(g)
        self.core = _core.Plan(trace.graph, wanted)

    def run(self, x: np.ndarray, seed: Any) -> list[np.ndarray]:
        inputs = {0: x}
        if self.of_shape:
            inputs[1] = self._seed(seed)
        results = self.core.run(inputs)
        return [results[i] for i in range(len(results))]

    def _seed(self, seed: Any) -> np.ndarray:
        shape = self.of_shape
        if seed is None:
            return np.ones(shape, np.float32)
        array = np.asarray(seed)
        if array.dtype.kind not in "iuf" or isinstance(seed, bool):
            raise TypeError(f"seed: expected an array of numbers, a column or None, got {seed!r:.80}")
        if isinstance(seed, (int, np.integer)):
            if len(shape) != 2 or not 0 <= seed < shape[1]:
                raise ValueError(f"seed: no column {seed} in a value of shape {shape_text(shape)}")
            array = np.zeros(shape, np.float32)
            array[:, seed] = 1
            return array
        array = np.ascontiguousarray(array, np.float32)
        if array.shape != shape:
            raise ValueError(f"seed: expected shape {shape_text(shape)}, got {shape_text(array.shape)}")
        return array


def _named_values(trace: Trace, x: Value, y: Value) -> dict[str, list[int]]:
    """Value ids by the paths of the modules that put them out."""
    named: dict[str, list[int]] = {}
    for call in trace.calls:
        named.setdefault(call.path, []).append(call.output)
    named.setdefault("input", [x.id])  # a part of that name comes first
    named[""] = [y.id]
    return named


def _value_named(named: dict[str, list[int]], name: str) -> int:
    if name in named and len(named[name]) == 1:
        return named[name][0]
    path, _, number = name.rpartition(":")
    if path in named and number.isdecimal() and int(number) < len(named[path]):
        return named[path][int(number)]
    if name in named:
        raise ValueError(f"{name!r} is called {len(named[name])} times: ask for '{name}:0', '{name}:1', ...")
    near = difflib.get_close_matches(name, named, 3, 0.5) or sorted(named)[:8]
    raise ValueError(f"no part named {name!r}; there are {', '.join(map(repr, near))}")


def _result(module: Module, *xs: Value, called: bool = False) -> Value:
    """What the module gives for traced values: one. ``called``: its ``__call__`` has been run already."""
    before = settings.random_state()
    y = xs[0].trace.call(module, xs) if called else module(*xs)
    drawn = _state.notes().drawn() if _state.notes() is not None else ""
    if drawn or (before != settings.random_state() and settings.draws_shared_numbers()):
        raise ValueError(
            f"{type(module).__name__}.forward draws random numbers{f' from {drawn!r}' if drawn else ''}: it is "
            "recorded once, so every run would use the same draw"
        )
    if not isinstance(y, Value):
        raise TypeError(
            f"{type(module).__name__}.forward: expected one traced value as result, got {type(y).__name__}"
            + (
                "; model.features_at(x, names) gives what parts put out"
                if isinstance(y, (tuple, list, dict))
                else ""
            )
        )
    return y


class Runner:
    """Runs a module on arrays: traces it once per input shape and mode, and keeps the plans."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._cache, self._probes = _Cache(), _Cache()
        self._keys: dict[Any, tuple[int, _Structure]] = {}  # by the thread's mode
        self._settings = settings.Settings()
        # Each thread goes on backward from its own forward pass: .last is it, or "eval" after a call in eval mode;
        # .waiting are weak references to those whose results or losses are still held.
        self._here = threading.local()

    def key(self) -> tuple[Any, ...]:
        mode, now = _state.current_mode(), _state.structure()
        known = self._keys.get(mode)
        if known is None or known[0] != now:
            known = self._keys[mode] = now, _Structure(self.module)
        prints = self._settings.fingerprint() if self._settings.places else ()
        return known[1], prints, _core.isa(), _core.get_num_threads()

    def planned(self, cache: _Cache, problem: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The plan for a problem and the settings of now. make() records the forward, whose settings become known."""
        key = self.key()
        plan = cache.get((problem, key))
        if plan is None:
            with self._settings.recorded():
                plan = make()
            prints = self._settings.fingerprint()
            plan = cache.put((problem, (key[0], prints, *key[2:])), plan)
        return plan

    def _plan_for(self, shapes: tuple[tuple[int, ...], ...], training: bool, layout: str) -> Any:
        kind = ForwardBackward if training else Inference
        return self.planned(
            self._cache, (shapes, training, layout), lambda: kind(self.module, shapes, layout)
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
        shapes = tuple(a.shape for a in arrays)
        plan = self._plan_for(shapes, self.module.training, "auto")
        here = self._here
        here.last = None  # its memory is free for this pass
        waiting = getattr(here, "waiting", None)
        if waiting:
            waiting = here.waiting = _with_room(waiting)
        y, run = plan.forward(arrays)
        if run is None:
            here.last = "eval"
        else:
            here.last = Pass(who, plan, run, arrays, y)
            if waiting is None:
                waiting = here.waiting = []
            waiting.append(weakref.ref(here.last))
        if arrays:
            self.module.__dict__["last_input_shape"] = shapes[0][1:]
        return y

    def backward(self, dy: Any, accumulate: bool) -> Any:
        who = f"{type(self.module).__name__}.backward"
        last = getattr(self._here, "last", None)
        if not isinstance(last, Pass):
            hint = " in training mode (model.train()): eval mode keeps nothing for the backward pass"
            hint = hint if last == "eval" or not self.module.training else ""
            raise ValueError(f"{who}: call the module on an input first{hint}")
        last.check_unspent()
        _arguments.check_arrays(who, dy=dy)
        shape = last.plan.result_shape
        if dy.shape != shape:
            raise ValueError(
                f"{who}: expected the gradient of a result of shape {shape_text(shape)}, got {shape_text(dy.shape)}"
            )
        if not accumulate:
            self.module.zero_grad()
        dx = last.backward(dy)
        return dx[0] if len(dx) == 1 else tuple(dx)

    def probe(
        self, x: Any, values: Sequence[str], seed: Any, of: str, wrt: Sequence[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Values by name, and the gradients of sum(seed * value named ``of``) by name, in inference."""
        x = check_input(type(self.module).__name__, x)
        with self.module.in_mode(False):
            make = functools.partial(Probe, self.module, x.shape, values, of, wrt)
            probe = self.planned(self._probes, (x.shape, tuple(values), of, tuple(wrt)), make)
            results = probe.run(x, seed)
        return dict(zip(values, results, strict=False)), dict(zip(wrt, results[len(values) :], strict=True))


def _with_room(waiting: list[weakref.ref[Pass]]) -> list[weakref.ref[Pass]]:
    """Those that still wait for their backward pass, once the oldest beyond what may wait were given up."""
    alive = [made for ref in waiting if (made := ref()) is not None and made.waits]
    spare, count = _MAX_SPARE, len(alive)
    for made in reversed(alive):
        spare -= 0 if made.wanted else made.plan.arena_bytes
        if spare < 0 and not made.wanted:
            made.give_up("its memory went to a later call; compute the loss of a result before the next one")
    for made in alive[: max(count - _MAX_WAITING, 0)]:
        made.give_up(
            f"its memory went to a later call: at most {_MAX_WAITING} results wait for their backward pass"
        )
    return [weakref.ref(made) for made in alive if made.waits]


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
            raise TypeError(f"labels: expected integers, got {y.dtype}{_arguments.label_hint(y)}")
        if y.shape != x.shape[:1]:
            raise ValueError(
                f"labels: expected one per image, got shape {shape_text(y.shape)} for input {shape_text(x.shape)}"
                f"{_arguments.label_hint(y)}"
            )
        return x, np.ascontiguousarray(y, dtype=np.int64)

    def training_plan(self, shape: tuple[int, ...]) -> Plan:
        return self._planned(shape, train=True)[0]

    def _planned(self, shape: tuple[int, ...], train: bool) -> Any:
        if train and not self.model.training:
            self.model.train()
        updates = self.optimizer.key() if train else ()
        problem = (train, shape, updates, id(self.loss), self.layout)
        return self._runner.planned(self._cache, problem, lambda: self._make(shape, train))

    def _make(self, shape: tuple[int, ...], train: bool) -> Any:
        trace = Trace(self.model)
        x, labels = trace.input(shape), trace.input(shape[:1], "int64", "labels")
        logits = _result(self.model, x)
        divisor = trace.input((1,), "float32", "divisor", batched=False) if train else None
        loss, correct = self.loss.record(logits, labels, divisor)
        if train:
            parameters = [p for p in self.optimizer.parameters if p.requires_grad]
            gradients = trace.graph.backward(loss.id, None, [trace.tensor(p) for p in parameters])
            self.optimizer.record(trace, parameters, gradients)
        core = _core.Plan(trace.graph, [loss.id, correct.id], self.layout)
        # What the key knows by its id stays alive with the plan.
        return Plan(core, trace), logits.shape[-1], trace.counters, (self.optimizer, self.loss)

    def _run(self, x: Any, y: Any, train: bool) -> tuple[float, int]:
        x, y = self._check(x, y)
        plan, classes, counters, _ = self._planned(x.shape, train)
        if y.size and (y.min() < 0 or y.max() >= classes):
            i = int(np.flatnonzero((y < 0) | (y >= classes))[0])
            raise ValueError(f"labels: expected 0 to {classes - 1}, got labels[{i}] = {y[i]}")
        inputs = {0: x, 1: y}
        if train:
            inputs[2] = np.array([self.loss.divisor(len(y))], np.float32)
            inputs[3] = self.optimizer.hyper()
        out = plan.core.run(inputs)
        if train:
            self.optimizer.end_step()
            bump(counters)
            for p in self.optimizer.parameters:
                p.version += 1
        self.model.__dict__["last_input_shape"] = x.shape[1:]
        return float(out[0][0]), int(out[1][0])

    def step(self, x: Any, y: Any) -> tuple[float, int]:
        """One step on a batch: x (N, C, H, W) float32, y (N,) integers. The loss before the update, and how many
        images the model had right."""
        return self._run(x, y, train=True)

    def evaluate_batch(self, x: Any, y: Any) -> tuple[float, int]:
        """Sum of the losses and number of right answers over a batch, as the model predicts (in eval mode)."""
        with self.model.in_mode(False):
            return self._run(x, y, train=False)


def first_non_finite(model: Module, x: np.ndarray) -> str | None:
    """Path and class of the first module whose result on x holds a NaN or an infinity; None when there is none.

    Parameters of modules are looked at first: a bad weight is the cause, a bad result its effect.
    """
    trace = Trace(model)
    _result(model, trace.input(x.shape))
    core = _core.Plan(trace.graph, [call.output for call in trace.calls], "nhwc")
    results = core.run({0: np.ascontiguousarray(x, np.float32)})
    for i, call in enumerate(trace.calls):
        if np.isfinite(results[i]).all():
            continue
        bad = [k for k, p in call.module.named_parameters() if not np.isfinite(p.data).all()]
        text = label_of(call.module, call.path)
        return f"{text} ({bad[0]} is not finite)" if bad else text
    return None
