"""Every public name has a docstring, and the pages that pdoc makes of them show each one and nothing private."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastcnn

ROOT = Path(__file__).resolve().parents[2]
MODULES = ["", "nn", "nn.init", "functional", "optim", "data", "train", "models", "io"]


def module_of(name: str) -> Any:
    return importlib.import_module(f"fastcnn.{name}".rstrip("."))


def public() -> list[tuple[str, Any]]:
    """Names with what they stand for, modules among them; numbers and tables have no docstrings of their own."""
    found = [(f"fastcnn.{name}".rstrip("."), module_of(name)) for name in MODULES]
    found += [
        (f"{where}.{name}", getattr(module, name)) for where, module in found for name in module.__all__
    ]
    return [(name, value) for name, value in found if inspect.ismodule(value) or callable(value)]


@pytest.mark.parametrize("name,value", public(), ids=lambda v: v if isinstance(v, str) else "")
def test_public_names_have_a_summary_of_one_line(name, value) -> None:
    summary = (inspect.getdoc(value) or "").split("\n\n")[0]
    assert re.fullmatch(r"\S[^\n]{8,118}[.:]", summary), summary
    own = vars(value) if inspect.isclass(value) and value.__module__ != "fastcnn._core" else ()
    for member in (m for m in own if not m.startswith("_")):
        held = getattr(value, member)
        if inspect.isfunction(held) or isinstance(held, property):
            assert inspect.getdoc(held), f"{name}.{member}"


def test_pages_of_the_api(tmp_path) -> None:
    pytest.importorskip("pdoc")
    line = re.search(r"^pdoc .*$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert line is not None
    command = [sys.executable, "-W", "error", "-m", *shlex.split(line[0])]
    command[command.index("-o") + 1] = str(tmp_path)
    source = str(Path(fastcnn.__file__).resolve().parents[1])
    run = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "warn" not in run.stderr.lower(), run.stderr

    pages = {".".join(p.relative_to(tmp_path).with_suffix("").parts): p for p in tmp_path.rglob("*.html")}
    shown = {f"fastcnn.{name}".rstrip(".") for name in [*MODULES, "reference", "train.schedule"]}
    assert set(pages) == shown | {"index"}
    for name in MODULES:
        module = module_of(name)
        text = pages[module.__name__].read_text()
        sections = re.findall(r'<section id="([^"]+)">', text)
        assert len(sections) == len(set(sections))
        assert set(sections) == {n for n in module.__all__ if not inspect.ismodule(getattr(module, n))}
    inherited = "The images to train on, and those held out."  # from a base that has no page
    assert f"<p>{inherited}</p>" in pages["fastcnn.data"].read_text()
