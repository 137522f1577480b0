"""convert: every pair of layouts, uint8 images on the way in, and values that need no move."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import LAYOUTS, run_graph

from fastcnn import _core

SHAPES = [
    (1, 1, 1, 1),
    (5, 1, 28, 28),
    (17, 3, 7, 9),
    (16, 6, 5, 5),
    (33, 20, 4, 4),
    (3, 64, 8, 8),
    (18, 400),
    (16, 10),
    (1, 3),
    (0, 3, 4, 4),
]


@pytest.mark.parametrize("layout", [*LAYOUTS, "nchw"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_there_and_back(shape, layout, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    for isa in _core.available_isas():
        _core.select_isa(isa)
        (y,) = _core.run("convert", [x], {}, layout)
        assert np.array_equal(y, x)
        (twice,) = _core.run("add", [x, x], {}, layout)
        assert np.array_equal(twice, 2 * x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bytes_become_floats(shape, layout, rng):
    x = rng.integers(0, 256, shape).astype(np.uint8)
    for isa in _core.available_isas():
        _core.select_isa(isa)
        (y,) = run_graph(lambda g, ids: [g.record("convert", ids, {})[0]], [x], layout)[0]
        assert y.dtype == np.float32 and np.array_equal(y, x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) == 4], ids=str)
def test_an_op_in_another_layout_sees_the_same_pixels(shape, layout, rng):
    """Subsampling knows rows, columns and channels apart."""
    x = rng.standard_normal(shape).astype(np.float32)
    for isa in _core.available_isas():
        _core.select_isa(isa)
        (y,) = _core.run("subsample", [x], {"stride": [2, 3]}, layout)
        assert np.array_equal(y, x[:, :, ::2, ::3])
        (flat,) = _core.run("flatten", [x], {}, layout)
        assert np.array_equal(flat, x.reshape(len(x), int(np.prod(shape[1:]))))
        (back,) = _core.run("unflatten", [flat], {"shape": list(shape[1:])}, layout)
        assert np.array_equal(back, x)


def test_only_images_are_converted():
    with pytest.raises(TypeError, match="float32 or uint8 input, got int64"):
        _core.run("convert", [np.zeros((2, 3), np.int64)])


@pytest.mark.parametrize("n", [32, 35])
@pytest.mark.parametrize("wide", [90, 96])
def test_a_plan_that_changes_layout_midway(n, wide, rng):
    """Few channels run interleaved, many channels-last; values and gradients cross over in both directions."""
    x = rng.standard_normal((n, 2, 28, 28)).astype(np.float32)
    shapes = [(3, 2, 5, 5), (2, 3, 5, 5), (wide, 2, 1, 1), (96, wide, 3, 3)]
    weights = [rng.standard_normal(s).astype(np.float32) * 0.2 for s in shapes]

    def build(g, ids):
        y, *ws = ids
        for w in ws:
            y = g.record("tanh", [g.record("conv2d", [y, w, None], {})[0]], {})[0]
        return [y, *g.backward(y, y, ws)]

    crossings = 0
    for isa in _core.available_isas():
        _core.select_isa(isa)
        mixed, plan = run_graph(build, [x], "auto", [w.copy() for w in weights])
        last, _ = run_graph(build, [x], "nhwc", [w.copy() for w in weights])
        layouts = {s["layout"] for s in plan.steps if s["op"] in ("conv2d", "conv2d_backward_data")}
        crossings += layouts == {"interleaved", "nhwc"}
        for a, b in zip(mixed, last, strict=True):
            assert abs(a - b).max() <= 1e-4 * abs(b).max()
    assert crossings, "every plan kept to one layout: choose sizes that the cost model divides"
