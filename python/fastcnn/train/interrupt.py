"""Ctrl-C as a request to stop after the current step."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_LINE = "stopping after this step; Ctrl-C again stops at once"


class StopRequest:
    """While it is entered, the first Ctrl-C says so and sets `requested`; the second raises KeyboardInterrupt.

    Outside the main thread, where Python delivers no signals, and where SIGINT is ignored (a shell's background
    jobs), it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._installed = self._at_once = False
        self._before: Any = None

    def __enter__(self) -> StopRequest:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if threading.current_thread() is threading.main_thread() and not ignored:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
            self._installed = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._installed:  # None: a handler that Python did not set and cannot put back
            signal.signal(signal.SIGINT, signal.SIG_DFL if self._before is None else self._before)
            self._installed = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """What runs inside changes nothing: there the first Ctrl-C ends it, with `requested` set."""
        try:
            self._at_once = True
            yield
        except KeyboardInterrupt:
            if not self.requested:
                raise
        finally:
            self._at_once = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # Something may be in the middle of writing to stderr, or nobody reads it.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            if sys.stderr is not None:
                print(_LINE, file=sys.stderr, flush=True)
        if self._at_once:
            raise KeyboardInterrupt
