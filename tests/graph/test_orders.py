"""Orders of use: calls that are legal in any order, and what must hold after each."""

from __future__ import annotations

import numpy as np
import pytest
from alone import alone
from graphs import run_graph, run_once
from orders import (
    EVERY_LAYOUT,
    HYPER,
    convolutions,
    fresh,
    labels,
    normal,
    sgd,
    training_step,
)

import fastcnn
import fastcnn.functional as F
from fastcnn import _core, nn

# ---- results that nobody reads


class Auxiliary(nn.Module):
    """A head whose batch norm is computed and not returned, on the input, on a convolution of its own, or on one
    that the network reads as well."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.stem, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 10)
        self.side = nn.Conv2d(3, 6, 3, bias=False) if where == "own convolution" else None
        self.norm = nn.BatchNorm2d(3 if where == "input" else 6)

    def forward(self, x):
        y = self.stem(x)
        self.norm({"input": x, "shared convolution": y}[self.where] if self.side is None else self.side(x))
        return self.head(F.flatten(F.global_avg_pool2d(F.relu(y))))


def moved_statistics(model: Auxiliary, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What one batch makes of running statistics that start at 0 and 1, in float64."""
    conv = model.side if model.side is not None else model.stem
    bias = None if conv.bias is None else conv.bias.data
    z = x if model.where == "input" else F.conv2d(x, conv.weight.data, bias, padding=conv.padding)
    z = z.astype(np.float64)
    return 0.1 * z.mean((0, 2, 3)), 0.9 + 0.1 * z.var((0, 2, 3), ddof=1)


WHERE = ("input", "own convolution", "shared convolution")


