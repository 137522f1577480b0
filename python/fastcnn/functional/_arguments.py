"""What happens to the arguments of the functional ops before an op sees them: forms (3, (3, 3), "same")
become integer lists, arrays are checked, and a call is run at once or, on symbolic values, recorded.

Each op checks shapes itself. What is said here beforehand are the mistakes that have a cure to name.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastcnn import _core

# A float32 NumPy array; or, while a model is traced, a symbolic value (fastcnn.nn.tracing.Value).
Operand: TypeAlias = Any
Ints: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | Sequence[int] | str
AttrValue: TypeAlias = int | float | str | list[int]


def shape_text(shape: Sequence[int]) -> str:
    """As every message prints a shape.

    >>> shape_text((8, 32, 28, 28))
    '8x32x28x28'
    """
    return "x".join(map(str, shape)) if len(shape) else "scalar"


def shown(value: Any) -> str:
    """What came, as part of a line.

    >>> shown("2"), shown(np.zeros((2, 3)))
    ("'2'", 'ndarray 2x3')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} {shape_text(shape)}"
    return " ".join(f"{value!r:.80}".split())


def shape_of(who: str, value: Any) -> tuple[int, ...]:
    """An input shape from the forms in which people have one: numbers, an array (its shape), "1x28x28".

    An array of integers in one dimension is the numbers themselves.

    Raises
    ------
    TypeError
        It is none of these.
    ValueError
        A size is negative.

    >>> shape_of("plan", "64x1x28x28"), shape_of("summary", np.zeros((1, 28, 28))), shape_of("summary", [1, 28, 28])
    ((64, 1, 28, 28), (1, 28, 28), (1, 28, 28))
    """
    sizes: Any = value
    if isinstance(value, str):
        parts = value.replace(",", "x").replace("(", "").replace(")", "").split("x")
        sizes = [int(part) if part.strip().isdecimal() else part for part in parts]
    elif isinstance(value, np.ndarray):
        sizes = value.tolist() if value.ndim == 1 and value.dtype.kind in "iu" else value.shape
    elif getattr(value, "shape", ()):
        sizes = value.shape
    elif not isinstance(value, Sequence):
        sizes = [value]
    try:
        shape = tuple(integer(who, "a size", n) for n in sizes)
    except TypeError:
        shape = ()
    if not shape:
        raise TypeError(
            f"{who}: expected an input shape such as (1, 28, 28), or an array of that shape, got {shown(value)}"
        )
    if min(shape) < 0:
        raise ValueError(f"{who}: expected sizes of at least 0, got {shape}")
    return shape


def integer(op: str, name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: expected integers for {name}, got {shown(value)}")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{op}: expected an integer of at most 64 bits for {name}, got {number}")
    return number


def number(op: str, name: str, value: Any) -> float:
    """Any real number as a Python float; texts, truth values and arrays are none."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{op}: expected a number for {name}, got {shown(value)}")
    return float(value)


def only(op: str, name: str, value: Any, *allowed: Any) -> None:
    """Arguments that other frameworks have and that can only mean one thing here: those values, no others."""
    if not any(type(value) is type(a) and value == a for a in allowed):
        known = " or ".join(map(repr, allowed))
        raise ValueError(f"{op}: {name} can only be {known} here, got {shown(value)}")


def flag(op: str, name: str, value: Any) -> int:
    """Booleans only: an integer is an argument that slipped (PyTorch's max_pool2d has one more)."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: expected True or False for {name}, got {shown(value)}")
    return int(value)


def pair(op: str, name: str, value: Ints) -> list[int]:
    """One integer stands for height and width alike."""
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str):
        if len(value) != 2:
            raise ValueError(f"{op}: expected one or two integers for {name}, got {shown(value)}")
        return [integer(op, name, v) for v in value]
    return [integer(op, name, value)] * 2


def padding(op: str, value: Padding) -> str | int | tuple[int, ...]:
    """A padding in one of its forms, not yet for an image: "same", "valid", an integer, two or four of them."""
    if isinstance(value, str):
        if value in ("same", "valid"):
            return value
        near = f" (did you mean {value.lower()!r}?)" if value.lower() in ("same", "valid") else ""
        raise ValueError(f"{op}: expected padding 'same' or 'valid' or integers, got {shown(value)}{near}")
    if not isinstance(value, (Sequence, np.ndarray)):
        return integer(op, "padding", value)
    sides = tuple(integer(op, "padding", v) for v in value)
    if len(sides) not in (2, 4):
        raise ValueError(
            f"{op}: expected padding of one, two (height, width) or four (top, left, bottom, right) "
            f"integers, got {shown(value)}"
        )
    return sides


