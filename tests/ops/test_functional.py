"""Every op against every oracle (oracles.check_op) on shapes at and around the kernels' tiles, on values with
a meaning (NaN, large, far from zero), and on arrays that lie oddly in memory.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
from op_table import OPS, example
from oracles import TAKEN, check_op, forced

import fastcnn.functional as F
from fastcnn import _core

# Input, weight, whether a bias, options. Register tiles are 6 or 14 pixels by 2 vectors of 4 to 16 channels,
# blocks of interleaved images 4 to 16.
CONV = {
    "tile-exact": ((1, 32, 4, 14), (32, 32, 3, 3), True, dict(padding=1)),
    "tile-plus-1": ((1, 33, 5, 15), (33, 33, 3, 3), True, dict(padding=1)),
    "tile-minus-1": ((1, 31, 3, 13), (31, 31, 3, 3), False, dict(padding=1)),
    "prime": ((3, 13, 11, 7), (17, 13, 5, 3), True, dict(padding=(2, 1))),
    "one-by-one-kernel": ((2, 40, 5, 7), (24, 40, 1, 1), True, dict()),
    "one-by-one-strided": ((2, 16, 7, 8), (32, 16, 1, 1), False, dict(stride=2)),
    "one-by-one-image": ((5, 8, 1, 1), (9, 8, 3, 3), True, dict(padding=1)),
    "one-of-everything": ((1, 1, 1, 1), (1, 1, 1, 1), True, dict()),
    "kernel-of-the-padded-size": ((2, 3, 3, 4), (4, 3, 5, 6), True, dict(padding=1)),
    "stride-above-kernel": ((2, 5, 9, 11), (7, 5, 2, 2), True, dict(stride=(3, 4))),
    "grouped": ((2, 12, 8, 9), (18, 4, 3, 3), True, dict(padding=1, groups=3)),
    "grouped-wide": ((1, 64, 5, 6), (64, 32, 3, 3), True, dict(padding=1, groups=2)),
    "depthwise": ((2, 20, 9, 8), (20, 1, 3, 3), True, dict(padding=1, groups=20)),
    "depthwise-strided": ((1, 32, 9, 9), (32, 1, 5, 5), False, dict(padding=2, stride=2, groups=32)),
    "depthwise-multiplier": ((2, 6, 7, 7), (12, 1, 3, 3), True, dict(groups=6)),
    "dilated": ((2, 6, 13, 12), (8, 6, 3, 3), True, dict(dilation=(2, 3), padding=2)),
    "dilated-strided-grouped": ((2, 8, 13, 14), (12, 4, 3, 2), True, dict(dilation=2, stride=2, groups=2)),
    "asymmetric-padding": ((2, 7, 6, 9), (10, 7, 3, 3), True, dict(padding=(0, 1, 2, 3))),
    "padding-beyond-kernel": ((1, 3, 4, 5), (5, 3, 3, 3), True, dict(padding=4, stride=2)),
    "same-strided": ((2, 6, 8, 11), (9, 6, 3, 4), True, dict(padding="same", stride=(2, 3))),
    "same-even-kernel": ((1, 6, 6, 6), (9, 6, 2, 2), True, dict(padding="same")),
    "valid": ((1, 6, 6, 7), (4, 6, 3, 3), True, dict(padding="valid")),
    "empty-batch": ((0, 5, 8, 8), (6, 5, 3, 3), True, dict(padding=1)),
    "batch-of-a-block": ((16, 4, 5, 6), (6, 4, 3, 3), True, dict()),
    "batch-of-a-block-and-one": ((17, 4, 5, 6), (6, 4, 3, 3), True, dict(padding=1)),
    "stem-7x7": ((1, 3, 31, 29), (16, 3, 7, 7), True, dict(stride=2, padding=3)),
    "stem-11x11": ((1, 3, 31, 35), (24, 3, 11, 11), True, dict(stride=4, padding=2)),
    "lenet-c1": ((9, 1, 32, 32), (6, 1, 5, 5), True, dict()),
    "lenet-c3": ((18, 6, 14, 14), (16, 6, 5, 5), True, dict()),
    "lenet-c5": ((5, 16, 5, 5), (120, 16, 5, 5), True, dict()),
    "winograd-even": ((2, 32, 8, 12), (48, 32, 3, 3), True, dict(padding=1)),
    "winograd-odd": ((2, 35, 13, 11), (37, 35, 3, 3), True, dict(padding=1)),
    "winograd-valid": ((3, 16, 9, 10), (16, 16, 3, 3), False, dict()),
    "winograd-asymmetric": ((1, 24, 9, 7), (40, 24, 3, 3), True, dict(padding=(2, 0, 1, 1))),
    "winograd-many-tiles": ((6, 16, 26, 30), (32, 16, 3, 3), True, dict(padding=1)),
    "many-channels": ((1, 300, 4, 4), (70, 300, 3, 3), True, dict(padding=1)),
}

LINEAR = {
    "tile-exact": ((16, 64), (32, 64), True),
    "tile-plus-1": ((17, 65), (33, 65), True),
    "tile-minus-1": ((15, 63), (31, 63), False),
    "one": ((1, 1), (1, 1), True),
    "prime": ((7, 131), (13, 131), True),
    "empty-batch": ((0, 5), (3, 5), True),
    "batch-1": ((1, 400), (120, 400), True),
    "classes": ((33, 84), (10, 84), True),
    "long": ((3, 2000), (5, 2000), True),
}

POOL = {
    "plain": ((2, 17, 8, 10), dict(kernel_size=2)),
    "odd-image": ((3, 16, 7, 9), dict(kernel_size=2)),
    "ceil": ((2, 5, 7, 9), dict(kernel_size=2, ceil_mode=True)),
    "ceil-drops-last": ((1, 5, 6, 6), dict(kernel_size=2, stride=3, padding=1, ceil_mode=True)),
    "overlapping": ((2, 33, 9, 11), dict(kernel_size=3, stride=2)),
    "overlapping-padded": ((2, 15, 12, 12), dict(kernel_size=3, stride=2, padding=1)),
    "dense": ((1, 3, 6, 7), dict(kernel_size=(3, 2), stride=1, padding=(1, 0))),
    "asymmetric": ((2, 4, 6, 7), dict(kernel_size=3, stride=2, padding=(0, 1, 2, 0))),
    "padding-above-half": ((2, 4, 5, 4), dict(kernel_size=3, stride=1, padding=2)),
    "padding-above-half-ceil": (
        (1, 5, 3, 1),
        dict(kernel_size=(4, 2), stride=3, padding=(3, 1, 2, 1), ceil_mode=True),
    ),
    "same": ((2, 6, 7, 8), dict(kernel_size=3, stride=2, padding="same")),
    "stride-above-kernel": ((2, 6, 9, 10), dict(kernel_size=2, stride=4)),
    "whole-image": ((4, 6, 5, 5), dict(kernel_size=5)),
    "one-by-one": ((2, 3, 4, 5), dict(kernel_size=1, stride=2)),
    "large-window": ((1, 2, 20, 18), dict(kernel_size=(17, 16), stride=(3, 2))),
    "empty-batch": ((0, 3, 6, 6), dict(kernel_size=2)),
    "batch-17": ((17, 1, 4, 6), dict(kernel_size=2)),
}

SHAPES = {  # of 4-D elementwise and normalising ops
    "tile-exact": (2, 32, 4, 4),
    "tile-plus-1": (3, 33, 3, 5),
    "tile-minus-1": (1, 15, 7, 2),
    "prime": (17, 3, 5, 7),
    "one-channel": (5, 1, 6, 6),
    "one-by-one": (7, 13, 1, 1),
    "larger": (4, 20, 24, 25),
}


def table(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


@table(CONV)
def test_conv2d(case):
    x, w, bias, options = case
    check_op("conv2d", x, w, *([w[:1]] if bias else []), **options)


@table(LINEAR)
def test_linear(case):
    x, w, bias = case
    check_op("linear", x, w, *([w[:1]] if bias else []))


@table(POOL)
def test_max_pool2d(case):
    check_op("max_pool2d", case[0], **case[1])


@pytest.mark.parametrize("count_include_pad", [True, False])
@table(POOL)
def test_avg_pool2d(case, count_include_pad):
    check_op("avg_pool2d", case[0], **case[1], count_include_pad=count_include_pad)


@pytest.mark.parametrize("size", [1, (1, 7), (3, 5), (9, 11)])
@table(SHAPES)
def test_adaptive_avg_pool2d(case, size):
    check_op("adaptive_avg_pool2d", case, output_size=size)


@table(SHAPES)
def test_global_avg_pool2d(case):
    check_op("global_avg_pool2d", case)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@table({**SHAPES, "large": (3, 16, 56, 57)})
def test_batch_norm(case, training, affine):
    check_op(
        "batch_norm", case, *([case[1:2]] * 2 if affine else []), training=training, momentum=0.3, eps=1e-3
    )


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "leaky_relu", "offset", "silu"])
@pytest.mark.parametrize("shape", [*SHAPES.values(), (0, 3, 4, 4), (18, 7), (1, 1)], ids=str)
def test_activation(name, shape):
    check_op(name, shape)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "leaky_relu", "offset", "silu"])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 5), (2, 2, 2, 3, 3), (0,)], ids=str)
def test_activation_of_any_rank(name, shape):
    check_op(name, shape, layouts=("nchw",))


@pytest.mark.parametrize("shape", [(1, 1), (16, 10), (17, 33), (5, 1000), (0, 4)], ids=str)
def test_softmax(shape):
    check_op("softmax", shape)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (16, 10), (33, 10), (130, 3), (5, 1000)], ids=str)
def test_cross_entropy(shape, reduction, rng):
    check_op("cross_entropy", shape, labels=rng.integers(0, shape[1], shape[0]), reduction=reduction)


@pytest.mark.parametrize("shape", [*SHAPES.values(), (0, 3, 4, 4), (18, 7)], ids=str)
def test_add(shape):
    check_op("add", shape, shape)


@table(SHAPES)
def test_shape_ops(case):
    n, c, h, w = case
    check_op("flatten", case)
    check_op("concat", case, (n, 1, h, w), (n, 16, h, w))
    check_op("concat", case)
    check_op("pad_channels", case, before=c // 2, after=c - c // 2)
    check_op("pad_channels", case, before=0, after=1)
    check_op("slice_channels", case, begin=c // 3, end=c)
    check_op("subsample", case, stride=2)
    check_op("subsample", case, stride=(1, 3))
    if min(h, w) > 1:
        check_op("subsample", case, stride=1, begin=1)
        check_op("subsample", case, stride=2, begin=(0, 1), end=(h - 1, w))
        check_op("subsample", case, stride=(1, 2), begin=0, end=1)


def test_shape_ops_on_an_empty_batch():
    check_op("flatten", (0, 2, 3, 4))
    check_op("concat", (0, 2, 3, 4), (0, 1, 3, 4))
    check_op("pad_channels", (0, 2, 3, 4), before=1, after=2)
    check_op("slice_channels", (0, 2, 3, 4), begin=1, end=2)
    check_op("subsample", (0, 2, 3, 4), stride=2)


@pytest.mark.parametrize("seed", range(24))
def test_random_geometry(seed):
    """Convolutions and pools of sizes nobody thought of."""
    rng = np.random.default_rng(seed)

    def number(low, high):
        return int(rng.integers(low, high + 1))

    groups = number(1, 3)
    kernel, dilation = (number(1, 4), number(1, 4)), (number(1, 2), number(1, 2))
    stride, padding = (number(1, 3), number(1, 3)), tuple(number(0, 3) for _ in range(4))
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(max(s, 1) + number(0, 9) for s in span)
    ic, oc = groups * number(1, 20), groups * number(1, 20)
    check_op(
        "conv2d", (number(1, 3), ic, *size), (oc, ic // groups, *kernel), (oc,),
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    pool = dict(kernel_size=kernel, stride=stride, ceil_mode=bool(number(0, 1)))
    pool["padding"] = tuple(number(0, k // 2) for k in kernel * 2)
    size = tuple(k + number(0, 9) for k in kernel)
    check_op("max_pool2d", (number(1, 3), number(1, 20), *size), **pool)
    check_op("avg_pool2d", (number(1, 3), number(1, 20), *size), **pool, count_include_pad=bool(number(0, 1)))


# ---- values with a meaning -------------------------------------------------------------------------------


def test_batch_norm_of_values_far_from_zero(rng):
    """Mean 1000 and deviation 1: the variance must not drown in the mean's square."""
    x = (1000 + rng.standard_normal((4, 5, 16, 16))).astype(np.float32)
    for layout in ("nhwc", "interleaved"):
        mean, var = np.zeros(5, np.float32), np.zeros(5, np.float32)
        with forced(layout):
            F.batch_norm(x, mean, var, training=True, momentum=1.0)
        np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=(0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(var, x.astype(np.float64).var(axis=(0, 2, 3), ddof=1), rtol=1e-4)


@pytest.mark.parametrize("layout", ["nhwc", "interleaved"])
def test_batch_norm_of_an_empty_batch(layout):
    """In training it has no statistics, which is an error that changes nothing; inference needs none."""
    x, mean, var = np.zeros((0, 3, 4, 4), np.float32), np.float32([1, 2, 3]), np.float32([4, 5, 6])
    with forced(layout):
        with pytest.raises(ValueError, match=r"more than one value per channel .* 0x3x4x4"):
            F.batch_norm(x, mean, var, training=True)
        assert (mean == [1, 2, 3]).all() and (var == [4, 5, 6]).all()
        assert F.batch_norm(x, mean, var).shape == x.shape


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("layout", ["nhwc", "interleaved"])
def test_nan_and_infinity_pass_through(layout, isa):
    _core.select_isa(isa)
    x = np.float32([[[[1, np.nan], [np.inf, -np.inf]]]])
    with forced(layout):
        assert np.array_equal(F.relu(x), np.float32([[[[1, np.nan], [np.inf, 0]]]]), equal_nan=True)
        assert np.allclose(F.tanh(x), np.tanh(x), equal_nan=True, rtol=1e-6)
        assert np.allclose(
            F.sigmoid(x),
            np.float32([[[[1 / (1 + np.exp(-1.0)), np.nan], [1, 0]]]]),
            equal_nan=True,
            rtol=1e-6,
        )
        assert np.allclose(F.leaky_relu(x, 0.5), np.where(x > 0, x, x / 2), equal_nan=True, rtol=0)
        assert np.allclose(
            F.silu(x),
            np.float32([[[[1 / (1 + np.exp(-1.0)), np.nan], [np.inf, 0]]]]),
            equal_nan=True,
            rtol=1e-6,
        )
        assert np.isnan(F.max_pool2d(x, 2)).all() and np.isnan(F.avg_pool2d(x, 2)).all()
        assert np.isnan(F.conv2d(x, np.ones((3, 1, 2, 2), np.float32))).all()
        assert np.isnan(F.linear(x.reshape(1, 4), np.ones((3, 4), np.float32))).all()
        logits = np.float32([[1, np.nan, 0], [0, 1, 2]])
        assert np.isnan(F.softmax(logits)[0]).all() and np.isfinite(F.softmax(logits)[1]).all()
        assert np.isnan(F.cross_entropy(logits, [0, 1]))


def test_max_pool2d_never_chooses_padding():
    x = np.full((2, 3, 4, 4), -5, np.float32)
    for layout in ("nhwc", "interleaved"):
        with forced(layout):
            y, index = F.max_pool2d(x, 3, 2, 1, return_indices=True)
        assert (y == -5).all() and index[0, 0].ravel().tolist() == [0, 1, 4, 5]
    assert (F.max_pool2d(np.full((1, 1, 2, 2), -np.inf, np.float32), 2) == -np.inf).all()


def test_softmax_and_loss_of_large_logits():
    x = np.float32([[1000, 0], [-1000, -1000], [3e38, -3e38]])
    assert F.softmax(x).tolist() == [[1, 0], [0.5, 0.5], [1, 0]]
    assert F.cross_entropy(x[:1], [1]) == 1000


def test_mean_loss_of_an_empty_batch_is_nan_and_its_sum_zero():
    x = np.zeros((0, 3), np.float32)
    assert np.isnan(F.cross_entropy(x, np.zeros(0, np.int64)))
    assert F.cross_entropy(x, np.zeros(0, np.int64), reduction="sum") == 0
    assert F.cross_entropy_backward(x, []).shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_labels_of_any_integer_type(dtype, rng):
    x, labels = rng.standard_normal((6, 4)).astype(np.float32), np.array([0, 1, 2, 3, 0, 1])
    assert F.cross_entropy(x, labels.astype(dtype)) == F.cross_entropy(x, labels)


def test_scale(rng):
    x = rng.standard_normal((3, 5, 4, 4)).astype(np.float32)
    for layout in ("nhwc", "interleaved"):
        with forced(layout):
            assert (F.scale(x, 0.3) == x * np.float32(0.3)).all()
            TAKEN.update(("scale", name) for name in _core.implementations("scale"))


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(weight_decay=0.1),
        dict(momentum=0.9),
        dict(momentum=0.9, nesterov=True, weight_decay=0.1),
        dict(momentum=0.8, dampening=0.3),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(1,), (33,), (6, 3, 5, 5), (1000, 70), (0,)], ids=str)
