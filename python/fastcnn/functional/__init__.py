"""Every op and its backward function, directly on NumPy arrays.

Names, argument order and defaults are those of ``torch.nn.functional`` where it has the op. All arrays are
float32 (labels any integer type); nothing is converted silently, other types raise TypeError. Arrays need not
be contiguous: others are copied. Images are ``(N, C, H, W)``, weights ``(OC, IC / groups, KH, KW)``. An empty
batch is legal. Wrong shapes raise ValueError saying what was expected and what came.

``dy`` is the gradient of the loss with respect to an op's output ``y``; a backward function returns the
gradients of the op's inputs. On the symbolic values of a traced model the same functions record themselves.

Where an op takes them: ``padding`` is an int, (height, width), (top, left, bottom, right), ``"valid"`` or
``"same"`` (ceil(size / stride) outputs for any stride, the odd row or column at the bottom or right);
``layout`` ("auto", "nchw", "nhwc", "interleaved") and ``implementation`` force a way of computing, for tests
and timings.

The formulas stand in :mod:`fastcnn.reference`; where frameworks differ, see docs/semantics.md.
"""

from typing import TYPE_CHECKING

from fastcnn import _names
from fastcnn.functional.conv import *  # noqa: F403
from fastcnn.functional.linear import *  # noqa: F403
from fastcnn.functional.loss import *  # noqa: F403
from fastcnn.functional.norm import *  # noqa: F403
from fastcnn.functional.optim import *  # noqa: F403
from fastcnn.functional.pointwise import *  # noqa: F403
from fastcnn.functional.pool import *  # noqa: F403
from fastcnn.functional.shape import *  # noqa: F403

__all__ = sorted(name for name, value in globals().items() if callable(value))

if not TYPE_CHECKING:
    _FORWARD = [name for name in __all__ if not name.endswith("_backward")]
    __getattr__, __dir__ = _names.of(__name__, __all__, {"functions": _FORWARD})
