"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from fastcnn.functional import _arguments as args
from fastcnn.nn import _state
from fastcnn.nn.module import Module

__all__ = ["Sequential"]

S = TypeVar("S", bound="Sequential")


class Sequential(Module):
    """Layers one after the other, named "0", "1", ... or by the keys of a dict.

    It can be changed like a list: numbers follow the places, names of one's own stay.

    Parameters
    ----------
    *layers : Module
        Or one mapping of names to modules.

    Examples
    --------
    >>> from fastcnn.nn import Conv2d, ReLU
    >>> len(Sequential(Conv2d(1, 8, 3), ReLU()))
    2
    >>> [name for name, _ in Sequential({"conv": Conv2d(1, 8, 3), "act": ReLU()}).named_children()]
    ['conv', 'act']
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            for name, layer in layers[0].items():
                self.add_module(name, layer)
            return
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            raise TypeError("Sequential: expected modules, got a list; unpack it: Sequential(*layers)")
        for i, layer in enumerate(layers):
            self.add_module(str(i), _module(layer, f" at position {i}"))

    def forward(self, x: Any) -> Any:
        for layer in self.children():
            x = layer(x)
        return x

    def _place(self, items: Iterable[tuple[str, Module]]) -> None:
        """These are the layers now, numbers counted anew."""
        self.__dict__["_modules"] = {
            str(i) if name.isdecimal() else name: layer for i, (name, layer) in enumerate(items)
        }
        _state.structure_changed()

    def _at(self, index: Any, end: int = 0) -> int:
        """A place from 0 on; ``end``: how many places there are beyond the last layer."""
        place, n = args.integer("Sequential", "an index", index), len(self)
        if not -n <= place < n + end:
            raise IndexError(f"Sequential: expected an index from {-n} to {n - 1 + end}, got {place}")
        return place + n if place < 0 else place

    def append(self: S, module: Module) -> S:
        """Add a layer at the end."""
        return self.insert(len(self), module)

    def extend(self: S, modules: Iterable[Module]) -> S:
        """Add layers at the end."""
        self._place([*self._modules.items(), *(("0", _module(m)) for m in modules)])
        return self

    def insert(self: S, index: int, module: Module) -> S:
        """Put a layer before the one at ``index``."""
        items = list(self._modules.items())
        items.insert(self._at(index, 1), ("0", _module(module)))
        self._place(items)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take the layer at ``index`` out, and return it."""
        module: Module = self[self._at(index)]
        del self[index]
        return module

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, i: int | slice) -> Any:
        items = list(self._modules.items())
        if not isinstance(i, slice):
            return items[self._at(i)][1]
        part = Sequential()
        part._place(items[i])
        return part

    def __setitem__(self, i: int, layer: Module) -> None:
        items, place = list(self._modules.items()), self._at(i)
        items[place] = items[place][0], _module(layer)
        self._place(items)

    def __delitem__(self, i: int | slice) -> None:
        items = list(self._modules.items())
        del items[i if isinstance(i, slice) else self._at(i)]
        self._place(items)


def _module(given: Any, where: str = "") -> Module:
    if not isinstance(given, Module):
        hint = f"; did you mean {given.__name__}()?" if isinstance(given, type) else ""
        raise TypeError(f"Sequential: expected modules, got {args.kind_of(given)}{where}{hint}")
    return given
