"""What commands print to stdout."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fastcnn._files import check_place, write_whole
from fastcnn._text import terminal_width

_BAR, _SHORTEST_BAR = 30, 5
_PLAIN_WIDTH = 120  # of tables that go to a file or a pipe


def prepare_streams() -> None:
    """Nobody reads a closed stream: what is printed goes nowhere. What a stream cannot show is escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Nothing more can be printed: what is left in buffers, and what follows, goes nowhere."""
    with contextlib.suppress(OSError):  # a stream that is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def line(text: str) -> None:
    """A text as it is.

    Raises
    ------
    OSError
        It cannot be written.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as e:
        abandon_stdout()
        raise OSError(e.errno, e.strerror, "standard output") from None


def width() -> int:
    """Columns for tables and bars."""
    return terminal_width() or _PLAIN_WIDTH


def prose(text: str) -> None:
    """A sentence, broken between words where the terminal ends."""
    columns = terminal_width()
    if columns is not None:
        text = textwrap.fill(text, columns, break_long_words=False, break_on_hyphens=False)
    line(text)


def table(content: Table) -> None:
    """A table, as wide as the terminal lets it be."""
    held = io.BytesIO()  # printed by line(): rich ends the process where a pipe is closed
    encoding, errors = _coding()
    memory = io.TextIOWrapper(held, encoding, errors=errors, newline="\n")
    console = Console(
        file=memory,
        width=width(),
        force_terminal=sys.stdout.isatty(),
        force_jupyter=False,
        highlight=False,
    )
    console.print(content)
    memory.flush()
    line(held.getvalue().decode(encoding, errors).rstrip("\n"))


def _coding() -> tuple[str, str]:
    """How stdout makes bytes of text, and what it does about what it cannot show."""
    errors = getattr(sys.stdout, "errors", None) or "strict"
    return sys.stdout.encoding or "ascii", "backslashreplace" if errors == "strict" else errors


def _as_printed(name: str) -> str:
    """What stdout will show of a name: as long as that is."""
    encoding, errors = _coding()
    return name.encode(encoding, errors).decode(encoding, errors)


class Report:
    """Prints about work that goes on whether or not that can be read; after the first failure, nothing.

    Attributes
    ----------
    lost : OSError or None
        Why the rest was not printed.
    """

    def __init__(self, wanted: bool = True) -> None:
        self._wanted, self.lost = wanted, None

    lost: OSError | None

    def prose(self, text: str) -> None:
        self._print(prose, text)

    def table(self, content: Table) -> None:
        self._print(table, content)

    def _print(self, how: Any, content: Any) -> None:
        if not self._wanted or self.lost is not None:
            return
        try:
            how(content)
        except OSError as e:
            abandon_stdout()
            self.lost = e


class Figures:
    """Where a command's results go as JSON: a file, which is tried at once, or with "-" instead of what it prints."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.replace_text = target == "-"
        if target is not None and not self.replace_text:
            check_place(target)

    def write(self, content: Any) -> None:
        if self.target is None:
            return
        text = json.dumps(content, indent=1)
        if self.replace_text:
            line(text)
        else:
            write_whole(self.target, (text + "\n").encode())


def pairs(entries: Mapping[str, Any]) -> None:
    """Names and values."""
    longest = max((len(str(k)) for k in entries), default=0)
    for key, value in entries.items():
        line(f"{key.replace('_', ' '):<{longest}}  {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def count(n: int, what: str) -> str:
    """A number of things.

    >>> count(1, "thread"), count(1442, "image")
    ('1 thread', '1,442 images')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def per_class(classes: Sequence[str], right: np.ndarray, count: np.ndarray) -> Table:
    """Accuracy of each class."""
    out = Table(box=box.SIMPLE_HEAD)
    out.add_column("class")
    for title in ("images", "right", "accuracy"):
        out.add_column(title, justify="right")
    for name, r, n in zip(classes, right, count, strict=True):
        out.add_row(escape(_as_printed(name)), f"{n:,}", f"{r:,}", f"{100 * r / n:.2f} %" if n else "")
    return out


def prediction(
    path: str, classes: Sequence[str], proba: np.ndarray, top: int | None = None, brief: bool = False
) -> None:
    """The most probable class, then a bar for each; with ``top``, for so many, the most probable first.

    ``brief``: one line, with the ``top`` classes in it.
    """
    ranked = np.argsort(-proba, kind="stable")[:top]
    classes = [_as_printed(name) for name in classes]
    if brief:
        named = (f"{classes[i]} ({100 * proba[i]:.1f} %)" for i in ranked[: top or 1])
        return line(f"{path}: {', '.join(named)}")
    line(f"{path}: {classes[ranked[0]]} ({100 * proba[ranked[0]]:.1f} %)")
    shown = ranked if top is not None else range(len(proba))
    longest = max(cell_len(classes[i]) for i in shown)
    room = width() - longest - 13  # gaps and the percentage
    bar = max(_SHORTEST_BAR, min(_BAR, room))
    fill = "█" if _can_print("█") else "#"
    for i in shown:
        p, gap = float(proba[i]), " " * (longest - cell_len(classes[i]))
        line(f"  {gap}{classes[i]}  {fill * round(p * bar):<{bar}} {100 * p:5.1f} %")


def ranking(classes: Sequence[str], proba: np.ndarray, top: int | None) -> list[dict[str, Any]]:
    """The classes with their probabilities, the most probable first, for JSON."""
    ranked = np.argsort(-proba, kind="stable")[:top]
    return [{"class": classes[i], "probability": float(proba[i])} for i in ranked]


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
