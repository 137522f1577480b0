"""alone: a test that runs in a process of its own, so that a crash or a hang is a failed assertion."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Past its time a process prints the stacks of all its threads and ends; the parent waits a little longer.
_CHILD = """
import faulthandler, sys
faulthandler.enable()
faulthandler.dump_traceback_later({seconds}, exit=True)
sys.path[:0] = {folders!r}
import {module} as module
module.{name}.__wrapped__(*{args!r}, **{named!r})
"""


def alone(seconds: float = 120) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*args: Any, **named: Any) -> None:
            path = Path(test.__code__.co_filename)
            code = _CHILD.format(
                seconds=seconds,
                folders=[str(path.parent), str(Path(__file__).parent)],
                module=path.stem,
                name=test.__name__,
                args=args,
                named=named,
            )
            child = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds + 60
            )
            told = (child.stdout + child.stderr)[-6000:]
            assert child.returncode == 0, f"exit status {child.returncode}\n{told}"

        return run

    return decorate
