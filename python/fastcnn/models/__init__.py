"""Networks by name.

>>> available()
['lenet5', 'resnet20_cifar']
"""

from typing import TYPE_CHECKING

from fastcnn import _names
from fastcnn.models.registry import ModelSpec, available, create, spec

__all__ = ["ModelSpec", "available", "create", "spec"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = _names.of(
        __name__, __all__, {"networks, for create": available(), "names": __all__}
    )
