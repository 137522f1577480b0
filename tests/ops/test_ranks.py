"""Every op with spatial dimensions on one and on three of them: every implementation, layout, instruction set and
number of threads against float64 (exact on integers), batches of none, one, and not a whole number of blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nd
import numpy as np
import pytest
from graphs import run_graph
from op_table import U, dot_bound
from oracles import WINOGRAD_ERROR

from fastcnn import _core

LAYOUTS = ("nchw", "nhwc", "interleaved")
BATCHES = (0, 1, 5, 17)
TAKEN: set[tuple[str, str]] = set()  # (op, implementation) pairs that ran


def integers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(np.float32)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


DRAWS = (integers, normal)


def ran(op: str, inputs: list, attrs: dict[str, Any], layout: str, name: str) -> tuple | None:
    """The results with one thread and with three, whose bits must agree; None where it declines."""
    results: tuple | None = None
    for threads in (1, 3):
        _core.set_num_threads(threads)
        try:
            mine = _core.run(op, inputs, {**attrs, "implementation": name}, layout)
        except ValueError as error:
            if "no implementation takes" not in str(error):
                raise
            return None
        for a, b in zip(results or mine, mine, strict=True):
            assert a.tobytes() == b.tobytes(), f"{op}:{name} {layout}: {threads} threads give other bits"
        results = mine
    return results


def check(
    op: str, inputs: list, attrs: dict[str, Any], wanted: list, bounds: list | None = None, every: bool = True
) -> None:
    """Every implementation in every layout. bounds None: exactly `wanted`, which float32 holds. every: one at least
    must take nhwc and interleaved values each."""
    inputs = list(inputs)
    before = [None if a is None else a.copy() for a in inputs]
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for layout in LAYOUTS:
            takers = 0
            for name in _core.implementations(op):
                results = ran(op, inputs, attrs, layout, name)
                if results is None:
                    continue
                takers += 1
                TAKEN.add((op, name))
                where = (
                    f"{op}:{name} {isa} {layout} {[None if a is None else a.shape for a in inputs]} {attrs}"
                )
                assert len(results) == len(wanted), where
                for k, (got, want) in enumerate(zip(results, wanted, strict=True)):
                    if want is not None:
                        compare(got, want, None if bounds is None else bounds[k], name, f"{where} result {k}")
            assert takers or layout == "nchw" or not every, f"{op}: nobody takes {layout} values: {attrs}"
    for a, b in zip(inputs, before, strict=True):
        assert a is None or a.tobytes() == b.tobytes(), f"{op} changed an input"


def compare(got: np.ndarray, want: np.ndarray, bound: Any, name: str, where: str) -> None:
    assert got.shape == want.shape, f"{where}: shape {got.shape}, expected {want.shape}"
    error = np.abs(got.astype(np.float64) - want)
    if name.startswith("winograd"):
        assert np.linalg.norm(error) <= WINOGRAD_ERROR * np.linalg.norm(want), where
    elif bound is None:
        np.testing.assert_array_equal(got, want, err_msg=where)
    else:
        limit = np.broadcast_to(bound, error.shape) + 2.0**-126
        assert (error <= limit).all(), f"{where}: off by {error.max():.3g}, more than {limit.min():.3g}"


# ---- convolution

# channels in and out, size, kernel, then attributes
CONVOLUTIONS: dict[str, tuple[int, int, list[int], list[int], dict[str, Any]]] = {
    "1d": (3, 4, [11], [3], {"padding": [1, 1]}),
    "1d plain": (2, 3, [6], [4], {}),
    "1d strided, dilated, in groups": (
        4, 6, [13], [3], {"stride": [2], "padding": [2, 1], "dilation": [2], "groups": 2},
    ),
    "1d pointwise": (33, 17, [7], [1], {}),
    "1d wide": (18, 35, [30], [5], {"padding": [2, 2]}),
    "1d stride past the kernel": (5, 7, [14], [2], {"stride": [3]}),
    "1d depthwise": (20, 20, [9], [5], {"padding": [4, 2], "groups": 20}),
    "1d depthwise strided": (3, 3, [9], [3], {"padding": [0, 1], "stride": [2], "dilation": [2], "groups": 3}),
    "1d many to one": (5, 1, [8], [8], {}),
    "3d": (3, 4, [4, 5, 6], [3, 3, 3], {"padding": [1] * 6}),
    "3d uneven": (2, 5, [5, 4, 7], [2, 3, 1], {"padding": [0, 1, 0, 1, 2, 0], "stride": [1, 2, 3]}),
    "3d strided, dilated, in groups": (
        4, 6, [6, 7, 5], [2, 2, 3],
        {"stride": [2, 1, 2], "padding": [1, 0, 2, 0, 1, 1], "dilation": [2, 3, 1], "groups": 2},
    ),
    "3d pointwise": (20, 17, [2, 3, 3], [1, 1, 1], {}),
    "3d planes": (12, 13, [3, 8, 9], [1, 3, 3], {"padding": [0, 1, 1, 0, 1, 1]}),
    "3d over depth": (6, 18, [5, 2, 3], [3, 1, 1], {"padding": [2, 0, 0, 0, 0, 0], "dilation": [2, 1, 1]}),
    "3d strided over depth": (3, 8, [7, 4, 4], [3, 3, 3], {"padding": [1] * 6, "stride": [2, 1, 1]}),
    "3d depthwise": (17, 17, [3, 4, 5], [3, 3, 3], {"padding": [1, 0, 1, 2, 1, 1], "groups": 17}),
    "3d depthwise strided": (
        4, 4, [5, 4, 6], [2, 3, 2],
        {"stride": [2, 2, 1], "padding": [1, 1, 0, 0, 1, 1], "dilation": [2, 1, 3], "groups": 4},
    ),
}  # fmt: skip


def convolution(name: str, n: int, draw: Callable, rng: np.random.Generator) -> tuple:
    ic, oc, size, kernel, attrs = CONVOLUTIONS[name]
    x, w = draw(rng, (n, ic, *size)), draw(rng, (oc, ic // attrs.get("groups", 1), *kernel))
    dy = draw(rng, nd.conv(x, w, None, attrs).shape)
    return x, w, draw(rng, (oc,)), dy, attrs, f"conv{len(size)}d"


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str, n: int, rng: np.random.Generator) -> None:
    for draw in DRAWS:
        x, w, b, dy, attrs, op = convolution(name, n, draw, rng)
        size, kernel = list(x.shape[2:]), list(w.shape[2:])
        taps, pixels = int(np.prod(kernel)), len(dy) * int(np.prod(dy.shape[2:]))
        ax, aw, ady = abs(x), abs(w), abs(dy)
        exact = draw is integers
        for bias in (b, None):
            terms = w.shape[1] * taps
            bound = (
                None
                if exact
                else [dot_bound(nd.conv(ax, aw, None if bias is None else abs(bias), attrs), terms)]
            )
            check(op, [x, w, bias], attrs, [nd.conv(x, w, bias, attrs)], bound)
        sized = {**attrs, "input_size": size}
        terms = len(w) // attrs.get("groups", 1) * taps
        bound = None if exact else [dot_bound(nd.conv_backward_data(ady, aw, size, attrs), terms)]
        check(f"{op}_backward_data", [dy, w], sized, [nd.conv_backward_data(dy, w, size, attrs)], bound)
        sized = {**attrs, "kernel_size": kernel}
        want = list(nd.conv_backward_weights(x, dy, kernel, attrs))
        sums = nd.conv_backward_weights(ax, ady, kernel, attrs)
        bounds = None if exact else [dot_bound(s, pixels) for s in sums]
        check(f"{op}_backward_weights", [x, dy], sized, want, bounds)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_equals_pytorch(name: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x, w, b, dy, attrs, op = convolution(name, 3, normal, rng)
    stride, before, after, dilation, groups = nd.full(attrs, x.ndim - 2)
    tx, tw, tb = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, w, b))
    pad = [side for d in reversed(range(x.ndim - 2)) for side in (before[d], after[d])]
    conv = getattr(torch.nn.functional, op)
    y = conv(torch.nn.functional.pad(tx, pad), tw, tb, stride=stride, dilation=dilation, groups=groups)
    np.testing.assert_allclose(nd.conv(x, w, b, attrs), y.detach().numpy(), rtol=1e-9, atol=1e-9)
    y.backward(torch.tensor(dy, dtype=torch.float64))
    dx = nd.conv_backward_data(dy, w, x.shape[2:], attrs)
    for mine, t in zip((dx, *nd.conv_backward_weights(x, dy, w.shape[2:], attrs)), (tx, tw, tb), strict=True):
        np.testing.assert_allclose(mine, t.grad.numpy(), rtol=1e-9, atol=1e-9)


# ---- pooling

# size, attributes of max and average pooling
WINDOWS: dict[str, tuple[list[int], dict[str, Any]]] = {
    "1d": ([12], {"kernel_size": [2]}),
    "1d overlapping": ([11], {"kernel_size": [3], "stride": [2], "padding": [1, 2]}),
    "1d ceil": ([12], {"kernel_size": [3], "stride": [2], "ceil_mode": 1}),
    "1d gaps": ([13], {"kernel_size": [2], "stride": [5], "padding": [1, 0]}),
    "1d wide": ([400], {"kernel_size": [300], "stride": [60]}),
    "3d": ([4, 6, 8], {"kernel_size": [2, 2, 2]}),
    "3d overlapping": (
        [5, 6, 7],
        {"kernel_size": [2, 3, 3], "stride": [1, 2, 2], "padding": [1, 0, 1, 0, 2, 1]},
    ),
    "3d ceil": ([4, 5, 6], {"kernel_size": [3, 2, 2], "stride": [2, 2, 3], "ceil_mode": 1}),
    "3d planes": ([3, 4, 4], {"kernel_size": [1, 2, 2]}),
    "3d over depth": (
        [6, 2, 3],
        {"kernel_size": [3, 1, 1], "stride": [2, 1, 1], "padding": [2, 0, 0, 1, 0, 0]},
    ),
    "3d wide": ([7, 8, 9], {"kernel_size": [6, 7, 8], "stride": [1, 1, 1]}),
}
CHANNELS = (3, 20)


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("name", WINDOWS)
def test_max_pooling(name: str, n: int, rng: np.random.Generator) -> None:
    size, attrs = WINDOWS[name]
    op = f"max_pool{len(size)}d"
    for c in CHANNELS:
        x = integers(rng, (n, c, *size))  # equal values: the first is chosen
        y, index = nd.max_pool(x, attrs)
        check(op, [x], attrs, [y, index])
        dy = integers(rng, y.shape)
        taken = index.astype(np.uint8 if np.prod(attrs["kernel_size"]) <= 255 else np.int32)
        want = nd.max_pool_backward(dy, x, attrs)
        check(f"{op}_backward", [dy, taken], {**attrs, "input_size": size}, [want])


@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("name", WINDOWS)
def test_average_pooling(name: str, n: int, count_include_pad: int, rng: np.random.Generator) -> None:
    size, attrs = WINDOWS[name]
    averaged("avg_pool", size, {**attrs, "count_include_pad": count_include_pad}, n, rng)


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize(
    "size, out", [([9], [4]), ([5], [7]), ([6, 5, 7], [2, 3, 3]), ([2, 3, 4], [3, 3, 1])]
)
def test_adaptive_average_pooling(size: list[int], out: list[int], n: int, rng: np.random.Generator) -> None:
    averaged("adaptive_avg_pool", size, {"output_size": out}, n, rng)


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("size", [[9], [1], [3, 4, 5], [1, 1, 6]])
def test_global_average_pooling(size: list[int], n: int, rng: np.random.Generator) -> None:
    averaged("global_avg_pool", size, {}, n, rng)


def averaged(op: str, size: list[int], attrs: dict[str, Any], n: int, rng: np.random.Generator) -> None:
    op, (out, windows) = f"{op}{len(size)}d", nd.pool_windows(size, attrs)
    terms = max((int(np.prod([s.stop - s.start for s in at])) for _, at, _ in windows), default=1)
    for c in CHANNELS:
        x, dy = normal(rng, (n, c, *size)), normal(rng, (n, c, *out))
        check(op, [x], attrs, [nd.avg_pool(x, attrs)], [dot_bound(nd.avg_pool(abs(x), attrs), terms)])
        want, bound = (nd.avg_pool_backward(a, size, attrs) for a in (dy, abs(dy)))
        many = len(windows)
        check(f"{op}_backward", [dy], {**attrs, "input_size": size}, [want], [dot_bound(bound, many)])


@pytest.mark.parametrize("name", WINDOWS)
def test_pooling_equals_pytorch(name: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    size, attrs = WINDOWS[name]
    rank = len(size)
    padding = attrs.get("padding", [0] * (2 * rank))
    if padding[:rank] != padding[rank:] or any(
        2 * p > k for p, k in zip(padding, attrs["kernel_size"], strict=False)
    ):
        attrs = {k: v for k, v in attrs.items() if k != "padding"}
        padding = [0] * (2 * rank)
    options = dict(stride=attrs.get("stride"), padding=padding[:rank], ceil_mode=bool(attrs.get("ceil_mode")))
    x = normal(rng, (3, 4, *size))
    for kind, forward, backward in (
        ("max", lambda x, a: nd.max_pool(x, a)[0], lambda dy, x, a: nd.max_pool_backward(dy, x, a)),
        ("avg", nd.avg_pool, lambda dy, x, a: nd.avg_pool_backward(dy, x.shape[2:], a)),
    ):
        t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        y = getattr(torch.nn.functional, f"{kind}_pool{rank}d")(t, attrs["kernel_size"], **options)
        np.testing.assert_allclose(forward(x, attrs), y.detach().numpy(), rtol=1e-9, atol=1e-9)
        dy = normal(rng, tuple(y.shape))
        y.backward(torch.tensor(dy, dtype=torch.float64))
        np.testing.assert_allclose(backward(dy, x, attrs), t.grad.numpy(), rtol=1e-9, atol=1e-9)


# ---- what knows channels only

SIZES = {
    "rank 2": (),
    "rank 3": (7,),
    "rank 5": (3, 2, 5),
    "rank 5, one pixel": (1, 1, 1),
    "rank 3, long": (97,),
}
NORM_CHANNELS = (1, 3, 20)


@pytest.mark.parametrize("n", [1, 2, 5, 17])
@pytest.mark.parametrize("kind", SIZES)
def test_batch_norm(kind: str, n: int, rng: np.random.Generator) -> None:
    size = SIZES[kind]
    m = n * int(np.prod(size))
    for c in NORM_CHANNELS:
        x, dy = normal(rng, (n, c, *size)) + 1, normal(rng, (n, c, *size))
        gamma, beta = normal(rng, (c,)), normal(rng, (c,))
        axes, wide = (0, *range(2, x.ndim)), lambda v: nd.per_channel(v, x.ndim)  # noqa: B023
        if m < 2:
            with pytest.raises(ValueError, match="more than one value per channel"):
                _core.run("batch_norm_stats", [x], {})
            continue
        x64 = x.astype(np.float64)
        mean, var = x64.mean(axes), x64.var(axes)
        rstd = 1 / np.sqrt(var + 1e-3)
        dmean = dot_bound(abs(x64).mean(axes), m)
        # The square of a mean's error is what a variance is off by; of two values that are near, all of it.
        drstd = rstd * (0.5 * (dot_bound(2 * var, m) + dmean**2 + 4 * U * mean**2) * rstd**2 + 3 * U)
        moments = np.stack([mean, var * m])
        bounds = [dmean, drstd, np.stack([dmean, m * (dot_bound(2 * var, m) + dmean**2) + 1e-12])]
        check("batch_norm_stats", [x], {"eps": 1e-3}, [mean, rstd, moments], bounds)

        mean32, rstd32, var32 = (v.astype(np.float32) for v in (mean, rstd, var))
        centred = x64 - wide(mean32.astype(np.float64))
        for g, b in ((gamma, beta), (None, None)):
            scale = wide(rstd32.astype(np.float64)) * (1 if g is None else wide(g))
            y = centred * scale + (0 if b is None else wide(b))
            size_of = abs(centred * scale) + (0 if b is None else abs(wide(b)))
            bound = [6 * U * (size_of + abs(scale) * (abs(x64) + abs(wide(mean32))))]
            check("batch_norm_apply", [x, mean32, rstd32, g, b], {}, [y], bound)
            inference = 1 / np.sqrt(var32.astype(np.float64) + 1e-3)
            ratio = wide(inference / rstd32)
            bound = [b * np.maximum(ratio, 1) for b in bound]
            y = centred * scale * ratio + (0 if b is None else wide(b))
            check("batch_norm_inference", [x, mean32, var32, g, b], {"eps": 1e-3}, [y], bound)

            xhat, dy64 = centred * wide(rstd32), dy.astype(np.float64)
            dgamma, dbeta = (dy64 * xhat).sum(axes), dy64.sum(axes)
            dx = scale * (dy64 - wide(dbeta) / m - xhat * wide(dgamma) / m)
            sums = [abs(dy64 * xhat).sum(axes), abs(dy64).sum(axes)]
            spread = wide((abs(x64).max(axes) + abs(mean)) * rstd)
            loose = [dot_bound(s, m) + 8 * U * abs(spread).reshape(c) * sums[1] for s in sums]
            terms = abs(dy64) + wide(sums[1]) / m + abs(xhat) * wide(sums[0]) / m
            loss = wide(loose[1]) / m + abs(xhat) * wide(loose[0]) / m
            bound = [abs(scale) * (loss + 8 * U * (terms + abs(spread) * wide(sums[0]) / m)), *loose]
            check("batch_norm_backward", [dy, x, mean32, rstd32, g], {}, [dx, dgamma, dbeta], bound)
            fixed = scale * ratio
            want = [fixed * dy64, dgamma * inference / rstd32, dbeta]
            bound = [8 * U * abs(fixed * dy64), loose[0] * np.maximum(inference / rstd32, 1), loose[1]]
            check("batch_norm_inference_backward", [dy, x, mean32, var32, g], {"eps": 1e-3}, want, bound)


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("kind", SIZES)
def test_channels_are_moved(kind: str, n: int, rng: np.random.Generator) -> None:
    size = SIZES[kind]
    for c in (1, 5, 33):
        x, other = integers(rng, (n, c, *size)), integers(rng, (n, 3, *size))
        check("concat", [x, other, x], {"axis": 1}, [np.concatenate([x, other, x], axis=1)])
        check("concat", [x], {}, [x])
        for begin, end in {(0, c), (c // 2, c), (0, (c + 1) // 2), (c // 3, c // 3 + 1)}:
            check("slice_channels", [x], {"begin": begin, "end": end}, [x[:, begin:end]])
        for sides in ((2, 0), (0, 5), (17, 1)):
            want = np.pad(x, [(0, 0), sides, *[(0, 0)] * len(size)])
            check("pad_channels", [x], dict(zip(("before", "after"), sides, strict=True)), [want])


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("kind", SIZES)
def test_values_become_rows_and_back(kind: str, n: int, rng: np.random.Generator) -> None:
    size = SIZES[kind]
    for c in (1, 5, 33):
        x = integers(rng, (n, c, *size))
        rows = x.reshape(n, int(np.prod(x.shape[1:])))
        check("flatten", [x], {}, [rows])
        check("unflatten", [rows], {"shape": list(x.shape[1:])}, [x])
        for copy in (0, 1):
            check("convert", [x], {"copy": copy}, [x])
        check("convert", [(x + 4).astype(np.uint8)], {}, [x + 4], every=False)


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize(
    "size, stride", [([7], [2]), ([4], [9]), ([5, 4, 7], [2, 1, 3]), ([3, 3, 3], [1, 2, 1])]
)
def test_subsampling(size: list[int], stride: list[int], n: int, rng: np.random.Generator) -> None:
    picked = (slice(None), slice(None), *(slice(None, None, s) for s in stride))
    for c in (1, 5, 33):
        x = integers(rng, (n, c, *size))
        check("subsample", [x], {"stride": stride}, [x[picked]])
        dx = np.zeros_like(x)
        dx[picked] = x[picked]
        check("subsample_backward", [x[picked].copy()], {"stride": stride, "input_size": size}, [dx])


@pytest.mark.parametrize(
    "size, begin, end, stride",
    [([7], [2], [7], [1]), ([7], [1], [6], [3]), ([5, 4, 7], [1, 0, 3], [4, 4, 7], [2, 3, 1])],
)
def test_cutting_out(
    size: list[int], begin: list[int], end: list[int], stride: list[int], rng: np.random.Generator
) -> None:
    picked = (slice(None), slice(None), *map(slice, begin, end, stride))
    attrs = {"stride": stride, "begin": begin, "end": end}
    for n, c in ((1, 5), (18, 3), (33, 16)):
        x = integers(rng, (n, c, *size))
        check("subsample", [x], attrs, [x[picked]])
        dx = np.zeros_like(x)
        dx[picked] = x[picked]
        check("subsample_backward", [x[picked].copy()], {**attrs, "input_size": size}, [dx])


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("kind", SIZES)
def test_values_cross_between_layouts_in_a_plan(kind: str, n: int, rng: np.random.Generator) -> None:
    """An interleaved step between plain values, and the index of a pooling as a result."""
    for c in (1, 5, 33):
        x = integers(rng, (n, c, *SIZES[kind]))
        rank = x.ndim - 2

        def build(g: _core.Graph, ids: list[int], rank: int = rank) -> list[int]:
            y = g.record("relu", ids, {})[0]
            return [y, *(g.record(f"max_pool{rank}d", [y], {"kernel_size": [1] * rank}) if rank else ())]

        for isa in _core.available_isas():
            _core.select_isa(isa)
            for layout in LAYOUTS[1:]:
                (y, *pooled), plan = run_graph(build, [x], layout)
                TAKEN.update(tuple(step["implementation"].split(":")[:2]) for step in plan.steps)
                np.testing.assert_array_equal(y, np.maximum(x, 0))
                if rank:
                    np.testing.assert_array_equal(pooled[0], y)
                    assert not pooled[1].any() and pooled[1].dtype == np.uint8


FUNCTIONS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {  # value and slope
    "relu": lambda x: (np.maximum(x, 0), (x > 0) * 1.0),
    "tanh": lambda x: (np.tanh(x), 1 - np.tanh(x) ** 2),
    "sigmoid": lambda x: (1 / (1 + np.exp(-x)), np.exp(-x) / (1 + np.exp(-x)) ** 2),
    "leaky_relu": lambda x: (np.where(x > 0, x, 0.01 * x), np.where(x > 0, 1, 0.01)),
    "offset": lambda x: (x, 1 + 0 * x),
    "silu": lambda x: (x / (1 + np.exp(-x)), (1 + np.exp(-x) * (1 + x)) / (1 + np.exp(-x)) ** 2),
}


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("row", _core.functions(), ids=lambda row: row["name"])
def test_functions_and_their_gradients(row: Any, kind: str, rng: np.random.Generator) -> None:
    name, from_input = row["name"], row["from_input"]
    for n in BATCHES:
        x, dy = normal(rng, (n, 5, *SIZES[kind])), normal(rng, (n, 5, *SIZES[kind]))
        y, slope = FUNCTIONS[name](x.astype(np.float64))
        check(name, [x], {}, [y], [8 * U * (abs(y) + abs(x) * U) + 0 * y])
        v = x if from_input else y.astype(np.float32)
        want = dy * slope
        check("function_backward", [dy, v], {"kind": name}, [want], [U * (8 * abs(dy) + 8 * abs(want))])


@pytest.mark.parametrize("count, momentum", [(8, 0.1), (1, 0.5), (0, 0.3), (5, 1.0), (5, 0.0)])
@pytest.mark.parametrize("c", [1, 5, 33])
def test_running_statistics(c: int, count: int, momentum: float, rng: np.random.Generator) -> None:
    mean, var, moments = normal(rng, (c,)), rng.random(c).astype(np.float32), rng.random((2, c))
    unbiased = moments[1] / max(count - 1, 1)
    k = momentum if count else 0
    wanted = [
        (1 - k) * mean.astype(np.float64) + k * moments[0],
        (1 - k) * var.astype(np.float64) + k * unbiased,
    ]
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for layout in LAYOUTS:
            for name in _core.implementations("running_statistics"):
                held = [mean.copy(), var.copy()]
                attrs = {"momentum": momentum, "count": count, "implementation": name}
                assert _core.run("running_statistics", [*held, moments], attrs, layout) == ()
                for got, want in zip(held, wanted, strict=True):
                    assert (abs(got - want) <= U * abs(want) + 1e-300).all()
                TAKEN.add(("running_statistics", name))


# ---- all of them

# One row is no image: 3x3 kernels do not occur.
NEVER = {(f"conv1d{way}", "winograd4x4") for way in ("", "_backward_data", "_backward_weights")}
OTHERS = {"convert", "function_backward", "running_statistics", "leaky_relu", "offset", "silu"}


def test_every_implementation_was_taken(request: pytest.FixtureRequest) -> None:
    """A kernel that no test runs does not exist. Must stay behind the tests above."""
    mine = [item for item in request.session.items if item.fspath == request.node.fspath]
    everything = {name for name in globals() if name.startswith("test_")}
    if {item.originalname for item in mine} != everything or request.session.testsfailed:
        pytest.skip("only when the whole file has run")
    ops = [op for op in _core.op_names() if op in OTHERS or op.split("_backward")[0].endswith(("1d", "3d"))]
    assert len(ops) == 2 * (3 + 8) + len(OTHERS)
    every = {(op, name) for op in ops for name in _core.implementations(op)}
    assert every - NEVER <= TAKEN, f"ran in no test: {sorted(every - NEVER - TAKEN)}"
    assert not NEVER & TAKEN
