"""The tests that the docs name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_tests_exist(page):
    code = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("*.py"))
    files = {p.stem for p in (ROOT / "tests").rglob("*.py")}
    named = set(re.findall(r"`(test_\w+)", page.read_text(encoding="utf-8")))
    missing = [name for name in sorted(named) if f"def {name}(" not in code and name not in files]
    assert not missing


def test_every_expectation_has_its_answer():
    rows = re.findall(
        r"^\| F(\d+) \|.*\|.*\|$", (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8"), re.M
    )
    assert [int(n) for n in rows] == list(range(1, 53))
