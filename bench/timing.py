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
from fastcnn._text import aligned

# Does the work once; returns its own seconds, or None to be timed from outside.
Contender = Callable[[], float | None]


def fma_peak(rounds: int = 5) -> float:
    """Measured multiply-add peak of the chosen instruction set on all threads, in FLOP/s."""
    return max(_core.fma_peak(0.05) for _ in range(rounds))


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
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"benchmark": kind, "machine": machine(), "rows": rows}, f, indent=1)


def case_name(case: Sequence[Any]) -> str:
    """What ``--only`` looks into: the texts of a case and its last number, the batch.

    >>> case_name(("vgg16", "train", 8))
    'vgg16 train b8'
    """
    return " ".join([*(part for part in case if isinstance(part, str)), f"b{case[-1]}"])


def chosen(cases: Sequence[Any], only: Sequence[str]) -> tuple[Any, ...]:
    """The cases with one of the texts in their name; ValueError that lists the names when there are none."""
    found = tuple(case for case in cases if any(text in case_name(case) for text in only))
    if not found:
        wanted, known = " or ".join(map(repr, only)), ", ".join(map(case_name, cases))
        raise ValueError(f"no case has {wanted} in its name; there are {known}")
    return found


def show(rows: Iterable[dict[str, Any]], columns: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Print each row as soon as it is measured, and all of them as a table in the end; the rows."""
    done = []
    for row in rows:
        done.append(row)
        print(table([row], columns).splitlines()[-1], flush=True)
    print("\n" + table(done, columns))
    return done


def table(rows: list[dict[str, Any]], columns: list[tuple[str, str, str]]) -> str:
    """rows as text; columns are (key, heading, format)."""
    cells = [[h for _, h, _ in columns]]
    for row in rows:
        cells.append(["-" if row.get(k) is None else format(row[k], f) for k, _, f in columns])
    return "\n".join(aligned(cells, right=len(columns) - 1))
