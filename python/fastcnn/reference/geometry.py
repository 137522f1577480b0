"""Where windows lie on an image: sizes, padding, and the input pixels under one tap of all windows.

Sources: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning" (output sizes); the ONNX
operator ``Conv``, attribute ``auto_pad = SAME_UPPER`` (padding "same").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["output_size", "padding4"]

Array = npt.NDArray[np.float64]
Pair = tuple[int, int]
Ints = int | Pair
Padding = int | Pair | tuple[int, int, int, int] | str


def pair(value: Ints) -> Pair:
    """One integer stands for height and width alike.

    >>> pair(3), pair((3, 5))
    ((3, 3), (3, 5))
    """
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def padding4(
    padding: Padding, size: Pair, kernel: Pair, stride: Pair, dilation: Ints = 1
) -> tuple[int, int, int, int]:
    """Padding as (top, left, bottom, right).

    "same" gives ``ceil(size / stride)`` outputs, for any stride; an odd total puts the extra row or column at
    the bottom or right.

    >>> padding4("same", (5, 6), (3, 3), (2, 2))
    (1, 0, 1, 1)
    """
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        total = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, k, s, d in zip(size, kernel, stride, pair(dilation), strict=True)
        ]
        top, left = total[0] // 2, total[1] // 2
        return top, left, total[0] - top, total[1] - left
    assert not isinstance(padding, str)
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if len(padding) == 2:
        return padding[0], padding[1], padding[0], padding[1]
    return padding


def output_size(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """How many windows fit along one side.

    ``ceil_mode`` also takes the last window that sticks out, as long as it begins inside the image or the
    padding before it (PyTorch's rule).

    >>> output_size(7, 2, 2, 0, 0), output_size(7, 2, 2, 0, 0, ceil_mode=True)
    (3, 4)
    """
    span = size + before + after - (dilation * (kernel - 1) + 1)
    if not ceil_mode:
        return span // stride + 1
    out = -(-span // stride) + 1
    return out - 1 if (out - 1) * stride >= size + before else out


def taps(
    kernel: Pair, stride: Pair, dilation: Pair, out: Pair
) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """For each tap (i, j) of the window: the rows and columns of the padded image that it meets."""
    for i, j in itertools.product(range(kernel[0]), range(kernel[1])):
        rows = slice(i * dilation[0], i * dilation[0] + (out[0] - 1) * stride[0] + 1, stride[0])
        cols = slice(j * dilation[1], j * dilation[1] + (out[1] - 1) * stride[1] + 1, stride[1])
        yield i, j, (rows, cols)
