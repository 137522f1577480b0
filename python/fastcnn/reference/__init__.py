"""The definition of every operation, in plain NumPy and float64.

Written from the formulas and never optimised: start here to learn what an operation computes. The tests
hold every fast implementation against these functions. Nothing is checked here beyond what NumPy checks
itself, and nothing is changed in place: what an operation updates, it returns.

All images are ``(N, C, H, W)``: batch, channels, height, width. ``dy`` is the gradient of the loss with
respect to an output ``y``; a backward function returns the gradients of the inputs, in their order.
"""

from .conv import *  # noqa: F403
from .geometry import *  # noqa: F403
from .init import *  # noqa: F403
from .linear import *  # noqa: F403
from .loss import *  # noqa: F403
from .norm import *  # noqa: F403
from .optim import *  # noqa: F403
from .pointwise import *  # noqa: F403
from .pool import *  # noqa: F403
from .shape import *  # noqa: F403

__all__ = sorted(name for name, value in globals().items() if callable(value))
