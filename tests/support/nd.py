"""Convolution, pooling and batch norm in float64 over any number of spatial dimensions: the oracle of ranks 3 and 5.

Attributes are the core's: a stride, dilation and size per dimension, padding as all befores, then all afters.
Sources: as in fastcnn.reference, which says the same in two dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Index = tuple[slice, ...]
Window = tuple[tuple[int, ...], Index, int]  # output pixel, input pixels, divisor


def full(attrs: dict[str, Any], rank: int) -> tuple[list[int], list[int], list[int], list[int], int]:
    """stride, before, after, dilation, groups."""
    padding = attrs.get("padding", [0] * (2 * rank))
    ones = [1] * rank
    dilation, stride = attrs.get("dilation", ones), attrs.get("stride", ones)
    return stride, padding[:rank], padding[rank:], dilation, attrs.get("groups", 1)


def _taps(size: Sequence[int], kernel: Sequence[int], attrs: dict[str, Any]) -> Iterator[tuple[Any, Index]]:
    """Each tap, and the pixels of the padded image that it meets."""
    stride, before, after, dilation, _ = full(attrs, len(size))
    sides = zip(size, kernel, stride, before, after, dilation, strict=True)
    out = [(n + b + a - (k - 1) * d - 1) // s + 1 for n, k, s, b, a, d in sides]
    for tap in np.ndindex(*kernel):
        at = zip(tap, dilation, stride, out, strict=True)
        yield tap, tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, s, o in at)


def _padded(x: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    _, before, after, _, _ = full(attrs, x.ndim - 2)
    return np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(before, after, strict=True)])


def conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, attrs: dict[str, Any]) -> np.ndarray:
    g, xp, y = attrs.get("groups", 1), _padded(x, attrs), None
    for tap, at in _taps(x.shape[2:], w.shape[2:], attrs):
        part = xp[(slice(None), slice(None), *at)]
        out = part.shape[2:]
        part = part.reshape(len(x), g, x.shape[1] // g, int(np.prod(out)))
        kernel = w[(slice(None), slice(None), *tap)].reshape(g, -1, w.shape[1])
        product = np.einsum("ngcp,goc->ngop", part, kernel).reshape(len(x), len(w), *out)
        y = product if y is None else y + product
    assert y is not None
    return y if bias is None else y + bias.astype(np.float64).reshape(-1, *[1] * (x.ndim - 2))


def conv_backward_data(dy: np.ndarray, w: np.ndarray, size: Sequence[int], attrs: dict) -> np.ndarray:
    g, (n, oc) = attrs.get("groups", 1), dy.shape[:2]
    x = np.zeros((n, w.shape[1] * g, *size))
    dxp = _padded(x, attrs)
    dy = dy.astype(np.float64).reshape(n, g, oc // g, int(np.prod(dy.shape[2:])))
    for tap, at in _taps(size, w.shape[2:], attrs):
        kernel = w[(slice(None), slice(None), *tap)].reshape(g, -1, w.shape[1])
        part = dxp[(slice(None), slice(None), *at)]
        part += np.einsum("ngop,goc->ngcp", dy, kernel).reshape(part.shape)
    _, before, _, _, _ = full(attrs, len(size))
    inside = tuple(slice(b, b + s) for b, s in zip(before, size, strict=True))
    return dxp[(slice(None), slice(None), *inside)]


def conv_backward_weights(
    x: np.ndarray, dy: np.ndarray, kernel: Sequence[int], attrs: dict
) -> tuple[np.ndarray, np.ndarray]:
    g, xp, (n, oc) = attrs.get("groups", 1), _padded(x, attrs), dy.shape[:2]
    dw = np.zeros((oc, x.shape[1] // g, *kernel))
    pixels = int(np.prod(dy.shape[2:]))
    dyg = dy.astype(np.float64).reshape(n, g, oc // g, pixels)
    for tap, at in _taps(x.shape[2:], kernel, attrs):
        part = xp[(slice(None), slice(None), *at)].reshape(n, g, x.shape[1] // g, pixels)
        dw[(slice(None), slice(None), *tap)] = np.einsum("ngop,ngcp->goc", dyg, part).reshape(dw.shape[:2])
    return dw, dy.astype(np.float64).sum(axis=(0, *range(2, dy.ndim)))


def pool_windows(size: Sequence[int], attrs: dict[str, Any]) -> tuple[tuple[int, ...], list[Window]]:
    """Output sizes and all windows, of fixed ones ("kernel_size"), adaptive ones ("output_size") or the whole."""
    sides = []
    for d, n in enumerate(size):
        if "kernel_size" not in attrs:
            out = attrs.get("output_size", [1] * len(size))[d]
            sides.append([(o * n // out, -(-(o + 1) * n // out), None) for o in range(out)])
            continue
        k, padding = attrs["kernel_size"][d], attrs.get("padding", [0] * (2 * len(size)))
        s, b, a = attrs.get("stride", attrs["kernel_size"])[d], padding[d], padding[d + len(size)]
        span, ceil = n + b + a - k, attrs.get("ceil_mode", 0)
        out = (-(-span // s) if ceil else span // s) + 1
        out -= bool(ceil and (out - 1) * s >= n + b)
        ends = [(o * s - b, min(o * s - b + k, n + a)) for o in range(out)]
        counted = attrs.get("count_include_pad", 1)
        sides.append([(max(i, 0), min(j, n), j - i if counted else None) for i, j in ends])
    windows = []
    for o in np.ndindex(*map(len, sides)):
        parts = [side[i] for side, i in zip(sides, o, strict=True)]
        count = int(np.prod([j - i if c is None else c for i, j, c in parts]))
        windows.append((o, tuple(slice(i, j) for i, j, _ in parts), count))
    return tuple(map(len, sides)), windows


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape[:2], int(np.prod(x.shape[2:])))


def max_pool(x: np.ndarray, attrs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The largest of each window, and where it stands in the whole window, padding counted."""
    size, kernel = x.shape[2:], attrs["kernel_size"]
    out, windows = pool_windows(size, attrs)
    y, index = np.zeros((*x.shape[:2], *out)), np.zeros((*x.shape[:2], *out), np.int64)
    stride, before = attrs.get("stride", kernel), attrs.get("padding", [0] * (2 * len(size)))
    for o, at, _ in windows:
        window = x[(slice(None), slice(None), *at)]
        best = np.unravel_index(_flat(window).argmax(axis=2), window.shape[2:])
        y[(slice(None), slice(None), *o)] = window.max(axis=tuple(range(2, x.ndim)))
        place = np.zeros(x.shape[:2], np.int64)
        for d, k in enumerate(kernel):
            place = place * k + best[d] + at[d].start - (o[d] * stride[d] - before[d])
        index[(slice(None), slice(None), *o)] = place
    return y, index


