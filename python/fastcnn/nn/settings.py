"""What ``forward`` reads besides its input and the module's parts: a recording holds for these values only.

Plain attributes are watched where they are set (``Module.__setattr__``). What can change without being set (lists,
dicts, arrays, objects of settings, globals) is found by the names that the code of ``forward`` and of the methods it
calls contains, and looked at before each call.
"""

from __future__ import annotations

import functools
import random
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.nn.value import Value

if TYPE_CHECKING:
    from fastcnn.nn.module import Module

_DEPTH, _MOST = 8, 256  # levels and entries of nested settings that are looked at
_IMMUTABLE = (bool, int, float, complex, str, bytes, type(None), np.number)
_FIXED = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    np.ufunc,
)  # code, not settings
# Names that draw random numbers, of ``random`` and ``numpy.random``.
_DRAWS = frozenset(name for name in dir(random.Random) if not name.startswith("_")) | {
    "normal", "permutation", "rand", "randn", "random_sample", "standard_normal",
}  # fmt: skip

_read: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()  # by class

# Where a value is found and under which name, by what tells two apart.
Places = dict[tuple[int, str], tuple[Mapping[str, Any], str]]


def watched(modules: Iterable[Module]) -> Places:
    """The places that the forwards of these modules read and that may change unseen."""
    places: Places = {}
    for module in modules:
        kind = type(module)
        if kind.__module__.partition(".")[0] == "fastcnn" and "forward" not in vars(module):
            continue
        for function in _functions(module):
            attributes = vars(module)
            ours = (function.__module__ or "").partition(".")[0] == "fastcnn"
            for name in _names(function.__code__):
                if name in attributes and not isinstance(
                    attributes[name], (*_IMMUTABLE, *_FIXED, tuple, Value)
                ):
                    places[id(attributes), name] = attributes, name
                elif not ours and not isinstance(function.__globals__.get(name, id), _FIXED):
                    places[id(function.__globals__), name] = function.__globals__, name
            closed = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
            for name, cell in closed:
                if name != "__class__":  # of super()
                    places[id(cell), name] = _Cell(cell), name
    return places


def reads(module: Module, name: str) -> bool:
    """Whether ``forward`` may read this attribute."""
    kind = type(module)
    own = "forward" in vars(module) or kind.__module__.partition(".")[0] == "fastcnn"
    if not own and kind not in _read:
        codes = [function.__code__ for function in _functions(module)]
        texts = (t for code in codes for t in code.co_consts if isinstance(t, str))  # getattr(self, "name")
        _read[kind] = frozenset([n for code in codes for n in _names(code)]).union(texts)
    return own or name in _read[kind]


def fingerprint(places: Places) -> tuple[Any, ...]:
    """Equal as long as nothing there has changed; what is no plain data is told by its identity."""
    return tuple(_print_of(place.get(name), _DEPTH, [_MOST]) for place, name in places.values())


def random_state() -> tuple[Any, ...]:
    """That of the generators that programs share."""
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    return random.getstate(), state[1].tobytes(), *state[2:]


def draws(module: Module) -> str:
    """The name with which the code of some part's forward seems to draw random numbers; "" for none."""
    names = (n for m in module.modules() for f in _functions(m) for n in _names(f.__code__))
    return next((name for name in names if name in _DRAWS), "")


class _Same:
    """An object as a key: equal to itself alone, and alive as long as the key."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class _Cell(dict[str, Any]):
    """A variable of an enclosing function, as a mapping."""

    def __init__(self, cell: types.CellType) -> None:
        super().__init__()
        self._cell = cell

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self._cell.cell_contents
        except ValueError:  # not assigned yet
            return default


def _functions(module: Module) -> Iterator[types.FunctionType]:
    """``forward``, and the methods and properties that it names (those of base classes too), and those they name."""
    classes = type(module).__mro__
    todo: list[Any] = [vars(module).get("forward"), *(vars(c).get("forward") for c in classes)]
    seen: set[Any] = set()
    while todo:
        function = todo.pop()
        for inner in ("__func__", "fget", "func"):  # of methods, properties, cached properties
            function = getattr(function, inner, function)
        if not isinstance(function, types.FunctionType) or function in seen:
            continue
        seen.add(function)
        yield function
        todo += [vars(c)[name] for name in _names(function.__code__) for c in classes if name in vars(c)]


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> tuple[str, ...]:
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


def _print_of(value: Any, depth: int, room: list[int]) -> Any:
    room[0] -= 1
    if isinstance(value, _IMMUTABLE):
        return type(value), repr(value) if isinstance(value, (float, complex, np.number)) else value
    if isinstance(value, Value):  # of a recording that is over
        return Value
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, hash(value.tobytes())
    if depth == 0 or room[0] < 0:
        return _Same(value)
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        entries = value.items() if isinstance(value, dict) else value
        return type(value), len(value), tuple(_print_of(v, depth - 1, room) for v in list(entries))
    own = getattr(value, "__dict__", None)
    if isinstance(own, dict) and not isinstance(value, _FIXED) and "_modules" not in own:
        return _Same(value), _print_of(own, depth - 1, room)
    return _Same(value)
