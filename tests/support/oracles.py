"""check_op: holds an op and its gradients against everything that is known about them.

- The float64 reference, on normal random numbers: every element within a rounding bound that follows from the
  length of the sums behind it (op_table.dot_bound), never from what happened to pass. Fast transforms
  (implementations named winograd*) within WINOGRAD_ERROR of the whole output's norm.
- The reference again on small integers, where every float32 sum is exact: equal, bit for bit.
- Directional gradients: the gradients along one random direction against the reference's central difference.
- PyTorch in float64, where installed: it confirms the reference on the same problem.

All that for every instruction set of this machine, in both layouts, with every implementation in the op's
list forced once (at least one must take each layout), and with 1, 2 and 3 threads, whose bits must agree (on
integers 2 threads suffice, as the reference gives the bits).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from op_table import OPS, Arrays, Spec

import fastcnn.functional as F
from fastcnn import _core
from fastcnn import reference as ref
from fastcnn.functional import _arguments

THREADS = (1, 2, 3)
LAYOUTS = ("nhwc", "interleaved")
WINOGRAD_ERROR = 1e-5  # relative, of the Frobenius norm
TINY = 2.0**-126  # smaller results are flushed to zero
TAKEN: set[tuple[str, str]] = set()  # (op, implementation) pairs that ran in some check


def check_op(
    name: str, *shapes: tuple[int, ...], layouts: tuple[str, ...] = LAYOUTS, seed: int = 0, **options: Any
) -> None:
    """Checks op `name` of OPS on inputs of these shapes, with these options of its functional call."""
    spec = OPS[name]
    for integer in (False, True) if spec.exact else (False,):
        problem = make_problem(spec, shapes, integer, seed, options)
        if not integer:
            check_directional(spec, problem)
            check_torch(spec, problem)
        for isa in _core.available_isas():
            _core.select_isa(isa)
            for layout in layouts:
                check_call(spec, problem, layout, f"{name} {shapes} {options} [{isa} {layout}]")


# ---- the problem and what is expected of it --------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    integer: bool
    inputs: Arrays
    dy: np.ndarray
    options: dict[str, Any]
    outputs: Arrays  # the reference's
    grads: Arrays
    output_bounds: list[Any]  # None: exact
    grad_bounds: list[Any]


def make_problem(spec: Spec, shapes: tuple, integer: bool, seed: int, options: dict[str, Any]) -> Problem:
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        numbers = rng.integers(-4, 5, shape) if integer else rng.standard_normal(shape)
        return np.asarray(numbers, np.float32)

    inputs = spec.draw(rng, shapes) if spec.draw else tuple(map(draw, shapes))
    outputs = spec.forward(ref, inputs, options)
    dy = draw(outputs[0].shape) if outputs[0].ndim else np.ones((), np.float32)
    y32 = outputs[0].astype(np.float32)
    grads = spec.backward(ref, dy, inputs, y32, options) if spec.backward else ()
    bounds: tuple[list, list] = [None] * len(outputs), [None] * len(grads)
    if spec.bounds and not integer:
        bounds = spec.bounds(dy, inputs, outputs, options)
    return Problem(integer, inputs, dy, options, outputs, grads, *bounds)


def check_directional(spec: Spec, p: Problem) -> None:
    """<gradient, v> of the fast op equals the slope of <dy, f(x)> along v, f the float64 reference."""
    if spec.backward is None or p.dy.size == 0:
        return
    grads = spec.backward(F, p.dy, p.inputs, spec.forward(F, p.inputs, p.options)[0], p.options)
    rng, h = np.random.default_rng(1), 1e-6
    for k, grad in enumerate(grads):
        if grad is None:
            continue
        v = rng.standard_normal(grad.shape)

        def along(t: float, k: int = k, v: np.ndarray = v) -> float:
            moved = p.inputs[k].astype(np.float64) + t * v
            y = spec.forward(ref, (*p.inputs[:k], moved, *p.inputs[k + 1 :]), p.options)[0]
            return float(np.vdot(p.dy.astype(np.float64), y))

        slope, mine = (along(h) - along(-h)) / (2 * h), float(np.vdot(grad.astype(np.float64), v))
        # The gradient's own error along v, and what cancels in the difference (float64's 1e-16, over h).
        norm = np.linalg.norm
        bound = WINOGRAD_ERROR * norm(grad) * norm(v) + 1e-9 * norm(p.dy) * norm(p.outputs[0])
        assert abs(slope - mine) <= bound, f"input {k}: <gradient, v> = {mine}, the slope along v is {slope}"


def check_torch(spec: Spec, p: Problem) -> None:
    """The reference agrees with PyTorch in float64."""
    if spec.torch is None or importlib.util.find_spec("torch") is None or 0 in p.inputs[0].shape:
        return
    import torch

    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in p.inputs]
    y = spec.torch(torch.nn.functional, tensors, p.options)
    if y is None:
        return
    np.testing.assert_allclose(p.outputs[0], y.detach().numpy(), rtol=1e-9, atol=1e-9)
    if spec.backward is None:
        return
    y.backward(torch.tensor(p.dy, dtype=torch.float64))
    # The reference's derivatives of activations start from the float32 y that a network keeps.
    for mine, t in zip(p.grads, tensors, strict=False):
        if mine is not None:
            np.testing.assert_allclose(mine, t.grad.numpy(), rtol=1e-5, atol=1e-6)


# ---- running it every way --------------------------------------------------------------------------------


@dataclass
class Forced:
    """Stands in for the core: forces the layout and the implementation of some ops, and notes which ran."""

    layout: str
    implementations: dict[str, str]
    ran: set[str]

    def run(self, op: str, inputs: Any, attrs: dict, layout: str) -> Any:
        self.ran.add(op)
        if op in self.implementations:
            attrs = {**attrs, "implementation": self.implementations[op]}
        return _core.run(op, inputs, attrs, self.layout)


@contextmanager
def forced(layout: str, **implementations: str) -> Iterator[Forced]:
    """Within it the functions of fastcnn.functional run in that layout, with those implementations."""
    _arguments._core, saved = Forced(layout, implementations, set()), _arguments._core
    try:
        yield _arguments._core
    finally:
        _arguments._core = saved


def declined(error: ValueError) -> bool:
    return "no implementation takes" in str(error)


def check_call(spec: Spec, p: Problem, layout: str, where: str) -> None:
    """Forward and backward in one layout: as the core chooses, then each implementation of each op forced."""
    threads = (2,) if p.integer else THREADS
    forward = lambda: spec.forward(F, p.inputs, p.options)  # noqa: E731
    check_ways(forward, p.outputs, p.output_bounds, (), layout, threads, where)
    if spec.backward is not None:
        backward, y32 = spec.backward, p.outputs[0].astype(np.float32)
        call = lambda: backward(F, p.dy, p.inputs, y32, p.options)  # noqa: E731
        check_ways(call, p.grads, p.grad_bounds, spec.core, layout, threads, f"{where} backward")


def check_ways(
    call: Callable[[], Arrays],
    expected: Arrays,
    bounds: list,
    core: tuple[str, ...],
    layout: str,
    threads: tuple[int, ...],
    where: str,
) -> None:
    with forced(layout) as chosen:
        results = run_threads(call, threads, where)
    lists = {op: _core.implementations(op) for op in chosen.ran}
    fast = any(name.startswith("winograd") for names in lists.values() for name in names)
    if not (fast and all(b is None for b in bounds)):  # integers: only implementations that are exact on them
        compare_all(results, expected, bounds, fast, where)
    for op, names in lists.items():
        takers = 0
        for name in names:
            way = f"{where} {op}:{name}"
            try:
                with forced(layout, **{op: name}):
                    results = run_threads(call, threads, way)
            except ValueError as error:
                if not declined(error):
                    raise
                continue
            takers += 1
            TAKEN.add((op, name))
            fast = name.startswith("winograd")
            mine = [i for i in range(len(expected)) if not core or core[i] == op]
            if not (fast and all(b is None for b in bounds)):
                pick = lambda xs, mine=mine: [xs[i] for i in mine]  # noqa: E731
                compare_all(pick(results), pick(expected), pick(bounds), fast, way)
        assert takers, f"{where}: no implementation of {op} takes the layout {layout}"


def run_threads(call: Callable[[], Arrays], counts: tuple[int, ...], where: str) -> Arrays:
    first: Arrays | None = None
    for threads in counts:
        _core.set_num_threads(threads)
        results = call()
        if first is None:
            first = results
        for a, b in zip(first, results, strict=True):
            assert a is None or a.tobytes() == b.tobytes(), (
                f"{where}: {threads} threads give other bits than {counts[0]}"
            )
    assert first is not None
    return first


def compare_all(results: Any, expected: Any, bounds: Any, fast: bool, where: str) -> None:
    for k, (got, want, bound) in enumerate(zip(results, expected, bounds, strict=True)):
        if want is not None:
            compare(got, want, bound, fast, f"{where}, result {k}")


def compare(got: np.ndarray, want: np.ndarray, bound: Any, fast: bool, where: str) -> None:
    assert got.dtype == (np.float32 if want.dtype.kind == "f" else want.dtype), f"{where}: dtype {got.dtype}"
    assert got.shape == want.shape, f"{where}: shape {got.shape}, expected {want.shape}"
    if want.size == 0:
        return
    assert (np.isnan(got) == np.isnan(want)).all(), f"{where}: NaN in other places"
    error = np.nan_to_num(abs(got - want))
    if fast:
        relative = np.linalg.norm(error) / max(float(np.linalg.norm(want)), 1e-30)
        assert relative <= WINOGRAD_ERROR, f"{where}: relative error {relative:.2e}"
        return
    # Exact: the float32 nearest to the reference (whose indices are integers).
    limit = abs(want.astype(got.dtype) - want) if bound is None else np.broadcast_to(bound + TINY, want.shape)
    if (error > limit).any():
        at = np.unravel_index(int(np.argmax(error - limit)), want.shape)
        at = tuple(int(i) for i in at)
        raise AssertionError(
            f"{where}: {int((error > limit).sum())} of {want.size} elements are off, worst at {at}: "
            f"{got[at]!r}, expected {want[at]!r}, error {error[at]:.3g}, bound {limit[at]:.3g}"
        )