def max_pool_backward(dy: np.ndarray, x: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    dx = np.zeros(x.shape)
    for o, at, _ in pool_windows(x.shape[2:], attrs)[1]:
        window = x[(slice(None), slice(None), *at)]
        flat = _flat(window)
        chosen = np.arange(flat.shape[2]) == flat.argmax(axis=2)[..., None]
        gradient = chosen * dy[(slice(None), slice(None), *o)][..., None]
        dx[(slice(None), slice(None), *at)] += gradient.reshape(window.shape)
    return dx


def avg_pool(x: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    out, windows = pool_windows(x.shape[2:], attrs)
    y = np.zeros((*x.shape[:2], *out))
    for o, at, count in windows:
        part = x[(slice(None), slice(None), *at)].astype(np.float64)
        y[(slice(None), slice(None), *o)] = part.sum(axis=tuple(range(2, x.ndim))) / count
    return y


def avg_pool_backward(dy: np.ndarray, size: Sequence[int], attrs: dict[str, Any]) -> np.ndarray:
    dx = np.zeros((*dy.shape[:2], *size))
    for o, at, count in pool_windows(size, attrs)[1]:
        part = dy[(slice(None), slice(None), *o)].astype(np.float64) / count
        dx[(slice(None), slice(None), *at)] += part.reshape(*dy.shape[:2], *[1] * len(size))
    return dx


def per_channel(v: np.ndarray, ndim: int) -> np.ndarray:
    return np.asarray(v, np.float64).reshape(-1, *[1] * (ndim - 2))
