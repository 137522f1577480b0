"""Functions of ``torch`` itself, for networks that call them so: with its defaults, and the one meaning they can
have here. They are those of `fastcnn.functional`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.functional import concat as _concat
from fastcnn.functional import flatten as _flatten
from fastcnn.functional import relu, sigmoid, softmax, tanh
from fastcnn.functional._arguments import Operand

__all__ = ["cat", "concat", "flatten", "relu", "sigmoid", "softmax", "tanh"]


def flatten(x: Operand, start_dim: int = 0, end_dim: int = -1) -> Operand:
    """``torch.flatten``: the batch stays, so ``start_dim`` must be 1.

    >>> flatten(np.zeros((2, 3, 4, 5), np.float32), 1).shape
    (2, 60)
    """
    return _flatten(x, start_dim, end_dim)


def cat(tensors: Sequence[Operand], dim: int = 0) -> Operand:
    """``torch.cat``: along the channels, so ``dim`` must be 1.

    >>> cat([np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 5, 3, 3), np.float32)], 1).shape
    (1, 7, 3, 3)
    """
    return _concat(tensors, dim)


concat = cat
