"""Channels-last convolution: what rides on each implementation, which one is chosen, and edges of their blocks.

Geometry is held by test_functional.py, for every implementation. Only plans fuse, so fused calls go through one.
"""

from __future__ import annotations

import numpy as np
import pytest
from oracles import WINOGRAD_ERROR, check_op
from plans import run_plan

from fastcnn import _core, functional
from fastcnn import reference as ref

# name: (x, weight, stride, padding, groups)
PROBLEMS = {
    "direct": ((3, 20, 11, 14), (37, 20, 3, 3), 1, 1, 1),
    "direct-strided": ((2, 16, 15, 13), (32, 16, 3, 3), 2, 1, 1),
    "direct-1x1": ((2, 24, 9, 10), (40, 24, 1, 1), 1, 0, 1),
    "direct-grouped": ((2, 12, 10, 9), (20, 3, 3, 3), 1, 1, 4),
    "direct-large-image": ((1, 3, 70, 65), (17, 3, 5, 5), 1, 2, 1),
    "direct-many-channels": ((1, 300, 7, 7), (40, 300, 3, 3), 1, 1, 1),
    "winograd4x4": ((3, 20, 11, 14), (37, 20, 3, 3), 1, 1, 1),
    "winograd4x4-chunks": ((2, 32, 9, 13), (290, 32, 3, 3), 1, 1, 1),
    "depthwise": ((2, 70, 11, 13), (70, 1, 3, 3), 1, 1, 70),
    "depthwise-strided": ((2, 20, 40, 41), (20, 1, 5, 5), 2, 2, 20),
}
POOLS = {
    "max2": ("max_pool2d", (2, 2), (2, 2)),
    "avg2": ("avg_pool2d", (2, 2), (2, 2)),
    "max3-overlapping": ("max_pool2d", (3, 3), (2, 2)),
    "avg-wide": ("avg_pool2d", (1, 3), (2, 3)),
    "max-sparse": ("max_pool2d", (2, 2), (3, 3)),
}


def problems(*prefixes):
    chosen = {k: v for k, v in PROBLEMS.items() if not prefixes or k.startswith(prefixes)}
    return pytest.mark.parametrize("name, problem", chosen.items(), ids=chosen.keys())


def operands(rng, problem):
    """x, weight, bias, residual of the output's shape; values of about 1 everywhere."""
    x, w, stride, padding, groups = problem
    a = [rng.standard_normal(s).astype(np.float32) for s in (x, w, w[:1])]
    a[1] /= np.float32(np.sqrt(np.prod(w[1:])))
    y = ref.conv2d(*a, stride, padding, 1, groups)
    return *a, rng.standard_normal(y.shape).astype(np.float32), y


def attributes(name, problem):
    _, _, stride, padding, groups = problem
    return dict(stride=stride, padding=padding, groups=groups, implementation=name.split("-")[0])


def every_isa():
    for isa in _core.available_isas():
        _core.select_isa(isa)
        yield isa


def run_ways(record, inputs, parameters, fused):
    """The values of one run of the plan, for every instruction set; threads must not show. `fused`: one step."""
    for isa in every_isa():
        first = None
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            values, steps = run_plan(record, inputs, parameters, "nhwc")
            ops = [s["op"] for s in steps if s["op"].split("+")[0] != "convert"]
            assert (len(ops) == 1) == fused, f"{isa}: steps {ops}"
            first = first or values
            for a, b in zip(first, values, strict=True):
                assert a.tobytes() == b.tobytes(), f"{isa}: {threads} threads give other bits than 1"
        yield first


def close(got, want):
    scale = np.abs(want).max()
    assert np.linalg.norm(got - want) <= WINOGRAD_ERROR * np.linalg.norm(want)
    np.testing.assert_allclose(got, want, rtol=0, atol=4 * WINOGRAD_ERROR * scale)


