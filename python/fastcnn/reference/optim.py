"""Stochastic gradient descent.

Sources: momentum: Polyak 1964; Nesterov's form: Sutskever et al. 2013, as PyTorch writes it (the learning
rate multiplies the whole step); weight decay is the gradient of ``weight_decay / 2 * |p|^2``.
"""

from __future__ import annotations

import numpy as np

from .geometry import Array

__all__ = ["sgd_step"]


def sgd_step(
    param: Array,
    grad: Array,
    momentum_buffer: Array | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> tuple[Array, Array | None]:
    """The parameter and the momentum buffer after one step. No buffer (None) is the first step.

    >>> p, v = sgd_step(np.array([1.0]), np.array([2.0]), lr=0.1, momentum=0.9)
    >>> p, v = sgd_step(p, np.array([2.0]), v, lr=0.1, momentum=0.9)
    >>> p.round(12), v.round(12)
    (array([0.42]), array([3.8]))
    """
    param = np.asarray(param, np.float64)
    step = np.asarray(grad, np.float64) + weight_decay * param
    if momentum != 0:
        if momentum_buffer is None:
            momentum_buffer = step
        else:
            momentum_buffer = momentum * np.asarray(momentum_buffer, np.float64) + (1 - dampening) * step
        step = step + momentum * momentum_buffer if nesterov else momentum_buffer
    return param - lr * step, momentum_buffer
