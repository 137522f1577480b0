"""Where a fused step may stand: neighbours that look as if they could be one step and must not be, or only in one of
two places. Each network is run as a plan and call by call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from graphs import make_plan
from orders import EVERY_LAYOUT, HYPER, normal

from fastcnn import _core

N = 17
MAPS = (N, 6, 5, 4)


class Both:
    """A graph, and its calls run at once on arrays: what a plan gives must be what they gave."""

    def __init__(self) -> None:
        self.graph, self.arrays, self.given = _core.Graph(), {}, {}
        self.tensors: dict[int, _core.Tensor] = {}

    def input(self, *shape: int, seed: int = 0) -> int:
        id = self.graph.input(shape)
        self.arrays[id] = self.given[len(self.given)] = normal(*shape, seed=seed)
        return id

    def tensor(self, array: np.ndarray) -> int:
        held = _core.Tensor(array)
        id = self.graph.tensor(held)
        self.arrays[id], self.tensors[id] = array.copy(), held
        return id

    def call(self, op: str, *operands: int | None, **attrs: Any) -> Any:
        made = self.graph.record(op, list(operands), attrs)
        arrays = _core.run(op, [None if v is None else self.arrays[v] for v in operands], attrs)
        self.arrays.update(zip(made, arrays, strict=True))
        return made if len(made) > 1 else made[0] if made else None

    def conv(self, x: int, w: int) -> int:
        return self.call("conv2d", x, w, None, padding=[1] * 4)

    def update(self, weight: int, gradient: int) -> None:
        self.call("sgd", weight, gradient, None, self.tensor(HYPER))

    def check(self, outputs: Sequence[int], layout: str) -> list[dict]:
        plan = make_plan(self.graph, outputs, layout)
        got = plan.run(self.given)
        for k, v in enumerate(outputs):
            near(got[k], self.arrays[v], f"output {k}")
        for v, held in self.tensors.items():
            near(held.numpy(), self.arrays[v], f"tensor {v}")
        return plan.steps


def near(got: np.ndarray, want: np.ndarray, what: str) -> None:
    assert got.shape == want.shape
    error = np.linalg.norm(got - want) / max(float(np.linalg.norm(want)), 1.0)
    assert error <= 2e-5, f"{what} is off by {error:.1e}"


def weight(seed: int = 1) -> np.ndarray:
    return normal(6, 6, 3, 3, seed=seed) / 8


every_layout = pytest.mark.parametrize("layout", EVERY_LAYOUT)


@every_layout
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_sum_over_an_update(order: tuple[int, int], layout: str) -> None:
    """Neither convolution may do the sum in the other's place: the weight changes in between."""
    b = Both()
    x, w, step = b.input(*MAPS), b.tensor(weight()), b.tensor(np.full((6, 6, 3, 3), 0.1, np.float32))
    parts = [b.conv(x, w)]
    b.update(w, step)
    parts.append(b.conv(x, w))
    b.check([b.call("add", *(parts[k] for k in order))], layout)


@every_layout
@pytest.mark.parametrize("other", ["computed before", "computed after", "updated before", "updated between"])
def test_what_a_sum_adds(other: str, layout: str) -> None:
    b = Both()
    x, z, w = b.input(*MAPS), b.input(*MAPS, seed=2), b.tensor(weight())
    held, step = b.tensor(normal(*MAPS, seed=3)), b.tensor(normal(*MAPS, seed=4))
    if other == "updated before":
        b.update(held, step)
    added = b.call("tanh", z) if other == "computed before" else held
    y = b.conv(x, w)
    if other == "updated between":
        b.update(held, step)
    if other == "computed after":
        added = b.call("tanh", z)
    b.check([b.call("relu", b.call("add", y, added))], layout)


@every_layout
@pytest.mark.parametrize("count", [2, 3])
def test_a_value_added_to_itself(count: int, layout: str) -> None:
    b = Both()
    y = b.conv(b.input(*MAPS), b.tensor(weight()))
    b.check([b.call("relu", b.call("add", *[y] * count))], layout)


@every_layout
@pytest.mark.parametrize("kind", ["relu", "silu"])
def test_a_function_before_which_the_value_is_kept_and_added(kind: str, layout: str) -> None:
    """The function's result and its operand are both results of one step, and summands of the next."""
    b = Both()
    y = b.conv(b.input(*MAPS), b.tensor(weight()))
    b.check([b.call("add", b.call(kind, y), y)], layout)


@every_layout
@pytest.mark.parametrize("kind", ["relu", "silu"])
@pytest.mark.parametrize("place", ["gradient", "value"])
@pytest.mark.parametrize("of", ["conv2d", "max_pool2d_backward", "avg_pool2d_backward"])
def test_a_functions_gradient_on_either_side(of: str, place: str, kind: str, layout: str) -> None:
    """Of a result that is the gradient of a function, or what that gradient is computed from."""
    b = Both()
    window = {"kernel_size": [2, 2], "stride": [2, 2]}
    x, other = b.input(N, 6, 6, 4), b.input(N, 6, 6, 4, seed=2)
    if of == "conv2d":
        y = b.conv(x, b.tensor(weight()))
    elif of == "max_pool2d_backward":
        index = b.call("max_pool2d", x, **window)[1]
        y = b.call(of, b.input(N, 6, 3, 2, seed=3), index, **window, input_size=[6, 4])
    else:
        y = b.call(of, b.input(N, 6, 3, 2, seed=3), **window, input_size=[6, 4])
    operands = (y, other) if place == "gradient" else (other, y)
    b.check([b.call("function_backward", *operands, kind=kind)], layout)


