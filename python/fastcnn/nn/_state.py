"""What all modules share: whether any of them changed its structure since a plan was made, and the random streams."""

from __future__ import annotations

import contextlib
import operator
import threading
from collections.abc import Iterator
from typing import Any

_structure = 0
# What belongs to a thread: .depth, calls of forward() that it is recording; .mode, what takes the place of
# each module's own mode for now.
_here = threading.local()
_lock = threading.Lock()
_seed = 0
_stream = 0


def structure_changed() -> None:
    """Called when a module gets or loses a member, changes mode or freezes a parameter."""
    global _structure
    with _lock:
        _structure += 1


def structure() -> int:
    return _structure


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """While a forward() is recorded on this thread."""
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1


@contextlib.contextmanager
def mode(training: bool | None, frozen: frozenset[int] = frozenset()) -> Iterator[None]:
    """Every module is in this mode (None: in its own; the frozen ones, by their ids, in eval mode) for this thread;
    other threads see their own.
    """
    before = current_mode()
    _here.mode = None if training is None else (training, frozen)
    try:
        yield
    finally:
        _here.mode = before


def current_mode() -> tuple[bool, frozenset[int]] | None:
    return getattr(_here, "mode", None)


def notes() -> Any:
    """What takes note of the attributes that this thread reads (`settings`); None outside of recordings."""
    return getattr(_here, "notes", None)


def set_notes(value: Any) -> None:
    _here.notes = value


def is_recording() -> bool:
    return getattr(_here, "depth", 0) > 0


def manual_seed(seed: int) -> None:
    """Start the random numbers of initialisation (and, by default, of shuffling) anew.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1. Equal seeds give equal numbers on every machine, for any number of threads.

    Raises
    ------
    TypeError
        The seed is no integer.
    ValueError
        The seed is negative or too large.
    """
    global _seed, _stream
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"manual_seed: expected an integer, got {seed!r:.60}")
    number = operator.index(seed)
    if not 0 <= number < 2**64:
        raise ValueError(f"manual_seed: expected a seed from 0 to 2**64 - 1, got {seed}")
    with _lock:
        _seed, _stream = number, 0


def next_stream() -> tuple[int, int]:
    """(seed, stream) for one draw: every draw has a stream of its own."""
    global _stream
    with _lock:
        _stream += 1
        return _seed, _stream


@contextlib.contextmanager
def streams_kept() -> Iterator[None]:
    """What is drawn inside (initial weights that are thrown away) leaves later draws as they were."""
    global _seed, _stream
    before = _seed, _stream
    try:
        yield
    finally:
        with _lock:
            _seed, _stream = before
