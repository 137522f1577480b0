"""Layers, networks of layers, and losses; names and defaults are those of ``torch.nn``."""

from fastcnn.nn import init as init
from fastcnn.nn.containers import *  # noqa: F403
from fastcnn.nn.layers import *  # noqa: F403
from fastcnn.nn.loss import *  # noqa: F403
from fastcnn.nn.module import *  # noqa: F403
from fastcnn.nn.parameter import *  # noqa: F403

__all__ = sorted(["init", *(name for name, value in globals().items() if isinstance(value, type))])
