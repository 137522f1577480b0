"""Parameter updates."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.functional._arguments import check_arrays, check_in_place, record_or_run

__all__ = ["sgd_step"]


def sgd_step(
    param: Any,
    grad: Any,
    momentum_buffer: Any = None,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    implementation: str | None = None,
) -> Any:
    """One step of stochastic gradient descent on one parameter, in place, by PyTorch's formula.

    ``g = grad + weight_decay * param``; ``v = momentum * v + (1 - dampening) * g``, at first
    ``v = g``; ``param -= lr * (g + momentum * v if nesterov else v)``.

    Parameters
    ----------
    param : any shape
        Updated in place.
    grad : the shape of param
    momentum_buffer : the shape of param, optional
        What the previous step returned, updated in place; None in the first step.
    lr, momentum, weight_decay, dampening : float
    nesterov : bool

    Returns
    -------
    array of param's shape, or None
        The momentum buffer to pass to the next step; None without momentum.

    Raises
    ------
    ValueError
        Shapes differ, or param or buffer cannot be updated in place (read-only or non-contiguous).

    Examples
    --------
    >>> p = np.float32([1])
    >>> v = sgd_step(p, np.float32([2]), lr=0.25, momentum=0.5)
    >>> v = sgd_step(p, np.float32([2]), v, lr=0.25, momentum=0.5)
    >>> p.item(), v.item()
    (-0.25, 3.0)

    Sources: Polyak 1964; Sutskever et al. 2013.
    """
    op = "sgd_step"
    check_in_place(op, param=param, momentum_buffer=momentum_buffer)
    check_arrays(op, grad=grad)
    first = momentum_buffer is None
    if momentum == 0:
        momentum_buffer = None
    elif first:
        momentum_buffer = np.zeros(param.shape, np.float32)
    hyper = np.array([lr, momentum, weight_decay, dampening, nesterov, first], np.float32)
    record_or_run("sgd", [param, grad, momentum_buffer, hyper], {}, implementation=implementation)
    return momentum_buffer
