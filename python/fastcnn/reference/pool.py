"""Pooling: one number per window and channel.

Sources: max: Ranzato et al. 2007; average (subsampling): LeCun et al. 1998, section II.B; overlapping
windows: Krizhevsky et al. 2012, section 3.4; global average: Lin et al. 2014, "Network in network".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .geometry import Array, Ints, Padding, output_size, padding4, pair

__all__ = [
    "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "avg_pool2d", "avg_pool2d_backward",
    "global_avg_pool2d", "global_avg_pool2d_backward", "max_pool2d", "max_pool2d_backward",
]  # fmt: skip

# Row and column of the output, rows and columns of the image, divisor.
Window = tuple[int, int, slice, slice, int]


def max_pool2d(
    x: Array, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> tuple[Array, npt.NDArray[np.int64]]:
    """The largest element of each window, and where it is: its index in the flattened H*W image.

    x (N, C, H, W) -> y, index (N, C, OH, OW). Padding is never chosen. Of equal elements the first in row
    order is; a NaN wins over every number. stride None is the kernel's size.

    >>> y, index = max_pool2d(np.array([[[[1.0, 3.0], [2.0, 0.0]]]]), 2)
    >>> y.item(), index.item()
    (3.0, 1)
    """
    x = np.asarray(x, np.float64)
    n, c, _, w = x.shape
    out, windows = _windows(x.shape[2:], kernel_size, stride, padding, ceil_mode)
    y, index = np.zeros((n, c, *out)), np.zeros((n, c, *out), np.int64)
    for p, q, rows, cols, _ in windows:
        window = x[:, :, rows, cols].reshape(n, c, (rows.stop - rows.start) * (cols.stop - cols.start))
        at = window.argmax(axis=2)  # NumPy's argmax, too, takes the first maximum and the first NaN
        y[:, :, p, q] = window.max(axis=2)
        row, col = np.divmod(at, cols.stop - cols.start)
        index[:, :, p, q] = (rows.start + row) * w + cols.start + col
    return y, index


def max_pool2d_backward(
    dy: Array,
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> Array:
    """dx gets each dy at the element its window chose; overlapping windows add up.

    >>> max_pool2d_backward(np.array([[[[5.0]]]]), np.array([[[[1.0, 3.0], [2.0, 0.0]]]]), 2)
    array([[[[0., 5.],
             [0., 0.]]]])
    """
    dy, x = np.asarray(dy, np.float64), np.asarray(x, np.float64)
    _, index = max_pool2d(x, kernel_size, stride, padding, ceil_mode)
    n, c, h, w = x.shape
    dx = np.zeros((n * c, h * w))
    image, flat = np.arange(n * c)[:, None], (n * c, dy.shape[2] * dy.shape[3])
    np.add.at(dx, (image, index.reshape(flat)), dy.reshape(flat))
    return dx.reshape(x.shape)


def avg_pool2d(
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The sum of each window over the number of its elements.

    x (N, C, H, W) -> y (N, C, OH, OW). ``count_include_pad`` counts the zeros of the padding as elements, but
    never what ``ceil_mode`` lets stick out beyond the padding.

    >>> avg_pool2d(np.array([[[[1.0, 3.0], [2.0, 0.0]]]]), 2).item()
    1.5
    """
    size = x.shape[2:]
    return _means(x, *_windows(size, kernel_size, stride, padding, ceil_mode, count_include_pad))