@problems()
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", None])
def test_add_and_activation_ride_along(name, problem, activation, rng):
    x, w, b, r, y = operands(rng, problem)
    want = y + r if activation is None else getattr(ref, activation)(y + r)

    def record(g, x, r, w, b):
        y = g.record("add", [r, g.record("conv2d", [x, w, b], attributes(name, problem))], {})
        return y if activation is None else g.record(activation, [y], {})

    for got in run_ways(record, [x, r], [w, b], fused=True):
        close(got[0], want)


@problems("direct", "winograd")
@pytest.mark.parametrize("keep", [False, True], ids=["pooled", "kept"])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS.keys())
def test_pool_rides_along(name, problem, pool, keep, rng):
    op, kernel, stride = pool
    x, w, b, _, y = operands(rng, problem)
    unpooled = ref.relu(y)
    want = getattr(ref, op)(unpooled, kernel, stride=stride)
    want = want[0] if isinstance(want, tuple) else want

    def record(g, x, w, b):
        y = g.record("relu", [g.record("conv2d", [x, w, b], attributes(name, problem))], {})
        pooled = g.record(op, [y], dict(kernel_size=list(kernel), stride=list(stride)))
        return [pooled, y] if keep else [pooled]

    tile_local = kernel == stride == (2, 2) and not keep
    for got in run_ways(record, [x], [w, b], fused=tile_local or not name.startswith("winograd")):
        close(got[0], want)
        if keep:
            close(got[1], unpooled)


@problems()
def test_statistics_ride_along(name, problem, rng):
    """A mean far from zero: sums of squares must be taken around a shift."""
    x, w, b, _, _ = operands(rng, problem)
    b += 100
    y = ref.conv2d(x, w, b, problem[2], problem[3], 1, problem[4])
    oc = y.shape[1]
    mean, var = y.mean(axis=(0, 2, 3)), y.var(axis=(0, 2, 3))

    def record(g, x, w, b):
        y = g.record("conv2d", [x, w, b], attributes(name, problem))
        return [y, *g.record("batch_norm_stats", [y], dict(eps=1e-3), all_outputs=True)]

    for isa in every_isa():
        first = None
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            (got_y, got_mean, rstd, moments), steps = run_plan(record, [x], [w, b], "nhwc")
            assert not any(s["op"] == "batch_norm_stats" for s in steps), f"{isa}: not fused"
            close(got_y, y)
            np.testing.assert_allclose(got_mean, mean, rtol=2e-6)
            np.testing.assert_allclose(rstd, 1 / np.sqrt(var + 1e-3), rtol=2e-4)
            np.testing.assert_allclose(moments, [mean, var * (y.size / oc)], rtol=4e-4)
            first = first or (got_mean, rstd, moments)
            assert all(
                a.tobytes() == c.tobytes() for a, c in zip(first, (got_mean, rstd, moments), strict=True)
            )


@problems()
def test_backward_data_adds(name, problem, rng):
    x, w, _, dy, _ = operands(rng, problem)
    _, _, stride, padding, groups = problem
    want = ref.conv2d_backward(dy, x, w, stride, padding, 1, groups)[0] + x
    attrs = {**attributes(name, problem), "input_size": list(x.shape[2:])}

    def record(g, dy, x, w):
        return g.record("add", [g.record("conv2d_backward_data", [dy, w], attrs), x], {})

    for got in run_ways(record, [dy, x], [w], fused=True):
        close(got[0], want)


# ---- which one runs ---------------------------------------------------------------------------------------

CHOICES = {
    "3x3": ((8, 16, 32, 32), (16, 16, 3, 3), dict(padding=1), "winograd4x4"),
    "3x3-wide": ((4, 64, 14, 14), (64, 64, 3, 3), dict(padding=1), "winograd4x4"),
    "few-channels": ((8, 3, 32, 32), (16, 3, 3, 3), dict(padding=1), "direct"),
    "few-tiles": ((1, 64, 14, 14), (64, 64, 3, 3), dict(padding=1), "direct"),
    "strided": ((8, 16, 32, 32), (32, 16, 3, 3), dict(padding=1, stride=2), "direct"),
    "dilated": ((8, 16, 32, 32), (16, 16, 3, 3), dict(padding=2, dilation=2), "direct"),
    "grouped": ((8, 16, 32, 32), (16, 8, 3, 3), dict(padding=1, groups=2), "direct"),
    "5x5": ((8, 16, 32, 32), (16, 16, 5, 5), dict(padding=2), "direct"),
    "1x1": ((8, 64, 32, 32), (16, 64, 1, 1), dict(), "direct"),
    "depthwise": ((8, 32, 32, 32), (32, 1, 3, 3), dict(padding=1, groups=32), "depthwise"),
    "depthwise-multiplier": ((8, 32, 8, 8), (64, 1, 3, 3), dict(padding=1, groups=32), "direct"),
}


