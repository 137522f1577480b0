"""What passes from one section to the next, and what is given out: the inputs and values as they were, each in
memory of its own."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest
from graphs import make_plan
from orders import EVERY_LAYOUT, normal

from fastcnn import _core

SHAPES = [
    (5, 48),
    (5, 48, 1, 1),
    (5, 6, 8),
    (5, 3, 4, 4),
]  # the first two are flattened by a view of the input


def near(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_later_section_reads_the_input_as_it_was(shape: tuple[int, ...], layout: str) -> None:
    """Through whatever shows it: the caller may change the array, or drop it, in between."""
    x, dy, w = normal(*shape), normal(5, 2, seed=1), normal(2, 48, seed=2)
    g = _core.Graph()
    image, weight = g.input(x.shape), g.tensor(_core.Tensor(w))
    y = g.record("linear", [g.record("flatten", [image], {})[0], weight, None], {})[0]
    g.barrier()
    gradients = g.backward(y, g.input(dy.shape), [weight])
    run = make_plan(g, [y, *gradients], layout).start()
    given = x.copy()
    (got,) = run.section(0, {0: given}).values()
    given[...] = np.nan
    near(got, x.reshape(5, -1) @ w.T)
    (dw,) = run.section(1, {1: dy}).values()
    near(dw, dy.T @ x.reshape(5, -1))


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_input_that_only_a_later_section_reads(shape: tuple[int, ...], layout: str) -> None:
    x, early, late = normal(*shape), normal(5, 2, seed=1), normal(5, 2, seed=2)
    g = _core.Graph()
    image, first = g.input(x.shape), g.record("tanh", [g.input(early.shape)], {})[0]
    g.barrier()
    outputs = [g.record(op, [image], {})[0] for op in ("flatten", "tanh")]
    outputs.append(g.record("add", [first, g.input(late.shape)], {})[0])
    run = make_plan(g, [first, *outputs], layout).start()
    given = [x.copy(), early.copy()]
    run.section(0, dict(enumerate(given)))
    for a in given:
        a[...] = np.nan
    flat, y, total = run.section(1, {2: late}).values()
    near(flat, x.reshape(5, -1))
    near(y, np.tanh(x))
    near(total, np.tanh(early) + late)


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_one_value_as_several_outputs(layout: str) -> None:
    """Maps, rows and a parameter's gradient, each twice: equal, and in arrays that are the caller's own."""
    x, w, dy = normal(5, 3, 4, 4), normal(2, 48, seed=1), normal(5, 2, seed=2)
    g = _core.Graph()
    image, weight = g.input(x.shape), g.tensor(_core.Tensor(w))
    maps = g.record("tanh", [image], {})[0]
    y = g.record("linear", [g.record("flatten", [maps], {})[0], weight, None], {})[0]
    (dw,) = g.backward(y, g.input(dy.shape), [weight])
    got = list(make_plan(g, [maps, y, dw, weight, maps, y, dw, weight], layout).run({0: x, 1: dy}).values())
    rows = np.tanh(x).reshape(5, -1)
    for k, want in enumerate([np.tanh(x), rows @ w.T, dy.T @ rows, w]):
        near(got[k], want)
        assert got[k].tobytes() == got[k + 4].tobytes() and not np.shares_memory(got[k], got[k + 4])


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_an_output_that_the_plan_reads_on(layout: str) -> None:
    """In its own section and in the next; what the caller does to the array given out changes nothing."""
    x, w, dy = normal(5, 48), normal(2, 48, seed=1), normal(5, 2, seed=2)
    g = _core.Graph()
    image = g.input(x.shape)
    bent = g.record("tanh", [g.tensor(_core.Tensor(w))], {})[0]
    twice = g.record("add", [bent, bent], {})[0]
    g.barrier()
    y = g.record("linear", [image, bent, None], {})[0]
    total = g.record("add", [y, g.input(dy.shape)], {})[0]
    run = make_plan(g, [bent, twice, total], layout).start()
    early, doubled = run.section(0, {0: x}).values()
    near(early, np.tanh(w))
    near(doubled, 2 * np.tanh(w))
    early[...] = doubled[...] = np.nan
    (got,) = run.section(1, {1: dy}).values()
    near(got, x @ np.tanh(w).T + dy)


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("op", ["tanh", "flatten", "unflatten", "slice_channels", "concat", "convert"])
def test_results_of_constants_alone_are_written_on_every_run(op: str, layout: str) -> None:
    """They are computed once, or only seen otherwise, but given out in new memory each time."""
    w = normal(4, 6)
    attrs = {"slice_channels": {"begin": 1, "end": 5}, "unflatten": {"shape": [2, 3]}}.get(op, {})
    want = {
        "tanh": np.tanh(w), "unflatten": w.reshape(4, 2, 3), "slice_channels": w[:, 1:5], "concat": np.hstack([w, w]),
    }.get(op, w)  # fmt: skip
    g = _core.Graph()
    weight = g.tensor(_core.Tensor(w))
    direct = g.record(op, [weight] * (2 if op == "concat" else 1), attrs)[0]
    bent = g.record("tanh", [weight], {})[0]
    plan = make_plan(g, [direct, g.record(op, [bent] * (2 if op == "concat" else 1), attrs)[0]], layout)
    for _ in range(3):
        got = plan.run({})
        near(got[0], want)
        near(got[1], np.tanh(want))
        for a in got.values():
            a[...] = np.nan


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("op", ["add", "concat", "conv2d", "flatten", "avg_pool2d"])
def test_what_is_computed_of_constants_among_images(op: str, layout: str) -> None:
    """It takes their layout, as a constant does."""
    x, w = normal(17, 6, 2, 2), normal(17, 6, 2, 2, seed=1)
    g = _core.Graph()
    image, bent = g.input(x.shape), g.record("tanh", [g.tensor(_core.Tensor(w))], {})[0]
    identity = g.tensor(_core.Tensor(np.eye(6, dtype=np.float32).reshape(6, 6, 1, 1)))
    operands = {"conv2d": [bent, identity, None], "flatten": [bent], "avg_pool2d": [bent]}.get(
        op, [image, bent]
    )
    attrs = {"kernel_size": [2, 2], "stride": [2, 2]} if op == "avg_pool2d" else {}
    t = np.tanh(w)
    want = {
        "add": x + t, "concat": np.concatenate([x, t], 1), "conv2d": t, "flatten": t.reshape(17, 24),
        "avg_pool2d": t.mean((2, 3), keepdims=True),
    }[op]  # fmt: skip
    y = g.record(op, operands, attrs)[0]
    twice = g.record("add", [y, y], {})[0]
    results = make_plan(g, [y, twice], layout).run({0: x})
    near(results[0], want)
    near(results[1], 2 * want)


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_a_run_keeps_no_array_of_its_caller(layout: str) -> None:
    g = _core.Graph()
    image = g.input((5, 3, 4, 4))
    y = g.record("tanh", [image], {})[0]
    g.barrier()
    (dx,) = g.backward(y, g.input((5, 3, 4, 4)), [image])
    run = make_plan(g, [y, dx], layout).start()
    given = normal(5, 3, 4, 4)
    (result,) = run.section(0, {0: given}).values()
    seen = [weakref.ref(given), weakref.ref(result)]
    want = 1 - np.tanh(given) ** 2
    del given, result
    assert [r() for r in seen] == [None, None]
    near(*run.section(1, {1: np.ones((5, 3, 4, 4), np.float32)}).values(), want)


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("shape", [(2, 1, 8, 2), (2, 3, 1, 1), (17, 16, 4, 4)])
def test_a_join_of_one_part(shape: tuple[int, ...], layout: str) -> None:
    """Where bringing images into a layout moves nothing, it is no view of memory that nobody writes."""
    x = normal(*shape)
    g = _core.Graph()
    image = g.input(shape)
    joined = g.record("concat", [image], {})[0]
    identity = g.tensor(_core.Tensor(np.eye(shape[1], dtype=np.float32).reshape(shape[1], shape[1], 1, 1)))
    outputs = [
        g.record("conv2d", [joined, identity, None], {})[0],
        g.record("tanh", [joined], {})[0],
        g.record("concat", [joined, image], {})[0],
    ]
    got = make_plan(g, outputs, layout).run({0: x})
    for result, want in zip(got.values(), [x, np.tanh(x), np.concatenate([x, x], 1)], strict=True):
        near(result, want)


def test_results_may_not_lie_in_operands_or_each_other() -> None:
    x = normal(4, 6)
    g = _core.Graph()
    image = g.input(x.shape)
    plan = make_plan(g, [g.record("tanh", [image], {})[0], g.record("relu", [image], {})[0]], "nhwc")
    memory = np.empty((6, 6), np.float32)
    with pytest.raises(ValueError, match="output 0 lies in the memory of input 0"):
        plan.run({0: x}, {0: x})
    with pytest.raises(ValueError, match="output 1 lies in the memory of output 0"):
        plan.run({0: x}, {0: memory[:4], 1: memory[2:]})
    first, second = np.empty_like(x), np.empty_like(x)
    plan.run({0: x}, {0: first, 1: second})
    near(first, np.tanh(x))
    near(second, np.maximum(x, 0))


def test_a_run_in_use_refuses_a_second_caller() -> None:
    """Without that, both would move the same run's memory."""
    x = normal(64, 3, 64, 64)
    g = _core.Graph()
    value = g.input(x.shape)
    for _ in range(20):
        value = g.record("tanh", [value], {})[0]
    plan = make_plan(g, [value], "nhwc")
    want = plan.run({0: x})[0]
    refused = 0
    for _ in range(50):
        run, got = plan.start(), []
        caller = threading.Thread(target=lambda run=run, got=got: got.append(run.section(0, {0: x})[0]))
        caller.start()
        while caller.is_alive() and not run.done:
            try:
                got.append(run.section(0, {0: x})[0])
            except ValueError as e:
                refused += "in use by another thread" in str(e)
        caller.join()
        for result in got:
            np.testing.assert_array_equal(result, want)
        if refused:
            return
    pytest.fail("no caller was refused")
