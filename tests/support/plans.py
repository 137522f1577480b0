"""run_plan: a few ops as a plan in one layout, for what only plans do (fusion, kept values)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from graphs import make_plan, run_once

from fastcnn import _core


def run_plan(
    record: Callable[..., Any],
    inputs: list[np.ndarray],
    parameters: list[np.ndarray],
    layout: str,
    times: int = 1,
) -> tuple[list[np.ndarray], list[dict]]:
    """record(graph, *input ids, *parameter ids) -> id(s) of the outputs. Returns their values and the steps.

    times > 1: the plan has run on NaN before, so that whatever it fails to write anew shows.
    """
    g = _core.Graph()
    ids = [g.input(list(a.shape), a.dtype.name) for a in inputs]
    ids += [g.tensor(_core.Tensor(a)) for a in parameters]
    outputs = record(FirstOutput(g), *ids)
    plan = make_plan(g, outputs if isinstance(outputs, list) else [outputs], layout)
    for _ in range(times - 1):
        run_once(plan, [np.full_like(a, np.nan) for a in inputs])
    return run_once(plan, inputs), plan.steps


class FirstOutput:
    """A graph whose record() returns the first output alone, or all where asked."""

    def __init__(self, g: Any) -> None:
        self.graph = g

    def record(self, op: str, inputs: list, attrs: dict, all_outputs: bool = False) -> Any:
        out = self.graph.record(op, inputs, attrs)
        return out if all_outputs else out[0]
