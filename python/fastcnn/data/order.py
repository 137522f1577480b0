"""The random decisions about data: which order, which shift. Each follows from a key and a position.

Philox is counter-based, and NumPy keeps its raw stream fixed for all versions and platforms (unlike the
distributions built on it), so a seed means the same thing everywhere.
"""

from __future__ import annotations

import functools

import numpy as np

_ORDER, _SHIFT = 1, 2  # separate streams for separate decisions
_MASK = (1 << 64) - 1


def _stream(key: tuple[int, int], purpose: int) -> np.random.Philox:
    seed, epoch = key
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch must not be negative, got {seed} and {epoch}")
    return np.random.Philox(key=np.array([seed & _MASK, (epoch << 8 | purpose) & _MASK], np.uint64))


def permutation(key: tuple[int, int], count: int) -> np.ndarray:
    """The numbers 0 to count - 1 in an order that depends on the key (seed, epoch) alone.

    >>> permutation((0, 0), 6).tolist() == permutation((0, 0), 6).tolist()
    True
    >>> sorted(permutation((7, 1), 4).tolist())
    [0, 1, 2, 3]
    """
    raw = np.asarray(_stream(key, _ORDER).random_raw(count), np.uint64).reshape(count)
    return np.argsort(raw, kind="stable")


def held_out(labels: np.ndarray, part: float = 0.2) -> np.ndarray:
    """(N,) bool: every fifth image of each class, or another part, in the order given. Nothing here is random.

    >>> held_out(np.array([1, 1, 1, 0, 1, 1, 1])).tolist()
    [False, False, False, False, False, True, False]
    >>> held_out(np.zeros(6, int), 0.5).tolist()
    [False, True, False, True, False, True]
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        steps = np.floor(np.arange(len(of_class) + 1) * part + 1e-9)
        chosen[of_class[np.diff(steps) > 0]] = True
    return chosen


def offsets(key: tuple[int, int], positions: np.ndarray, reach: int) -> np.ndarray:
    """(N, 2) integers from -reach to reach, one pair per position, whatever batch it comes in."""
    mixed = _mix(np.asarray(positions, np.uint64) * np.uint64(2) + _seed_of(key))
    sides = np.stack([mixed & np.uint64(0xFFFFFFFF), mixed >> np.uint64(32)], axis=1)
    return (sides * np.uint64(2 * reach + 1) >> np.uint64(32)).astype(np.int64) - reach


@functools.lru_cache(maxsize=16)
def _seed_of(key: tuple[int, int]) -> np.uint64:
    return np.uint64(_stream(key, _SHIFT).random_raw())


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele, Lea, Flood 2014): neighbouring counters give unrelated numbers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
