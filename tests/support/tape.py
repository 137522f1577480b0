"""Tape: small networks in float64 with gradients by the chain rule, recorded into a core graph on the way if wanted.

It joins, cuts and adds arrays by copying them, and so is what plans that move nothing must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import nd
import numpy as np

from fastcnn import _core

NEAR = 1e-5  # a ReLU's operand this near zero, or two maxima, may be decided otherwise in float32


class Var:
    """A value: its array in float64, its id in the graph, and its gradient."""

    def __init__(self, array: np.ndarray, id: int | None) -> None:
        self.array, self.id = np.asarray(array, np.float64), id
        self.grad: np.ndarray | None = None

    @property
    def channels(self) -> int:
        return self.array.shape[1]


Rule = Callable[[np.ndarray], Sequence[np.ndarray | None]]  # the output's gradient -> its operands'


class Tape:
    def __init__(self, graph: _core.Graph | None = None) -> None:
        self.graph = graph
        self.leaves: list[
            tuple[Var, np.ndarray, bool]
        ] = []  # with the float32 array; batched ones are inputs
        self.calls: list[tuple[Var, list[Var], Rule]] = []
        self.fragile = False  # whether float32 may decide otherwise somewhere

    # ---- values

    def leaf(self, array: np.ndarray, batched: bool = False, name: str = "") -> Var:
        id = None
        if self.graph is not None and batched:
            id = self.graph.input(array.shape, "float32", True, name)
        elif self.graph is not None:
            id = self.graph.tensor(_core.Tensor(array), name)
        var = Var(array, id)
        self.leaves.append((var, array, batched))
        return var

    def record(
        self, op: str, operands: Sequence[Var | int | None], attrs: dict[str, Any]
    ) -> list[int | None]:
        if self.graph is None:
            return [None] * 3
        ids = [v.id if isinstance(v, Var) else v for v in operands]
        return list(self.graph.record(op, ids, attrs))

    def made(self, id: int | None, array: np.ndarray, operands: Sequence[Var | None], rule: Rule) -> Var:
        var = Var(array, id)
        kept = [v for v in operands if v is not None]

        def known(dy: np.ndarray) -> list[np.ndarray | None]:
            return [g for v, g in zip(operands, rule(dy), strict=True) if v is not None]

        self.calls.append((var, kept, known))
        return var

    def differentiate(self, target: Var, seed: np.ndarray) -> None:
        """Sets grad of all values that the target depends on."""
        target.grad = np.asarray(seed, np.float64)
        for out, operands, rule in reversed(self.calls):
            if out.grad is None:
                continue
            for v, g in zip(operands, rule(out.grad), strict=True):
                if g is not None:
                    v.grad = g if v.grad is None else v.grad + g

    # ---- ops

    def conv(self, x: Var, w: Var, b: Var | None = None, implementation: str = "", **attrs: Any) -> Var:
        """attrs as the core's."""
        rank = x.array.ndim - 2
        hint = {"implementation": implementation} if implementation else {}
        id = self.record(f"conv{rank}d", [x, w, b], {**attrs, **hint})[0]

        def rule(dy: np.ndarray) -> list[np.ndarray]:
            dx = nd.conv_backward_data(dy, w.array, x.array.shape[2:], attrs)
            return [dx, *nd.conv_backward_weights(x.array, dy, w.array.shape[2:], attrs)]

        y = nd.conv(x.array, w.array, None if b is None else b.array, attrs)
        return self.made(id, y, [x, w, b], rule)

    def linear(self, x: Var, w: Var, b: Var) -> Var:
        id = self.record("linear", [x, w, b], {})[0]
        rule = lambda dy: [dy @ w.array, dy.T @ x.array, dy.sum(0)]  # noqa: E731
        return self.made(id, x.array @ w.array.T + b.array, [x, w, b], rule)

    def norm(self, x: Var, gamma: Var, beta: Var, eps: float = 1e-3) -> Var:
        """Batch norm with the batch's own statistics."""
        statistics = self.record("batch_norm_stats", [x], {"eps": eps})
        id = self.record("batch_norm_apply", [x, *statistics[:2], gamma, beta], {})[0]
        axes = (0, *range(2, x.array.ndim))
        rstd = 1 / np.sqrt(x.array.var(axes, keepdims=True) + eps)
        xhat = (x.array - x.array.mean(axes, keepdims=True)) * rstd
        g, b = (nd.per_channel(v.array, x.array.ndim) for v in (gamma, beta))

        def rule(dy: np.ndarray) -> list[np.ndarray]:
            flat = dy.mean(axes, keepdims=True) + xhat * (dy * xhat).mean(axes, keepdims=True)
            return [g * rstd * (dy - flat), (dy * xhat).sum(axes), dy.sum(axes)]

        return self.made(id, xhat * g + b, [x, gamma, beta], rule)

    def norm_inference(self, x: Var, mean: Var, var: Var, gamma: Var, beta: Var, eps: float = 1e-3) -> Var:
        id = self.record("batch_norm_inference", [x, mean, var, gamma, beta], {"eps": eps})[0]
        axes = (0, *range(2, x.array.ndim))
        m, v, g, b = (nd.per_channel(t.array, x.array.ndim) for t in (mean, var, gamma, beta))
        rstd = 1 / np.sqrt(v + eps)
        xhat = (x.array - m) * rstd
        rule = lambda dy: [dy * g * rstd, None, None, (dy * xhat).sum(axes), dy.sum(axes)]  # noqa: E731
        return self.made(id, xhat * g + b, [x, mean, var, gamma, beta], rule)

    def function(self, name: str, x: Var) -> Var:
        id, a = self.record(name, [x], {})[0], x.array
        sigmoid = 1 / (1 + np.exp(-a))
        y, slope = {
            "relu": (np.maximum(a, 0), (a > 0) * 1.0),
            "tanh": (np.tanh(a), 1 - np.tanh(a) ** 2),
            "sigmoid": (sigmoid, sigmoid * (1 - sigmoid)),
            "leaky_relu": (np.where(a > 0, a, 0.01 * a), np.where(a > 0, 1, 0.01)),
            "offset": (a, np.ones_like(a)),
            "silu": (a * sigmoid, sigmoid * (1 + a * (1 - sigmoid))),
        }[name]
        if name.endswith("relu") and a.size and (abs(a) < NEAR * (1 + abs(a).max())).any():
            self.fragile = True
        return self.made(id, y, [x], lambda dy: [dy * slope])

    def add(self, *xs: Var) -> Var:
        id = self.record("add", xs, {})[0]
        return self.made(id, sum(x.array for x in xs), xs, lambda dy: [dy] * len(xs))

    def concat(self, xs: Sequence[Var]) -> Var:
        id = self.record("concat", xs, {})[0]
        ends = np.cumsum([x.channels for x in xs])[:-1]
        y = np.concatenate([x.array for x in xs], axis=1)
        return self.made(id, y, xs, lambda dy: np.split(dy, ends, axis=1))

    def slice(self, x: Var, begin: int, end: int) -> Var:
        id = self.record("slice_channels", [x], {"begin": begin, "end": end})[0]

        def rule(dy: np.ndarray) -> list[np.ndarray]:
            dx = np.zeros_like(x.array)
            dx[:, begin:end] = dy
            return [dx]

        return self.made(id, x.array[:, begin:end].copy(), [x], rule)

    def pad(self, x: Var, before: int, after: int) -> Var:
        id = self.record("pad_channels", [x], {"before": before, "after": after})[0]
        y = np.pad(x.array, [(0, 0), (before, after), *[(0, 0)] * (x.array.ndim - 2)])
        return self.made(id, y, [x], lambda dy: [dy[:, before : before + x.channels]])

    def max_pool(self, x: Var, **attrs: Any) -> Var:
        id = self.record(f"max_pool{x.array.ndim - 2}d", [x], attrs)[0]
        y, _ = nd.max_pool(x.array, attrs)
        for _, at, _ in nd.pool_windows(x.array.shape[2:], attrs)[1]:
            window = np.sort(x.array[(slice(None), slice(None), *at)].reshape(*x.array.shape[:2], -1), axis=2)
            if window.shape[2] > 1 and (window[..., -1] - window[..., -2] < NEAR).any():
                self.fragile = True
        return self.made(id, y, [x], lambda dy: [nd.max_pool_backward(dy, x.array, attrs)])

    def avg_pool(self, x: Var, **attrs: Any) -> Var:
        """No kernel_size: global."""
        kind = "avg_pool" if "kernel_size" in attrs else "global_avg_pool"
        id = self.record(f"{kind}{x.array.ndim - 2}d", [x], attrs)[0]
        rule = lambda dy: [nd.avg_pool_backward(dy, x.array.shape[2:], attrs)]  # noqa: E731
        return self.made(id, nd.avg_pool(x.array, attrs), [x], rule)

    def flatten(self, x: Var) -> Var:
        id = self.record("flatten", [x], {})[0]
        return self.made(id, x.array.reshape(len(x.array), -1), [x], lambda dy: [dy.reshape(x.array.shape)])

    def unflatten(self, x: Var, shape: Sequence[int]) -> Var:
        id = self.record("unflatten", [x], {"shape": list(shape)})[0]
        y = x.array.reshape(len(x.array), *shape)
        return self.made(id, y, [x], lambda dy: [dy.reshape(x.array.shape)])


