"""Every row of the core's table of elementwise functions: value and gradient against float64, in each layout,
with every instruction set, with tails, infinities and NaN; and the sum that such functions follow.
"""

from __future__ import annotations

import numpy as np
import pytest
from graphs import LAYOUTS, fused_ops, run_graph

from fastcnn import _core, nn
from fastcnn import functional as F
from fastcnn.reference.pointwise import FUNCTIONS

U = 2.0**-24
ROWS = {row["name"]: row for row in _core.functions()}
SPECIAL = np.float32([0, -0.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-30, -1e-30])
SHAPES = [(3,), (1, 5), (37, 3), (5, 7, 3, 3), (33, 2, 1, 5), (2, 3, 2, 3, 2), (3, 40, 40, 9)]


def parameters_of(name):
    """The defaults, and others."""
    defaults = ROWS[name]["parameters"]
    return [defaults, {k: v + 0.125 for k, v in defaults.items()}] if defaults else [{}]


CASES = [(name, p) for name in ROWS for p in parameters_of(name)]


def inputs(shape, rng):
    """Special values first, as far as there is room for them."""
    x = (20 * rng.standard_normal(shape)).astype(np.float32)
    flat, k = x.reshape(-1), min(len(SPECIAL), x.size)
    flat[:k] = rng.permutation(SPECIAL)[:k]
    return x, rng.standard_normal(shape).astype(np.float32)


def assert_near(got, want, unit=1.0):
    """Within 24 roundings of want, or of 1 where it is smaller; infinities and NaN where they belong."""
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite].astype(np.float32), equal_nan=True)
    bound = 24 * U * np.broadcast_to(np.maximum(abs(want), unit), want.shape)
    assert (abs(got[finite] - want[finite]) <= bound[finite]).all()


