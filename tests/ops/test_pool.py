"""Pooling beyond test_functional: PyTorch's indices and NaN rule, wide indices, fast paths against the general
one, windows of every alignment, and the ops' backward rules as a plan runs them.
"""

from __future__ import annotations

import numpy as np
import pytest
from graphs import LAYOUTS, run_graph

from fastcnn import _core

# kernel, stride, padding (top, left, bottom, right), ceil mode
WINDOWS = [
    ((2, 2), (2, 2), (0, 0, 0, 0), 0),
    ((2, 2), (2, 2), (0, 0, 0, 0), 1),
    ((3, 3), (2, 2), (1, 1, 1, 1), 0),
    ((3, 3), (2, 2), (1, 1, 1, 1), 1),
    ((3, 3), (1, 1), (1, 1, 1, 1), 0),
    ((3, 3), (3, 3), (0, 0, 0, 0), 1),
    ((2, 3), (3, 1), (1, 1, 1, 1), 1),
    ((2, 2), (3, 3), (0, 0, 0, 0), 0),
    ((4, 2), (2, 4), (2, 0, 2, 0), 1),
]
CHANNELS = [1, 4, 8, 16, 19, 70]


def attrs_of(window):
    kernel, stride, padding, ceil = window
    return {"kernel_size": list(kernel), "stride": list(stride), "padding": list(padding), "ceil_mode": ceil}


def torch_index(index, window, width):
    """The core's position inside the window as PyTorch's position inside the image."""
    (_, kw), (sh, sw), (top, left, _, _), _ = window
    i, j = np.divmod(index.astype(np.int64), kw)
    rows = np.arange(index.shape[2])[:, None] * sh - top + i
    return rows * width + np.arange(index.shape[3]) * sw - left + j


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("c", CHANNELS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max_pool_picks_what_pytorch_picks(window, c, layout, rng):
    torch = pytest.importorskip("torch")
    x = rng.integers(-3, 4, (5, c, 9, 11)).astype(np.float32)  # many ties
    x[rng.random(x.shape) < 0.02] = np.nan
    kernel, stride, padding, ceil = window
    y, index = torch.nn.functional.max_pool2d(
        torch.tensor(x), kernel, stride, padding[:2], ceil_mode=bool(ceil), return_indices=True
    )
    dy = rng.integers(-5, 6, y.shape).astype(np.float32)
    t = torch.tensor(x, requires_grad=True)
    torch.nn.functional.max_pool2d(t, kernel, stride, padding[:2], ceil_mode=bool(ceil)).backward(
        torch.tensor(dy)
    )
    attrs = attrs_of(window)
    for isa in _core.available_isas():
        _core.select_isa(isa)
        mine, taps = _core.run("max_pool2d", [x], attrs, layout)
        assert np.array_equal(mine, y.numpy(), equal_nan=True)
        assert taps.dtype == np.uint8
        assert np.array_equal(torch_index(taps, window, 11), index.numpy())
        (dx,) = _core.run("max_pool2d_backward", [dy, taps], {**attrs, "input_size": [9, 11]}, layout)
        assert np.array_equal(dx, t.grad.numpy())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_above_255_taps_take_wide_indices(layout, rng):
    x = rng.permutation(2 * 3 * 40 * 40).reshape(2, 3, 40, 40).astype(np.float32)
    attrs = {"kernel_size": [20, 20], "stride": [10, 20]}
    y, index = _core.run("max_pool2d", [x], attrs, layout)
    assert index.dtype == np.int32 and index.max() > 255
    dy = np.ones_like(y)
    (dx,) = _core.run("max_pool2d_backward", [dy, index], {**attrs, "input_size": [40, 40]}, layout)
    assert dx.sum() == y.size and set(x[dx > 0]) == set(y.ravel())
    with pytest.raises(TypeError, match="int32 index"):
        narrow = [dy, index.astype(np.uint8)]
        _core.run("max_pool2d_backward", narrow, {**attrs, "input_size": [40, 40]}, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fill", [-np.inf, np.nan, np.inf])
def test_max_pool_of_one_value(fill, layout):
    x = np.full((3, 5, 4, 4), fill, np.float32)
    y, index = _core.run("max_pool2d", [x], {"kernel_size": 2}, layout)
    assert np.array_equal(y, x[:, :, ::2, ::2], equal_nan=True)
    assert (index == (3 if np.isnan(fill) else 0)).all()  # the first largest, the last NaN


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("c", CHANNELS)
@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_average_pool_divides_as_pytorch(window, count_include_pad, c, layout, rng):
    torch = pytest.importorskip("torch")
    kernel, stride, padding, ceil = window
    t = torch.tensor(rng.standard_normal((5, c, 9, 11)), requires_grad=True)
    y = torch.nn.functional.avg_pool2d(
        t, kernel, stride, padding[:2], ceil_mode=bool(ceil), count_include_pad=bool(count_include_pad)
    )
    dy = rng.standard_normal(y.shape).astype(np.float32)
    y.backward(torch.tensor(dy, dtype=torch.float64))
    attrs = {**attrs_of(window), "count_include_pad": count_include_pad}
    for isa in _core.available_isas():
        _core.select_isa(isa)
        (mine,) = _core.run("avg_pool2d", [t.detach().numpy().astype(np.float32)], attrs, layout)
        assert np.allclose(mine, y.detach().numpy(), rtol=1e-6, atol=1e-6)
        (dx,) = _core.run("avg_pool2d_backward", [dy], {**attrs, "input_size": [9, 11]}, layout)
        assert np.allclose(dx, t.grad.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_threads_change_no_bit(op, window, layout, rng):
    x, attrs = rng.standard_normal((19, 20, 30, 31)).astype(np.float32), attrs_of(window)
    results = []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        y, *index = _core.run(op, [x], attrs, layout)
        (dx,) = _core.run(f"{op}_backward", [y, *index], {**attrs, "input_size": [30, 31]}, layout)
        results.append(y.tobytes() + dx.tobytes())
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "op, attrs",
    [
        ("max_pool2d", {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1]}),
        ("avg_pool2d", {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1]}),
        ("global_avg_pool2d", {}),
        ("adaptive_avg_pool2d", {"output_size": [3, 4]}),
    ],
)
def test_backward_rules(op, attrs, layout, rng):
    """The gradient of <dy, f(x)> along a direction, through the graph."""
    x = rng.permutation(3 * 5 * 8 * 9).reshape(3, 5, 8, 9).astype(np.float32)
    v = rng.uniform(-0.4, 0.4, x.shape).astype(np.float32)  # never changes which element is largest

    def build(g, ids):
        y = g.record(op, [ids[0]], attrs)[0]
        return [y, g.backward(y, y, [ids[0]])[0]]  # dy = y: the gradient of sum(y^2) / 2

    (y, dx), _ = run_graph(build, [x], layout)
    moved = [run_graph(build, [x + s * v], layout)[0][0].astype(np.float64) for s in (1, -1)]
    slope = float((y * (moved[0] - moved[1])).sum()) / 2
    rounding = 1e-4 * np.linalg.norm(dx) * np.linalg.norm(v)
    assert abs(float((dx.astype(np.float64) * v).sum()) - slope) <= rounding
