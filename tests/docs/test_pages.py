"""What the pages show is run: code blocks in their order, the tables that say how another library's code goes here."""

from __future__ import annotations

import copy
import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TORCH = importlib.util.find_spec("torch") is not None
KERAS = re.compile(r"^\s*(import|from) keras\b", re.M)  # programs to read: Keras is installed nowhere


def parts(text: str) -> list[tuple[str, Any]]:
    """In the page's order: ("heading", its text), ("block", code), ("table", its lines as lists of cells)."""
    found: list[tuple[str, Any]] = []
    pattern = r"^```(\w*)\n(.*?)^```$|^#+ ([^\n]+)$|((?:^\|[^\n]*\|\n)+)"
    for language, code, heading, table in re.findall(pattern, text, re.M | re.S):
        if heading:
            found.append(("heading", heading))
        elif table:
            lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()]
            found.append(("table", [lines[0], *lines[2:]]))
        elif language == "python":
            found.append(("block", code))
    return found


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def run(code: str, names: dict, where: str) -> None:
    exec(compile(code, where, "exec"), names)


def value_of(code: list[str], names: dict, where: str) -> Any:
    """Run all of them; the value of the last one where it is an expression."""
    for span in code[:-1]:
        run(span, names, where)
    try:
        last = compile(code[-1], where, "eval")
    except SyntaxError:
        run(code[-1], names, where)
        return None
    return eval(last, names)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- links


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}
            assert anchor in anchors, f"{page.name}: {target}"


# ---- README


def test_readme_runs(place):
    names: dict = {}
    found = [part for kind, part in parts((ROOT / "README.md").read_text()) if kind == "block"]
    assert len(found) >= 3
    for i, code in enumerate(found):
        run(code, names, f"README.md, block {i}")


# ---- from PyTorch


def plain(value: Any) -> Any:
    """What can be compared: an array or a number of either library, the shapes of a module's state, a list."""
    if hasattr(value, "state_dict") and hasattr(value, "named_modules"):
        return {name: tuple(array.shape) for name, array in value.state_dict().items()}
    if hasattr(value, "detach"):
        value = value.detach()
        value = value if isinstance(value, float) else value.numpy()
    if isinstance(value, (np.ndarray, np.generic, float, int)):
        return np.asarray(value)
    return value if isinstance(value, list) else None


def assert_same(here: Any, there: Any, where: str) -> None:
    ours, theirs = plain(here), plain(there)
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=where)
    elif type(ours) is type(theirs):
        assert ours == theirs, where


def assert_same_model(here: Any, there: Any, where: str) -> None:
    for name, array in there.state_dict().items():
        np.testing.assert_allclose(
            here.state_dict()[name], array.numpy(), rtol=1e-3, atol=1e-3, err_msg=f"{where}: {name}"
        )
    for (name, p), q in zip(here.named_parameters(), there.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), f"{where}: {name}"
        if p.grad is not None:
            np.testing.assert_allclose(
                p.grad, q.grad.numpy(), rtol=1e-2, atol=1e-3, err_msg=f"{where}: {name}"
            )


class Forward(nn.Module):
    """A module whose forward is an expression of x."""

    def __init__(self, expression: str, names: dict) -> None:
        super().__init__()
        self.expression, self.names = expression, names

    def forward(self, x: Any) -> Any:
        return eval(self.expression, {**self.names, "x": x})


