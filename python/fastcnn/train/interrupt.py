"""Ctrl-C as a request to stop after the current step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """While it is entered, the first Ctrl-C sets `requested`; the second raises KeyboardInterrupt as ever.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._installed = False
        self._before: Any = None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_signal)
            self._installed = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._installed:  # None: a handler that Python did not set and cannot put back
            signal.signal(signal.SIGINT, signal.SIG_DFL if self._before is None else self._before)
            self._installed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
