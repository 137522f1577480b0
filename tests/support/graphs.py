"""Small graphs for tests: recorded, differentiated, planned in one layout and run on arrays.

Everything in tests that makes or runs a core plan goes through make_plan and run_once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fastcnn import _core

LAYOUTS = ("nhwc", "interleaved")


def make_plan(g: _core.Graph, outputs: Sequence[int], layout: str = "auto") -> _core.Plan:
    return _core.Plan(g, list(outputs), layout)


def run_once(plan: _core.Plan, inputs: Sequence[np.ndarray] | Mapping[int, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a plan of one section (of its first section, where it has two)."""
    given = dict(inputs) if isinstance(inputs, Mapping) else dict(enumerate(inputs))
    results = plan.start().section(0, given)
    return [np.array(results[i]) for i in sorted(results)]


def run_graph(
    build: Callable[[_core.Graph, list[int]], Sequence[int]],
    arrays: Sequence[np.ndarray],
    layout: str,
    tensors: Sequence[np.ndarray] = (),
) -> tuple[list[np.ndarray], _core.Plan]:
    """The values that build(graph, ids) returns. arrays are batched inputs; tensors are parameters and
    buffers, updated in place by ops that update; their ids come after those of the inputs.
    """
    g = _core.Graph()
    ids = [g.input(a.shape, a.dtype, True, f"in{i}") for i, a in enumerate(arrays)]
    held = [_core.Tensor(a) for a in tensors]
    ids += [g.tensor(t, f"t{i}") for i, t in enumerate(held)]
    plan = make_plan(g, build(g, ids), layout)
    results = run_once(plan, arrays)
    for a, t in zip(tensors, held, strict=True):
        a[...] = t.numpy()
    return results, plan


def fused_ops(plan: _core.Plan) -> set[str]:
    """What each step is, as op+what it absorbed."""
    return {f"{s['op']} {s['fused']}".strip() for s in plan.steps}
