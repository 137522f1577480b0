"""What ``forward`` reads besides its input and the module's parts: a plan holds for these values only.

While a forward is recorded, every attribute of a module that is read is noted. A plain one counts as a setting from
then on: `Module.__setattr__` says when it is set anew. What can change without being set (lists, dicts, arrays,
objects, class attributes), and the globals, enclosing variables and defaults that the code of those functions names,
are looked at before each call.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import random
import sys
import threading
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.nn import _state
from fastcnn.nn.parameter import Buffer, Parameter
from fastcnn.nn.value import Value

if TYPE_CHECKING:
    from fastcnn.nn.module import Module

_DEPTH, _MOST = 8, 256  # levels and entries of nested settings that are looked at
_WHOLE = 1 << 16  # numbers of an array that are compared; of larger ones, evenly spaced ones
_IMMUTABLE = (bool, int, float, complex, str, bytes, type(None), np.number, np.dtype)
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, np.ufunc)
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
_LIBRARIES = frozenset({"fastcnn", "numpy", *sys.stdlib_module_names})
_ALL = object()  # of a place where forward itself writes: nothing of it is a setting


class Place:
    """A value that may change unseen: where it is found, under which name, and what of it forward itself changes."""

    __slots__ = ("left", "name", "owner")

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name
        self.left: Any = frozenset()  # keys of a dict, or _ALL

    def value(self) -> Any:
        if isinstance(self.owner, types.CellType):
            try:
                return self.owner.cell_contents
            except ValueError:  # not assigned yet
                return None
        if isinstance(self.owner, types.FunctionType):
            return self.owner.__defaults__, self.owner.__kwdefaults__
        return (self.owner if isinstance(self.owner, dict) else vars(self.owner)).get(self.name)

    def fingerprint(self) -> Any:
        """Equal as long as nothing there has changed."""
        if self.left is _ALL:
            return None
        value = self.value()
        if self.left and isinstance(value, dict):
            value = {k: v for k, v in value.items() if k not in self.left}
        return _print_of(value, _DEPTH, [_MOST])

    def leave(self, before: Any) -> None:
        """Take what differs from ``before``, its fingerprint, as written by forward."""
        after, value = self.fingerprint(), self.value()
        if after == before:
            return
        if isinstance(value, dict) and before[:1] == (dict,):
            old, new = dict(before[2]), dict(after[2])
            changed = {k for k in {*old, *new} if old.get(k, _ALL) != new.get(k, _ALL)}
            self.left = self.left | {k for k in value if _print_of(k, _DEPTH, [_MOST]) in changed}
        else:
            self.left = _ALL


class Settings:
    """The places that the recordings of one network read."""

    def __init__(self) -> None:
        self.places: dict[tuple[int, str], Place] = {}
        self.generators: dict[int, tuple[Any, str]] = {}  # of random numbers, that the functions name

    def fingerprint(self) -> tuple[Any, ...]:
        return tuple(
            [place.fingerprint() for place in list(self.places.values())]
        )  # other threads may add some

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """While a forward is recorded: what it reads is added."""
        before = {key: place.fingerprint() for key, place in list(self.places.items())}
        notes = _Notes(self, before)
        with _watching(notes):
            yield
        for key, place in list(self.places.items()):
            if key in before:  # not one that another thread has just found
                place.leave(before[key])

    def add(self, owner: Any, name: str, before: dict[tuple[int, str], Any]) -> None:
        key = id(owner), name
        if key not in self.places:
            place = self.places[key] = Place(owner, name)
            before[key] = place.fingerprint()

    def read_function(
        self, function: Any, classes: tuple[type, ...], before: dict[tuple[int, str], Any]
    ) -> None:
        """Globals, enclosing variables and defaults of a function, and the functions that it names."""
        for inner in ("__func__", "fget", "func"):  # of methods, properties, cached properties
            function = getattr(function, inner, function)
        seen = _state.notes().functions
        if not isinstance(function, types.FunctionType) or function in seen or _is_library(function):
            return
        seen.add(function)
        code, scope = function.__code__, function.__globals__
        if function.__defaults__ or function.__kwdefaults__:
            self.add(function, "", before)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":  # of super()
                self.add(cell, name, before)
                self._note(Place(cell, name).value(), name)
                self.read_function(Place(cell, name).value(), (), before)
        for name, attribute in _globals_named(code):
            value = scope.get(name, _ALL)
            if value is _ALL or isinstance(value, types.BuiltinFunctionType):
                continue
            self._note(value, name)
            if not (isinstance(value, (types.ModuleType, type)) or (callable(value) and _is_library(value))):
                self.add(scope, name, before)
            elif isinstance(value, type) and not _is_library(value):
                self.add(scope, name, before)
            if attribute and isinstance(value, (types.ModuleType, type)) and not _is_library(value):
                self.add(value, attribute, before)
                self.read_function(vars(value).get(attribute), (), before)
            self.read_function(value, (), before)
        for name in code.co_names:  # what super() reaches
            for c in classes:
                if name in vars(c) and not _is_library(c):
                    self.add(c, name, before)
                    self.read_function(vars(c)[name], classes, before)

    def _note(self, value: Any, name: str) -> None:
        if isinstance(value, _GENERATORS):
            self.generators[id(value)] = value, name
            notes = _state.notes()
            if notes is not None:
                notes.generator(value, name)


class _Notes:
    """Takes note of each attribute read in one recording."""

    def __init__(self, settings: Settings, before: dict[tuple[int, str], Any]) -> None:
        self.settings, self.before = settings, before
        self.generators: dict[int, tuple[Any, Any, str]] = {}
        self.functions: set[Any] = set()  # that were read so far
        for generator, name in list(settings.generators.values()):
            self.generator(generator, name)

    def generator(self, generator: Any, name: str) -> None:
        self.generators.setdefault(id(generator), (generator, _generator_state(generator), name))

    def attribute(self, module: Module, name: str, found: bool) -> None:
        own = vars(module)
        own["_read"].add(name)
        if not found:
            return
        if name in own:
            value = own[name]
            if isinstance(value, _GENERATORS):
                self.generator(value, name)
            elif not _is_plain(value):
                self.settings.add(own, name, self.before)
                self.settings.read_function(value, (), self.before)
            return
        classes = type(module).__mro__
        owner = next((c for c in classes if name in vars(c)), None)
        if owner is not None and not _is_library(owner):
            self.settings.add(owner, name, self.before)
            self.settings.read_function(vars(owner)[name], classes, self.before)

    def drawn(self) -> str:
        """The name of an attribute that random numbers were drawn from; "" for none."""
        return next((n for g, state, n in self.generators.values() if _generator_state(g) != state), "")


_active = 0
_lock = threading.Lock()


@contextlib.contextmanager
def _watching(notes: _Notes) -> Iterator[None]:
    """Attributes of modules that this thread reads are noted. Only then does reading one run Python code."""
    from fastcnn.nn.module import Module

    global _active
    outer = _state.notes()
    with _lock:
        _active += 1
        if _active == 1:
            Module.__getattribute__ = _noted_attribute  # type: ignore[assignment,method-assign]
    _state.set_notes(notes)
    try:
        yield
    finally:
        _state.set_notes(outer)
        with _lock:
            _active -= 1
            if _active == 0:
                del Module.__getattribute__


_INTERNAL = frozenset({
    "_buffers", "_mode_call", "_modules", "_parameters", "_read", "_runner", "_settings", "classes", "last_input_shape",
    "preprocessing", "training",
})  # fmt: skip


def _noted_attribute(self: Module, name: str) -> Any:
    notes = _state.notes()
    if notes is None or name in _INTERNAL or name.startswith("__"):
        return object.__getattribute__(self, name)
    found = False
    try:
        value = object.__getattribute__(self, name)
        found = True
    finally:
        notes.attribute(self, name, found)
    return value


def random_state() -> tuple[Any, ...]:
    """That of the generators that programs share."""
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    return random.getstate(), state[1].tobytes(), *state[2:]


def draws_shared_numbers() -> bool:
    """Whether the recorded code names what draws from them."""
    notes = _state.notes()
    functions = () if notes is None else notes.functions
    return any(_DRAWS.intersection(_names(function.__code__)) for function in functions)


_DRAWS = frozenset(name for name in dir(random.Random) if not name.startswith("_")) | {
    "normal", "permutation", "rand", "randn", "random_sample", "standard_normal",
}  # fmt: skip


def _generator_state(generator: Any) -> str:
    if isinstance(generator, random.Random):
        return repr(generator.getstate())
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator._bit_generator
    return repr(bits.state)


def _is_library(thing: Any) -> bool:
    """Whether a function, class or module comes with Python, NumPy or fastcnn."""
    name = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return (name or "").partition(".")[0] in _LIBRARIES


def _is_plain(value: Any) -> bool:
    """Whether it can only change by being set anew."""
    if isinstance(value, (tuple, frozenset)):
        return all(map(_is_plain, value))
    return isinstance(value, (*_IMMUTABLE, Value, Parameter, Buffer, type, types.ModuleType)) or (
        isinstance(value, _CODE) and _is_library(value)
    )


@functools.lru_cache(maxsize=1024)
def _globals_named(code: types.CodeType) -> tuple[tuple[str, str], ...]:
    """Global names in the code, and the attribute taken from them ("": none)."""
    import dis

    found: dict[tuple[str, str], None] = {}
    steps = list(dis.get_instructions(code))
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            taken = after is not None and after.opname in ("LOAD_ATTR", "LOAD_METHOD")
            found[step.argval, str(after.argval) if taken and after is not None else ""] = None
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found |= dict.fromkeys(_globals_named(inner))
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> tuple[str, ...]:
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


class _Same:
    """An object as a key: equal to itself alone, and alive as long as the key."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _print_of(value: Any, depth: int, room: list[int]) -> Any:
    room[0] -= 1
    if isinstance(value, _IMMUTABLE):
        return type(value), repr(value) if isinstance(value, (float, complex, np.number)) else value
    if isinstance(value, Value):  # of a recording that is over
        return Value
    if isinstance(value, np.ndarray):
        some = value if value.size <= _WHOLE else value.reshape(-1)[:: value.size // _WHOLE]
        return value.shape, value.dtype.str, hash(some.tobytes()), None if some is value else _Same(value)
    if depth == 0 or room[0] < 0:
        return _Same(value)
    if isinstance(value, dict):
        items = [
            (_print_of(k, depth - 1, room), _print_of(v, depth - 1, room)) for k, v in list(value.items())
        ]
        return dict, len(value), tuple(items)
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        return type(value), len(value), tuple([_print_of(v, depth - 1, room) for v in list(value)])
    if isinstance(value, (type, types.ModuleType, *_CODE, property)) or hasattr(value, "_modules"):
        return _Same(value)
    slots = [s for c in type(value).__mro__ for s in _slots(c)]
    own = {**{s: getattr(value, s, None) for s in slots}, **getattr(value, "__dict__", {})}
    return (_Same(value), _print_of(own, depth - 1, room)) if own else _Same(value)


def _slots(kind: type) -> tuple[str, ...]:
    slots: Any = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return () if _is_library(kind) else tuple(n for n in names if not n.startswith("__"))
