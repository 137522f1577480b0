"""What is computed again for the backward pass (norms of joined values) is what forward computed; and what plans are
cached for stays what it was."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
import fastcnn.functional as F
from fastcnn import nn
from fastcnn.nn.engine import TrainingStep

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
    for name, value in by_hand.state_dict().items():
        np.testing.assert_allclose(planned.state_dict()[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_activations_are_those_of_forward_whatever_became_of_the_norm() -> None:
    x, _ = batch()
    net, gradients = Joined(""), []
    for factor in (1, 10):
        y = net(x)
        net.n.weight.data[...] *= factor
        net.backward(np.ones_like(y))
        gradients.append(net.fc.weight.grad.copy())
        net.n.weight.data[...] /= factor
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-5, atol=1e-5)


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
