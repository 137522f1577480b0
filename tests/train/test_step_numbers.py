"""The numbers of a training step are bound per run: nothing is planned or packed anew when they change."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import _core, nn
from fastcnn.nn.engine import TrainingStep


def small() -> nn.Sequential:
    fastcnn.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def batch(rng, n=6):
    return rng.standard_normal((n, 1, 8, 8)).astype(np.float32), rng.integers(0, 5, n)


@pytest.mark.parametrize("layout", ["nhwc", "interleaved"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_divisor_is_the_batch_or_one(rng, reduction, layout):
    x, y = batch(rng)
    model = small()
    step = TrainingStep(
        model, fastcnn.optim.SGD(model.parameters(), lr=0.0), nn.CrossEntropyLoss(reduction), layout
    )
    loss, correct = step.step(x, y)
    with model.in_mode(False):
        logits = model(x)
    assert loss == pytest.approx(fastcnn.reference.cross_entropy(logits, y, reduction), rel=1e-5)
    assert correct == (logits.argmax(1) == y).sum()


def test_another_reduction_needs_no_other_plan(rng):
    x, y = batch(rng)
    model, loss = small(), nn.CrossEntropyLoss("mean")
    step = TrainingStep(model, fastcnn.optim.SGD(model.parameters(), lr=0.0), loss)
    mean = step.step(x, y)[0]
    plan = step.training_plan(x.shape)
    loss.reduction = "sum"
    assert step.step(x, y)[0] == pytest.approx(6 * mean)
    assert step.training_plan(x.shape) is plan


def test_the_gradient_is_divided_as_the_loss_is(rng):
    logits, labels = rng.standard_normal((4, 3)).astype(np.float32), np.array([0, 2, 1, 1])
    whole = _core.run("softmax_cross_entropy", [logits, labels], {"reduction": "sum"})
    part = _core.run(
        "softmax_cross_entropy", [logits, labels, np.array([8], np.float32)], {"reduction": "sum"}
    )
    np.testing.assert_allclose(part[0], whole[0] / 8, rtol=1e-6)
    np.testing.assert_array_equal(part[1], whole[1] / 8)
    with pytest.raises(ValueError, match=r"divisor float32 \(1\)"):
        _core.run("softmax_cross_entropy", [logits, labels, np.ones(2, np.float32)], {"reduction": "sum"})


def test_profiling_a_training_plan_leaves_the_weights(rng):
    x, _ = batch(rng)
    model = small()
    step = TrainingStep(model, fastcnn.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    before = {k: v.copy() for k, v in model.state_dict().items()}
    step.training_plan(x.shape).profile(1)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
