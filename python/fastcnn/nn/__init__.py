"""Layers, networks of layers, and losses; names and defaults are those of ``torch.nn``."""

from typing import TYPE_CHECKING

from fastcnn import _names
from fastcnn.nn import containers as _containers
from fastcnn.nn import functional as functional
from fastcnn.nn import init as init
from fastcnn.nn import layers as _layers
from fastcnn.nn import loss as _loss
from fastcnn.nn.containers import *  # noqa: F403
from fastcnn.nn.layers import *  # noqa: F403
from fastcnn.nn.loss import *  # noqa: F403
from fastcnn.nn.module import *  # noqa: F403
from fastcnn.nn.parameter import *  # noqa: F403

__all__ = sorted(
    ["functional", "init", *(name for name, value in globals().items() if isinstance(value, type))]
)

if not TYPE_CHECKING:
    _NAMES = {"layers": [*_layers.__all__, *_containers.__all__], "losses": _loss.__all__}
    _NAMES["others"] = sorted({*__all__}.difference(*_NAMES.values()))
    __getattr__, __dir__ = _names.of(__name__, __all__, _NAMES)
