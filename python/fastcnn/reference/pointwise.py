"""Activations and softmax. Derivatives are written in terms of the output y, which is what a network keeps, or
of the input x where y does not tell.

Sources: tanh and sigmoid: LeCun et al. 1998, appendix A; ReLU: Nair & Hinton 2010; leaky ReLU: Maas et al. 2013;
SiLU: Elfwing et al. 2018; softmax: Bridle 1990.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .geometry import Array

__all__ = [
    "leaky_relu", "leaky_relu_backward", "offset", "offset_backward", "relu", "relu_backward", "sigmoid",
    "sigmoid_backward", "silu", "silu_backward", "softmax", "softmax_backward", "tanh", "tanh_backward",
]  # fmt: skip


def relu(x: Array) -> Array:
    """``max(x, 0)``; NaN stays NaN.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return np.maximum(np.asarray(x, np.float64), 0.0)


def relu_backward(dy: Array, y: Array) -> Array:
    """0 where y <= 0, else dy: the slope at 0 is taken as 0, and dy passes where y is NaN.

    >>> relu_backward(np.array([5.0, 5.0]), np.array([0.0, 2.0]))
    array([0., 5.])
    """
    return np.where(np.asarray(y) <= 0, 0.0, np.asarray(dy, np.float64))


def tanh(x: Array) -> Array:
    """``(e^x - e^-x) / (e^x + e^-x)``.

    >>> tanh(np.array([0.0]))
    array([0.])
    """
    return np.tanh(np.asarray(x, np.float64))


def tanh_backward(dy: Array, y: Array) -> Array:
    """``dy * (1 - y^2)``.

    >>> tanh_backward(np.array([2.0]), np.array([0.5]))
    array([1.5])
    """
    return np.asarray(dy, np.float64) * (1 - np.asarray(y, np.float64) ** 2)


def sigmoid(x: Array) -> Array:
    """``1 / (1 + e^-x)``, written with tanh so that no exponential overflows.

    >>> sigmoid(np.array([0.0]))
    array([0.5])
    """
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float64)))


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """``dy * y * (1 - y)``.

    >>> sigmoid_backward(np.array([4.0]), np.array([0.5]))
    array([1.])
    """
    y = np.asarray(y, np.float64)
    return np.asarray(dy, np.float64) * y * (1 - y)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """x where it is positive, else ``negative_slope * x``.

    >>> leaky_relu(np.array([-2.0, 2.0]), 0.25)
    array([-0.5,  2. ])
    """
    x = np.asarray(x, np.float64)
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_backward(dy: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """dy where x > 0, else ``negative_slope * dy``.

    >>> leaky_relu_backward(np.array([4.0, 4.0]), np.array([0.0, 2.0]), 0.25)
    array([1., 4.])
    """
    dy = np.asarray(dy, np.float64)
    return np.where(np.asarray(x) > 0, dy, negative_slope * dy)


def silu(x: Array) -> Array:
    """``x / (1 + e^-x)``, with its limit 0 at minus infinity.

    >>> silu(np.array([0.0, -np.inf]))
    array([ 0., -0.])
    """
    x = np.maximum(np.asarray(x, np.float64), -1e3)
    return x * sigmoid(x)


def silu_backward(dy: Array, x: Array) -> Array:
    """``dy * s * (1 + x * (1 - s))`` with s = sigmoid(x).

    >>> silu_backward(np.array([4.0]), np.array([0.0]))
    array([2.])
    """
    x = np.clip(np.asarray(x, np.float64), -1e3, 1e3)
    s = sigmoid(x)
    return np.asarray(dy, np.float64) * s * (1 + x * (1 - s))


def offset(x: Array, amount: float = 0.0) -> Array:
    """``x + amount``.

    >>> offset(np.array([1.0]), 0.5)
    array([1.5])
    """
    return np.asarray(x, np.float64) + amount


def offset_backward(dy: Array, y: Array, amount: float = 0.0) -> Array:
    """dy.

    >>> offset_backward(np.array([2.0]), np.array([1.5]), 0.5)
    array([2.])
    """
    return np.asarray(dy, np.float64)


# The elementwise functions of the core by name: value of (x, **parameters), gradient of (dy, x or y, **parameters).
FUNCTIONS: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "relu": (relu, relu_backward),
    "tanh": (tanh, tanh_backward),
    "sigmoid": (sigmoid, sigmoid_backward),
    "leaky_relu": (leaky_relu, leaky_relu_backward),
    "offset": (offset, offset_backward),
    "silu": (silu, silu_backward),
}


def softmax(x: Array) -> Array:
    """``y[n,c] = e^x[n,c] / sum_k e^x[n,k]``; the row's maximum is taken off first, which changes nothing but
    overflow. x (N, C) -> y (N, C).

    >>> softmax(np.array([[7.0, 7.0]]))
    array([[0.5, 0.5]])
    """
    x = np.asarray(x, np.float64)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(dy: Array, y: Array) -> Array:
    """``dx = y * (dy - sum_k dy[k] y[k])``. dy, y (N, C) -> dx (N, C).

    >>> softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    dy, y = np.asarray(dy, np.float64), np.asarray(y, np.float64)
    return y * (dy - (dy * y).sum(axis=1, keepdims=True))