class PyTorchPage:
    """Runs it from top to bottom: PyTorch's side, where it is installed, in a namespace of its own."""

    def __init__(self) -> None:
        self.here: dict = {"copy": copy}
        self.there: dict = {}
        self.module = types.ModuleType("program_of_the_page")  # where pickle finds the classes
        self.rows = 0

    def block(self, code: str) -> None:
        if not re.search(r"^import torch\b", code, re.M):
            run(code, self.here, code)
        elif TORCH:
            self.module.__dict__.update({**self.here, "__name__": self.module.__name__})
            self.there = self.module.__dict__
            run(code, self.there, code)

    def begin_tables(self) -> None:
        self.here["z"], self.here["self"] = self.here["model"](self.here["x"]), nn.Module()
        if TORCH:
            import torch

            self.here["torch"] = torch
            self._start_equal()
            self.there["z"], self.there["self"] = self.there["model"](self.there["x"]), torch.nn.Module()

    def _start_equal(self) -> None:
        """Both models with the same weights and without momentum: rounding has grown while they trained."""
        import torch

        state = {name: torch.from_numpy(array) for name, array in self.here["model"].state_dict().items()}
        self.there["model"].load_state_dict(state)
        for names, kind in ((self.here, fastcnn.optim.SGD), (self.there, torch.optim.SGD)):
            names["model"].zero_grad()
            names["optimizer"] = kind(names["model"].parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def row(self, ours: str, theirs: str, section: str) -> None:
        self.rows += 1
        where = f"{section}: {ours}"
        there = value_of(spans(theirs), self.there, where) if TORCH and spans(theirs) else None
        code = spans(ours)
        if not TORCH and any("torch" in span for span in code):
            return
        if section.startswith("Inside"):
            here = Forward(code[0], self.here)(self.here["x"])
        else:
            here = value_of(code, self.here, where) if code else None
        if TORCH:
            assert_same(here, there, where)
            assert_same_model(self.here["model"], self.there["model"], where)

    def table(self, lines: list[list[str]], section: str) -> None:
        heading, *body = lines
        if heading[0] == "not there":
            for name in re.findall(r"\b[A-Z]\w+", " ".join(line[0] for line in body)):
                assert not hasattr(nn, name) and not hasattr(fastcnn.optim, name), name
        for cells in body:
            if heading[1] == "here":
                self.row(cells[1], cells[0], section)
            elif heading[0] == "from PyTorch to here":
                self.row(cells[0], "", section)
            elif heading[0] == "from here to PyTorch":
                self.row("", cells[0], section)


def test_from_pytorch_runs_as_it_stands(place, monkeypatch):
    page, section = PyTorchPage(), ""
    monkeypatch.setitem(sys.modules, page.module.__name__, page.module)
    for kind, part in parts((ROOT / "docs" / "from_pytorch.md").read_text()):
        if kind == "heading":
            section = part
            if section == "Layers":
                page.begin_tables()
                if TORCH:
                    np.testing.assert_allclose(page.here["losses"][:10], page.there["losses"][:10], atol=1e-4)
        elif kind == "block":
            page.block(part)
        else:
            page.table(part, section)
    assert page.rows > 60


def test_adam_and_the_squared_error_of_the_page_are_pytorchs(place):
    torch = pytest.importorskip("torch")
    text = (ROOT / "docs" / "from_pytorch.md").read_text()
    adam = next(part for kind, part in parts(text) if kind == "block" and "class Adam" in part)
    names: dict = {"np": np}
    run(adam[: adam.index("\n\n\nadam = ")], names, "Adam")
    ours, theirs = nn.Parameter(np.float32([1, -2, 3])), torch.tensor([1.0, -2, 3], requires_grad=True)
    a, b = names["Adam"]([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1)
    for step in range(5):
        gradient = np.float32([0.5, -3, 0.01]) * (step - 1)
        ours.grad, theirs.grad = gradient, torch.from_numpy(gradient)
        a.step()
        b.step()
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), atol=1e-5)


# ---- from Keras


def keras_network(images: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """The page's network as Keras computes it: (N, H, W, C), float64, batch norm's epsilon 1e-3."""
    kernel1, bias1, gamma, beta, mean, variance, kernel2, bias2, kernel3, bias3 = weights

    def conv(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        h, w = x.shape[1:3]
        taps = (padded[:, i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3))
        return np.maximum(sum(taps) + bias, 0)

    def pool(x: np.ndarray) -> np.ndarray:
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))

    x = conv(images.astype(np.float64), kernel1, bias1)
    x = pool((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta)
    x = pool(conv(x, kernel2, bias2))
    return x.reshape(len(x), -1) @ kernel3 + bias3


def test_from_keras_runs_as_it_stands(place, rng):
    names: dict = {"copy": copy, "F": fastcnn.functional, "a": np.ones((1, 2, 3, 3), np.float32)}
    count = 0
    for kind, part in parts((ROOT / "docs" / "from_keras.md").read_text()):
        if kind == "block" and not KERAS.search(part):
            run(part, names, part)
        elif kind == "table" and part[0][1] == "here":
            for _, ours, _ in part[1:]:
                if spans(ours):
                    value_of(spans(ours), names, ours)
                count += 1
    assert count > 50
    assert max(names["history"].history["val_accuracy"]) > 0.8

    shapes = [(3, 3, 1, 8), (8,), (8,), (8,), (8,), (8,), (3, 3, 8, 16), (16,), (16 * 7 * 7, 10), (10,)]
    weights = [rng.uniform(0.1, 0.3, shape).astype(np.float32) - (len(shape) > 1) * 0.2 for shape in shapes]
    weights = [w.astype(np.float32) for w in weights]
    images = rng.random((3, 28, 28, 1), np.float32)
    model = names["model"]
    model.load_state_dict(names["state_from_keras"](weights))
    y = model.eval()(images.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(y, keras_network(images, weights), rtol=1e-4, atol=1e-4)


def test_keras_other_kernels_are_turned_as_the_page_says(rng):
    text = (ROOT / "docs" / "from_keras.md").read_text()
    code = next(part for kind, part in parts(text) if kind == "block" and "def depthwise" in part)
    names: dict = {}
    run(code, names, "from_keras.md")
    kernel, x = rng.random((3, 3, 4, 2), np.float32), rng.random((1, 4, 5, 5), np.float32)
    y = fastcnn.functional.conv2d(x, names["depthwise"](kernel), groups=4)
    at = np.einsum("cij,ijcm->cm", x[0, :, 1:4, 2:5].astype(np.float64), kernel)  # output channels c * M + m
    np.testing.assert_allclose(y[0, :, 1, 2], at.ravel(), rtol=1e-5)
    kernel, x = rng.random((4, 3), np.float32), rng.random((2, 4), np.float32)
    np.testing.assert_allclose(fastcnn.functional.linear(x, names["dense"](kernel)), x @ kernel, rtol=1e-5)
