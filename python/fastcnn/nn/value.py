"""The symbolic array that ``forward`` is recorded with, and what Python's operators and PyTorch's methods do to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.functional._arguments import shape_text

if TYPE_CHECKING:
    from fastcnn.nn.tracing import Trace

_METHODS = "flatten, view, reshape, size, mean, relu, tanh, sigmoid, softmax"


class Storage:
    """What a value and its views share in PyTorch. Here each has numbers of its own, so once one is changed in place
    the others are wrong and must not be used.
    """

    __slots__ = ("changed",)

    def __init__(self) -> None:
        self.changed = False


class Value:
    """A symbolic array: it has a shape, and every functional op takes it and records itself.

    Values of one shape can be added and subtracted; all operators take a number on the other side but division by a
    value. ``x[:, a:b, ...]`` cuts out channels and pixels. `view`, `reshape` and `flatten` keep images apart: the batch
    stays the first dimension.
    """

    __slots__ = ("id", "storage", "trace")

    def __init__(self, trace: Trace, id: int, storage: Storage | None = None) -> None:
        self.trace = trace
        self.id = id
        self.storage = storage  # of a view (slice, reshape) and what it was taken from; None: it is alone

    def become(self, other: Value) -> Value:
        """What is done in place: whoever holds this value has the other's numbers from now on."""
        if self.storage is not None:
            self.storage.changed, self.storage = True, None
        self.id = other.id
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return self.trace.graph.shape(self.id)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one of its sizes."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim

    def __len__(self) -> int:
        return self.shape[0]

    # ---- arithmetic

    def __add__(self, other: Any) -> Value:
        if isinstance(other, Value):
            return self.trace.record("add", [self, other], {})[0]
        number = _number("+", other)
        return _functional().offset(self, number) if number else Value(self.trace, self.id)

    __radd__ = __add__

    def __iadd__(self, other: Any) -> Value:
        return self.become(self + other)

    def __isub__(self, other: Any) -> Value:
        return self.become(self - other)

    def __imul__(self, other: Any) -> Value:
        return self.become(self * other)

    def __itruediv__(self, other: Any) -> Value:
        return self.become(self / other)

    def __neg__(self) -> Value:
        return _functional().scale(self, -1.0)

    def __sub__(self, other: Any) -> Value:
        return self + (-other if isinstance(other, Value) else -_number("-", other))

    def __rsub__(self, other: Any) -> Value:
        return -self + _number("-", other)

    def __mul__(self, factor: Any) -> Value:
        return _functional().scale(self, _number("*", factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Value:
        number = _number("/", divisor)
        if number == 0:
            raise ZeroDivisionError("a traced value cannot be divided by 0")
        return _functional().scale(self, 1.0 / number)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's numbers and arrays on the left side of an operator, and its functions."""
        operator = _OPERATORS.get(ufunc.__name__) if method == "__call__" and not options else None
        if operator is None or len(inputs) > 2:
            raise TypeError(_no_numpy(f"numpy.{ufunc.__name__}"))
        return operator(*(x if isinstance(x, Value) else _number(ufunc.__name__, x) for x in inputs))

    def __array_function__(self, function: Any, *others: Any) -> Any:
        raise TypeError(_no_numpy(f"numpy.{function.__name__}"))

    # ---- shape

    def flatten(self, start_dim: int = 1, end_dim: int = -1) -> Value:
        """(N, C, H, W) -> (N, C * H * W)."""
        if start_dim != 1 or end_dim not in (-1, self.ndim - 1):
            raise ValueError(
                f"flatten: images stay apart: expected dimensions 1 to -1, got {start_dim} to {end_dim}"
            )
        return _functional().flatten(self)

    def reshape(self, *shape: Any) -> Value:
        """The same numbers of each image in another shape; -1 stands for what fits.

        Raises
        ------
        ValueError
            The shape does not fit, or would mix images: its first size must be the batch's.
        """
        wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        sizes = _fitting(self.shape, tuple(int(n) for n in wanted))
        if sizes == self.shape:
            return self
        flat = self.flatten()
        return (
            flat if len(sizes) == 2 else self.trace.record("unflatten", [flat], {"shape": list(sizes[1:])})[0]
        )

    view = reshape

    def contiguous(self) -> Value:
        return self

    def __getitem__(self, key: Any) -> Value:
        begin, end, step = _pixels(self.shape, key)
        x = self
        if (begin[0], end[0]) != (0, self.shape[1]):
            x = self.trace.record("slice_channels", [x], {"begin": begin[0], "end": end[0]})[0]
        if (begin[1:], end[1:], step[1:]) != (
            [0] * len(begin[1:]),
            list(self.shape[2:]),
            [1] * len(step[1:]),
        ):
            attrs = {"stride": step[1:], "begin": begin[1:], "end": end[1:]}
            x = self.trace.record("subsample", [x], attrs)[0]
        return x

    def __iter__(self) -> Any:
        raise TypeError("a traced value cannot be iterated over: images are not taken apart in forward")

    # ---- functions

    def relu(self) -> Value:
        return _functional().relu(self)

    def tanh(self) -> Value:
        return _functional().tanh(self)

    def sigmoid(self) -> Value:
        return _functional().sigmoid(self)

    def softmax(self, dim: int = 1) -> Value:
        if self.ndim != 2 or dim not in (1, -1):
            raise ValueError(
                f"softmax: expected (N, classes) and dim=1, got {shape_text(self.shape)} and dim={dim}"
            )
        return _functional().softmax(self)

    def mean(self, dim: Any = None, keepdim: bool = False) -> Value:
        """The mean of each plane: ``x.mean((2, 3))`` of (N, C, H, W) is (N, C)."""
        dims = sorted(d % self.ndim for d in dim) if isinstance(dim, (tuple, list)) else dim
        if self.ndim != 4 or dims != [2, 3]:
            raise ValueError(
                f"mean: expected images and dim=(2, 3), got {shape_text(self.shape)} and dim={dim!r}"
            )
        y = _functional().global_avg_pool2d(self)
        return y if keepdim else y.flatten()

    # ---- what a recording has not

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a traced value has no {name!r}: in forward() there are {_METHODS}, +, -, slices, * and / by numbers; "
            "the rest is in fastcnn.functional"
        )

    def __bool__(self) -> bool:
        raise TypeError(
            "a traced value has no truth value: forward() is recorded once and must not branch on the data"
        )

    def __float__(self) -> float:
        raise TypeError(_no_numpy("float()"))

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(_no_numpy("NumPy"))

    def __repr__(self) -> str:
        return f"Value{self.shape}"


def _functional() -> Any:
    from fastcnn import functional

    return functional


_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda a: -a,
    "tanh": Value.tanh,
}