def test_the_reference_has_every_row():
    assert set(ROWS) == set(FUNCTIONS)


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_value_and_gradient(name, parameters, layout, isa, rng):
    _core.select_isa(isa)
    value, gradient = FUNCTIONS[name]
    for shape in SHAPES:
        x, dy = inputs(shape, rng)
        with np.errstate(all="ignore"):
            y = value(x, **parameters)
            v = x if ROWS[name]["from_input"] else y.astype(np.float32)
            dx = gradient(dy, v, **parameters)
        assert_near(_core.run(name, [x], parameters, layout)[0], y)
        attrs = {"kind": name, **parameters}
        assert_near(_core.run("function_backward", [dy, v], attrs, layout)[0], dx, abs(dy))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_backward_rule(name, parameters, layout, rng):
    x, dy = rng.standard_normal((2, 5, 7, 3, 3)).astype(np.float32)

    def build(g, ids):
        y = g.record(name, [ids[0]], parameters)[0]
        return [y, g.backward(y, ids[1], [ids[0]])[0]]

    (y, dx), _ = run_graph(build, [x, dy], layout)
    value, gradient = FUNCTIONS[name]
    assert_near(y, value(x, **parameters))
    assert_near(dx, gradient(dy, x if ROWS[name]["from_input"] else y, **parameters), abs(dy))


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 17, 40])
def test_a_sum_goes_from_the_first_to_the_last(count, layout, isa, rng):
    _core.select_isa(isa)
    for shape in SHAPES:
        x = [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]
        want = x[0]
        for a in x[1:]:
            want = want + a
        assert np.array_equal(_core.run("add", x, {}, layout)[0], want)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_a_function_after_a_sum(name, parameters, layout, rng):
    a, b, c = rng.standard_normal((3, 5, 7, 3, 3)).astype(np.float32)

    def build(g, ids):
        return g.record(name, g.record("add", ids, {}), parameters)

    (y,), plan = run_graph(build, [a, b, c], layout)
    assert [s["op"] for s in plan.steps if s["op"] in ("add", name)] == ["add"]
    assert_near(y, FUNCTIONS[name][0](a + b + c, **parameters))


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("count", [4, 5, 9, 40])
def test_a_sum_of_many_with_a_function_and_all_that_is_kept(count, name, layout, isa, rng):
    """Operands, the sum, its function and both gradients in one plan: more arrays than any fixed table would hold."""
    _core.select_isa(isa)
    for shape in [(37, 3), (5, 7, 3, 3), (17, 33, 2, 3)]:
        *parts, dy = rng.standard_normal((count + 1, *shape)).astype(np.float32)

        def build(g, ids):
            total = g.record("add", ids[:-1], {})[0]
            y = g.record(name, [total], {})[0]
            return [total, y, *g.backward(y, ids[-1], ids[:-1])]

        (total, y, *gradients), _ = run_graph(build, [*parts, dy], layout)
        want = parts[0]
        for part in parts[1:]:
            want = want + part
        assert np.array_equal(total, want)
        value, gradient = FUNCTIONS[name]
        assert_near(y, value(want.astype(np.float64)))
        assert len(gradients) == count
        for dx in gradients:
            assert_near(dx, gradient(dy.astype(np.float64), want if ROWS[name]["from_input"] else y), abs(dy))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_every_row_is_a_post_op_under_its_name(name, parameters, layout, rng):
    """Of a convolution, a norm, a fully connected layer and a sum; its gradient of the norm's backward pass."""
    x, dy = rng.standard_normal((2, 5, 6, 7, 8)).astype(np.float32)
    w, rows = (
        rng.standard_normal((6, 6, 1, 1)).astype(np.float32),
        rng.standard_normal((4, 336)).astype(np.float32),
    )
    mean, rstd = rng.standard_normal(6).astype(np.float32), 0.5 + rng.random(6).astype(np.float32)

    def build(g, ids):
        x, dy, w, rows, mean, rstd = ids

        def after(op, operands):
            return g.record(name, [g.record(op, operands, {})[0]], parameters)[0]

        made = [after("conv2d", [x, w, None]), after("add", [x, dy])]
        made += [after("batch_norm_apply", [x, mean, rstd, None, None])]
        made += [after("linear", [g.record("flatten", [x], {})[0], rows, None])]
        return [*made, *g.backward(made[2], dy, [x])]

    got, plan = run_graph(build, [x, dy], layout, [w, rows, mean, rstd])
    ops = ("conv2d", "add", "batch_norm_apply", "linear")
    assert {f"{op} {name}" for op in ops} | {f"batch_norm_backward {name}_grad"} <= fused_ops(plan)
    c = (slice(None), None, None)
    x64, dy64 = x.astype(np.float64), dy.astype(np.float64)
    norm = (x64 - mean[c]) * rstd[c]
    sums = [np.einsum("nchw,oc->nohw", x64, w[:, :, 0, 0]), x64 + dy64, norm, x64.reshape(5, -1) @ rows.T]
    value, gradient = FUNCTIONS[name]
    for y, v in zip(got[:4], sums, strict=True):
        np.testing.assert_allclose(y, value(v, **parameters), rtol=1e-4, atol=1e-4)
    g = gradient(dy64, norm if ROWS[name]["from_input"] else value(norm, **parameters), **parameters)
    mean_of = lambda a: a.mean(axis=(0, 2, 3), keepdims=True)  # noqa: E731
    np.testing.assert_allclose(
        got[4], rstd[c] * (g - mean_of(g) - norm * mean_of(g * norm)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", ROWS)
def test_descriptions_say_the_functions_name(name):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return getattr(F, name)(F.max_pool2d(getattr(F, name)(self.conv(x)), 2))

    lines = Net().eval().plan((2, 3, 8, 8)).describe().splitlines()
    (convolution,) = [line for line in lines if "conv2d:" in line]
    assert any(name in word.split("+") for word in convolution.split())  # done on the way out
    assert any(f" {name}:" in line for line in lines)  # a step of its own


def test_a_scalar_is_one_by_position_not_by_shape():
    x = np.float32([[[[3]]]])
    assert _core.run("scale", [x, np.float32([2])], {}, "interleaved")[0] == 6
    hyper, param = np.float32([1, 0, 0, 0, 0, 0]), np.arange(6, dtype=np.float32)
    grad = np.ones(6, np.float32)
    _core.run("sgd", [param, grad, None, hyper], {})
    assert np.array_equal(param, np.arange(-1, 5))


def test_wrong_calls():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"relu, tanh, sigmoid, .*, got 'gelu_'"):
        _core.run("function_backward", [x, x], {"kind": "gelu_"})
    with pytest.raises(ValueError, match="relu: got a parameter of another function"):
        _core.run("function_backward", [x, x], {"kind": "relu", "negative_slope": 0.5})
    with pytest.raises(ValueError, match="unknown attribute 'slope'; known: negative_slope"):
        _core.run("leaky_relu", [x], {"slope": 0.5})
    with pytest.raises(ValueError, match="inputs of one shape, got 2x3 and 3x2"):
        _core.run("add", [x, x, x.T.copy()], {})