def avg_pool2d_backward(
    dy: Array,
    input_shape: tuple[int, int, int, int],
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Every element of a window gets dy over the window's number of elements.

    >>> avg_pool2d_backward(np.array([[[[4.0]]]]), (1, 1, 2, 2), 2)
    array([[[[1., 1.],
             [1., 1.]]]])
    """
    size = input_shape[2:]
    _, windows = _windows(size, kernel_size, stride, padding, ceil_mode, count_include_pad)
    return _spread(dy, input_shape, windows)


def adaptive_avg_pool2d(x: Array, output_size: Ints) -> Array:
    """The mean over window p = rows floor(p*H/OH) up to ceil((p+1)*H/OH), columns alike.

    >>> adaptive_avg_pool2d(np.arange(5.0).reshape(1, 1, 1, 5), (1, 2))
    array([[[[1., 3.]]]])
    """
    out = pair(output_size)
    return _means(x, out, _adaptive_windows(x.shape[2:], out))


def adaptive_avg_pool2d_backward(dy: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """Every element of a window gets dy over the window's number of elements.

    >>> adaptive_avg_pool2d_backward(np.array([[[[3.0, 6.0]]]]), (1, 1, 1, 5))
    array([[[[1., 1., 3., 2., 2.]]]])
    """
    return _spread(dy, input_shape, _adaptive_windows(input_shape[2:], dy.shape[2:]))


def global_avg_pool2d(x: Array) -> Array:
    """The mean of each channel's image: (N, C, H, W) -> (N, C, 1, 1).

    >>> global_avg_pool2d(np.array([[[[1.0, 3.0], [2.0, 0.0]]]])).item()
    1.5
    """
    return np.asarray(x, np.float64).mean(axis=(2, 3), keepdims=True)


def global_avg_pool2d_backward(dy: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """Every pixel gets dy / (H*W).

    >>> global_avg_pool2d_backward(np.array([[[[4.0]]]]), (1, 1, 1, 2))
    array([[[[2., 2.]]]])
    """
    return np.zeros(input_shape) + np.asarray(dy, np.float64) / (input_shape[2] * input_shape[3])


def _means(x: Array, out: tuple[int, ...], windows: Iterator[Window]) -> Array:
    """The sum of each window over its divisor."""
    x = np.asarray(x, np.float64)
    y = np.zeros((*x.shape[:2], *out))
    for p, q, rows, cols, divisor in windows:
        y[:, :, p, q] = x[:, :, rows, cols].sum(axis=(2, 3)) / divisor
    return y


def _spread(dy: Array, input_shape: tuple[int, ...], windows: Iterator[Window]) -> Array:
    """The gradient of :func:`_means`."""
    dy, dx = np.asarray(dy, np.float64), np.zeros(input_shape)
    for p, q, rows, cols, divisor in windows:
        dx[:, :, rows, cols] += dy[:, :, p, q, None, None] / divisor
    return dx


def _windows(
    size: tuple[int, ...],
    kernel_size: Ints,
    stride: Ints | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool = False,
) -> tuple[tuple[int, int], Iterator[Window]]:
    """The output's height and width, and each window cut to the image; its divisor is its rows times its columns,
    with or without those of the padding."""
    kernel = pair(kernel_size)
    steps = kernel if stride is None else pair(stride)
    pads = padding4(padding, (size[0], size[1]), kernel, steps)
    sides = []
    for n, k, step, before, after in zip(size, kernel, steps, pads[:2], pads[2:], strict=True):
        side = []
        for p in range(output_size(n, k, step, before, after, ceil_mode=ceil_mode)):
            begin = p * step - before
            cut = slice(max(begin, 0), min(begin + k, n))
            padded = min(begin + k, n + after) - begin
            side.append((cut, padded if count_include_pad else cut.stop - cut.start))
        sides.append(side)
    return (len(sides[0]), len(sides[1])), _crossed(*sides)


def _adaptive_windows(size: tuple[int, ...], out: tuple[int, ...]) -> Iterator[Window]:
    cuts = (
        [slice(p * n // o, -(-(p + 1) * n // o)) for p in range(o)] for n, o in zip(size, out, strict=True)
    )
    return _crossed(*([(cut, cut.stop - cut.start) for cut in side] for side in cuts))


def _crossed(rows: list[tuple[slice, int]], cols: list[tuple[slice, int]]) -> Iterator[Window]:
    """Windows from their sides: each a part of the image and how many elements it counts."""
    for (p, (r, high)), (q, (c, wide)) in itertools.product(enumerate(rows), enumerate(cols)):
        yield p, q, r, c, high * wide
