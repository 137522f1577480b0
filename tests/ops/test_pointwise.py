"""Activations: accuracy over the whole range of float32, limits, oddness, and their backward rules."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import LAYOUTS, run_graph

from fastcnn import _core
from fastcnn import reference as ref


@pytest.fixture(scope="module")
def everywhere():
    """Every 4001st float32 that is not a denormal."""
    x = np.arange(0, 2**32, 4001, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return x[np.isfinite(x) & ((abs(x) >= 2.0**-126) | (x == 0))]


def apply(name, x):
    return _core.run(name, [np.asarray(x, np.float32)])[0]


@pytest.mark.parametrize("isa", _core.available_isas())
def test_tanh_is_accurate_odd_and_saturates(isa, everywhere):
    _core.select_isa(isa)
    y, want = apply("tanh", everywhere), np.tanh(everywhere.astype(np.float64))
    bound = 3e-7 if isa in ("avx512", "avx2", "neon") else 4e-7  # without fused multiply-add
    assert abs(y - want).max() <= bound
    assert (abs(y - want) <= 8 * 2.0**-24 * abs(want)).all()
    assert np.array_equal(apply("tanh", -everywhere), -y)
    assert (y[everywhere >= 8.6] == 1).all() and abs(y).max() == 1


@pytest.mark.parametrize("isa", _core.available_isas())
def test_sigmoid_is_accurate_at_both_ends(isa, everywhere):
    _core.select_isa(isa)
    x = everywhere.astype(np.float64)
    with np.errstate(over="ignore"):
        want = 1 / (1 + np.exp(-x))
    y = apply("sigmoid", everywhere)
    assert (abs(y - want) <= 6 * 2.0**-24 * want + 2.0**-126).all()
    assert (y >= 0).all() and y.max() == 1


@pytest.mark.parametrize("isa", _core.available_isas())
def test_relu_is_exact(isa, everywhere):
    _core.select_isa(isa)
    assert np.array_equal(apply("relu", everywhere), np.maximum(everywhere, 0))


@pytest.mark.parametrize("isa", _core.available_isas())
def test_limits_and_nan(isa):
    _core.select_isa(isa)
    x = np.float32([np.inf, -np.inf, np.nan])
    for name, limits in {"relu": (np.inf, 0), "tanh": (1, -1), "sigmoid": (1, 0)}.items():
        y = apply(name, x)
        assert tuple(y[:2]) == limits and np.isnan(y[2])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_backward_rules(name, layout, rng):
    x, dy = rng.standard_normal((2, 5, 7, 3, 3)).astype(np.float32)

    def build(g, ids):
        y = g.record(name, [ids[0]], {})[0]
        z = g.record("scale", [g.record("add", [y, ids[0]], {})[0], ids[2]], {})[0]
        return [z, g.backward(z, ids[1], [ids[0]])[0]]

    (z, dx), _ = run_graph(build, [x, dy], layout, [np.float32([3])])
    y = getattr(ref, name)(x)
    assert np.allclose(z, 3 * (y + x), rtol=1e-6, atol=1e-6)
    assert np.allclose(dx, 3 * (getattr(ref, f"{name}_backward")(dy, y) + dy), rtol=1e-5, atol=1e-6)


def left_to_right(parts):
    total = parts[0].copy()
    for part in parts[1:]:
        total += part  # in float32
    return total


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 17, 40])
@pytest.mark.parametrize(
    "shape", [(5, 7, 3, 3), (17, 33), (1, 1, 1, 2), (4, 3, 50), (2, 1, 97, 101), (0, 3, 2, 2)], ids=str
)
def test_sums_are_added_up_from_the_first_to_the_last(shape, count, rng):
    """To the last bit, in whatever layout, alone and in plans, where a function follows or memory is used again."""
    parts = [
        (10.0 ** rng.integers(-3, 4, shape) * rng.standard_normal(shape)).astype(np.float32)
        for _ in range(count)
    ]
    want = left_to_right(parts)

    def build(g, ids):
        inner = [g.record("relu", [i], {})[0] for i in ids]
        return [g.record("add", ids, {})[0], g.record("relu", g.record("add", inner, {}), {})[0]]

    for isa in _core.available_isas():
        _core.select_isa(isa)
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            for layout in ("nchw", *LAYOUTS):
                (got,) = _core.run("add", parts, {}, layout)
                assert got.tobytes() == want.tobytes(), f"{isa} {layout} {threads} threads"
            for layout in (*LAYOUTS, "auto"):
                got, positive = run_graph(build, parts, layout)[0]
                assert got.tobytes() == want.tobytes(), f"{isa} {layout} {threads} threads"
                assert positive.tobytes() == left_to_right([np.maximum(p, 0) for p in parts]).tobytes()


@pytest.mark.parametrize("layout", [*LAYOUTS, "auto"])
@pytest.mark.parametrize("readers", [2, 3, 20])
def test_a_value_with_many_readers_has_one_sum_of_gradients(readers, layout, rng):
    x, w = (
        rng.standard_normal((5, 4, 6, 5)).astype(np.float32),
        rng.standard_normal((4, 4, 1, 1)).astype(np.float32),
    )

    def build(g, ids):
        x = g.record("sigmoid", [ids[0]], {})[0]
        parts = [g.record("conv2d", [x, w, None], {})[0] for w in ids[1:]]
        y = g.record("add", parts, {})[0]
        g.barrier()
        return [y, *g.backward(y, g.input(x_shape), [ids[0]])]

    x_shape = list(x.shape)
    g = _core.Graph()
    ids = [g.input(x_shape), *(g.tensor(_core.Tensor(w * np.float32(k + 1))) for k in range(readers))]
    plan = _core.Plan(g, build(g, ids), layout)
    backward = [s for s in plan.steps if s["section"] == 1]
    sums = [s for s in backward if s["op"] == "add"]
    absorbed = [s for s in backward if "add" in s["fused"].split("+")]
    if readers == 2:  # a convolution adds the other's part to its own
        assert len(sums) + len(absorbed) == 1
    else:
        assert len(sums) == 1 and not absorbed
    run = plan.start()
    run.section(0, {0: x})
    dy = rng.standard_normal(x.shape).astype(np.float32)
    (dx,) = run.section(1, {1: dy}).values()
    y = 1 / (1 + np.exp(-x.astype(np.float64)))
    want = np.einsum("nohw,oc->nchw", dy, w[:, :, 0, 0]) * readers * (readers + 1) / 2 * y * (1 - y)
    assert np.linalg.norm(dx - want) <= 1e-5 * np.linalg.norm(want)


def test_an_unknown_kind_is_refused():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"one of relu, .*, got 'gelu'"):
        _core.run("function_backward", [x, x], {"kind": "gelu"})
    with pytest.raises(TypeError, match="float32 input, got int64"):
        _core.run("relu", [np.zeros(3, np.int64)])
