"""The table of a network: what each layer puts out, how many parameters it has and what it costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastcnn._text import Shown, fitted, terminal_width
from fastcnn.functional._arguments import shape_of, shape_text
from fastcnn.nn.tracing import Trace

if TYPE_CHECKING:
    from fastcnn.nn.module import Module
    from fastcnn.nn.parameter import Parameter


class Summary(Shown):
    """The table as text.

    Attributes
    ----------
    rows : list of dict
        layer, kind, output (shape, or None for what is not used), parameters, trainable, macs. Functional ops,
        parameters of a network's own and layers that ``forward`` does not use have rows too, so that rows add up.
    parameters, trainable, macs : int
        Sums; multiply-adds are those of convolutions and fully connected layers.
    """

    rows: list[dict[str, Any]]
    parameters: int
    trainable: int
    macs: int


def summarize(model: Module, input_shape: Any) -> Summary:
    if input_shape is None and model.last_input_shape is not None:
        shape = (1, *model.last_input_shape)
    else:
        shape = _checked(input_shape)
    trace = Trace(model)
    model(trace.input(shape))
    rows = _rows(model, trace)
    out = Summary(_text(rows, shape))
    out.rows = rows
    out.parameters, out.trainable, out.macs = (
        sum(row[key] for row in rows) for key in ("parameters", "trainable", "macs")
    )
    return out


def _checked(shape: Any) -> tuple[int, ...]:
    """(N, C, H, W) or (N, F)."""
    sizes = shape_of("summary", shape)
    if not 1 <= len(sizes) <= 4 or min(sizes) < 1:
        raise ValueError(
            f"summary: expected the shape of an input, (C, H, W) or (N, C, H, W), got {shape_text(sizes)}"
        )
    return (1, *sizes) if len(sizes) in (1, 3) else sizes


def _rows(model: Module, trace: Trace) -> list[dict[str, Any]]:
    """In the order of the run: layers, and ops between them; then what no row has counted yet."""
    nodes = trace.graph.nodes()
    counted: set[int] = set()  # parameters
    claimed: set[int] = set()  # nodes
    leaves = [call for call in trace.calls if next(call.module.children(), None) is None]
    placed: list[tuple[float, dict[str, Any]]] = []
    for call in sorted(leaves, key=lambda call: (call.nodes.start, -len(call.nodes))):  # outer ones first
        own = [i for i in call.nodes if i not in claimed]
        if call.nodes and not own:  # a part that a layer of someone's own makes and calls
            continue
        claimed.update(call.nodes)
        kind = type(call.module).__name__
        held = _new(call.module.parameters(), counted)
        macs = sum(nodes[i]["macs"] for i in own)
        start = call.nodes.start - (0 if call.nodes else 0.5)
        placed.append((start, _row(call.path or kind, kind, call.shape, held, macs)))
    for i, node in enumerate(nodes):
        if i not in claimed and node["outputs"]:
            output = trace.graph.shape(node["outputs"][0])
            layer = node["name"] or type(model).__name__
            placed.append((i, _row(layer, node["op"], output, [], node["macs"])))
    rows = [row for _, row in sorted(placed, key=lambda item: item[0])]
    called = {id(call.module) for call in trace.calls}
    for path, module in model.named_modules():
        rest = _new(module.__dict__["_parameters"].values(), counted)
        if rest and id(module) in called:
            rows.append(_row(path or type(module).__name__, "own parameters", None, rest, 0))
        elif rest or (id(module) not in called and next(module.children(), None) is None):
            kind = f"{type(module).__name__}, not used"
            rows.append(_row(path or type(module).__name__, kind, None, rest, 0))
    return rows


def _new(parameters: Iterable[Parameter | None], counted: set[int]) -> list[Parameter]:
    """Those that no row has counted."""
    found = [p for p in parameters if p is not None and id(p) not in counted]
    counted.update(id(p) for p in found)
    return found


def _row(layer: str, kind: str, output: Any, held: list[Parameter], macs: float) -> dict[str, Any]:
    size, trainable = sum(p.size for p in held), sum(p.size for p in held if p.requires_grad)
    row: dict[str, Any] = {"layer": layer, "kind": kind, "output": output}
    return {**row, "parameters": size, "trainable": trainable, "macs": int(macs)}


def _text(rows: list[dict[str, Any]], shape: tuple[int, ...]) -> str:
    parameters, trainable, macs = (
        sum(row[key] for row in rows) for key in ("parameters", "trainable", "macs")
    )
    frozen = trainable < parameters
    cells = []
    for row in rows:
        output = "-" if row["output"] is None else shape_text(row["output"])
        state = f"{row['trainable']:,}" if row["trainable"] else "frozen" if row["parameters"] else "-"
        cells.append([row["layer"], row["kind"], output, f"{row['parameters']:,}"])
        cells[-1] += [state] if frozen else []
        cells[-1].append(f"{row['macs']:,}")
    headings = ["layer", "kind", "output shape", "parameters", *(["trainable"] if frozen else [])]
    table = [[*headings, "multiply-adds"], *cells]
    text = fitted(
        [(table, len(headings) - 2), ([row[:-1] for row in table], len(headings) - 3)], terminal_width()
    )
    total = f"{trainable:,} of them trainable" if frozen else "all trainable"
    sums = [f"{parameters:,} parameters, {total}", f"{macs:,} multiply-adds for an input {shape_text(shape)}"]
    return "\n".join([*text, *sums])