@every_layout
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("reader", ["before", "after", "output", None])
def test_a_masked_gradient_and_its_readers(reader: str | None, twice: bool, late: bool, layout: str) -> None:
    """A norm's backward pass masks its gradient on the way in, unless it is another operand of the norm too; who else
    reads the masked one gets it, also where what the norm was of is computed after that."""
    b = Both()
    dy, v, image, w = b.input(*MAPS), b.input(*MAPS, seed=2), b.input(*MAPS, seed=3), b.tensor(weight())
    mean, rstd, gamma = (b.tensor(0.5 + abs(normal(6, seed=k))) for k in range(3))
    x = None if late else b.conv(image, w)
    masked = b.call("function_backward", dy, v, kind="relu")
    outputs = [b.conv(masked, w)] if reader == "before" else []
    if x is None:
        x = b.conv(image, w)
    results = b.call("batch_norm_backward", masked, masked if twice else x, mean, rstd, gamma)
    outputs += [*results, *([b.conv(masked, w)] if reader == "after" else [])]
    b.check([*outputs, *([masked] if reader == "output" else [])], layout)


@every_layout
@pytest.mark.parametrize("kind", ["relu", "silu", "tanh"])
def test_gradients_of_a_norm_around_which_its_operand_is_led(kind: str, layout: str) -> None:
    """f(norm(x) + x): the masked gradient is a result of the norm's backward pass and a summand of dx."""
    x, dy, w = normal(*MAPS), normal(*MAPS, seed=1), weight()
    norm = {name: 0.5 + abs(normal(6, seed=k)) for k, name in enumerate(["mean", "var", "gamma", "beta"])}
    g = _core.Graph()
    image, gradient, filters = g.input(x.shape), g.input(dy.shape), g.tensor(_core.Tensor(w))
    read = [g.tensor(_core.Tensor(v)) for v in norm.values()]
    a = g.record("conv2d", [image, filters, None], {"padding": [1] * 4})[0]
    total = g.record("add", [g.record("batch_norm_inference", [a, *read], {})[0], a], {})[0]
    y = g.record(kind, [total], {})[0]
    got = make_plan(g, [y, *g.backward(y, gradient, [a, read[2]])], layout).run({0: x, 1: dy})

    (a,) = _core.run("conv2d", [x, w, None], {"padding": [1] * 4})
    c = (slice(None), None, None)
    slope = norm["gamma"] / np.sqrt(norm["var"] + 1e-5)
    xhat = (a - norm["mean"][c]) / np.sqrt(norm["var"] + 1e-5)[c]
    total = xhat * norm["gamma"][c] + norm["beta"][c] + a
    (y,) = _core.run(kind, [total], {})
    from_input = {row["name"]: row["from_input"] for row in _core.functions()}[kind]
    (masked,) = _core.run("function_backward", [dy, total if from_input else y], {"kind": kind})
    near(got[0], y, "y")
    near(got[1], masked * (1 + slope[c]), "dx")
    near(got[2], (masked * xhat).sum(axis=(0, 2, 3)), "dgamma")


@every_layout
@pytest.mark.parametrize("wanted", [False, True])
def test_a_pool_whose_indices_are_read(wanted: bool, layout: str) -> None:
    b = Both()
    y = b.call("relu", b.conv(b.input(*MAPS), b.tensor(weight())))
    pooled, index = b.call("max_pool2d", y, kernel_size=[2, 2], stride=[2, 2])
    b.check([pooled, *([index] if wanted else [])], layout)


@every_layout
@pytest.mark.parametrize("after", ["relu", "add"])
def test_a_step_of_the_next_section_is_not_done_in_this_one_nor_the_other_way_round(
    after: str, layout: str
) -> None:
    """The convolution reads the weights of its section, what follows reads the input of the next."""
    x, z, w = normal(*MAPS), normal(*MAPS, seed=2), weight()
    g, held = _core.Graph(), _core.Tensor(w)
    image = g.input(x.shape)
    y = g.record("conv2d", [image, g.tensor(held), None], {"padding": [1] * 4})[0]
    g.barrier()
    operands = [y, g.input(z.shape)] if after == "add" else [y]
    last = g.record(after, operands, {})[0]
    run = make_plan(g, [last], layout).start()
    given = x.copy()
    run.section(0, {0: given})
    given[...], held.numpy()[...] = np.nan, 0
    (got,) = run.section(1, {1: z} if after == "add" else {}).values()
    (y,) = _core.run("conv2d", [x, w, None], {"padding": [1] * 4})
    near(got, y + z if after == "add" else np.maximum(y, 0), after)


@every_layout
@pytest.mark.parametrize("added", ["constant", "updated"])
def test_a_fused_step_waits_for_what_either_half_waited_for(added: str, layout: str) -> None:
    """The weight's gradient is a sum over the images, which ends a run of slices: the convolution with the new weight
    and the sum behind it could go on with the slices of the first one."""
    b = Both()
    x, dy, w = b.input(*MAPS), b.input(*MAPS, seed=1), b.tensor(weight())
    held, step = b.tensor(normal(*MAPS, seed=3)), b.tensor(normal(*MAPS, seed=4))
    first = b.call("tanh", b.conv(x, w))
    dw = b.call("conv2d_backward_weights", dy, x, padding=[1] * 4, kernel_size=[3, 3])
    b.update(w, dw[0] if isinstance(dw, list) else dw)
    second = b.conv(x, w)
    if added == "updated":
        b.update(held, step)
    b.check([first, b.call("add", second, held)], layout)
