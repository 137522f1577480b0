"""The table of a network: what each layer puts out, how many parameters it has and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcnn.functional._arguments import shape_text
from fastcnn.nn.tracing import Trace
from fastcnn.plan import aligned

if TYPE_CHECKING:
    from fastcnn.nn.module import Module


class Summary(str):
    """The table as text.

    Attributes
    ----------
    rows : list of dict
        layer, kind, output (shape), parameters, macs.
    parameters, macs : int
        Sums; multiply-adds are those of convolutions and fully connected layers.
    """

    rows: list[dict[str, Any]]
    parameters: int
    macs: int


def summarize(model: Module, shape: tuple[int, ...]) -> Summary:
    if len(shape) in (1, 3):
        shape = (1, *shape)
    trace = Trace(model)
    model(trace.input(shape))
    macs: dict[str, float] = {}
    for node in trace.graph.nodes():
        macs[node["name"]] = macs.get(node["name"], 0.0) + node["macs"]
    rows: list[dict[str, Any]] = []
    cells = [("layer", "kind", "output shape", "parameters", "multiply-adds")]
    counted: set[int] = set()
    for call in trace.calls:
        path, module = call.path, call.module
        if list(module.children()):
            continue
        own = [p for p in module.parameters() if id(p) not in counted]
        counted.update(id(p) for p in own)
        kind, size, cost = type(module).__name__, sum(p.size for p in own), int(macs.get(path, 0.0))
        cells.append((path or kind, kind, shape_text(call.shape), f"{size:,}", f"{cost:,}"))
        row = {"layer": path or kind, "kind": kind, "output": call.shape, "parameters": size, "macs": cost}
        rows.append(row)
    total, cost = model.parameter_count(), int(sum(macs.values()))
    sums = f"input {shape_text(shape)}: {total:,} parameters, {cost:,} multiply-adds"
    out = Summary("\n".join([*aligned(cells, right=2), sums]))
    out.rows, out.parameters, out.macs = rows, total, cost
    return out