def test_sgd_step(options, shape, rng):
    from fastcnn import reference as ref

    start = rng.standard_normal(shape).astype(np.float32)
    grads = [rng.standard_normal(shape).astype(np.float32) for _ in range(4)]
    for isa in _core.available_isas():
        _core.select_isa(isa)
        results = []
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            p, buffer, want, want_buffer = start.copy(), None, start, None
            for g in grads:
                buffer = F.sgd_step(p, g, buffer, lr=0.1, **options)
                want, want_buffer = ref.sgd_step(want, g, want_buffer, lr=0.1, **options)
                np.testing.assert_allclose(p, want, rtol=1e-6, atol=1e-6)
            assert (buffer is None) == (not options.get("momentum"))
            results.append(p.tobytes())
        assert len(set(results)) == 1
    TAKEN.update(("sgd", name) for name in _core.implementations("sgd"))


def test_fold_channel_affine(rng):
    """A convolution followed by inference batch norm equals the convolution with folded weights."""

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    x, w, b, gamma, beta, mean = (
        normal(2, 5, 7, 6),
        normal(9, 5, 3, 3),
        normal(9),
        normal(9),
        normal(9),
        normal(9),
    )
    var = rng.uniform(0.5, 2, 9).astype(np.float32)
    for bias, affine in ((b, (gamma, beta)), (None, (None, None)), (b, (gamma, None))):
        two = F.batch_norm(F.conv2d(x, w, bias), mean, var, *affine, eps=1e-3)
        folded_w, folded_b = _core.run("fold_channel_affine", [w, bias, mean, var, *affine], {"eps": 1e-3})
        np.testing.assert_allclose(F.conv2d(x, folded_w, folded_b), two, rtol=1e-4, atol=1e-4)


