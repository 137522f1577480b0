"""Two-dimensional convolution (cross-correlation, as every framework computes it).

Sources: LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.A; groups:
Krizhevsky et al. 2012; dilation: Yu & Koltun 2016.
"""

from __future__ import annotations

import numpy as np

from .geometry import Array, Ints, Padding, output_size, padding4, pair, taps

__all__ = ["conv2d", "conv2d_backward"]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Array:
    """``y[n,o,p,q] = bias[o] + sum_{c,i,j} weight[o,c,i,j] x[n, c, p*sh + i*dh - top, q*sw + j*dw - left]``.

    x (N, IC, H, W), weight (OC, IC / groups, KH, KW), bias (OC,) -> y (N, OC, OH, OW). The channels c are
    those of the group of o; outside the image x is zero.

    >>> conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))
    array([[[[4., 4.],
             [4., 4.]]]])
    """
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    xp, _, out = _padded(x, weight.shape, stride, padding, dilation)
    n, ic, oc, g = x.shape[0], x.shape[1], weight.shape[0], groups
    y = np.zeros((n, g, oc // g, *out))
    for i, j, (rows, cols) in taps(weight.shape[2:], pair(stride), pair(dilation), out):
        tap = xp[:, :, rows, cols].reshape(n, g, ic // g, *out)
        w_ij = weight[:, :, i, j].reshape(g, oc // g, ic // g)
        y += np.einsum("ngchw,goc->ngohw", tap, w_ij, optimize=True)
    y = y.reshape(n, oc, *out)
    return y if bias is None else y + np.asarray(bias, np.float64)[:, None, None]


def conv2d_backward(
    dy: Array,
    x: Array,
    weight: Array,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """Each product of the forward pass hands dy to both its factors; the bias collects dy.

    dy (N, OC, OH, OW) -> dx (N, IC, H, W), dweight (OC, IC / groups, KH, KW), dbias (OC,).

    >>> dy, x, weight = np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    >>> dx, dweight, dbias = conv2d_backward(dy, x, weight)
    >>> dx[0, 0], dbias
    (array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]]), array([4.]))
    """
    dy, x, weight = (np.asarray(a, np.float64) for a in (dy, x, weight))
    xp, (top, left), out = _padded(x, weight.shape, stride, padding, dilation)
    n, ic, oc, g = x.shape[0], x.shape[1], weight.shape[0], groups
    dxp, dweight = np.zeros_like(xp), np.zeros_like(weight)
    dy_g = dy.reshape(n, g, oc // g, *out)
    for i, j, (rows, cols) in taps(weight.shape[2:], pair(stride), pair(dilation), out):
        tap = xp[:, :, rows, cols].reshape(n, g, ic // g, *out)
        w_ij = weight[:, :, i, j].reshape(g, oc // g, ic // g)
        dweight[:, :, i, j] = np.einsum("ngohw,ngchw->goc", dy_g, tap, optimize=True).reshape(oc, ic // g)
        dtap = np.einsum("ngohw,goc->ngchw", dy_g, w_ij, optimize=True)
        dxp[:, :, rows, cols] += dtap.reshape(n, ic, *out)
    dx = dxp[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    return dx, dweight, dy.sum(axis=(0, 2, 3))


def _padded(
    x: Array, weight_shape: tuple[int, ...], stride: Ints, padding: Padding, dilation: Ints
) -> tuple[Array, tuple[int, int], tuple[int, int]]:
    """The image in its frame of zeros, the frame's (top, left), and the output's height and width."""
    size, kernel, s, d = x.shape[2:], (weight_shape[2], weight_shape[3]), pair(stride), pair(dilation)
    top, left, bottom, right = padding4(padding, size, kernel, s, d)
    oh = output_size(size[0], kernel[0], s[0], top, bottom, d[0])
    ow = output_size(size[1], kernel[1], s[1], left, right, d[1])
    xp = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    return xp, (top, left), (oh, ow)
