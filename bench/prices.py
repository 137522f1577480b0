"""Predicted beside measured: what the choice of layouts counts with, and what the steps take.

Sums over the steps of a network by op and layout. Ratios that differ between rows that compete for a layout (a
convolution in nhwc and interleaved) are what can make the choice wrong; one common factor cannot.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .timing import case_name, show
from .train import ours

CASES = (("lenet5", 64), ("resnet20_cifar", 32))
COLUMNS = [
    ("network", "network", "18s"),
    ("layout", "layout", "11s"),
    ("op", "op", "24s"),
    ("steps", "steps", "d"),
    ("measured_us", "measured us", ".1f"),
    ("predicted_us", "predicted us", ".1f"),
    ("ratio", "measured / predicted", ".2f"),
]


def run_case(name: str, batch: int, layout: str, rounds: int) -> list[dict[str, Any]]:
    _, x, _, step = ours(name, batch, layout)
    plan = step.training_plan(x.shape)
    rows: dict[str, dict[str, Any]] = {}
    for s in plan.profile(rounds).steps:
        empty = {"network": case_name((name, batch)), "layout": layout, "op": s["op"]}
        row = rows.setdefault(s["op"], {**empty, "steps": 0, "measured_us": 0.0, "predicted_us": 0.0})
        row["steps"] += 1
        row["measured_us"] += s["seconds"] * 1e6
        row["predicted_us"] += s["predicted"] * 1e6
    for row in rows.values():
        row["ratio"] = row["measured_us"] / row["predicted_us"] if row["predicted_us"] else np.nan
    return sorted(rows.values(), key=lambda r: -r["measured_us"])


def run(cases: tuple[Any, ...] = CASES, rounds: int = 7) -> list[dict[str, Any]]:
    """Measure and print; the rows."""
    runs = itertools.product(cases, ("nhwc", "interleaved"))
    return show((row for case, layout in runs for row in run_case(*case, layout, rounds)), COLUMNS)
