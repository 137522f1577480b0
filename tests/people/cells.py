"""python cells.py SCRIPT RESULT: runs a script cell by cell ("# %%") in one namespace, as editors and notebooks do.

An error ends its cell, not the script. What each cell wrote (to the file descriptors, so children's too), its
warnings and its error are written to RESULT as JSON. It imports nothing of the library: the script does.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any


def split(text: str) -> list[tuple[int, str]]:
    """(line number, text) of each cell; what stands before the first "# %%" is one too."""
    cells: list[tuple[int, list[str]]] = [(1, [])]
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# %%"):
            cells.append((number, []))
        cells[-1][1].append(line)
    return [(number, "\n".join(lines)) for number, lines in cells if any(line.strip() for line in lines)]


def run(line: int, text: str, path: str, names: dict[str, Any]) -> dict[str, Any]:
    """What one cell says. The value of a last expression is shown, as at a prompt."""
    told: list[str] = []
    error = None
    with warnings.catch_warnings(), captured() as written:
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *where: told.append(
            f"{category.__name__}: {message}"
        )
        try:
            tree = ast.parse("\n" * (line - 1) + text, path)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, path, "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), path, "eval"), names)
                if value is not None:
                    print(repr(value))
        except BaseException as e:
            error = [type(e).__name__, str(e)]
    return {"line": line, "out": "".join(written), "warnings": told, "error": error}


@contextlib.contextmanager
def captured() -> Any:
    """A list that has what was written to file descriptors 1 and 2 once it is left."""
    written: list[str] = []
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as file:
        for place in (1, 2):
            os.dup2(file.fileno(), place)
        try:
            yield written
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for place, own in zip((1, 2), kept, strict=True):
                os.dup2(own, place)
                os.close(own)
            file.seek(0)
            written.append(file.read().decode(errors="backslashreplace"))


def main(script: str, result: str) -> None:
    module = types.ModuleType("__main__")  # a script's classes are the script's
    module.__file__ = script
    sys.modules["__main__"] = module
    sys.argv = [script]
    said = [run(line, text, script, vars(module)) for line, text in split(Path(script).read_text())]
    Path(result).write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
