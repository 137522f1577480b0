"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import _core
from fastcnn._results import Loss
from fastcnn.functional import _arguments
from fastcnn.nn.tracing import Value, record

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss:
    """Softmax and cross-entropy of logits (N, C) and integer labels (N,).

    Parameters
    ----------
    reduction : "mean" or "sum"
        Over the batch.
    weight, label_smoothing
        PyTorch's, with the only values there are (None, 0), by name.

    Examples
    --------
    >>> import numpy as np
    >>> criterion = CrossEntropyLoss()
    >>> round(float(criterion(np.zeros((2, 4), np.float32), np.array([0, 3]))), 4)
    1.3863
    >>> criterion.backward().shape
    (2, 4)
    """

    def __init__(self, reduction: str = "mean", *, weight: None = None, label_smoothing: float = 0.0) -> None:
        _arguments.only("CrossEntropyLoss", "weight", weight, None)
        _arguments.only("CrossEntropyLoss", "label_smoothing", label_smoothing, 0.0, 0)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"CrossEntropyLoss: expected reduction 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction
        self._gradient: np.ndarray | None = None

    def __call__(self, logits: np.ndarray, labels: Any) -> Loss:
        """The loss, a number with a ``backward()``; what :meth:`backward` needs is kept."""
        _arguments.check_arrays("CrossEntropyLoss", logits=logits)
        labels = _arguments.check_labels("CrossEntropyLoss", labels, logits)
        attrs = {"reduction": self.reduction}
        loss, self._gradient, _ = _core.run("softmax_cross_entropy", [logits, labels], attrs)
        return Loss.of(loss[0], logits, self._gradient)

    def backward(self) -> np.ndarray:
        """Gradient of the last loss with respect to its logits, (N, C)."""
        if self._gradient is None:
            raise ValueError("CrossEntropyLoss.backward: compute a loss first")
        return self._gradient

    def record(self, logits: Value, labels: Value, divisor: Value | None = None) -> tuple[Value, Value]:
        """(sum of the losses, number of rows whose largest logit is the label), on traced values.

        The sum, and with it the gradient, is divided by ``divisor`` (1,), which may differ from run to run.
        """
        if len(logits.shape) != 2:
            hint = _arguments.FLAT if len(logits.shape) > 2 else ""
            got = _arguments.shape_text(logits.shape)
            raise ValueError(f"CrossEntropyLoss: expected logits of shape (N, classes), got {got}{hint}")
        operands = [logits, labels] if divisor is None else [logits, labels, divisor]
        loss, _, correct = record("softmax_cross_entropy", operands, {"reduction": "sum"})
        return loss, correct

    def divisor(self, samples: int) -> int:
        """What the sum over a batch is divided by."""
        return samples if self.reduction == "mean" else 1

    def __repr__(self) -> str:
        return f"CrossEntropyLoss(reduction={self.reduction!r})"
