"""The ``fastcnn`` command. Every error is one line on stderr and a non-zero exit status.

``FASTCNN_DEBUG=1`` shows the Python traceback instead.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

_USAGE, _INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    with warnings.catch_warnings():
        warnings.showwarning = _note
        try:
            from fastcnn.cli import show
            from fastcnn.cli.app import app

            show.prepare_streams()
            try:
                result = app(
                    args=None if arguments is None else list(arguments),
                    prog_name="fastcnn",
                    standalone_mode=False,
                )
                sys.stdout.flush()
            except BrokenPipeError:  # the reader of a pipe went away
                show.abandon_stdout()
                return 1
            if result == _INTERRUPTED:
                return fail("interrupted", _INTERRUPTED)
            return result if isinstance(result, int) else 0
        except KeyboardInterrupt:
            return fail("interrupted", _INTERRUPTED)
        except Exception as e:
            if os.environ.get("FASTCNN_DEBUG", "0") not in ("", "0"):
                raise
            return fail(*explained(e))


def explained(e: Exception) -> tuple[str, int]:
    """The line for an error and the exit status."""
    usage = getattr(e, "format_message", None)
    if usage is not None:  # a wrong use of the command line
        text = usage()  # empty where the help was printed instead
        command = getattr(getattr(e, "ctx", None), "command_path", "fastcnn")
        return f"{text} (see {command} --help)" if text else "", _USAGE
    if type(e).__name__ == "Abort":
        return "interrupted", _INTERRUPTED
    if isinstance(e, OSError) and e.strerror and e.filename is not None:
        return f"{e.filename}: {e.strerror}", 1
    if isinstance(e, MemoryError):
        return f"out of memory {e}".strip(), 1
    if isinstance(e, (OSError, ValueError, TypeError, ArithmeticError, ImportError)) and str(e):
        return str(e), 1
    return f"internal error: {type(e).__name__}: {e} (FASTCNN_DEBUG=1 shows where)", 1


def fail(message: str, status: int) -> int:
    """Print one line on stderr; the exit status again."""
    if message and sys.stderr is not None:
        print("fastcnn: " + " ".join(message.split()), file=sys.stderr)
    return status


def _note(message: Warning | str, *where: Any, **details: Any) -> None:
    """A warning as one line, without the place in the source."""
    fail(str(message), 0)