# ---- how arrays lie --------------------------------------------------------------------------------------


def odd_layouts(a):
    """The same values, lying differently in memory."""
    yield np.asfortranarray(a)
    yield np.ascontiguousarray(a[tuple(slice(None, None, -1) for _ in a.shape)])[
        tuple(slice(None, None, -1) for _ in a.shape)
    ]
    wide = np.full(tuple(2 * n for n in a.shape), np.nan, a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    yield wide[tuple(slice(None, None, 2) for _ in a.shape)]
    offset = np.empty(a.nbytes + 1, np.uint8)[1:].view(np.uint8)
    unaligned = offset[: a.nbytes].view(a.dtype).reshape(a.shape)
    unaligned[...] = a
    yield unaligned
    read_only = a.copy()
    read_only.flags.writeable = False
    yield read_only


@pytest.mark.parametrize("name", OPS)
def test_inputs_may_lie_anyhow(name, rng):
    spec, inputs, options = example(name, rng)
    y = spec.forward(F, inputs, options)
    dy = rng.standard_normal(y[0].shape).astype(np.float32)
    grads = spec.backward(F, dy, inputs, y[0], options) if spec.backward else ()
    before = [a.copy() for a in inputs]
    for odd in zip(*map(odd_layouts, [*inputs, dy, y[0]]), strict=True):
        *odd_inputs, odd_dy, odd_y = odd
        for got, want in zip(spec.forward(F, odd_inputs, options), y, strict=True):
            assert got.tobytes() == want.tobytes()
        if spec.backward:
            for got, want in zip(spec.backward(F, odd_dy, odd_inputs, odd_y, options), grads, strict=True):
                assert got is None or got.tobytes() == want.tobytes()
    for a, b in zip(inputs, before, strict=True):
        assert a.tobytes() == b.tobytes(), "an input was changed"


# ---- the docstrings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(F.__path__)])
def test_examples(module):
    m = importlib.import_module(f"fastcnn.functional.{module}")
    result = doctest.testmod(m, extraglobs={"np": np})
    assert result.failed == 0 and result.attempted > 0


def test_every_function_has_an_example():
    for name in F.__all__:
        assert ">>>" in getattr(F, name).__doc__, name


def test_every_implementation_was_taken(request):
    """A kernel that no test runs does not exist. Must stay behind the tests above."""
    mine = [item for item in request.session.items if item.fspath == request.node.fspath]
    everything = {name for name in globals() if name.startswith("test_")}
    if {item.originalname for item in mine} != everything or request.session.testsfailed:
        pytest.skip("only when the whole file has run")
    for op in _core.op_names():
        for name in _core.implementations(op):
            assert (op, name) in TAKEN or op in ELSEWHERE, f"{op}:{name} ran in no test"


# Ops without a function of their own, with the test that runs them.
ELSEWHERE = {
    "convert": "test_ranks.py",
    "fold_channel_affine": "test_fold_channel_affine",
    "function_backward": "test_ranks.py",
    "running_statistics": "test_ranks.py",
    **{op: "test_ranks.py" for op in _core.op_names() if op.split("_backward")[0].endswith(("1d", "3d"))},
}
