"""Pooling: one number per window and channel.

Sources: max: Ranzato et al. 2007; average (subsampling): LeCun et al. 1998, section II.B; overlapping
windows: Krizhevsky et al. 2012, section 3.4; global average: Lin et al. 2014, "Network in network".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .geometry import Array, Ints, Padding, output_size, padding4, pair

Window = tuple[int, int, slice, slice]


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
    for p, q, rows, cols in windows:
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
    x = np.asarray(x, np.float64)
    out, windows = _windows(x.shape[2:], kernel_size, stride, padding, ceil_mode)
    count = _counts(x.shape[2:], out, kernel_size, stride, padding, count_include_pad)
    y = np.zeros((*x.shape[:2], *out))
    for p, q, rows, cols in windows:
        y[:, :, p, q] = x[:, :, rows, cols].sum(axis=(2, 3)) / count[p, q]
    return y


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
    dy = np.asarray(dy, np.float64)
    out, windows = _windows(input_shape[2:], kernel_size, stride, padding, ceil_mode)
    count = _counts(input_shape[2:], out, kernel_size, stride, padding, count_include_pad)
    dx = np.zeros(input_shape)
    for p, q, rows, cols in windows:
        dx[:, :, rows, cols] += dy[:, :, p, q, None, None] / count[p, q]
    return dx


def adaptive_avg_pool2d(x: Array, output_size: Ints) -> Array:
    """The mean over window p = rows floor(p*H/OH) up to ceil((p+1)*H/OH), columns alike.

    >>> adaptive_avg_pool2d(np.arange(5.0).reshape(1, 1, 1, 5), (1, 2))
    array([[[[1., 3.]]]])
    """
    x = np.asarray(x, np.float64)
    out = pair(output_size)
    y = np.zeros((*x.shape[:2], *out))
    for p, q, rows, cols in _adaptive_windows(x.shape[2:], out):
        y[:, :, p, q] = x[:, :, rows, cols].mean(axis=(2, 3))
    return y


def adaptive_avg_pool2d_backward(dy: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """Every element of a window gets dy over the window's number of elements.

    >>> adaptive_avg_pool2d_backward(np.array([[[[3.0, 6.0]]]]), (1, 1, 1, 5))
    array([[[[1., 1., 3., 2., 2.]]]])
    """
    dy = np.asarray(dy, np.float64)
    dx = np.zeros(input_shape)
    for p, q, rows, cols in _adaptive_windows(input_shape[2:], dy.shape[2:]):
        count = (rows.stop - rows.start) * (cols.stop - cols.start)
        dx[:, :, rows, cols] += dy[:, :, p, q, None, None] / count
    return dx


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


def _geometry(
    size: tuple[int, int], kernel_size: Ints, stride: Ints | None, padding: Padding
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    kernel = pair(kernel_size)
    s = kernel if stride is None else pair(stride)
    return kernel, s, padding4(padding, size, kernel, s)


def _windows(
    size: tuple[int, int], kernel_size: Ints, stride: Ints | None, padding: Padding, ceil_mode: bool
) -> tuple[tuple[int, int], Iterator[Window]]:
    """The output's height and width, and each window (p, q, rows, columns) cut to the image."""
    (kh, kw), (sh, sw), (top, left, bottom, right) = _geometry(size, kernel_size, stride, padding)
    oh = output_size(size[0], kh, sh, top, bottom, ceil_mode=ceil_mode)
    ow = output_size(size[1], kw, sw, left, right, ceil_mode=ceil_mode)

    def cut(p: int, k: int, s: int, before: int, n: int) -> slice:
        return slice(max(p * s - before, 0), min(p * s - before + k, n))

    windows = (
        (p, q, cut(p, kh, sh, top, size[0]), cut(q, kw, sw, left, size[1]))
        for p in range(oh)
        for q in range(ow)
    )
    return (oh, ow), windows


def _counts(
    size: tuple[int, int],
    out: tuple[int, int],
    kernel_size: Ints,
    stride: Ints | None,
    padding: Padding,
    count_include_pad: bool,
) -> npt.NDArray[np.int64]:
    """The divisor of each window: its rows times its columns, with or without those of the padding."""
    kernel, s, (top, left, bottom, right) = _geometry(size, kernel_size, stride, padding)
    sides = []
    for n, o, k, step, before, after in zip(size, out, kernel, s, (top, left), (bottom, right), strict=True):
        begin = np.arange(o) * step - before
        end = np.minimum(begin + k, n + after)
        if not count_include_pad:
            begin, end = np.maximum(begin, 0), np.minimum(end, n)
        sides.append(end - begin)
    return np.outer(sides[0], sides[1])


def _adaptive_windows(size: tuple[int, ...], out: tuple[int, ...]) -> Iterator[Window]:
    for p in range(out[0]):
        for q in range(out[1]):
            rows = slice(p * size[0] // out[0], -(-(p + 1) * size[0] // out[0]))
            cols = slice(q * size[1] // out[1], -(-(q + 1) * size[1] // out[1]))
            yield p, q, rows, cols
