"""Tables as text and as HTML: what a prompt, a terminal and a notebook show of the same rows."""

from __future__ import annotations

import html
import shutil
import sys
from collections.abc import Sequence
from typing import Any

_SHORT = 8  # no cell is cut below this


class Shown(str):
    """A text that a prompt shows as it is printed, and a notebook without wrapping it."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return preformatted(self)


def preformatted(text: str) -> str:
    """The text in HTML, lines as they are."""
    return f'<pre style="white-space: pre; overflow-x: auto">{html.escape(text)}</pre>'


def html_table(rows: Sequence[Sequence[str]], note: str = "") -> str:
    """Rows, the first of them headings, as an HTML table."""
    lines = ["<table>"]
    for i, row in enumerate(rows):
        tag = "td" if i else "th"
        cells = "".join(f'<{tag} style="text-align: right">{html.escape(cell)}</{tag}>' for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</table>", *([f"<p>{html.escape(note)}</p>"] if note else [])])


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None when it is none."""
    try:
        watched = sys.stdout.isatty()
    except (AttributeError, ValueError):  # closed
        return None
    return shutil.get_terminal_size().columns if watched else None


def in_notebook() -> bool:
    """Whether what is printed becomes the output of a notebook's cell."""
    shell = sys.modules.get("IPython")
    found = None if shell is None else shell.get_ipython()
    return found is not None and hasattr(found, "kernel")


def aligned(rows: Sequence[Sequence[str]], right: int) -> list[str]:
    """Columns padded to their widest cell; the last ``right`` columns are numbers."""
    widths = _widths(rows)
    sides = ["<"] * (len(widths) - right) + [">"] * right
    line = "  ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
    return [line.format(*r).rstrip() for r in rows]


def fitted(choices: Sequence[tuple[list[list[str]], int]], width: int | None) -> list[str]:
    """The first of several tables, the richest first, that fits; the last one, with its texts cut, where none does.

    Parameters
    ----------
    choices : rows and how many of the last columns are numbers.
    """
    for rows, right in choices:
        if width is None or _total(rows) <= width:
            return aligned(rows, right)
    rows, right = [list(row) for row in choices[-1][0]], choices[-1][1]
    assert width is not None
    while _total(rows) > width:
        widths = _widths(rows)[: len(rows[0]) - right]
        widest = max(range(len(widths)), key=lambda i: widths[i], default=0)
        if not widths or widths[widest] <= _SHORT:
            break
        for row in rows:
            row[widest] = _cut(row[widest], widths[widest] - 1)
    return aligned(rows, right)


def _cut(text: str, width: int) -> str:
    """The end of a long text: names of layers differ there."""
    return text if len(text) <= width else ".." + text.removeprefix("..")[-(width - 2) :]


def _widths(rows: Sequence[Sequence[Any]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _total(rows: Sequence[Sequence[str]]) -> int:
    widths = _widths(rows)
    return sum(widths) + 2 * (len(widths) - 1)
