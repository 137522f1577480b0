"""How wide random weights start, so that signals neither grow nor shrink from layer to layer.

Sources: Xavier: Glorot & Bengio 2010, equations 12 and 16; He: He et al. 2015, "Delving deep into
rectifiers", equation 10. The uniform distribution on [-bound, bound] has deviation bound / sqrt(3).
"""

from __future__ import annotations

import math

__all__ = ["fans", "he_normal_std", "he_uniform_bound", "xavier_normal_std", "xavier_uniform_bound"]


def fans(weight_shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of one unit: (fan_in, fan_out), the window's area counted in both.

    >>> fans((6, 1, 5, 5)), fans((10, 84))
    ((25, 150), (84, 10))
    """
    area = math.prod(weight_shape[2:])
    return weight_shape[1] * area, weight_shape[0] * area


def he_normal_std(weight_shape: tuple[int, ...], gain: float = math.sqrt(2.0), mode: str = "fan_in") -> float:
    """``gain / sqrt(fan)``; the gain of ReLU is sqrt(2).

    >>> he_normal_std((8, 2, 1, 1))
    1.0
    """
    fan_in, fan_out = fans(weight_shape)
    return gain / math.sqrt(fan_out if mode == "fan_out" else fan_in)


def he_uniform_bound(
    weight_shape: tuple[int, ...], gain: float = math.sqrt(2.0), mode: str = "fan_in"
) -> float:
    """``gain * sqrt(3 / fan)``.

    >>> he_uniform_bound((8, 6, 1, 1))
    1.0
    """
    return math.sqrt(3.0) * he_normal_std(weight_shape, gain, mode)


def xavier_normal_std(weight_shape: tuple[int, ...], gain: float = 1.0) -> float:
    """``gain * sqrt(2 / (fan_in + fan_out))``.

    >>> xavier_normal_std((1, 1))
    1.0
    """
    return gain * math.sqrt(2.0 / sum(fans(weight_shape)))


def xavier_uniform_bound(weight_shape: tuple[int, ...], gain: float = 1.0) -> float:
    """``gain * sqrt(6 / (fan_in + fan_out))``.

    >>> xavier_uniform_bound((3, 3))
    1.0
    """
    return gain * math.sqrt(6.0 / sum(fans(weight_shape)))
