"""Small graphs for tests: recorded, differentiated, planned in one layout and run on arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastcnn import _core

LAYOUTS = ("nhwc", "interleaved")


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
    plan = _core.Plan(g, list(build(g, ids)), [], layout)
    results = plan.run(0, dict(enumerate(arrays)))
    for a, t in zip(tensors, held, strict=True):
        a[...] = t.numpy()
    return [np.array(results[i]) for i in range(len(results))], plan


def fused_ops(plan: _core.Plan) -> set[str]:
    """What each step is, as op+what it absorbed."""
    return {f"{s['op']} {s['fused']}".strip() for s in plan.steps}
