"""The cross-entropy of softmax probabilities. Source: Bridle 1990; Bishop 2006, equations 4.108 and 4.109."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .geometry import Array
from .pointwise import softmax

__all__ = ["correct", "cross_entropy", "cross_entropy_backward"]

Labels = npt.NDArray[np.int64]


def cross_entropy(logits: Array, labels: Labels, reduction: str = "mean") -> float:
    """``-log softmax(logits)[n, labels[n]]``, averaged ("mean") or added ("sum") over the batch.

    logits (N, C), labels (N,) in [0, C) -> a number. The mean over an empty batch is NaN, its sum 0.

    >>> round(cross_entropy(np.zeros((2, 4)), np.array([0, 3])), 4)  # log 4
    1.3863
    """
    x = np.asarray(logits, np.float64)
    x = x - x.max(axis=1, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    losses = -log_p[np.arange(len(labels)), labels]
    if reduction == "sum":
        return float(losses.sum())
    return float(losses.mean()) if len(labels) else float("nan")


def cross_entropy_backward(logits: Array, labels: Labels, reduction: str = "mean") -> Array:
    """``softmax(logits) - onehot(labels)``, over N for "mean". logits (N, C) -> dlogits (N, C).

    >>> cross_entropy_backward(np.zeros((1, 2)), np.array([1]))
    array([[ 0.5, -0.5]])
    """
    d = softmax(logits)
    d[np.arange(len(labels)), labels] -= 1
    return d / len(labels) if reduction == "mean" and len(labels) else d


def correct(logits: Array, labels: Labels) -> int:
    """How many rows have their largest logit (the first of equal ones) at the label.

    >>> correct(np.array([[1.0, 2.0], [3.0, 3.0]]), np.array([1, 0]))
    2
    """
    return int((np.asarray(logits).argmax(axis=1) == labels).sum()) if len(labels) else 0
