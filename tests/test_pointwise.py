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


def test_an_unknown_kind_is_refused():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="relu, tanh or sigmoid, got 'gelu'"):
        _core.run("activation_backward", [x, x], {"kind": "gelu"})
    with pytest.raises(TypeError, match="float32 input, got int64"):
        _core.run("relu", [np.zeros(3, np.int64)])
