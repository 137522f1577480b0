"""What commands print to stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_BAR = 30
_PLAIN_WIDTH = 120  # of tables that go to a file or a pipe


def _console() -> Console:
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False)


def line(text: str) -> None:
    """A text as it is."""
    print(text, flush=True)


def table(content: Table) -> None:
    """A table, as wide as the terminal lets it be."""
    _console().print(content)


def pairs(entries: Mapping[str, Any]) -> None:
    """Names and values."""
    width = max((len(str(k)) for k in entries), default=0)
    for key, value in entries.items():
        line(f"{key.replace('_', ' '):<{width}}  {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def per_class(classes: Sequence[str], right: np.ndarray, count: np.ndarray) -> Table:
    """Accuracy of each class."""
    out = Table(box=box.SIMPLE_HEAD)
    out.add_column("class")
    for title in ("images", "right", "accuracy"):
        out.add_column(title, justify="right")
    for name, r, n in zip(classes, right, count, strict=True):
        out.add_row(escape(name), f"{n:,}", f"{r:,}", f"{100 * r / n:.2f} %" if n else "")
    return out


def prediction(path: str, classes: Sequence[str], proba: np.ndarray) -> None:
    """The most probable class, then a bar for each."""
    best = int(np.argmax(proba))
    line(f"{path}: {classes[best]} ({100 * proba[best]:.1f} %)")
    width = max(map(len, classes))
    fill = "█" if _can_print("█") else "#"
    for name, p in zip(classes, proba, strict=True):
        line(f"  {name:>{width}}  {fill * round(float(p) * _BAR):<{_BAR}} {100 * p:5.1f} %")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
