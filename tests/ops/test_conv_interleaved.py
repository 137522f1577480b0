"""Convolution on batch-interleaved values: geometries around its tiles and borders, and what rides on it.

Tiles are up to 8 channels by 8 pixels forward and backward data, 8 channels by 6 taps for weights. Columns
whose taps all lie inside the image take another path than those at the border.
"""

from __future__ import annotations

import numpy as np
import pytest
from oracles import check_op
from plans import run_plan

from fastcnn import _core
from fastcnn import reference as ref

BATCHES = (0, 1, 5, 16, 17, 33)


def check(x, w, bias=True, **options):
    check_op("conv2d", x, w, *([w[:1]] if bias else []), layouts=("interleaved",), **options)


@pytest.mark.parametrize("n", BATCHES)
def test_batches(n):
    check((n, 2, 6, 7), (3, 2, 3, 3), padding=1)


def test_lenet_layers():
    check((17, 1, 28, 28), (6, 1, 5, 5), padding=2)
    check((17, 6, 14, 14), (16, 6, 5, 5))


def test_resnet_layers():
    check((5, 16, 10, 10), (16, 16, 3, 3), bias=False, padding=1)
    check((5, 16, 10, 10), (32, 16, 3, 3), bias=False, padding=1, stride=2)
    check((5, 16, 9, 9), (32, 16, 1, 1), bias=False, stride=2)


@pytest.mark.parametrize("oc, width", [(1, 17), (2, 9), (3, 12), (7, 5), (8, 4), (9, 3), (17, 6)])
def test_tiles(oc, width):
    check((2, 3, 4, width), (oc, 3, 3, 3), padding=1)


@pytest.mark.parametrize("kw", range(1, 9))
@pytest.mark.parametrize("stride", [1, 3])
def test_kernel_widths(kw, stride):
    check((3, 4, 3, 11), (5, 4, 2, kw), padding=(0, 2), stride=(1, stride))


GEOMETRY = {
    "kernel-of-the-padded-size": ((2, 3, 3, 4), (4, 3, 5, 6), dict(padding=1)),
    "all-columns-at-the-border": ((2, 3, 3, 3), (4, 3, 5, 5), dict(padding=2)),
    "padding-beyond-kernel": ((3, 2, 4, 5), (5, 2, 3, 3), dict(padding=4)),
    "padding-beyond-kernel-strided": ((3, 2, 4, 5), (5, 2, 3, 3), dict(padding=4, stride=2)),
    "asymmetric": ((2, 3, 6, 9), (10, 3, 3, 4), dict(padding=(0, 1, 2, 3))),
    "stride-above-kernel": ((2, 5, 9, 11), (7, 5, 2, 2), dict(stride=(3, 4))),
    "stride-leaves-rows-out": ((2, 2, 10, 12), (3, 2, 3, 3), dict(stride=4)),
    "dilated": ((2, 3, 13, 12), (8, 3, 3, 3), dict(dilation=(2, 3), padding=2)),
    "dilated-like-the-stride": ((2, 3, 13, 12), (8, 3, 3, 3), dict(dilation=2, stride=2, padding=1)),
    "dilated-and-strided": (
        (2, 3, 17, 19),
        (4, 3, 3, 4),
        dict(dilation=(2, 3), stride=(4, 2), padding=(3, 2)),
    ),
    "dilated-and-strided-by-6": ((1, 2, 25, 29), (3, 2, 4, 4), dict(dilation=4, stride=6, padding=3)),
    "grouped": ((5, 12, 8, 9), (18, 4, 3, 3), dict(padding=1, groups=3)),
    "depthwise": ((2, 11, 9, 8), (11, 1, 3, 3), dict(padding=1, groups=11, stride=2)),
    "depthwise-multiplier": ((2, 3, 7, 7), (12, 1, 3, 3), dict(groups=3)),
    "strips-of-rows": ((2, 2, 40, 40), (9, 2, 3, 3), dict(padding=1)),
    "wide-row": ((1, 1, 2, 300), (2, 1, 1, 7), dict(padding=(0, 3))),
    "many-channels": ((2, 70, 3, 3), (40, 70, 3, 3), dict(padding=1)),
}


@pytest.mark.parametrize("case", GEOMETRY.values(), ids=GEOMETRY.keys())
def test_geometry(case):
    x, w, options = case
    check(x, w, **options)


# ---- what rides on it: only plans fuse --------------------------------------------------------------------

CONV = dict(stride=[1, 1], padding=[1, 1, 1, 1], dilation=[1, 1], groups=1)
POOLS = {
    "max2": ("max_pool2d", dict(kernel_size=[2, 2], stride=[2, 2])),
    "avg2": ("avg_pool2d", dict(kernel_size=[2, 2], stride=[2, 2])),
    "max3-overlapping": ("max_pool2d", dict(kernel_size=[3, 3], stride=[2, 2])),
    "avg-wide": ("avg_pool2d", dict(kernel_size=[1, 3], stride=[2, 3])),
    "max-sparse": ("max_pool2d", dict(kernel_size=[2, 2], stride=[3, 3])),
}


def every_isa():
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for threads in (1, 3):
            _core.set_num_threads(threads)
            yield isa


