"""Any number of operands and readers; attributes, failed rules, updates of what must not be written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from alone import alone
from graphs import make_plan, run_graph, run_once
from orders import (
    EVERY_LAYOUT,
    HYPER,
    normal,
)

import fastcnn
import fastcnn.functional as F
from fastcnn import _core, nn

# ---- operands, attributes, errors


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("count", [5, 17, 40])
def test_any_number_of_maps_is_joined(count: int, layout: str) -> None:
    maps = [normal(3, 1 + i % 3, 4, 5, seed=i) for i in range(count)]
    want = np.concatenate(maps, axis=1)
    np.testing.assert_array_equal(F.concat(maps, layout=layout), want)
    build = lambda g, ids: g.record("concat", ids, {"axis": 1})  # noqa: E731
    np.testing.assert_array_equal(run_graph(build, maps, layout)[0][0], want)


class Fan(nn.Module):
    """One value with many readers, whose results are joined or added up."""

    def __init__(self, readers: int, join: bool) -> None:
        super().__init__()
        self.readers, self.join = readers, join
        self.first = nn.Conv2d(3, 4, 1)
        self.body = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(readers)))

    def forward(self, x):
        x = F.tanh(self.first(x))
        parts = [conv(x) for conv in self.body]
        if self.join:
            return F.concat([x, *parts])
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


@pytest.mark.parametrize("join", [True, False])
@pytest.mark.parametrize("readers", [4, 5, 20])
def test_gradients_of_a_value_with_many_readers(readers: int, join: bool) -> None:
    torch = pytest.importorskip("torch")
    fastcnn.manual_seed(0)
    model, x = Fan(readers, join), normal(3, 3, 5, 5)
    y = model(x)
    dy = normal(*y.shape)
    dx = model.backward(dy)
    tx = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    conv = lambda x, m: torch.nn.functional.conv2d(  # noqa: E731
        x, torch.tensor(m.weight.data).double(), torch.tensor(m.bias.data).double()
    )
    z = torch.tanh(conv(tx, model.first))
    parts = [conv(z, m) for m in model.body]
    ty = torch.cat([z, *parts], 1) if join else sum(parts[1:], parts[0])
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", ["int64", "uint8"])
@alone()
def test_a_failed_backward_rule_leaves_the_graph_usable(bad: str) -> None:
    """The seed is of a type that no rule takes; what is recorded afterwards is planned as if nothing had been."""
    x, w, v = normal(40, 3, 12, 12), normal(4, 3, 3, 3, seed=1), normal(64, 4, 3, 3, seed=2) / 6
    square, dz = normal(64, 64, 3, 3, seed=3) / 24, normal(40, 64, 1, 1)

    def planned(fail: bool, layout: str) -> tuple[list[tuple[str, ...]], list[np.ndarray]]:
        g = _core.Graph()
        image, seed = g.input(list(x.shape)), g.input([40, 4, 10, 10], bad, True, "seed")
        weights = [g.tensor(_core.Tensor(a)) for a in (w, v, square)]
        y = g.record("tanh", g.record("conv2d", [image, weights[0], None], {}, "first"), {}, "act")[0]
        if fail:
            with pytest.raises((TypeError, ValueError)):
                g.backward(y, seed, [image, weights[0]])
        for i in (1, 2):
            y = g.record("conv2d", [y, weights[i], None], {}, f"conv{i}")[0]
        z = g.record("global_avg_pool2d", [y], {}, "pool")[0]
        gradients = g.backward(z, g.input(list(dz.shape)), [image, *weights])
        plan = make_plan(g, [z, *gradients], layout)
        steps = [(s["layer"], s["op"], s["implementation"], s["layout"]) for s in plan.steps]
        return steps, run_once(plan, {0: x, 1: np.zeros((40, 4, 10, 10), bad), 2: dz})

    for layout in EVERY_LAYOUT:
        (steps, values), (wanted_steps, wanted) = planned(True, layout), planned(False, layout)
        assert steps == wanted_steps
        for value, want in zip(values, wanted, strict=True):
            np.testing.assert_array_equal(value, want)


@alone()
def test_a_gradient_of_many_values_without_a_seed_is_of_their_sum_or_refused() -> None:
    x = normal(3, 2, 4, 4)
    g = _core.Graph()
    image = g.input(list(x.shape))
    y = g.record("scale", [image, g.tensor(_core.Tensor(np.float32([3])))], {})[0]
    try:
        plan = make_plan(g, g.backward(y, None, [image]), "nhwc")
    except ValueError as refused:
        assert "gradient" in str(refused)
    else:
        np.testing.assert_array_equal(run_once(plan, [x])[0], np.full_like(x, 3))


HUGE = 2**63


@pytest.mark.parametrize(
    "name, call",
    [
        ("stride", lambda x, w: F.conv2d(x, w, stride=HUGE)),
        ("stride", lambda x, w: F.conv2d(x, w, stride=(1, HUGE))),
        ("stride", lambda x, w: F.conv2d(x, w, stride=-HUGE - 1)),
        ("padding", lambda x, w: F.conv2d(x, w, padding=HUGE)),
        ("dilation", lambda x, w: F.conv2d(x, w, dilation=HUGE)),
        ("groups", lambda x, w: F.conv2d(x, w, groups=HUGE)),
        ("kernel_size", lambda x, w: F.max_pool2d(x, HUGE)),
        ("stride", lambda x, w: F.max_pool2d(x, 2, stride=HUGE)),
        ("kernel_size", lambda x, w: F.avg_pool2d(x, HUGE)),
        ("before", lambda x, w: F.pad_channels(x, HUGE, 0)),
        ("begin", lambda x, w: F.slice_channels(x, HUGE, HUGE + 1)),
        ("stride", lambda x, w: F.subsample(x, HUGE)),
        ("stride", lambda x, w: _core.run("conv2d", [x, w, None], {"stride": [HUGE, HUGE]})),
        ("stride", lambda x, w: nn.Conv2d(3, 4, 3, stride=HUGE)(x)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_integers_past_64_bits_are_named(name: str, call: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=name):
        call(normal(2, 3, 8, 8), normal(4, 3, 3, 3))


@pytest.mark.parametrize(
    "op, wrong, known, attrs",
    [
        ("max_pool2d", "strides", "stride", {"kernel_size": [2, 2], "strides": [2, 2]}),
        ("max_pool2d", "kernel", "kernel_size", {"kernel_size": [2, 2], "kernel": [2, 2]}),
        ("avg_pool2d", "include_pad", "count_include_pad", {"kernel_size": [2, 2], "include_pad": 1}),
        ("conv2d", "dilations", "dilation", {"dilations": [1, 1]}),
        ("relu", "alpha", None, {"alpha": 0.1}),
    ],
)  # fmt: skip
def test_unknown_attributes_are_refused(op: str, wrong: str, known: str | None, attrs: dict) -> None:
    x = normal(2, 3, 8, 8)
    inputs = [x, normal(4, 3, 3, 3), None] if op == "conv2d" else [x]
    g = _core.Graph()
    ids = [None if a is None else g.input(list(a.shape), "float32", a is x) for a in inputs]
    for call in (lambda: _core.run(op, inputs, attrs), lambda: g.record(op, ids, attrs)):
        with pytest.raises(ValueError, match=rf"\b{wrong}\b") as refused:
            call()
        assert known is None or known in str(refused.value).replace(f"'{wrong}'", "")


def update(p: np.ndarray) -> None:
    _core.run("sgd", [p, np.ones(p.shape, np.float32), None, HYPER])


def test_an_update_of_a_read_only_array_is_refused() -> None:
    p = np.ones(4, np.float32)
    p.flags.writeable = False
    with pytest.raises((ValueError, TypeError), match=r"read-only|writ"):
        update(p)
    assert (p == 1).all()
    statistics, moments = [np.zeros(2, np.float32), np.ones(2, np.float32)], np.ones((2, 2))
    statistics[1].flags.writeable = False
    with pytest.raises((ValueError, TypeError), match=r"read-only|writ"):
        _core.run("running_statistics", [*statistics, moments], {"momentum": 0.5, "count": 8})
    assert (statistics[1] == 1).all() and (statistics[0] == 0).all()


def test_an_update_of_a_strided_array_reaches_it_or_is_refused() -> None:
    p = np.ones(8, np.float32)
    try:
        update(p[::2])
    except (ValueError, TypeError):
        assert (p == 1).all()
    else:
        np.testing.assert_array_equal(p, [0.5, 1] * 4)
