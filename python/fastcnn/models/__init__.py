"""Networks by name.

>>> available()
['lenet5', 'resnet20_cifar']
"""

from fastcnn.models.registry import ModelSpec, available, create, spec

__all__ = ["ModelSpec", "available", "create", "spec"]
