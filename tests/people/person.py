"""What a script expects to see, and whether it saw it.

A script is in cells ("# %%"). The comments of a cell say what it does when it is run:

    # prints: PART ...   this is written, after what the lines above name ("..." stands for anything)
    # shows: PART        the same of the HTML that a notebook shows; without the line there is none
    # warns: PART        one warning with this text; there are no others
    # raises: TYPE: PART it ends with this error; without the line it must not

A part with True or False in it is a whole line, where it has no "...".
Further lines of one part begin with "#   ". White space counts as one blank.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cells import split

import fastcnn

SCRIPTS = Path(__file__).parent / "scripts"
_KINDS = ("prints", "shows", "warns", "raises")
# What Python itself says of a mistake: it names no cure.
_BARE = re.compile(
    r"'\w+' object |NoneType|not (subscriptable|iterable|callable)|out of (bounds|range)|"
    r"0x[0-9a-f]{6}|\.part\b|internal error|truth value of an array"
)
LONGEST = 600


@dataclasses.dataclass
class Expected:
    line: int
    prints: list[str] = dataclasses.field(default_factory=list)
    shows: list[str] = dataclasses.field(default_factory=list)
    warns: list[str] = dataclasses.field(default_factory=list)
    raises: list[str] = dataclasses.field(default_factory=list)


def expectations(script: Path) -> list[Expected]:
    """Of each cell of a script."""
    return [expected(line, text) for line, text in split(script.read_text())]


def expected(line: int, text: str) -> Expected:
    found, last = Expected(line), None
    for row in text.splitlines():
        kind, _, part = row.removeprefix("# ").partition(": ")
        if row.startswith("# ") and kind in _KINDS:
            last = getattr(found, kind)
            last.append(part)
        elif row.startswith("#   ") and last is not None:
            last[-1] += f" {row[1:].strip()}"
        else:
            last = None
    assert len(found.raises) < 2, f"line {line}: a cell ends with one error"
    return found


def scripts(folder: str) -> list[Any]:
    """The scripts of a folder, as parameters of a test."""
    return [pytest.param(path, id=path.stem) for path in sorted((SCRIPTS / folder).glob("*.py"))]


def environment(home: Path) -> dict[str, str]:
    """A home of one's own, the `fastcnn` command, and one thread beside other tests."""
    commands = home / "bin"
    commands.mkdir(parents=True, exist_ok=True)
    command = commands / "fastcnn"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fastcnn "$@"\n')
    command.chmod(0o755)
    inherited = dict(os.environ)
    searched = [os.path.abspath(p) for p in inherited.get("PYTHONPATH", "").split(os.pathsep) if p]
    library = Path(fastcnn.__file__).resolve().parents[1]
    return {
        **inherited,
        "HOME": str(home),
        "PYTHONUSERBASE": site.getuserbase(),
        "PYTHONPATH": os.pathsep.join([str(library), *searched]),
        "PATH": f"{commands}{os.pathsep}{inherited.get('PATH', os.defpath)}",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
    }


def needs(script: Path) -> None:
    """Skip where something that the script imports is absent."""
    for name in re.findall(r"^(?:import|from) (\w+)", script.read_text(), re.MULTILINE):
        pytest.importorskip(name)


def play(script: Path, folder: Path, seconds: float = 120) -> list[dict[str, Any]]:
    """What each cell of a script said, in a process of its own, in that folder, with nothing to read from."""
    needs(script)
    home = folder.parent / f"{folder.name}-home"
    result = folder.parent / f"{folder.name}-said.json"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("cells.py")), str(script), str(result)],
        cwd=folder, env=environment(home), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, f"exit status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}"
    return json.loads(result.read_text())


def compare(expected: list[Expected], said: list[dict[str, Any]]) -> None:
    """Every cell did what its comments say, and nothing it says is Python's own word for a mistake."""
    assert len(expected) == len(said)
    wrong = [text for e, s in zip(expected, said, strict=True) for text in differences(e, s)]
    assert not wrong, "\n" + "\n\n".join(wrong)


def differences(expected: Expected, said: dict[str, Any]) -> list[str]:
    where, found = f"line {expected.line}", []
    error = "" if said["error"] is None else ": ".join(said["error"])
    if bool(error) != bool(expected.raises) or not all(_begins(p, error) for p in expected.raises):
        found.append(f"{where}: expected {expected.raises or 'no error'}, got {error or 'none'}")
    lines = [" ".join(line.split()) for line in said["out"].splitlines()]
    answers = [p for p in expected.prints if re.search(r"\b(True|False)\b", p) and "..." not in p]
    if not in_order(expected.prints, said["out"]) or not all(p in lines for p in answers):
        found.append(f"{where}: expected {expected.prints}, printed\n{said['out'][-3000:]}")
    told = said["warnings"]
    if len(told) != len(expected.warns) or not all(map(_holds, expected.warns, told)):
        found.append(f"{where}: expected the warnings {expected.warns}, got {told}")
    for text in (error, *told, *_errors_of_commands(said["out"])):
        if _BARE.search(text) or "\n" in text.strip() or len(text) > LONGEST:
            found.append(f"{where}: not a line that helps: {text[:1000]}")
    if "Traceback" in said["out"]:
        found.append(f"{where}: a traceback\n{said['out'][-3000:]}")
    return found


def _errors_of_commands(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("fastcnn: ")]


def _begins(part: str, error: str) -> bool:
    """The error's type is the one named, and its text holds the part."""
    kind, _, text = part.partition(": ")
    got, _, message = error.partition(": ")
    return kind == got and _holds(text, message)


def _holds(part: str, text: str) -> bool:
    return in_order([part], text)


def in_order(parts: list[str], text: str) -> bool:
    text, at = " ".join(text.split()), 0
    for part in parts:
        for piece in part.split("..."):
            piece = " ".join(piece.split())
            at = text.find(piece, at)
            if at < 0:
                return False
            at += len(piece)
    return True