Build = Callable[[Tape], Sequence[Var]]


def close(got: np.ndarray, want: np.ndarray, error: float, where: str, least: float = 0) -> None:
    """In the Frobenius norm, relative to the wanted array's or to `least`."""
    assert got.shape == want.shape, f"{where}: shape {got.shape}, expected {want.shape}"
    scale = max(float(np.linalg.norm(want)), least, 1e-30)
    off = float(np.linalg.norm(got - want))
    assert off <= error * scale, f"{where}: off by {off / scale:.2e}"


def check(
    build: Build,
    layouts: Sequence[str] = ("nhwc", "interleaved", "auto"),
    threads: Sequence[int] = (1, 2, 3),
    error: float = 1e-5,
    sections: bool = True,
) -> dict[tuple[str, str], tuple[_core.Plan, _core.Plan]]:
    """build(tape) -> outputs, the last of which is differentiated with respect to all leaves.

    The plans of the outputs alone and of the outputs and gradients, run on NaN before, must give the tape's numbers on
    every instruction set in these layouts, with the same bits for every number of threads. sections: the gradients
    are a section of their own. Returns the plans by instruction set and layout.
    """
    plans = {}
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for layout in layouts:
            bits = set()
            for count in threads:
                _core.set_num_threads(count)
                results, both = _run(build, layout, sections, f"{isa} {layout} {count} threads", error)
                bits.add(b"".join(a.tobytes() for a in results))
                plans[isa, layout] = both
            assert len(bits) == 1, f"{isa} {layout}: the number of threads changes the result"
    return plans


