"""fastcnn: convolutional neural networks, trained and run on the CPU.

>>> import fastcnn
>>> fastcnn.nn.Conv2d(1, 6, 5, padding=2).weight.shape
(6, 1, 5, 5)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastcnn import _core, _names, functional, nn, optim
from fastcnn._core import Tensor
from fastcnn._info import check_environment as _check_environment
from fastcnn._info import from_dlpack, get_num_threads, info, set_num_threads
from fastcnn.nn._state import manual_seed

__version__: str = _core.__version__
_check_environment()

# Loaded when first used: importing fastcnn itself stays fast. By the module they are in; "": modules themselves.
_LAZY = {
    **dict.fromkeys(("data", "io", "models", "reference", "train"), ""),
    **dict.fromkeys(("load", "load_weights", "save", "save_weights"), "io"),
    **dict.fromkeys(("History", "Trainer"), "train"),
    **dict.fromkeys(("cat", "concat", "flatten", "relu", "sigmoid", "softmax", "tanh"), "_torch_names"),
}

if TYPE_CHECKING:
    from fastcnn import data, io, models, reference, train
    from fastcnn.io import load, load_weights, save, save_weights
    from fastcnn.train import History, Trainer


__all__ = [
    "History", "Tensor", "Trainer", "data", "from_dlpack", "functional", "get_num_threads", "info", "io",
    "load", "load_weights", "manual_seed", "models", "nn", "optim", "reference", "save", "save_weights",
    "set_num_threads", "train",
]  # fmt: skip


def _get(name: str) -> Any:
    if name not in _LAZY:
        raise _names.missing("fastcnn", name, {"names": __all__})
    module = importlib.import_module(f"fastcnn.{_LAZY[name] or name}")
    value = globals()[name] = getattr(module, name) if _LAZY[name] else module
    return value


if not TYPE_CHECKING:
    __getattr__ = _get


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
