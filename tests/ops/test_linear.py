"""Fully connected layers around their tiles, in both layouts, and with an activation fused in.

A tile is up to 28 rows by 1 to 4 vectors; panels of packed weights hold 2 vectors; sums longer than 2048 and
batches longer than 1024 go in chunks.
"""

from __future__ import annotations

import numpy as np
import pytest
from op_table import OPS
from oracles import check_op
from plans import run_plan

from fastcnn import _core
from fastcnn import reference as ref

BATCHES = (0, 1, 5, 16, 17, 33)


@pytest.mark.parametrize("n", BATCHES)
def test_batches(n):
    check_op("linear", (n, 84), (10, 84), (10,))


def test_lenet_layers():
    check_op("linear", (33, 400), (120, 400), (120,))
    check_op("linear", (33, 120), (84, 120), (84,))


@pytest.mark.parametrize(
    "features", [(1, 65), (3, 28), (4, 1), (15, 57), (16, 29), (17, 7), (127, 8), (129, 33)], ids=str
)
def test_tiles(features):
    check_op("linear", (9, features[0]), features[::-1], features[1:])


@pytest.mark.parametrize(
    "shape",
    [(2, 5000, 3), (3, 2100, 520), (1, 2049, 130), (130, 33, 70), (1030, 17, 9), (40, 200, 300)],
    ids=lambda s: "x".join(map(str, s)),
)
def test_chunks_and_items(shape):
    n, inputs, outputs = shape
    check_op("linear", (n, inputs), (outputs, inputs))


@pytest.mark.parametrize("layout", ["nhwc", "interleaved"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("n", [5, 33])
@pytest.mark.parametrize("inputs", [20, 400], ids=["panels", "rows"])
def test_activation_is_fused(layout, activation, n, inputs, rng):
    shapes = ((n, inputs), (37, inputs), (37,))
    x, w, b = (rng.integers(-4, 5, s).astype(np.float32) / 8 for s in shapes)  # the sums are exact
    want = getattr(ref, activation)(ref.linear(x, w, b))
    for isa in _core.available_isas():
        _core.select_isa(isa)

        def record(g, x, w, b):
            return g.record(activation, [g.record("linear", [x, w, b], {})], {})

        (y,), steps = run_plan(record, [x], [w, b], layout)
        assert sum(s["op"] in (activation, "linear") for s in steps) == 1, (
            "activation stayed a step of its own"
        )
        np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)


def test_unused_lanes_stay_out_of_sums(rng):
    """In a plan lanes without an image may hold anything: here they hold sigmoid(0)."""
    x, dy = (rng.standard_normal(s).astype(np.float32) for s in ((17, 9), (17, 5)))
    a, d = ref.sigmoid(x), ref.sigmoid(dy)

    def record(g, x, dy):
        x, dy = (g.record("sigmoid", [v], {}) for v in (x, dy))
        return g.record("linear_backward_weights", [x, dy], {}, all_outputs=True)

    for isa in _core.available_isas():
        _core.select_isa(isa)
        (dw, db), _ = run_plan(record, [x, dy], [], "interleaved", times=2)
        np.testing.assert_allclose(dw, d.T @ a, rtol=1e-5)
        np.testing.assert_allclose(db, d.sum(0), rtol=1e-5)


def test_infinite_and_nan_values_stay_where_they_are(rng):
    """A NaN image spoils its own outputs and nobody else's; gradients of unused lanes never enter sums."""
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((19, 40), (24, 40)))
    x[3, 5], x[18, 39] = np.nan, np.inf
    spec = OPS["linear"]
    want = spec.forward(ref, (x, w), {})[0]
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for layout in ("nchw", "interleaved"):
            (y,) = _core.run("linear", [x, w, None], {}, layout=layout)
            assert (np.isnan(y) == np.isnan(want)).all() and (np.isinf(y) == np.isinf(want)).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (((4, 5), (3, 6)), r"linear: expected 6 input features, got 5 \(input 4x5, weight 3x6\)"),
        (((4, 5, 1), (3, 5)), r"expected input of 2 dimensions \(N, features\), got 3"),
        (((4, 5), (3, 5), (4,)), r"expected a bias of 3 elements, got 4 \(weight 3x5\)"),
        (((4, 0), (3, 0)), "expected weight without empty dimensions, got 3x0"),
        (((4, 5),), "expected input, weight and an optional bias, got 1 operands"),
    ],
    ids=["features", "rank", "bias", "empty", "count"],
)
def test_errors(inputs, message):
    with pytest.raises(ValueError, match=message):
        _core.run("linear", [np.zeros(s, np.float32) for s in inputs], {})


def test_gradient_errors():
    dy, w = np.zeros((4, 3), np.float32), np.zeros((2, 5), np.float32)
    with pytest.raises(
        ValueError, match=r"output gradient of 2 features, got 3 \(output gradient 4x3, weight 2x5\)"
    ):
        _core.run("linear_backward_data", [dy, w], {})
    with pytest.raises(ValueError, match="output gradient of 7 rows, got 4"):
        _core.run("linear_backward_weights", [np.zeros((7, 5), np.float32), dy], {})
    with pytest.raises(TypeError, match="expected float32 weight, got int64"):
        _core.run("linear", [dy, np.zeros((2, 3), np.int64)], {})
