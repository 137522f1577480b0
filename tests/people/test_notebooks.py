"""Scripts as notebooks: what is shown below each cell."""

from __future__ import annotations

import re
from typing import Any

import person
import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


def shown(script, folder, monkeypatch) -> list[dict[str, Any]]:
    """What each cell of a script says, as `person.play` gives it, with its HTML under "html"."""
    for name, value in person.environment(folder.parent / "home").items():
        monkeypatch.setenv(name, value)
    cells = [nbformat.v4.new_code_cell(text) for _, text in person.split(script.read_text())]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": folder}},
    )
    client.execute()
    lines = [line for line, _ in person.split(script.read_text())]
    return [{"line": line, **_said(cell)} for line, cell in zip(lines, cells, strict=True)]


def _said(cell: Any) -> dict[str, Any]:
    out, html, error, warned = "", "", None, []
    for output in cell.outputs:
        if output.output_type == "error":
            error = [output.ename, output.evalue]
        elif output.output_type == "stream":
            out += output.text
            warned += re.findall(r"^\S+: (\w+Warning: .*)$", output.text, re.MULTILINE)
        else:
            out += output.data.get("text/plain", "")
            html += output.data.get("text/html", "")
    return {"out": out, "html": html, "error": error, "warnings": warned}


@pytest.mark.parametrize("script", person.scripts("notebooks"))
def test_notebooks(script, folder, monkeypatch):
    expected = person.expectations(script)
    said = shown(script, folder, monkeypatch)
    person.compare(expected, said)
    for e, s in zip(expected, said, strict=True):
        assert person.in_order(e.shows, s["html"]), (
            f"line {e.line}: expected {e.shows}, shown\n{s['html'][:2000]}"
        )
        assert bool(e.shows) == bool(s["html"]), f"line {e.line}: shown\n{s['html'][:2000]}"
