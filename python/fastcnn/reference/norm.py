"""Batch normalisation. Source: Ioffe & Szegedy 2015, "Batch normalization", algorithms 1 and 2."""

from __future__ import annotations

import numpy as np

from .geometry import Array

__all__ = ["batch_norm", "batch_norm_backward", "batch_norm_stats"]

_PER_CHANNEL = (0, 2, 3)  # the axes summed over: everything but the channels


def batch_norm_stats(
    x: Array, running_mean: Array, running_var: Array, momentum: float = 0.1, eps: float = 1e-5
) -> tuple[Array, Array, Array, Array]:
    """Mean and 1 / sqrt(variance + eps) of each channel, and the running statistics after this batch.

    x (N, C, H, W) -> mean, rstd, running_mean, running_var, each (C,). The batch is normalised with the
    variance over m = N*H*W; the running variance tracks the unbiased one, over m - 1:
    ``running = (1 - momentum) * running + momentum * now``.

    >>> mean, rstd, running_mean, running_var = batch_norm_stats(
    ...     np.array([[[[1.0, 3.0]]]]), np.zeros(1), np.ones(1), momentum=0.5, eps=0.0)
    >>> mean.item(), rstd.item(), running_mean.item(), running_var.item()
    (2.0, 1.0, 1.0, 1.5)
    """
    x = np.asarray(x, np.float64)
    m = x.shape[0] * x.shape[2] * x.shape[3]
    mean, var = x.mean(axis=_PER_CHANNEL), x.var(axis=_PER_CHANNEL)
    running_mean = (1 - momentum) * np.asarray(running_mean, np.float64) + momentum * mean
    running_var = (1 - momentum) * np.asarray(running_var, np.float64) + momentum * var * m / (m - 1)
    return mean, 1 / np.sqrt(var + eps), running_mean, running_var


def batch_norm(
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """``y = weight * (x - mean) * rstd + bias`` per channel, with the batch's statistics or the running ones.

    x (N, C, H, W) -> y (N, C, H, W) and the running mean and variance (C,), changed only in training.

    >>> y, _, _ = batch_norm(np.array([[[[1.0, 3.0]]]]), np.zeros(1), np.ones(1), training=True, eps=0.0)
    >>> y
    array([[[[-1.,  1.]]]])
    """
    x = np.asarray(x, np.float64)
    running_mean, running_var = np.asarray(running_mean, np.float64), np.asarray(running_var, np.float64)
    if training:
        mean, rstd, running_mean, running_var = batch_norm_stats(x, running_mean, running_var, momentum, eps)
    else:
        mean, rstd = running_mean, 1 / np.sqrt(running_var + eps)
    y = _affine((x - _c(mean)) * _c(rstd), weight, bias)
    return y, running_mean, running_var


def batch_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None = None,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """With x̂ the normalised x: ``dweight = sum dy x̂``, ``dbias = sum dy``, and in training
    ``dx = weight * rstd * (dy - mean(dy) - x̂ * mean(dy x̂))``, as mean and variance depend on x; with running
    statistics ``dx = weight * rstd * dy``.

    dy, x (N, C, H, W) -> dx (N, C, H, W), dweight (C,), dbias (C,). Running statistics are read only when not
    training.

    >>> dy, x = np.array([[[[1.0, 0.0]]]]), np.array([[[[1.0, 3.0]]]])
    >>> dx, dweight, dbias = batch_norm_backward(dy, x, eps=0.0)
    >>> dx, dweight, dbias
    (array([[[[0., 0.]]]]), array([-1.]), array([1.]))
    """
    dy, x = np.asarray(dy, np.float64), np.asarray(x, np.float64)
    if training:
        mean, rstd = x.mean(axis=_PER_CHANNEL), 1 / np.sqrt(x.var(axis=_PER_CHANNEL) + eps)
    else:
        mean = np.asarray(running_mean, np.float64)
        rstd = 1 / np.sqrt(np.asarray(running_var, np.float64) + eps)
    xhat = (x - _c(mean)) * _c(rstd)
    dweight, dbias = (dy * xhat).sum(axis=_PER_CHANNEL), dy.sum(axis=_PER_CHANNEL)
    dxhat = _affine(dy, weight, None)
    if training:
        m = x.shape[0] * x.shape[2] * x.shape[3]
        dxhat = dxhat - _affine(_c(dbias) / m + xhat * _c(dweight) / m, weight, None)
    return dxhat * _c(rstd), dweight, dbias


def _c(v: Array) -> Array:
    """A vector per channel, shaped to meet (N, C, H, W)."""
    return v[:, None, None]


def _affine(x: Array, weight: Array | None, bias: Array | None) -> Array:
    x = x if weight is None else x * _c(np.asarray(weight, np.float64))
    return x if bias is None else x + _c(np.asarray(bias, np.float64))
