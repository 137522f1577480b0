"""Batch norm as the plan runs it: statistics, normalisation with residual and activation in one pass, and both
passes of the gradient with the activation's, in both layouts. Plain calls are in test_functional.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from graphs import LAYOUTS, fused_ops, run_graph

from fastcnn import _core
from fastcnn import reference as ref

# Whole vectors, tails, one channel, periods of several vectors, more rows than groups, streamed stores.
SHAPES = [
    (2, 16, 8, 8),
    (5, 3, 7, 9),
    (17, 6, 6, 5),
    (4, 24, 5, 5),
    (3, 70, 4, 3),
    (7, 1, 5, 5),
    (2, 64, 20, 20),
    (33, 5, 1, 1),
    (2, 520, 3, 3),
]


def problem(shape, rng):
    x = rng.standard_normal(shape) * rng.uniform(0.5, 2, (1, shape[1], 1, 1)) + rng.uniform(
        -2, 2, (1, shape[1], 1, 1)
    )
    residual, dy = rng.standard_normal(shape), rng.standard_normal(shape)
    vectors = [
        rng.standard_normal(shape[1]),
        rng.uniform(0.5, 2, shape[1]),
        *rng.standard_normal((2, shape[1])),
    ]
    return [a.astype(np.float32) for a in (x, residual, dy)], [v.astype(np.float32) for v in vectors]


def block(activation, add):
    def build(g, ids):
        x, residual, dy, mean, var, gamma, beta = ids
        m, r, moments = g.record("batch_norm_stats", [x], {"eps": 1e-4})
        n, _, *spatial = g.shape(x)
        count = n * math.prod(spatial)
        g.record("running_statistics", [mean, var, moments], {"momentum": 0.3, "count": count})
        y = g.record("batch_norm_apply", [x, m, r, gamma, beta], {})[0]
        if add:
            y = g.record("add", [y, residual], {})[0]
        if activation:
            y = g.record(activation, [y], {})[0]
        wrt = [x, gamma, beta] + ([residual] if add else [])
        return [y, *g.backward(y, dy, wrt)]

    return build


def expected(arrays, vectors, activation, add, own_y=None):
    """own_y: y as the op under test computed it. Gradients start from it, so that a ReLU's input within
    rounding of 0 may fall on either side.
    """
    x, residual, dy = (a.astype(np.float64) for a in arrays)
    mean, var, gamma, beta = (v.astype(np.float64) for v in vectors)
    y, new_mean, new_var = ref.batch_norm(x, mean, var, gamma, beta, training=True, momentum=0.3, eps=1e-4)
    y = y + residual if add else y
    g = dy
    if activation:
        y = getattr(ref, activation)(y)
        g = getattr(ref, f"{activation}_backward")(dy, y if own_y is None else own_y)
    dx, dgamma, dbeta = ref.batch_norm_backward(g, x, gamma, mean, var, training=True, eps=1e-4)
    return [y, dx, dgamma, dbeta] + ([g] if add else []), [new_mean, new_var]


def assert_near(got, want, tolerance=2e-5):
    scale = max(1.0, float(abs(want).max()))
    assert got.shape == want.shape
    assert abs(got - want).max() <= tolerance * scale


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_block_of_batch_norm_residual_and_activation(shape, add, activation, layout, rng):
    arrays, vectors = problem(shape, rng)
    for isa in _core.available_isas():
        _core.select_isa(isa)
        running = [v.copy() for v in vectors]
        got, plan = run_graph(block(activation, add), arrays, layout, running)
        want, want_running = expected(arrays, vectors, activation, add, got[0].astype(np.float64))
        for g, w in zip(got, want, strict=True):
            assert_near(g, w)
        for g, w in zip(running[:2], want_running, strict=True):
            assert_near(g, w, 1e-6)
        names = " ".join(sorted(fused_ops(plan)))
        if activation:
            assert f"batch_norm_apply {'add+' if add else ''}{activation}" in names, names
            assert f"batch_norm_backward {activation}_grad" in names, names


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(37, 16, 16, 16), (5, 3, 7, 9), (35, 24, 9, 9)], ids=str)
def test_threads_change_no_bit(shape, layout, rng):
    arrays, vectors = problem(shape, rng)
    results = []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        running = [v.copy() for v in vectors]
        got, _ = run_graph(block("relu", True), arrays, layout, running)
        results.append(b"".join(a.tobytes() for a in [*got, *running]))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_values_are_streamed_and_right(layout, rng):
    arrays, vectors = problem((20, 16, 84, 84), rng)  # 9 MB
    want, _ = expected(arrays, vectors, None, True)
    got, _ = run_graph(block(None, True), arrays, layout, vectors)
    for g, w in zip(got, want, strict=True):
        assert_near(g, w)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_statistics_far_from_zero(layout, rng):
    x = (1000 + rng.standard_normal((9, 5, 11, 13))).astype(np.float32)
    x[0, :, 0, 0] = 0  # an outlier where a shifted sum would take its shift from
    mean, rstd, moments = _core.run("batch_norm_stats", [x], {}, layout=layout)
    exact = x.astype(np.float64)
    assert np.allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=2e-7)
    assert np.allclose(rstd, 1 / np.sqrt(exact.var(axis=(0, 2, 3)) + 1e-5), rtol=1e-6)
    assert moments.dtype == np.float64
    assert np.allclose(moments[0], exact.mean(axis=(0, 2, 3)), rtol=1e-7)  # parts are float32
    assert np.allclose(moments[1], exact.var(axis=(0, 2, 3)) * (exact.size / 5), rtol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_integers_give_exact_means(layout, rng):
    x = rng.integers(-8, 9, (8, 6, 16, 16)).astype(np.float32)
    mean, _, _ = _core.run("batch_norm_stats", [x], {}, layout=layout)
    assert np.allclose(mean, x.mean(axis=(0, 2, 3), dtype=np.float64), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lanes_past_the_batch_are_not_mixed_with_others(layout, rng):
    """Whatever the lanes without an image hold, sums over the batch leave them out."""
    arrays, vectors = problem((5, 4, 3, 3), rng)

    def build(g, ids):
        x, _, dy, _, _, gamma, beta = ids
        a = g.record("sigmoid", [x], {})[0]  # 0.5 in the empty lanes
        m, r, _ = g.record("batch_norm_stats", [a], {})
        y = g.record("batch_norm_apply", [a, m, r, gamma, beta], {})[0]
        w = g.tensor(_core.Tensor(np.ones((4, 4, 1, 1), np.float32)), "w")
        z = g.record("conv2d", [a, w, None], {})[0]
        da = g.backward(y, dy, [a])[0]
        return [g.backward(z, da, [w])[0], da, a]

    (dw, da, a), _ = run_graph(build, arrays, layout, vectors)
    want = np.einsum("nohw,nihw->oi", da.astype(np.float64), a.astype(np.float64))
    assert np.allclose(dw[:, :, 0, 0], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "shape, message", [((1, 3, 1, 1), "more than one value per channel"), ((0, 3, 4, 4), "0x3x4x4")]
)
def test_too_few_values_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        _core.run("batch_norm_stats", [np.zeros(shape, np.float32)], {}, layout="nhwc")