def padding4(
    op: str,
    value: Padding,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: list[int],
    dilation: list[int],
) -> list[int]:
    """[top, left, bottom, right] from an int, (height, width), those four, "valid" or "same".

    "same" is SAME_UPPER of ONNX and TensorFlow: ceil(size / stride) outputs for any stride, an odd total puts
    the extra row or column at the bottom or right.
    """
    form = padding(op, value)
    if isinstance(form, int):
        return [form] * 4
    if not isinstance(form, str):
        return list(form) if len(form) == 4 else list(form) * 2
    before, after = [0, 0], [0, 0]
    if form == "same":
        for k in range(2):
            n, s = int(size[k]), max(stride[k], 1)
            total = max((-(-n // s) - 1) * s + dilation[k] * (int(kernel[k]) - 1) + 1 - n, 0)
            before[k], after[k] = total // 2, total - total // 2
    return before + after


def kind_of(x: Any) -> str:
    """Its type, with the library it is of, where that is another one."""
    kind = type(x)
    library = kind.__module__.partition(".")[0]
    own = library in ("builtins", "fastcnn", "__main__")
    return kind.__name__ if own else f"{kind.__name__} of {library}"


def image_hint(shape: Sequence[int], channels: int | None = None) -> str:
    """What makes images (N, C, H, W) of an array that is none, or has not so many channels; "" if unknown.

    >>> image_hint((8, 28, 28, 1), 1)
    '; images are (N, C, H, W): if this is (N, H, W, C), use x.transpose(0, 3, 1, 2)'
    """
    if len(shape) == 4 and shape[3] == channels:
        return "; images are (N, C, H, W): if this is (N, H, W, C), use x.transpose(0, 3, 1, 2)"
    if len(shape) == 2 and channels in (None, 1):
        flat = "of flat images (N, H * W) x.reshape(-1, 1, H, W)"
        return f"; of a single image (H, W) x[None, None] is a batch, {flat}"
    if len(shape) != 3:
        return ""
    if channels is None:
        return "; x[None] adds the batch, x[:, None] the channel"
    if shape[0] == channels:
        return "; x[None] adds the batch"
    if channels == 1:
        return "; x[:, None] adds the channel"
    return "; if this is (H, W, C), use x.transpose(2, 0, 1)[None]" if shape[2] == channels else ""


def image_size(op: str, x: Operand, name: str = "input") -> Sequence[int]:
    """Height and width; asked before the op itself has checked the shape."""
    if len(x.shape) != 4:
        raise ValueError(
            f"{who(op, x)}: expected {name} of 4 dimensions (N, C, H, W), got {len(x.shape)} "
            f"({name} {shape_text(x.shape)}){image_hint(x.shape)}"
        )
    return x.shape[2:]


def input_size(op: str, dy: Operand, input_shape: Sequence[int]) -> list[int]:
    """Height and width of input_shape, which must agree with dy, checked here, in batch and channels."""
    check_arrays(op, dy=dy)
    image_size(op, dy, "output gradient")
    shape = list(shape_of(op, input_shape))
    if len(shape) != 4 or tuple(shape[:2]) != tuple(dy.shape[:2]):
        raise ValueError(
            f"{op}: expected an input shape ({dy.shape[0]}, {dy.shape[1]}, H, W) as of the output gradient "
            f"{shape_text(dy.shape)}, got {shape_text(shape)}"
        )
    return shape[2:]


def check_input_gradient(op: str, dx: Operand, x: Operand, weight: Operand, dy: Operand) -> None:
    """The gradient that weight and dy give is that of x, not of another input."""
    if dx.shape != x.shape:
        raise ValueError(
            f"{op}: expected input {shape_text(dx.shape)}, got {shape_text(x.shape)} "
            f"(weight {shape_text(weight.shape)}, output gradient {shape_text(dy.shape)})"
        )


def is_symbolic(x: object) -> bool:
    """Whether x is a value of a trace. Before the tracer is first imported there are none."""
    tracing = sys.modules.get("fastcnn.nn.tracing")
    return tracing is not None and isinstance(x, tracing.Value)


def who(op: str, *operands: Operand | None) -> str:
    """As errors name a call: by its op or, while a network is traced, by its layer and path."""
    traced = next((x for x in operands if is_symbolic(x)), None)
    return op if traced is None else traced.trace.label(op)


def in_place(op: str, x: Operand, y: Operand, inplace: bool) -> Operand:
    """y; with ``inplace`` in the place of x, as PyTorch does it: whoever holds x has the result from now on."""
    if not flag(op, "inplace", inplace):
        return y
    if is_symbolic(x):
        x.become(y)
    else:
        check_in_place(op, x=x)
        x[...] = y
    return x


def _may_be_absent(op: str, name: str) -> bool:
    statistics = op.startswith("batch_norm") and name not in ("x", "dy")
    return statistics or name in ("bias", "momentum_buffer")


def check_arrays(op: str, **arrays: Any) -> None:
    """Every given one is a float32 array: nothing is converted behind the caller's back."""
    for name, a in arrays.items():
        if a is None and not _may_be_absent(op, name):
            raise TypeError(f"{op}: expected a float32 NumPy array for {name}, got None")
    if any(map(is_symbolic, arrays.values())):
        return  # parameters beside a symbolic value belong to the tracer
    for name, a in arrays.items():
        if a is None:
            continue
        if not isinstance(a, np.ndarray):
            raise TypeError(f"{op}: expected a float32 NumPy array for {name}, got {type(a).__name__}")
        if type(a) is not np.ndarray and isinstance(a, np.ma.MaskedArray):
            raise TypeError(f"{op}: {name} is masked, and a mask would be lost; use {name}.filled(value)")
        if a.dtype != np.float32:
            pixels = a.dtype == np.uint8 and name == "input"
            scaled = " and scale it as in training (model.predict takes pixels)" if pixels else ""
            raise TypeError(
                f"{op}: expected a float32 array for {name}, got {a.dtype} ({name} {shape_text(a.shape)}); "
                f"convert it with {name}.astype(numpy.float32){scaled}"
            )


def check_in_place(op: str, **arrays: Any) -> None:
    """Every given one is an array that the op can write its update into."""
    check_arrays(op, **arrays)
    for name, a in arrays.items():
        if a is not None and not (a.flags.c_contiguous and a.flags.writeable):
            problem = "a read-only" if a.flags.c_contiguous else "a non-contiguous"
            raise ValueError(
                f"{op}: {name} is updated in place: expected a writable contiguous array, got {problem} one"
            )


def label_hint(labels: np.ndarray) -> str:
    """What makes labels of refused labels, to stand behind the message; "" where nothing is known.

    >>> label_hint(np.eye(3)), label_hint(np.zeros((5, 1), int)), label_hint(np.array(["cat"]))[-20:]
    ('; of one-hot rows labels.argmax(axis=1) are the labels', '; use labels.ravel()', 'return_inverse=True)')
    """
    kind, cast = labels.dtype.kind, ""
    if kind in "US" or (kind == "O" and all(isinstance(v, str) for v in labels.flat)):
        return "; use classes, labels = numpy.unique(labels, return_inverse=True)"
    if labels.ndim == 2 and labels.shape[1] > 1:
        return "; of one-hot rows labels.argmax(axis=1) are the labels" if kind in "biuf" else ""
    if kind == "f" and not (np.isfinite(labels).all() and (labels == np.floor(labels)).all()):
        return "; they are not whole numbers: is this a regression?"
    if kind in "bf":
        cast = ".astype(int)"
    if labels.ndim == 2:
        cast = ".ravel()" + cast
    return f"; use labels{cast}" if cast else ""


FLAT = "; a network for classes ends in a Flatten (after AdaptiveAvgPool2d(1), or before a Linear)"


def check_labels(op: str, labels: Any, logits: Operand) -> Any:
    """Labels as int64, each checked to name one of the classes."""
    if is_symbolic(labels) or is_symbolic(logits):
        return labels
    if isinstance(labels, np.ma.MaskedArray):
        raise TypeError(f"{op}: labels are masked, and a mask would be lost; use labels.filled(value)")
    a = np.asarray(labels)
    if a.dtype.kind not in "iu" and a.size:
        raise TypeError(
            f"{op}: expected integer labels, got {a.dtype} (labels {shape_text(a.shape)}){label_hint(a)}"
        )
    if len(logits.shape) != 2 or a.shape != logits.shape[:1]:
        maps = len(logits.shape) == 4
        raise ValueError(
            f"{op}: expected logits (N, classes) and N labels, got logits {shape_text(logits.shape)}, "
            f"labels {shape_text(a.shape)}{FLAT if maps and a.ndim == 1 else label_hint(a)}"
        )
    outside = np.flatnonzero((a < 0) | (a >= logits.shape[1]))
    if outside.size:
        i = int(outside[0])
        raise ValueError(f"{op}: expected labels from 0 to {logits.shape[1] - 1}, got labels[{i}] = {a[i]}")
    return a.astype(np.int64, copy=False)


def record_or_run(
    op: str,
    inputs: Sequence[Operand | None],
    attrs: Mapping[str, AttrValue],
    layout: str = "auto",
    implementation: str | None = None,
) -> Sequence[Any]:
    """The op's outputs: symbolic ones when an input is, else arrays."""
    attrs = dict(attrs)
    if not isinstance(layout, str) or not isinstance(implementation, (str, type(None))):
        raise TypeError(
            f"{op}: expected names as layout and implementation, got {shown(layout)}, {shown(implementation)}"
        )
    if implementation is not None:
        attrs["implementation"] = implementation
    if any(is_symbolic(x) for x in inputs):
        if layout != "auto":
            raise ValueError(
                f"{op}: layout {layout!r} cannot be forced on a traced value: the plan chooses it"
            )
        return sys.modules["fastcnn.nn.tracing"].record(op, inputs, attrs)
    return _core.run(op, inputs, attrs, layout)


def call(
    who: str,
    operands: Mapping[str, Operand | None],
    attrs: Mapping[str, AttrValue],
    layout: str,
    implementation: str | None,
    op: str | None = None,
) -> Any:
    """The first output of an op (by default the one named ``who``) whose operands, by name, are checked first."""
    check_arrays(who, **operands)
    return record_or_run(op or who, list(operands.values()), attrs, layout, implementation)[0]