@pytest.mark.parametrize("case", CHOICES.values(), ids=CHOICES.keys())
def test_choice(case):
    x, w, attrs, expected = case

    def record(g, x, w):
        return g.record("conv2d", [x, w], attrs)

    _, steps = run_plan(record, [np.zeros(x, np.float32)], [np.zeros(w, np.float32)], "nhwc")
    chosen = [s["implementation"] for s in steps if s["op"] == "conv2d"]
    assert [c.split(":")[1] for c in chosen] == [expected]


def test_forcing_one_that_cannot_says_why():
    x, w = np.zeros((1, 4, 8, 8), np.float32), np.zeros((4, 4, 5, 5), np.float32)
    with pytest.raises(ValueError, match="takes 3x3 kernels, got 5x5"):
        _core.run("conv2d", [x, w], dict(implementation="winograd4x4"), layout="nhwc")


def test_an_overlapping_pool_does_not_cost_winograd():
    """3x3 windows cannot be pooled tile by tile: then the pool is a step of its own."""

    def record(g, x, w):
        y = g.record("conv2d", [x, w], dict(padding=1))
        return g.record("max_pool2d", [y], dict(kernel_size=[3, 3], stride=[2, 2]))

    x, w = np.ones((8, 16, 32, 32), np.float32), np.ones((16, 16, 3, 3), np.float32)
    _, steps = run_plan(record, [x], [w], "nhwc")
    assert any("winograd4x4" in s["implementation"] for s in steps)


# ---- edges of blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 65])
def test_channel_tails(channels):
    check_op("conv2d", (1, channels, 5, 6), (channels + 1, channels, 3, 3), layouts=("nhwc",), padding=1)


@pytest.mark.parametrize("width", [1, 2, 5, 6, 7, 13, 14, 15, 27, 28, 29, 57])
def test_row_tails(width):
    check_op("conv2d", (1, 3, 2, width), (20, 3, 1, 3), layouts=("nhwc",), padding=(0, 1))


def test_nan_reaches_what_it_touches_and_no_more(rng):
    x, w = rng.standard_normal((2, 5, 9, 9)).astype(np.float32), np.ones((6, 5, 3, 3), np.float32)
    x[1, 2, 4, 4] = np.nan
    want = np.isnan(ref.conv2d(x, w, padding=1))
    for _ in every_isa():
        (y,) = _core.run("conv2d", [x, w], dict(padding=1, implementation="direct"), layout="nhwc")
        assert (np.isnan(y) == want).all()


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("images", [1, 3])
def test_winograd_with_as_many_channels_as_lanes(isa: str, images: int) -> None:
    """Its products keep their weights in registers; tiles in eights and alone."""
    before = _core.isa()
    _core.select_isa(isa)
    try:
        c = _core.vector_width()
        rng = np.random.default_rng(c + images)
        x = rng.standard_normal((images, c, 13, 10)).astype(np.float32)
        w = rng.standard_normal((c, c, 3, 3)).astype(np.float32)
        way = {"padding": 1, "layout": "nhwc", "implementation": "winograd4x4"}
        y = functional.conv2d(x, w, **way)
        dx, _, _ = functional.conv2d_backward(y, x, w, **way)
    finally:
        _core.select_isa(before)
    want = ref.conv2d(x, w, padding=1)
    want_dx, _, _ = ref.conv2d_backward(y, x, w, padding=1)
    for got, right in ((y, want), (dx, want_dx)):
        assert np.linalg.norm(got - right) < 1e-5 * np.linalg.norm(right)
