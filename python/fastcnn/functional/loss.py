"""Softmax and cross-entropy in one: the loss of classification."""

from __future__ import annotations

from typing import Any

from fastcnn._results import Loss, pass_of
from fastcnn.functional._arguments import Operand, check_arrays, check_labels, is_symbolic, record_or_run

__all__ = ["cross_entropy", "cross_entropy_backward"]


def cross_entropy(
    logits: Operand,
    labels: Any,
    reduction: str = "mean",
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Any:
    """``-log softmax(logits)[n, labels[n]]``, averaged or added over the batch.

    Parameters
    ----------
    logits : (N, C)
        Not normalised: the softmax is part of the loss.
    labels : (N,) integers in [0, C)
    reduction : "mean" or "sum"

    Returns
    -------
    numpy.float32
        Of the result of a module in training mode a number with ``backward()``; while tracing a value of shape (1,).
        The mean over an empty batch is NaN.

    Raises
    ------
    ValueError
        A label is outside [0, C): the message names its index and value.

    Examples
    --------
    >>> round(float(cross_entropy(np.zeros((2, 4), np.float32), np.array([0, 3]))), 4)  # log 4
    1.3863

    Source: Bridle 1990.
    """
    loss, gradient, _ = _run("cross_entropy", logits, labels, reduction, layout, implementation)
    if is_symbolic(loss):
        return loss
    return loss[0] if pass_of(logits) is None else Loss.of(loss[0], logits, gradient)


def cross_entropy_backward(
    logits: Operand,
    labels: Any,
    reduction: str = "mean",
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """Gradient of :func:`cross_entropy`: ``softmax(logits) - onehot(labels)``, over N for "mean".

    Examples
    --------
    >>> cross_entropy_backward(np.zeros((1, 2), np.float32), [1]).tolist()
    [[0.5, -0.5]]
    """
    return _run("cross_entropy_backward", logits, labels, reduction, layout, implementation)[1]


def _run(
    op: str, logits: Operand, labels: Any, reduction: str, layout: str, implementation: str | None
) -> Any:
    """The loss (1,), its gradient (N, C), and the number of rows whose largest logit is the label (1,)."""
    if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
        raise ValueError(f"{op}: expected reduction 'mean' or 'sum', got {reduction!r}")
    check_arrays(op, logits=logits)
    inputs = [logits, check_labels(op, labels, logits)]
    return record_or_run("softmax_cross_entropy", inputs, {"reduction": reduction}, layout, implementation)
