"""Passes over a data set: one, or one after the other, each in an order of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcnn.data.inputs import as_dataset
from fastcnn.data.order import permutation

Batch = tuple[np.ndarray, np.ndarray]


def batches(data: Any, batch_size: int, *, seed: int | None = None, epoch: int = 0) -> Iterator[Batch]:
    """The batches of one pass over the data.

    Parameters
    ----------
    data : Dataset or a pair (images, labels)
    batch_size : int
        Images per batch; the last one may be smaller.
    seed : int, optional
        Shuffles, differently in each epoch, and lets the data set make its random changes. None: in order,
        unchanged.
    epoch : int
        Which pass this is.

    Yields
    ------
    tuple of numpy.ndarray
        Network input (N, C, H, W) float32 and labels (N,) int64.

    Examples
    --------
    >>> from fastcnn.data import ArrayDataset
    >>> data = ArrayDataset(np.zeros((5, 4, 4), np.uint8), [0, 1, 2, 3, 4])
    >>> [y.tolist() for _, y in batches(data, 2)]
    [[0, 1], [2, 3], [4]]
    >>> [y.tolist() for _, y in batches(data, 2, seed=1)] == [y.tolist() for _, y in batches(data, 2, seed=1)]
    True
    """
    dataset, size, seed = as_dataset(data), _batch_size(batch_size), _seed(seed)
    order = np.arange(len(dataset)) if seed is None else permutation((seed, epoch), len(dataset))
    key = None if seed is None else (seed, epoch)
    return (dataset.batch(order[i : i + size], key) for i in range(0, len(order), size))


def _batch_size(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"batch_size must be an integer, got {n!r:.60}")
    if n < 1:
        raise ValueError(f"batch_size must be at least 1, got {n}")
    return int(n)


def _seed(seed: Any) -> int | None:
    if seed is None:
        return None
    if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an integer or None, got {seed!r:.60}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return int(seed)


class Loader:
    """Batches for training loops of your own: each iteration is one pass, with an order of its own.

    Parameters
    ----------
    data : Dataset or a pair (images, labels)
    batch_size : int
        Images per batch; the last one may be smaller.
    seed : int, optional
        Shuffles, and lets the data set make its random changes; equal seeds give equal epochs. None: in order,
        unchanged.
    shuffle : bool, optional
        PyTorch's word: True is ``seed=0`` where none is given.

    Attributes
    ----------
    epoch : int
        The pass that comes next, from 0; set it to go on where another run ended.

    Examples
    --------
    >>> from fastcnn.data import ArrayDataset
    >>> loader = Loader(ArrayDataset(np.zeros((50, 4, 4), np.uint8), np.arange(50)), 25, seed=0)
    >>> first, second = ([y.tolist() for _, y in loader] for epoch in range(2))
    >>> len(loader), loader.epoch, first == second, sorted(sum(first, [])) == sorted(sum(second, []))
    (2, 2, False, True)
    """

    def __init__(
        self, data: Any, batch_size: int = 64, seed: int | None = None, *, shuffle: bool | None = None
    ) -> None:
        if not isinstance(shuffle, (bool, np.bool_, type(None))) or (shuffle is False and seed is not None):
            raise TypeError(f"Loader: shuffle must be True, or False without a seed, got {shuffle!r:.60}")
        self.data = as_dataset(data)
        self.batch_size = _batch_size(batch_size)
        self.seed, self.epoch = _seed(0 if shuffle and seed is None else seed), 0

    def __len__(self) -> int:
        """Batches in one pass."""
        return -(-len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return batches(self.data, self.batch_size, seed=self.seed, epoch=epoch)

    def __repr__(self) -> str:
        return f"Loader({self.data!r}, batch_size={self.batch_size}, seed={self.seed}, epoch={self.epoch})"
