"""How everything here is timed: contenders take turns, each round in the same order, and medians are compared.

On a shared machine the speed of both sides moves together; only figures of the same table can be compared.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastcnn import _core
from fastcnn._files import write_whole

_FIGURE = 7  # least width of figures in tables

# Does the work once; returns its own seconds, or None to be timed from outside.
Contender = Callable[[], float | None]


_peaks: dict[tuple[str, int], float] = {}


def fma_peak(rounds: int = 5) -> float:
    """Multiply-add peak of the chosen instruction set on all threads, in FLOP/s: the highest measured so far.

    On a machine that others use, a peak measured in a slow moment would make a share of more than 100 %.
    """
    key = _core.isa(), _core.get_num_threads()
    measured = (_core.fma_peak(0.05) for _ in range(rounds if key in _peaks else max(rounds, 10)))
    _peaks[key] = max(_peaks.get(key, 0.0), *measured)
    return _peaks[key]


def executed(flops: float, implementation: str) -> float:
    """Of the direct algorithm's multiply-adds, those that are done: Winograd's 4x4 tiles of 3x3 kernels multiply 36
    times where the direct algorithm does 144 times (Lavin, Gray 2015), so that its rate can exceed the peak."""
    return flops / 4 if "winograd4x4" in implementation else flops


def alternate(
    contenders: dict[str, Contender], rounds: int = 7, warmup: int = 2, seconds: float = 20.0
) -> dict[str, float]:
    """Median seconds of each contender over ``rounds`` turns (fewer when ``seconds`` run out, at least three)."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    deadline = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        for turn in range(warmup + rounds):
            for name, run in contenders.items():
                start = time.perf_counter()
                own = run()
                spent = time.perf_counter() - start if own is None else own
                if turn >= warmup:
                    times[name].append(spent)
            if turn >= warmup + 2 and time.perf_counter() > deadline:
                break
    finally:
        gc.enable()
    return {name: statistics.median(t) for name, t in times.items()}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import numpy as np

    from .peers import torch_here

    torch = torch_here()
    return {
        "cpu": _core.cpu_name(),
        "instruction_set": _core.isa(),
        "threads": _core.get_num_threads(),
        "compiler": _core.compiler(),
        "fastcnn": _core.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "fma_peak_gflops": round(fma_peak() / 1e9, 1),
        **({} if torch is None else {"torch": torch.__version__}),
    }


def write_json(path: str, kind: str, rows: list[dict[str, Any]]) -> None:
    content = {"benchmark": kind, "machine": machine(), "rows": rows}
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def case_name(case: Sequence[Any]) -> str:
    """What ``--only`` looks into: the texts of a case and its last number, the batch.

    >>> case_name(("vgg16", "train", 8))
    'vgg16 train b8'
    """
    return " ".join([*(part for part in case if isinstance(part, str)), f"b{case[-1]}"])


def chosen(cases: Sequence[Any], only: Sequence[str]) -> tuple[Any, ...]:
    """The cases with one of the texts in their name, in small or capital letters; ValueError that lists the names
    when there are none."""
    texts = [text.lower() for text in only]
    found = tuple(case for case in cases if any(text in case_name(case).lower() for text in texts))
    if not found:
        wanted, known = " or ".join(map(repr, only)), ", ".join(map(case_name, cases))
        raise ValueError(f"no case has {wanted} in its name; there are {known}")
    return found


def show(rows: Iterable[dict[str, Any]], columns: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Print a table, each row as soon as it is measured; the rows. Columns are (key, heading, format)."""
    done: list[dict[str, Any]] = []
    for row in rows:
        if not done:  # what is None in the first row was not asked for, or is not here
            columns = [c for c in columns if c[0] not in row or row[c[0]] is not None]
            print(_line([heading for _, heading, _ in columns], columns), flush=True)
        done.append(row)
        cells = ["-" if row.get(key) is None else format(row[key], form) for key, _, form in columns]
        print(_line(cells, columns), flush=True)
    return done


def _line(cells: Sequence[str], columns: list[tuple[str, str, str]]) -> str:
    """Columns of fixed width, since the rows to come are not known: of texts as their formats say ("24s")."""
    parts = []
    for cell, (_, heading, form) in zip(cells, columns, strict=True):
        text = form.endswith("s")
        width = max(len(heading), int(form[:-1] or 0) if text else _FIGURE)
        parts.append(f"{cell:<{width}}" if text else f"{cell:>{width}}")
    return "  ".join(parts).rstrip()
