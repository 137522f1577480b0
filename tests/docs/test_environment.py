"""docs/environment.md has each environment variable that is read, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "environment.md"
OURS = r"(?:FASTCNN|OMP|XDG)_[A-Z_]+"


def sources() -> list[Path]:
    kinds = (".py", ".cpp", ".h", ".sh")
    folders = [ROOT / folder for folder in ("cpp", "python", "bench", "tests", "tools")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in kinds]
    return [file for file in files if file != Path(__file__).resolve()]


def read_variables() -> set[str]:
    """Names that the sources read: this project's and OpenMP's where they are quoted, others by how they are read."""
    names: set[str] = set()
    for file in sources():
        text = file.read_text(errors="replace")
        names.update(re.findall(r'getenv\("(\w+)"\)', text))
        names.update(re.findall(r'environ(?:\.get\(|\.setdefault\(|\[)\s*"(\w+)"', text))
        if file.suffix == ".py":
            names.update(re.findall(rf'"({OURS})"', text))
            names.update(re.findall(rf"\b({OURS})=", text))
    return names


def listed() -> set[str]:
    """Names in the first column of the tables, but the last one, which is of other libraries' variables."""
    own, _ = PAGE.read_text().split("## Read by the libraries")
    return set(re.findall(r"^\| `(\w+)`", own, re.M))


def test_every_variable_that_is_read_is_in_the_page_and_no_other():
    assert listed() == read_variables()


def test_pages_name_no_variable_that_does_not_exist():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        named = set(re.findall(rf"(?<!-D)\b({OURS})\b", page.read_text()))
        assert named <= listed(), page.name
