"""Learning-rate schedules: the factor on the learning rate for the part of the training that is done."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant(done: float) -> float:
    """1, always."""
    return 1.0


def cosine(done: float) -> float:
    """From 1 down to 0 along half a cosine (Loshchilov, Hutter 2017, equation 5, without restarts).

    >>> [round(cosine(d), 3) for d in (0, 0.5, 1)]
    [1.0, 0.5, 0.0]
    """
    return 0.5 * (1.0 + math.cos(math.pi * done))


def steps(done: float) -> float:
    """A tenth after half of the training, a hundredth after three quarters (He et al. 2015, section 4.2).

    >>> [steps(d) for d in (0.49, 0.5, 0.75)]
    [1.0, 0.1, 0.01]
    """
    return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01


SCHEDULES: dict[str, Schedule] = {"none": constant, "cosine": cosine, "steps": steps}
