"""Initial weights by name.

Sources: Xavier: Glorot & Bengio 2010, equations 12 and 16; He: He et al. 2015, equation 10; "default" is PyTorch's:
uniform within 1 / sqrt(fan_in), for weights and biases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fastcnn import _core, _names
from fastcnn.nn import _state

__all__ = ["bias", "fans", "names", "weight"]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight: (out, in, ...), the window's area counted in both.

    >>> fans((6, 1, 5, 5))
    (25, 150)
    """
    area = math.prod(shape[2:])
    return shape[1] * area, shape[0] * area


def _uniform(shape: tuple[int, ...], bound: float) -> np.ndarray:
    return _core.random_uniform(*_state.next_stream(), list(shape), -bound, bound)


def _normal(shape: tuple[int, ...], std: float) -> np.ndarray:
    return _core.random_normal(*_state.next_stream(), list(shape), 0.0, std)


_WEIGHTS: dict[str, Callable[[tuple[int, ...]], np.ndarray]] = {
    "default": lambda s: _uniform(s, 1.0 / math.sqrt(fans(s)[0])),
    "he_normal": lambda s: _normal(s, math.sqrt(2.0 / fans(s)[0])),
    "he_uniform": lambda s: _uniform(s, math.sqrt(6.0 / fans(s)[0])),
    "xavier_normal": lambda s: _normal(s, math.sqrt(2.0 / sum(fans(s)))),
    "xavier_uniform": lambda s: _uniform(s, math.sqrt(6.0 / sum(fans(s)))),
}
_WEIGHTS["he"] = _WEIGHTS["he_normal"]
_WEIGHTS["xavier"] = _WEIGHTS["xavier_uniform"]


def names() -> list[str]:
    """What a layer's ``init`` can be, sorted."""
    return sorted(_WEIGHTS)


def weight(shape: tuple[int, ...], init: str) -> np.ndarray:
    """Initial weights of ``shape`` (out, in, ...).

    Raises
    ------
    ValueError
        Unknown name.
    """
    if not isinstance(init, str) or init not in _WEIGHTS:
        raise ValueError(f"init: expected one of {', '.join(names())}, got {init!r}")
    return _WEIGHTS[init](shape)


def bias(weight_shape: tuple[int, ...], init: str) -> np.ndarray:
    """Initial biases: uniform as PyTorch's for "default", zero otherwise."""
    if init != "default":
        return np.zeros(weight_shape[0], np.float32)
    return _uniform(weight_shape[:1], 1.0 / math.sqrt(fans(weight_shape)[0]))


if not TYPE_CHECKING:
    __getattr__, __dir__ = _names.of(__name__, __all__, {"names for the init of a layer": names()})
