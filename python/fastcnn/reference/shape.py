"""Operations that move or join values: flatten, add, concat, channel padding, slicing, subsampling.

Sources: the shortcut add and its parameter-free form A (subsample, then pad channels with zeros): He et al.
2016, "Deep residual learning", section 3.3; joining channels: Szegedy et al. 2015, Huang et al. 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .geometry import Array, Ints, pair

__all__ = [
    "add", "add_backward", "concat", "concat_backward", "flatten", "flatten_backward", "pad_channels",
    "pad_channels_backward", "slice_channels", "slice_channels_backward", "subsample", "subsample_backward",
]  # fmt: skip


def flatten(x: Array) -> Array:
    """(N, C, H, W) -> (N, C*H*W): channels outermost, then rows, then columns.

    >>> flatten(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """
    x = np.asarray(x, np.float64)
    return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))


def flatten_backward(dy: Array, input_shape: tuple[int, ...]) -> Array:
    """The inverse rearrangement.

    >>> flatten_backward(np.zeros((2, 60)), (2, 3, 4, 5)).shape
    (2, 3, 4, 5)
    """
    return np.asarray(dy, np.float64).reshape(input_shape)


def add(a: Array, b: Array) -> Array:
    """``a + b`` of equal shapes.

    >>> add(np.array([1.0]), np.array([2.0]))
    array([3.])
    """
    return np.asarray(a, np.float64) + np.asarray(b, np.float64)


def add_backward(dy: Array) -> tuple[Array, Array]:
    """Both summands get dy.

    >>> add_backward(np.array([1.0]))
    (array([1.]), array([1.]))
    """
    dy = np.asarray(dy, np.float64)
    return dy, dy.copy()


def concat(xs: Sequence[Array]) -> Array:
    """Joins along the channels: (N, C_k, H, W) each -> (N, sum C_k, H, W).

    >>> concat([np.zeros((1, 2, 3, 3)), np.zeros((1, 5, 3, 3))]).shape
    (1, 7, 3, 3)
    """
    return np.concatenate([np.asarray(x, np.float64) for x in xs], axis=1)


def concat_backward(dy: Array, channels: Sequence[int]) -> list[Array]:
    """Cuts dy back into pieces of the given numbers of channels.

    >>> [piece.shape for piece in concat_backward(np.zeros((1, 7, 3, 3)), [2, 5])]
    [(1, 2, 3, 3), (1, 5, 3, 3)]
    """
    ends = np.cumsum(channels)
    return [slice_channels(dy, int(end) - c, int(end)) for c, end in zip(channels, ends, strict=True)]


def pad_channels(x: Array, before: int, after: int) -> Array:
    """Zero channels in front and behind: (N, C, H, W) -> (N, before + C + after, H, W).

    >>> pad_channels(np.ones((1, 1, 1, 1)), 1, 2).ravel()
    array([0., 1., 0., 0.])
    """
    return np.pad(np.asarray(x, np.float64), ((0, 0), (before, after), (0, 0), (0, 0)))


def pad_channels_backward(dy: Array, before: int, after: int) -> Array:
    """The channels of dy that were there before padding.

    >>> pad_channels_backward(np.arange(4.0).reshape(1, 4, 1, 1), 1, 2).ravel()
    array([1.])
    """
    return slice_channels(dy, before, dy.shape[1] - after)


def slice_channels(x: Array, begin: int, end: int) -> Array:
    """Channels begin up to, not including, end.

    >>> slice_channels(np.arange(4.0).reshape(1, 4, 1, 1), 1, 3).ravel()
    array([1., 2.])
    """
    return np.asarray(x, np.float64)[:, begin:end]


def slice_channels_backward(dy: Array, begin: int, end: int, channels: int) -> Array:
    """dy among zeros for the channels that were left out.

    >>> slice_channels_backward(np.ones((1, 2, 1, 1)), 1, 3, 4).ravel()
    array([0., 1., 1., 0.])
    """
    return pad_channels(dy, begin, channels - end)


def subsample(x: Array, stride: Ints, begin: Ints = 0, end: Ints | None = None) -> Array:
    """``x[:, :, begin:end:sh, begin:end:sw]``; by default of whole images: (N, C, ceil(H/sh), ceil(W/sw)).

    >>> subsample(np.arange(5.0).reshape(1, 1, 1, 5), 2).ravel()
    array([0., 2., 4.])
    """
    return np.asarray(x, np.float64)[_pixels(stride, begin, end)]


def _pixels(stride: Ints, begin: Ints, end: Ints | None) -> tuple[slice, ...]:
    ends = (None, None) if end is None else pair(end)
    sides = zip(pair(begin), ends, pair(stride), strict=True)
    return (slice(None), slice(None), *(slice(b, e, s) for b, e, s in sides))


def subsample_backward(
    dy: Array,
    stride: Ints,
    input_shape: tuple[int, int, int, int],
    begin: Ints = 0,
    end: Ints | None = None,
) -> Array:
    """dy at the pixels that were taken, zero at the others.

    >>> subsample_backward(np.ones((1, 1, 1, 3)), 2, (1, 1, 1, 5)).ravel()
    array([1., 0., 1., 0., 1.])
    """
    dx = np.zeros(input_shape)
    dx[_pixels(stride, begin, end)] = dy
    return dx
