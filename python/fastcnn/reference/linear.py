"""The fully connected layer."""

from __future__ import annotations

import numpy as np

from .geometry import Array

__all__ = ["linear", "linear_backward"]


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``y = x weight^T + bias``. x (N, I), weight (O, I), bias (O,) -> y (N, O).

    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5]))
    array([[11.5]])
    """
    y = np.asarray(x, np.float64) @ np.asarray(weight, np.float64).T
    return y if bias is None else y + np.asarray(bias, np.float64)


def linear_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """``dx = dy weight``, ``dweight = dy^T x``, ``dbias = sum_n dy``.

    dy (N, O) -> dx (N, I), dweight (O, I), dbias (O,).

    >>> linear_backward(np.array([[1.0]]), np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]))
    (array([[3., 4.]]), array([[1., 2.]]), array([1.]))
    """
    dy, x, weight = (np.asarray(a, np.float64) for a in (dy, x, weight))
    return dy @ weight, dy.T @ x, dy.sum(axis=0)
