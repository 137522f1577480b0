"""Small networks made of what plans fuse, against the float64 reference and its slopes.

Each pattern is written once, as ordinary Python over `m`: fastcnn.functional while it is traced, the reference on
float64 arrays. The plan's result must be the reference's, and its gradient along a random direction (for the input
and every parameter) the reference's central difference. Sizes are odd on purpose, batches not whole blocks.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn.functional as F
from fastcnn import _core, nn
from fastcnn import reference as ref
from fastcnn.nn.engine import ForwardBackward, Inference


class Reference:
    """The reference with the results of fastcnn.functional: the first one only."""

    def __getattr__(self, name):
        function = getattr(ref, name)
        if name in ("batch_norm", "max_pool2d"):
            return lambda *a, **k: function(*a, **k)[0]
        return function


class Net(nn.Module):
    """A pattern with its parameters (buffers are named r...) as a module."""

    def __init__(self, pattern, arrays):
        super().__init__()
        self.pattern = pattern
        for name, a in arrays.items():
            setattr(self, name, nn.Buffer(a) if name.startswith("r") else nn.Parameter(a))

    def forward(self, x):
        return self.pattern(F, x, self, self.training)

    def __getitem__(self, name):
        return getattr(self, name)


def bn(m, x, p, k, training):
    return m.batch_norm(x, p[f"rm{k}"], p[f"rv{k}"], p[f"g{k}"], p[f"be{k}"], training, 0.1, 1e-3)


# Each takes (m, x, parameter by name, training). w1, w2: 3x3; v: 1x1; d: depthwise; f: the image's size; l: linear.
# All have as many outputs as inputs.
PATTERNS = {
    "conv-relu": lambda m, x, p, t: m.relu(m.conv2d(x, p["w1"], p["b1"], padding=1)),
    "conv-tanh-avg": lambda m, x, p, t: m.avg_pool2d(m.tanh(m.conv2d(x, p["w1"], p["b1"])), 2),
    "conv-sigmoid-max": lambda m, x, p, t: m.max_pool2d(m.sigmoid(m.conv2d(x, p["w1"], p["b1"])), 2),
    "conv-relu-max": lambda m, x, p, t: m.max_pool2d(m.relu(m.conv2d(x, p["w1"], padding=1)), 2),
    "conv-max-overlapping": lambda m, x, p, t: m.max_pool2d(m.conv2d(x, p["w1"], p["b1"], padding=1), 3, 2),
    "conv-max-padded-ceil": lambda m, x, p, t: m.max_pool2d(m.conv2d(x, p["w1"], p["b1"]), 3, 2, 1, True),
    "conv-relu-avg-3x2": lambda m, x, p, t: m.avg_pool2d(m.relu(m.conv2d(x, p["w1"], p["b1"])), (3, 2), (2, 3)),
    "conv-sigmoid-avg-gaps": lambda m, x, p, t: m.avg_pool2d(m.sigmoid(m.conv2d(x, p["w1"], p["b1"])), 2, 3),
    "conv-tanh-max-gaps": lambda m, x, p, t: m.max_pool2d(m.tanh(m.conv2d(x, p["w1"], p["b1"])), (2, 1), (3, 2)),
    "conv-strided-relu": lambda m, x, p, t: m.relu(m.conv2d(x, p["w1"], p["b1"], 2, 1)),
    "conv-conv": lambda m, x, p, t: m.conv2d(m.tanh(m.conv2d(x, p["w1"], p["b1"])), p["w2"], p["b2"], padding=1),
    "conv-bn": lambda m, x, p, t: bn(m, m.conv2d(x, p["w1"], padding=1), p, 1, t),
    "conv-bias-bn-relu": lambda m, x, p, t: m.relu(bn(m, m.conv2d(x, p["w1"], p["b1"], padding=1), p, 1, t)),
    "bn-relu-conv": lambda m, x, p, t: m.conv2d(m.relu(bn(m, x, p, 1, t)), p["w1"], padding=1),
    "bn-add-tanh": lambda m, x, p, t: m.tanh(m.add(bn(m, x, p, 1, t), x)),
    "conv-add-relu": lambda m, x, p, t: m.relu(m.add(m.conv2d(x, p["w1"], p["b1"], padding=1), x)),
    "residual": lambda m, x, p, t: m.relu(
        m.add(bn(m, m.conv2d(m.relu(bn(m, m.conv2d(x, p["w1"], padding=1), p, 1, t)), p["w2"], padding=1), p, 2, t), x)
    ),
    "projection": lambda m, x, p, t: m.relu(
        m.add(bn(m, m.conv2d(x, p["w1"], None, 2, 1), p, 1, t), bn(m, m.conv2d(x, p["v"], None, 2), p, 2, t))
    ),
    "shortcut-a": lambda m, x, p, t: m.relu(
        m.add(m.pad_channels(m.conv2d(x, p["w1"], p["b1"], 2, 1), 1, 2), m.pad_channels(m.subsample(x, 2), 2, 1))
    ),
    "several-consumers": lambda m, x, p, t: several(m, m.relu(m.conv2d(x, p["w1"], p["b1"], padding=1)), p),
    "same-value-twice": lambda m, x, p, t: m.add(m.conv2d(x, p["v"]), m.conv2d(x, p["v"])),
    "add-to-itself": lambda m, x, p, t: twice(m, m.conv2d(x, p["v"], p["b1"])),
    "concat": lambda m, x, p, t: m.concat([m.relu(m.conv2d(x, p["v"])), x, m.avg_pool2d(x, 3, 1, 1)]),
    "concat-then-conv": lambda m, x, p, t: m.conv2d(
        m.concat([m.slice_channels(x, 0, 3), m.slice_channels(m.tanh(x), 3, x.shape[1])]), p["w1"], p["b1"]
    ),
    "depthwise-bn-relu": lambda m, x, p, t: m.relu(bn(m, m.conv2d(x, p["d"], padding=1, groups=x.shape[1]), p, 1, t)),
    "head": lambda m, x, p, t: m.linear(m.flatten(m.global_avg_pool2d(m.relu(m.conv2d(x, p["w1"])))), p["l"], p["b1"]),
    "adaptive-head": lambda m, x, p, t: m.linear(m.flatten(m.adaptive_avg_pool2d(x, (1, 1))), p["l"], p["b1"]),
    "flatten-linear-relu": lambda m, x, p, t: m.relu(m.linear(m.flatten(m.conv2d(x, p["f"])), p["l"], p["b1"])),
    "linear-sigmoid-linear": lambda m, x, p, t: m.linear(
        m.sigmoid(m.linear(m.flatten(m.global_avg_pool2d(x)), p["l"], p["b1"])), p["l"], p["b2"]
    ),
    "softmax": lambda m, x, p, t: m.softmax(m.linear(m.flatten(m.global_avg_pool2d(x)), p["l"])),
    "only-elementwise": lambda m, x, p, t: m.tanh(m.sigmoid(x)),
    "flatten-of-input": lambda m, x, p, t: m.flatten(x),
}  # fmt: skip


def several(m, y, p):
    return m.add(m.conv2d(y, p["v"], p["b2"]), m.add(y, m.max_pool2d(y, 3, 1, 1)))


def twice(m, y):
    return m.add(y, y)


def arrays(rng, c, size):
    shapes = dict(w1=(c, c, 3, 3), w2=(c, c, 3, 3), v=(c, c, 1, 1), d=(c, 1, 3, 3), f=(c, c, *size), l=(c, c))
    out = {k: (rng.standard_normal(s) / np.sqrt(np.prod(s[1:]))) for k, s in shapes.items()}
    for k in "12":
        out |= {
            f"b{k}": rng.standard_normal(c),
            f"g{k}": rng.uniform(0.5, 1.5, c),
            f"be{k}": rng.standard_normal(c),
        }
        out |= {f"rm{k}": rng.standard_normal(c), f"rv{k}": rng.uniform(0.5, 2, c)}
    return {k: v.astype(np.float32) for k, v in out.items()}


class Used(dict):
    """Notes which entries a pattern reads."""

    def __init__(self, arrays):
        super().__init__(arrays)
        self.names = []

    def __getitem__(self, name):
        if name not in self.names:
            self.names.append(name)
        return super().__getitem__(name)


def relative(got, want):
    return float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30))


@pytest.mark.parametrize("shape", [(5, 7, 9, 8), (17, 7, 7, 6), (4, 20, 15, 14)], ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name, shape):
    pattern, rng = PATTERNS[name], np.random.default_rng(len(name))
    params = Used(arrays(rng, *shape[1:2], shape[2:]))
    x = rng.standard_normal(shape).astype(np.float32)
    m, error = Reference(), 2e-6 if shape[1] < 12 else 1e-5  # Winograd begins at 12 channels
    want = pattern(m, x.astype(np.float64), params, True)
    used = [n for n in params.names if not n.startswith("r")]
    dy = rng.standard_normal(want.shape).astype(np.float32)
    slopes = {}
    for k in ("x", *used):
        v = rng.standard_normal((x if k == "x" else params[k]).shape)
        ends = []
        for h in (1e-8, -1e-8):  # so small that hardly a ReLU or maximum changes its mind
            moved = {n: a.astype(np.float64) + (h * v if n == k else 0) for n, a in params.items()}
            ends.append(
                np.vdot(
                    dy.astype(np.float64),
                    pattern(m, x + h * v if k == "x" else x.astype(np.float64), moved, True),
                )
            )
        slopes[k] = v, (ends[0] - ends[1]) / 2e-8
    want_inference = pattern(m, x.astype(np.float64), params, False)
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for layout in ("nhwc", "interleaved", "auto"):
            results = []
            for threads in (1, 3):
                _core.set_num_threads(threads)
                net = Net(pattern, {n: params[n] for n in params.names})
                run = ForwardBackward(net, [x.shape], layout)
                (y, ticket), where = run.forward([x]), f"{isa} {layout} {threads} threads"
                dx = run.backward(ticket, dy)[0]
                assert y.shape == want.shape and relative(y, want) < error, where
                grads = {"x": dx, **{n: getattr(net, n).grad for n in used}}
                for k, (v, slope) in slopes.items():
                    g = grads[k].astype(np.float64)
                    scale = np.linalg.norm(g) + 1e-2 * np.linalg.norm(dy)  # a bias before batch norm: 0
                    assert abs(np.vdot(g, v) - slope) <= 1e-4 * scale, f"{where}: gradient of {k}"
                results.append(b"".join([y.tobytes(), *[g.tobytes() for g in grads.values()]]))
                net.load_state_dict({n: params[n] for n in params.names})
                net.eval()
                assert (
                    relative(Inference(net, [x.shape], layout).forward([x])[0], want_inference) < 2 * error
                ), where
            assert results[0] == results[1], f"{isa} {layout}: threads change the result"


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("layout", ["nhwc", "interleaved"])
def test_nan_passes_through_inference(layout, isa):
    """Inference pools without an index, by another path."""
    _core.select_isa(isa)
    x = np.zeros((3, 5, 6, 6), np.float32)
    x[1, 2, 3, 3] = np.nan
    for kernel in (2, 3, (2, 3)):
        net = nn.Sequential(nn.MaxPool2d(kernel)).eval()
        y = Inference(net, [x.shape], layout).forward([x])[0]
        assert np.array_equal(y, F.max_pool2d(x, kernel), equal_nan=True) and np.isnan(y).sum() == 1