def _run(build: Build, layout: str, sections: bool, where: str, error: float) -> tuple[list[np.ndarray], Any]:
    tape = Tape(_core.Graph())
    outputs = list(build(tape))
    assert not tape.fragile, "decided by rounding: choose another seed"
    target, g = outputs[-1], tape.graph
    assert g is not None
    inputs = {v.id: a for v, a, batched in tape.leaves if batched}
    order = [a for _, a, batched in tape.leaves if batched]
    forward = _core.Plan(g, [v.id for v in outputs], layout)
    dy = np.random.default_rng(5).standard_normal(target.array.shape).astype(np.float32)
    if sections:
        g.barrier()
    seed = g.input(dy.shape, "float32", True, "seed")
    wrt = [v for v, _, _ in tape.leaves]
    gradients = g.backward(target.id, seed, [v.id for v in wrt])
    has = [i for i in gradients if i is not None]
    training = _core.Plan(g, [v.id for v in outputs] + has, layout)
    tape.differentiate(target, dy)

    results: list[np.ndarray] = []
    given = dict(enumerate(order))
    assert len(inputs) == len(given)
    for values in ({i: np.full_like(a, np.nan) for i, a in given.items()}, given):
        alone = forward.start().section(0, values)
        if sections:
            run = training.start()
            made = dict(run.section(0, values))
            made.update(run.section(1, {len(order): dy}))
        else:
            made = dict(training.start().section(0, {**values, len(order): dy}))
        results = [np.array(alone[i]) for i in sorted(alone)] + [np.array(made[i]) for i in sorted(made)]
    count = len(outputs)
    for k, v in enumerate(outputs):
        close(results[k], v.array, error, f"{where}: output {k} of inference", 1e-2)
        close(results[count + k], v.array, error, f"{where}: output {k} of training", 1e-2)
    least = 1e-2 * float(np.linalg.norm(dy))
    grads = iter(results[2 * count :])
    for k, (v, id) in enumerate(zip(wrt, gradients, strict=True)):
        if id is None:
            assert v.grad is None or not v.grad.any(), f"{where}: leaf {k} has a gradient"
        else:
            assert v.grad is not None
            close(next(grads), v.grad, 10 * error, f"{where}: gradient of leaf {k}", least)
    return results, (forward, training)