def operands(rng, n, groups=1):
    shapes = (n, 4, 9, 11), (6, 4 // groups, 3, 3), (6,), (n, 6, 9, 11)
    return [rng.integers(-3, 4, s).astype(np.float32) for s in shapes]


def one_step(steps, *ops):
    assert sum(s["op"] in ops for s in steps) == 1, f"not one step: {[s['op'] for s in steps]}"


@pytest.mark.parametrize("n", [1, 17, 33])
@pytest.mark.parametrize("keep", [False, True], ids=["pooled", "kept"])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS.keys())
def test_pool_is_fused(pool, keep, n, rng):
    """Without an activation all is exact; `keep`: the value before the pool is wanted too."""
    op, attrs = pool
    x, w, b, _ = operands(rng, n)
    unpooled = ref.conv2d(x, w, b, padding=1)
    want = getattr(ref, op)(unpooled, attrs["kernel_size"], stride=attrs["stride"])
    want = want[0] if isinstance(want, tuple) else want

    def record(g, x, w, b):
        y = g.record("conv2d", [x, w, b], CONV)
        pooled = g.record(op, [y], {**attrs, "padding": [0, 0, 0, 0]})
        return [pooled, y] if keep else [pooled]

    for _ in every_isa():
        got, steps = run_plan(record, [x], [w, b], "interleaved", times=2)
        one_step(steps, "conv2d", op)
        np.testing.assert_allclose(got[0], want, rtol=3e-7)  # an average of 3 is rounded
        if keep:
            np.testing.assert_array_equal(got[1], unpooled)


@pytest.mark.parametrize("n", [5, 33])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_activation_add_and_pool_are_fused(activation, n, rng):
    x, w, b, r = operands(rng, n)
    want = getattr(ref, activation)(0.125 * (ref.conv2d(x, w, b, padding=1) + r))
    x, b, r = x / 8, b / 8, r / 8

    def record(g, x, r, w, b):
        y = g.record("add", [g.record("conv2d", [x, w, b], CONV), r], {})
        y = g.record(activation, [y], {})
        return [g.record("avg_pool2d", [y], dict(kernel_size=[2, 2], stride=[2, 2])), y]

    for _ in every_isa():
        (pooled, y), steps = run_plan(record, [x, r], [w, b], "interleaved", times=2)
        one_step(steps, "conv2d", "add", activation, "avg_pool2d")
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(pooled, ref.avg_pool2d(want, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [5, 17])
@pytest.mark.parametrize(
    "options", [dict(), dict(stride=2), dict(groups=2)], ids=["dense", "strided", "grouped"]
)
def test_backward_data_adds(options, n, rng):
    stride, groups = options.get("stride", 1), options.get("groups", 1)
    x, w, b, _ = operands(rng, n, groups)
    y = ref.conv2d(x, w, b, stride, 1, 1, groups)
    dy = rng.integers(-3, 4, y.shape).astype(np.float32)
    want = ref.conv2d_backward(dy, x, w, stride, 1, 1, groups)[0] + x
    attrs = {**CONV, "stride": [stride, stride], "groups": groups, "input_size": list(x.shape[2:])}

    def record(g, dy, x, w):
        return g.record("add", [g.record("conv2d_backward_data", [dy, w], attrs), x], {})

    for _ in every_isa():
        (dx,), steps = run_plan(record, [dy, x], [w], "interleaved", times=2)
        one_step(steps, "conv2d_backward_data", "add")
        np.testing.assert_array_equal(dx, want)


@pytest.mark.parametrize("n", BATCHES)
def test_weight_gradients_forget_the_run_before(n, rng):
    """Nothing of an earlier run, nor of lanes without an image, enters the sums."""
    x, w, _, dy = operands(rng, n)
    _, dw, db = ref.conv2d_backward(dy, x, w, padding=1)

    def record(g, x, dy):
        out = g.record("conv2d_backward_weights", [x, dy], {**CONV, "kernel_size": [3, 3]}, all_outputs=True)
        return out

    for _ in every_isa():
        got, _ = run_plan(record, [x, dy], [], "interleaved", times=3)
        np.testing.assert_array_equal(got[0], dw)
        np.testing.assert_array_equal(got[1], db)


def test_unused_lanes_stay_out_of_sums(rng):
    """In a plan lanes without an image may hold anything: here they hold sigmoid(0)."""
    x, w, _, dy = (a / 4 for a in operands(rng, 17))
    _, dw, db = ref.conv2d_backward(ref.sigmoid(dy), ref.sigmoid(x), w, padding=1)

    def record(g, x, dy):
        x, dy = (g.record("sigmoid", [v], {}) for v in (x, dy))
        return g.record("conv2d_backward_weights", [x, dy], {**CONV, "kernel_size": [3, 3]}, all_outputs=True)

    for _ in every_isa():
        got, _ = run_plan(record, [x, dy], [], "interleaved", times=2)
        np.testing.assert_allclose(got[0], dw, rtol=1e-5)
        np.testing.assert_allclose(got[1], db, rtol=1e-5)


def test_nan_reaches_what_it_touches_and_no_more(rng):
    x, w, b, _ = operands(rng, 18)
    x[3, 1, 4, 5], x[17, 0, 0, 0] = np.nan, np.nan
    want = np.isnan(ref.conv2d(x, w, b, padding=1))
    for _ in every_isa():
        (y,) = _core.run("conv2d", [x, w, b], CONV, layout="interleaved")
        assert (np.isnan(y) == want).all()