def _no_numpy(what: str) -> str:
    return (
        f"a traced value holds no numbers, so {what} cannot take it: use fastcnn.functional in forward(), and "
        "model.features_at(x, names) for what is inside a network"
    )


def _number(operator: str, other: Any) -> float:
    if isinstance(other, np.ndarray) and other.ndim == 0:
        other = other.item()
    if isinstance(other, (int, float, np.number)) and not isinstance(other, bool):
        return float(other)
    kind = type(other).__name__
    cure = {
        "Value": "functional.add and concat join values; products and quotients of two are not there",
        "Parameter": "a factor or an offset per channel is nn.BatchNorm2d's or a 1x1 nn.Conv2d's",
    }.get(kind, "arrays are not broadcast")
    raise TypeError(f"a traced value: {operator} takes a number, got a {kind} ({cure})")


def _fitting(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """``wanted`` with -1 filled in, for values of this shape."""
    text = f"reshape: {shape_text(shape)} to {', '.join(map(str, wanted))}"
    if len(wanted) < 2 or wanted.count(-1) > 1 or any(n < -1 for n in wanted):
        raise ValueError(f"{text}: expected the batch, then sizes of at least 0, of which one may be -1")
    features, rest = int(np.prod(shape[1:], dtype=np.int64)), list(wanted[1:])
    if -1 in rest:
        known = -int(np.prod(rest, dtype=np.int64))
        if known < 1 or features % known:
            raise ValueError(f"{text}: the {features} numbers of an image do not fit")
        rest[rest.index(-1)] = features // known
    if wanted[0] not in (-1, shape[0]) or int(np.prod(rest, dtype=np.int64)) != features:
        raise ValueError(
            f"{text}: would mix images: the first size must stay {shape[0]} (or -1), and the others must hold "
            f"{features} numbers"
        )
    return (shape[0], *rest)


def _pixels(shape: tuple[int, ...], key: Any) -> tuple[list[int], list[int], list[int]]:
    """Begin, end and step along each dimension but the batch."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if keys.count(Ellipsis) == 1:
        at = keys.index(Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    if len(keys) > len(shape) or not all(isinstance(k, slice) for k in keys):
        raise TypeError(
            f"a traced value of shape {shape_text(shape)}: expected slices, got {key!r:.80} (x[:, 3:4] keeps the "
            "dimension that x[:, 3] would drop)"
        )
    keys += [slice(None)] * (len(shape) - len(keys))
    if keys[0].indices(shape[0]) != (0, shape[0], 1):
        raise ValueError(
            "a traced value: images are not taken apart in forward(): the first slice must be ':'"
        )
    ranges = [k.indices(n) for k, n in zip(keys[1:], shape[1:], strict=True)]
    for (begin, end, step), n, d in zip(ranges, shape[1:], range(1, len(shape)), strict=True):
        if step < 1 or (d == 1 and step != 1):
            raise ValueError(
                f"a traced value: expected a step of {'1' if d == 1 else 'at least 1'}, got {step}"
            )
        if begin >= end:
            raise ValueError(f"a traced value: the slice of dimension {d}, of size {n}, is empty")
    return [r[0] for r in ranges], [r[1] for r in ranges], [r[2] for r in ranges]