@pytest.mark.parametrize("where", WHERE)
@alone()
def test_a_batch_norm_that_nobody_reads_moves_its_statistics(where: str) -> None:
    fastcnn.manual_seed(0)
    model, x = Auxiliary(where), normal(9, 3, 8, 8)
    mean, var = moved_statistics(model, x)
    y = model(x)
    np.testing.assert_allclose(model.norm.running_mean.data, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.norm.running_var.data, var, rtol=1e-5)
    assert model.norm.num_batches_tracked.data == 1
    model.backward(np.ones_like(y))
    assert model.norm.weight.grad is None and np.isfinite(model.stem.weight.grad).all()
    np.testing.assert_allclose(y, model.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("where", WHERE)
@alone()
def test_a_batch_norm_that_nobody_reads_is_trained_beside(where: str, layout: str) -> None:
    fastcnn.manual_seed(0)
    model, x, y = Auxiliary(where), normal(9, 3, 8, 8), labels(9)
    mean, var = moved_statistics(model, x)
    unread = {
        k: np.array(v) for k, v in model.state_dict().items() if k.startswith(("norm.w", "norm.b", "side"))
    }
    step = training_step(model, layout, weight_decay=0.1)
    losses = [step.step(x, y)[0] for _ in range(2)]
    assert losses[1] < losses[0]
    if where != "shared convolution":  # the second batch there saw other weights
        mean, var = 1.9 * mean, 0.9 * var + (var - 0.9)
        np.testing.assert_allclose(model.norm.running_mean.data, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.norm.running_var.data, var, rtol=1e-5)
    assert model.norm.num_batches_tracked.data == 2 and (model.norm.running_mean.data != 0).all()
    for key, value in unread.items():
        np.testing.assert_array_equal(model.state_dict()[key], value)


# ---- weights that change between forward and backward


@pytest.mark.parametrize("channels, n", [(64, 3), (8, 40)])
def test_forward_uses_weights_written_before_the_last_backward(channels: int, n: int) -> None:
    model, x = convolutions(channels), normal(n, channels, 9, 9)
    dy = np.ones_like(model(x))
    for p in model.parameters():
        p.data[...] *= 0.5
    model.backward(dy)
    np.testing.assert_array_equal(model(x), fresh(convolutions(channels), model)(x))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("channels, n", [(64, 3), (8, 40)])
def test_forward_uses_an_update_made_before_the_last_backward(channels: int, n: int, norm: bool) -> None:
    model, x = convolutions(channels, norm), normal(n, channels, 9, 9)
    optimizer = sgd(model, momentum=0.9)
    dy = np.ones_like(model(x))
    for _ in range(3):
        model.backward(dy)
        y = model(x)
        optimizer.step()
        model.backward(dy)
        got = model(x)  # before anything else looks at the weights, which counts as a change
        np.testing.assert_array_equal(got, fresh(convolutions(channels, norm), model)(x))
        assert not np.array_equal(got, y)


# ---- steps do not pass the updates of what they read


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("after", ["relu", "add", "max_pool2d", "conv2d"])
def test_a_convolution_reads_the_weights_of_its_place(after: str, layout: str) -> None:
    x, w, gradient = normal(5, 4, 6, 6), normal(4, 4, 3, 3, seed=1), normal(4, 4, 3, 3, seed=2)
    same = {"padding": [1, 1, 1, 1]}

    def build(g: _core.Graph, ids: list[int]) -> list[int]:
        x, w, gradient, hyper = ids
        y = g.record("conv2d", [x, w, None], same)[0]
        g.record("sgd", [w, gradient, None, hyper], {})
        operands, attrs = {"add": ([y, x], {}), "conv2d": ([y, w, None], same)}.get(after, ([y], {}))
        attrs = {"kernel_size": [2, 2]} if after == "max_pool2d" else attrs
        return g.record(after, operands, attrs)[:1]

    held = [w.copy(), gradient, HYPER]
    (got,), _ = run_graph(build, [x], layout, held)
    new = w - np.float32(0.5) * gradient
    np.testing.assert_allclose(held[0], new, rtol=1e-6)
    y = F.conv2d(x, w, padding=1)
    want = {
        "relu": F.relu, "max_pool2d": lambda y: F.max_pool2d(y, 2), "add": lambda y: y + x,
        "conv2d": lambda y: F.conv2d(y, new, padding=1),
    }[after](y)  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


class Twice(nn.Module):
    """One batch norm after two convolutions, in the other order than these."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 12, 3), nn.Conv2d(4, 12, 3)
        self.norm, self.head = nn.BatchNorm2d(12), nn.Linear(12, 10)

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        b = self.norm(b)
        return self.head(F.flatten(F.global_avg_pool2d(F.relu(b + self.norm(a)))))


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_a_batch_norm_used_twice_updates_in_the_order_of_its_calls(layout: str) -> None:
    fastcnn.manual_seed(0)
    model, x = Twice(), normal(6, 4, 8, 8) + 1
    a, b = (F.conv2d(x, c.weight.data, c.bias.data).astype(np.float64) for c in (model.a, model.b))
    training_step(model, layout).step(x, labels(6))
    mean, var = np.zeros(12), np.ones(12)
    for z in (b, a):
        mean, var = 0.9 * mean + 0.1 * z.mean((0, 2, 3)), 0.9 * var + 0.1 * z.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(model.norm.running_mean.data, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.norm.running_var.data, var, rtol=1e-5)


def test_a_batch_norm_used_twice_equals_pytorch() -> None:
    torch = pytest.importorskip("torch")
    fastcnn.manual_seed(0)
    model, x = Twice(), normal(6, 4, 8, 8) + 1
    norm = torch.nn.BatchNorm2d(12)
    for conv in (model.b, model.a):
        norm(torch.from_numpy(F.conv2d(x, conv.weight.data, conv.bias.data)))
    model(x)
    np.testing.assert_allclose(model.norm.running_mean.data, norm.running_mean.numpy(), rtol=1e-5, atol=1e-6)


# ---- the instruction set

SWITCHES = [(a, b) for a in _core.available_isas() for b in _core.available_isas() if a != b]
NETWORKS = {
    "lenet5": (lambda: fastcnn.models.create("lenet5"), (20, 1, 28, 28)),
    "convolutions": (lambda: convolutions(64, norm=True), (3, 64, 9, 9)),
}


@pytest.mark.parametrize("before, after", SWITCHES)
@pytest.mark.parametrize("name", list(NETWORKS))
@alone()
def test_a_plan_keeps_its_instruction_set(name: str, before: str, after: str) -> None:
    make, shape = NETWORKS[name]
    x = normal(*shape)
    _core.select_isa(before)
    model = make().eval()
    plans = {layout: model.plan(shape, layout=layout) for layout in EVERY_LAYOUT}
    wanted = {layout: run_once(plan.core, [x])[0] for layout, plan in plans.items()}
    _core.select_isa(after)
    for layout, plan in plans.items():
        np.testing.assert_array_equal(run_once(plan.core, [x])[0], wanted[layout])
    np.testing.assert_allclose(model(x), wanted["auto"], rtol=1e-3, atol=1e-4)
    for layout, plan in plans.items():
        np.testing.assert_array_equal(run_once(plan.core, [x])[0], wanted[layout])


@pytest.mark.parametrize("before, after", SWITCHES)
@pytest.mark.parametrize("name", list(NETWORKS))
@alone()
def test_backward_keeps_the_instruction_set_of_its_forward(name: str, before: str, after: str) -> None:
    make, shape = NETWORKS[name]
    x, dy = normal(*shape), normal(shape[0], 10)
    _core.select_isa(before)
    model = make()
    y = model(x)
    dx = model.backward(dy)
    gradients = [p.grad for p in model.parameters()]
    np.testing.assert_array_equal(model(x), y)
    _core.select_isa(after)
    model.zero_grad()
    np.testing.assert_array_equal(model.backward(dy), dx)
    for p, g in zip(model.parameters(), gradients, strict=True):
        np.testing.assert_array_equal(p.grad, g)
