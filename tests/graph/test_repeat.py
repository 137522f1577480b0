"""What is computed again for the backward pass (norms of joined values) is what forward computed; and what plans are
cached for stays what it was."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_plan
from orders import HYPER, normal

import fastcnn
import fastcnn.functional as F
from fastcnn import _core, nn
from fastcnn.nn.engine import ForwardBackward, TrainingStep

LAYOUTS = ("nhwc", "interleaved", "auto")


class Joined(nn.Module):
    """A norm over a part of a join, and perhaps one that moves the statistics it reads, before or after it."""

    def __init__(self, moves: str) -> None:
        super().__init__()
        fastcnn.manual_seed(0)
        self.c0, self.c1, self.n = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.fc, self.moves = nn.Linear(24 * 36, 4), moves

    def norm(self, x, training: bool):
        n = self.n
        return F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, training)

    def forward(self, x):
        a = self.c0(x)
        early = self.norm(a, True) if self.moves == "before" else None
        y = self.c1(F.relu(self.norm(a, not self.moves)))
        z = self.norm(a, True) if early is None else early
        return self.fc(F.flatten(F.concat([F.concat([a, y]), z])))


def batch() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).standard_normal((8, 3, 6, 6)).astype(np.float32), np.arange(8) % 4


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("moves", ["", "before", "after"])
def test_norms_that_share_statistics_train_as_layer_by_layer(moves: str, layout: str) -> None:
    x, y = batch()
    planned, by_hand = Joined(moves), Joined(moves)
    step = TrainingStep(
        planned, fastcnn.optim.SGD(planned.parameters(), lr=0.1), nn.CrossEntropyLoss(), layout
    )
    optimizer, criterion = fastcnn.optim.SGD(by_hand.parameters(), lr=0.1), nn.CrossEntropyLoss()
    assert sum(s["op"] == "sgd" for s in step.training_plan(x.shape).steps) == 8
    for _ in range(2):
        loss = step.step(x, y)[0]
        assert abs(criterion(by_hand(x), y) - loss) < 1e-5
        by_hand.backward(criterion.backward())
        optimizer.step()
        optimizer.zero_grad()
    for name, value in by_hand.state_dict().items():
        np.testing.assert_allclose(planned.state_dict()[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("changed", ["weight", "bias"])
def test_activations_are_those_of_forward_whatever_became_of_the_norm(changed: str, layout: str) -> None:
    """c1 reads the norm's result, fc the join."""
    x, _ = batch()
    net, gradients = Joined(""), []
    both, held = ForwardBackward(net, [x.shape], layout), getattr(net.n, changed)
    for change in (0, 10):
        net.zero_grad()
        y, run = both.forward([x])
        held.data[...] += change
        both.backward(run, np.ones_like(y))
        gradients.append([net.fc.weight.grad.copy(), net.c1.weight.grad.copy(), net.c1.bias.grad.copy()])
        held.data[...] -= change
    for a, b in zip(*gradients, strict=True):
        assert abs(a).max() > 0.1
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("updated", [None, "gamma", "beta", "mean", "var"])
@pytest.mark.parametrize("beside", [False, True])
def test_what_is_repeated_is_the_value_of_its_place(beside: bool, updated: str | None, layout: str) -> None:
    """Where what the norm reads is updated after the backward pass, by a gradient that is there at once; and where
    another function of the norm, which takes no part in the gradient, comes before the one that does."""
    x, dy = normal(9, 3, 5, 4), normal(9, 16, 5, 4, seed=1)
    weights = [normal(8, 3, 1, 1, seed=2), normal(8, 8, 1, 1, seed=3)]
    norm = {name: 0.5 + abs(normal(8, seed=k)) for k, name in enumerate(["mean", "var", "gamma", "beta"])}
    g = _core.Graph()
    image, gradient = g.input(x.shape), g.input(dy.shape)
    first, second = (g.tensor(_core.Tensor(w)) for w in weights)
    held = {name: _core.Tensor(v) for name, v in norm.items()}
    read = {name: g.tensor(t) for name, t in held.items()}
    a = g.record("conv2d", [image, first, None], {})[0]
    n = g.record("batch_norm_inference", [a, *read.values()], {})[0]
    bent = g.record("tanh", [n], {})[0]
    y = g.record("conv2d", [g.record("relu", [n], {})[0], second, None], {})[0]
    joined = g.record("tanh", [g.record("concat", [a, y], {})[0]], {})[0]
    (dw,) = g.backward(joined, gradient, [second])
    if updated:
        step, hyper = _core.Tensor(np.ones(8, np.float32)), _core.Tensor(HYPER)
        g.record("sgd", [read[updated], g.tensor(step), None, g.tensor(hyper)], {})
    got = make_plan(g, [dw, joined, *([bent] if beside else [])], layout).run({0: x, 1: dy})

    (a,) = _core.run("conv2d", [x, weights[0], None], {})
    (n,) = _core.run("batch_norm_inference", [a, *norm.values()], {})
    (y,) = _core.run("conv2d", [np.maximum(n, 0), weights[1], None], {})
    want = np.tanh(np.concatenate([a, y], 1))
    np.testing.assert_allclose(got[1], want, rtol=1e-5, atol=1e-5)
    inner = (dy * (1 - want**2))[:, 8:]
    want = np.einsum("nohw,nchw->oc", inner, np.maximum(n, 0))
    np.testing.assert_allclose(got[0][:, :, 0, 0], want, rtol=1e-4, atol=1e-4 * abs(want).max())
    if beside:
        np.testing.assert_allclose(got[2], np.tanh(n), rtol=1e-5, atol=1e-5)
    if updated:
        np.testing.assert_allclose(held[updated].numpy(), norm[updated] - HYPER[0], rtol=1e-6)


def test_another_optimizer_or_loss_is_another_step() -> None:
    x, y = batch()
    net = Joined("")
    step = TrainingStep(net, fastcnn.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss())
    for _ in range(4):
        step.optimizer = None
        step.optimizer = fastcnn.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
        step.step(x, y)
        assert all(b is not None for b in step.optimizer.state_dict()["buffers"])

    class Twice(nn.CrossEntropyLoss):
        def record(self, logits, labels, reduction=None):
            loss, correct = super().record(logits, labels, reduction)
            return loss * 2.0, correct

    once, evaluated = step.step(x, y)[0], step.evaluate_batch(x, y)[0]
    step.loss = Twice()
    assert abs(step.step(x, y)[0] - 2 * once) < 1e-5
    assert abs(step.evaluate_batch(x, y)[0] - 2 * evaluated) < 1e-4


def test_a_state_without_momentum_clears_it() -> None:
    p = nn.Parameter(np.ones(1))
    optimizer = fastcnn.optim.SGD([p], lr=0.1, momentum=0.9)
    before, p.grad = optimizer.state_dict(), np.ones(1, np.float32)
    optimizer.step()
    first = p.data.copy()
    optimizer.load_state_dict(before)
    p.data[...] = 1
    optimizer.step()
    np.testing.assert_array_equal(p.data, first)
