"""Single ops in the layout their implementation works in, beside PyTorch's (contiguous and channels_last; the
better counts) and the NumPy reference.

Conversions between layouts are not in fastcnn's figure: inside a plan there are none. Each result is compared with
the float64 reference before anything is timed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastcnn import _core, reference

from .peers import torch_here
from .timing import alternate, case_name, executed, fma_peak, show

# name, in channels, size, out channels, kernel, stride, padding, batch
CASES = (
    ("vgg 64x56", 64, 56, 64, 3, 1, 1, 16),
    ("vgg 128x28", 128, 28, 128, 3, 1, 1, 16),
    ("resnet20 16x32", 16, 32, 16, 3, 1, 1, 128),
    ("resnet20 16x32 s2", 16, 32, 32, 3, 2, 1, 128),
    ("resnet20 32x16", 32, 16, 32, 3, 1, 1, 128),
    ("resnet20 64x8", 64, 8, 64, 3, 1, 1, 128),
    ("resnet50 1x1 256x14", 1024, 14, 256, 1, 1, 0, 8),
    ("stem 7x7 s2", 3, 224, 64, 7, 2, 3, 8),
    ("alexnet 5x5", 32, 28, 96, 5, 1, 2, 16),
)
DIRECTIONS = ("forward", "backward data", "backward weights")
COLUMNS = [
    ("name", "op", "32s"),
    ("implementation", "implementation", "s"),
    ("fastcnn_ms", "fastcnn ms", ".3f"),
    ("gflops", "GFLOP/s", ".0f"),
    ("peak_share", "of FMA peak", ".0%"),
    ("torch_ms", "PyTorch ms", ".3f"),
    ("ratio", "ratio", ".2f"),
    ("numpy_ms", "NumPy ms", ".0f"),
    ("error", "error", ".1e"),
]


class OneOp:
    """A plan of a single op: its time is its step's alone, conversions left out."""

    def __init__(
        self, op: str, varying: list[np.ndarray], weights: list[np.ndarray], attrs: dict[str, Any]
    ) -> None:
        graph = _core.Graph()
        ids: list[int | None] = [graph.input(a.shape, str(a.dtype)) for a in varying]
        ids += [graph.tensor(_core.Tensor(a)) for a in weights]
        if op == "conv2d":
            ids.append(None)  # no bias
        self.plan = _core.Plan(graph, graph.record(op, ids, attrs, op)[:1], "nhwc")
        self.inputs = dict(enumerate(varying))
        self.at, self.step = next((i, s) for i, s in enumerate(self.plan.steps) if s["op"] == op)

    def result(self) -> np.ndarray:
        return self.plan.run(self.inputs)[0]

    def seconds(self) -> float:
        return self.plan.start().time(0, self.inputs)[self.at]


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Relative Frobenius error."""
    return float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30))


def _torch_conv(
    direction: str, x: np.ndarray, w: np.ndarray, dy: np.ndarray, stride: int, padding: int
) -> dict[str, Callable[[], None]]:
    torch = torch_here()
    if torch is None:
        return {}
    out: dict[str, Callable[[], None]] = {}
    mask = [direction == "backward data", direction == "backward weights", False]
    for name, fmt in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        tx, tw, ty = (torch.from_numpy(a).contiguous(memory_format=fmt) for a in (x, w, dy))

        def run(tx: Any = tx, tw: Any = tw, ty: Any = ty) -> None:
            with torch.no_grad():
                if direction == "forward":
                    torch.nn.functional.conv2d(tx, tw, None, stride, padding)
                else:
                    torch.ops.aten.convolution_backward(
                        ty, tx, tw, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask
                    )

        out[name] = run
    return out


def convolution(
    case: tuple[Any, ...], direction: str, implementation: str, rounds: int, numpy: bool
) -> dict[str, Any]:
    name, ic, size, oc, k, stride, padding, n = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, ic, size, size)).astype(np.float32)
    w = (rng.standard_normal((oc, ic, k, k)) / np.sqrt(ic * k * k)).astype(np.float32)
    out = (size + 2 * padding - k) // stride + 1
    dy = rng.standard_normal((n, oc, out, out)).astype(np.float32)
    attrs = {"stride": [stride] * 2, "padding": [padding] * 4, "dilation": [1, 1], "groups": 1}
    if implementation != "auto":
        attrs["implementation"] = implementation
    ways: dict[str, Any] = {
        "forward": ("conv2d", [x], [w], {}),
        "backward data": ("conv2d_backward_data", [dy], [w], {"input_size": [size] * 2}),
        "backward weights": ("conv2d_backward_weights", [x, dy], [], {"kernel_size": [k] * 2}),
    }
    op, varying, weights, own = ways[direction]
    ours = OneOp(op, varying, weights, {**attrs, **own})

    def check() -> np.ndarray:
        if direction == "forward":
            return reference.conv2d(x, w, None, stride, padding)
        return reference.conv2d_backward(dy, x, w, stride, padding)[DIRECTIONS.index(direction) - 1]

    wrong = error(ours.result(), check())
    if not wrong < 1e-4:
        raise RuntimeError(f"{name} {direction} {implementation}: relative error {wrong:.1e}")
    contenders: dict[str, Any] = {"fastcnn": ours.seconds}
    contenders |= _torch_conv(direction, x, w, dy, stride, padding)
    if numpy:
        contenders["numpy"] = lambda: check() is None or None
    seconds = alternate(contenders, rounds)
    mine = seconds.pop("fastcnn")
    numpy_time = seconds.pop("numpy", None)
    peer = min(seconds.values(), default=None)
    flops = 2.0 * n * oc * out * out * ic * k * k
    return {
        "name": f"{case_name(case)} {direction}",
        "implementation": ours.step["implementation"].split(":")[1],
        "fastcnn_ms": mine * 1e3,
        "gflops": flops / mine / 1e9,
        "peak_share": executed(flops, ours.step["implementation"]) / mine / fma_peak(2),
        "torch_ms": None if peer is None else peer * 1e3,
        "ratio": None if peer is None else peer / mine,
        "numpy_ms": None if numpy_time is None else numpy_time * 1e3,
        "error": wrong,
    }


def run(
    cases: tuple[tuple[Any, ...], ...] = CASES,
    rounds: int = 7,
    implementations: tuple[str, ...] = ("auto",),
    numpy: bool = False,
) -> list[dict[str, Any]]:
    """Measure and print; the rows."""

    def measured() -> Iterator[dict[str, Any]]:
        for case, direction, implementation in itertools.product(cases, DIRECTIONS, implementations):
            try:
                yield convolution(case, direction, implementation, rounds, numpy)
            except ValueError as declined:
                print(f"{case[0]} {direction} {implementation}: {declined}")

    return show(measured(), COLUMNS)
