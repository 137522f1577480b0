"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastcnn.nn.module import Module

__all__ = ["Sequential"]


class Sequential(Module):
    """Layers one after the other, named "0", "1", ...

    Examples
    --------
    >>> from fastcnn.nn import Conv2d, ReLU
    >>> len(Sequential(Conv2d(1, 8, 3), ReLU()))
    2
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: expected modules, got {type(layer).__name__} at position {i}")
            self.add_module(str(i), layer)

    def forward(self, x: Any) -> Any:
        for layer in self.children():
            x = layer(x)
        return x

    def append(self, layer: Module) -> Sequential:
        self.add_module(str(len(self)), layer)
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, i: int | slice) -> Any:
        layers = list(self.children())
        return Sequential(*layers[i]) if isinstance(i, slice) else layers[i]
