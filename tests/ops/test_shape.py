"""Backward rules of the ops that move elements, as a plan runs them, and their refusals."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import LAYOUTS, run_graph

from fastcnn import _core


def gradient(record, arrays, layout):
    """z = record(...), and with dz = z the gradients of all arrays: exact on integers."""

    def build(g, ids):
        z = record(g, ids)
        return [z, *g.backward(z, z, ids)]

    return run_graph(build, arrays, layout)[0]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(5, 3, 4, 6), (17, 16, 3, 3), (2, 20, 5, 1)], ids=str)
def test_backward_rules(shape, layout, rng):
    x = rng.integers(-9, 10, shape).astype(np.float32)
    other = rng.integers(-9, 10, (shape[0], 2, *shape[2:])).astype(np.float32)
    c = shape[1]

    z, dx, dother = gradient(lambda g, i: g.record("concat", [*i], {})[0], [x, other], layout)
    assert np.array_equal(z, np.concatenate([x, other], axis=1))
    assert np.array_equal(dx, x) and np.array_equal(dother, other)

    attrs = {"begin": 1, "end": c - 1}
    z, dx = gradient(lambda g, i: g.record("slice_channels", i, attrs)[0], [x], layout)
    want = x.copy()
    want[:, [0, c - 1]] = 0
    assert np.array_equal(z, x[:, 1 : c - 1]) and np.array_equal(dx, want)

    z, dx = gradient(lambda g, i: g.record("pad_channels", i, {"before": 3, "after": 1})[0], [x], layout)
    assert np.array_equal(z, np.pad(x, ((0, 0), (3, 1), (0, 0), (0, 0)))) and np.array_equal(dx, x)

    z, dx = gradient(lambda g, i: g.record("subsample", i, {"stride": [2, 3]})[0], [x], layout)
    want = np.zeros_like(x)
    want[:, :, ::2, ::3] = x[:, :, ::2, ::3]
    assert np.array_equal(z, x[:, :, ::2, ::3]) and np.array_equal(dx, want)

    flat = lambda g, i: g.record("flatten", i, {})[0]  # noqa: E731
    z, dx = gradient(flat, [x], layout)
    assert np.array_equal(z, x.reshape(len(x), -1)) and np.array_equal(dx, x)

    chw = {"shape": list(shape[1:])}
    z, dx = gradient(lambda g, i: g.record("unflatten", [flat(g, i)], chw)[0], [x], layout)
    assert np.array_equal(z, x) and np.array_equal(dx, x)

    z, dx = gradient(lambda g, i: g.record("add", [i[0], i[0]], {})[0], [x], layout)
    assert np.array_equal(z, 2 * x) and np.array_equal(dx, 4 * x)


@pytest.mark.parametrize(
    "op, shapes, attrs, message",
    [
        ("concat", [(2, 3, 4, 4), (2, 3, 4, 5)], {}, "differ only in channels, got 2x3x4x4 and 2x3x4x5"),
        ("concat", [(2, 3, 4, 4)], {"axis": 2}, "expected 1"),
        ("slice_channels", [(2, 3, 4, 4)], {"begin": 2, "end": 4}, "begin 2 and end 4"),
        ("pad_channels", [(2, 3, 4, 4)], {"before": -1}, "at least 0, got -1 and 0"),
        ("subsample", [(2, 3, 4, 4)], {"stride": [0, 1]}, "stride of at least 1, got 0"),
        ("subsample", [(2, 3, 4, 4)], {"begin": 4}, "0 <= begin < end <= 4, got begin 4"),
        ("subsample", [(2, 3, 4, 4)], {"begin": [0, -1]}, "got begin -1"),
        ("subsample", [(2, 3, 4, 4)], {"begin": 2, "end": 2}, "begin 2 and end 2"),
        ("unflatten", [(2, 12)], {"shape": [3, 2, 3]}, "expected 18 features"),
        ("flatten", [(2, 3, 4, 5, 6, 7)], {}, "2 to 5 dimensions, got 6"),
        ("add", [(2, 3), (2, 4)], {}, "one shape, got 2x3 and 2x4"),
        ("scale", [(2, 3), (2,)], {}, "one element, got 2"),
    ],
)
def test_refusals(op, shapes, attrs, message):
    with pytest.raises(ValueError, match=message):
        _core.run(op, [np.zeros(s, np.float32) for s in shapes], attrs)
