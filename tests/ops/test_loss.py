"""softmax_cross_entropy: bad numbers are never hidden, bad labels read nothing, sums repeat bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import LAYOUTS, run_graph

import fastcnn
from fastcnn import _core, nn
from fastcnn import functional as F
from fastcnn import reference as ref


def cross_entropy(logits, labels, layout, reduction="mean"):
    return _core.run("softmax_cross_entropy", [logits, labels], {"reduction": reduction}, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("n, c", [(1, 1), (5, 10), (17, 10), (64, 37), (130, 3), (7, 1000)])
def test_loss_gradient_and_hits(n, c, reduction, layout, rng):
    logits, labels = (rng.standard_normal((n, c)) * 4).astype(np.float32), rng.integers(0, c, n)
    for isa in _core.available_isas():
        _core.select_isa(isa)
        loss, dlogits, correct = cross_entropy(logits, labels, layout, reduction)
        assert np.isclose(loss[0], ref.cross_entropy(logits, labels, reduction), rtol=2e-6)
        want = ref.cross_entropy_backward(logits, labels, reduction)
        assert np.allclose(dlogits, want, rtol=5e-6, atol=3e-7 * abs(want).max())
        assert correct[0] == (logits.argmax(axis=1) == labels).sum()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 3, 9])
def test_a_bad_logit_reaches_the_loss(bad, at, layout, rng):
    logits = rng.standard_normal((20, 10)).astype(np.float32)
    logits[18, at] = bad
    assert not np.isfinite(cross_entropy(logits, np.zeros(20, np.int64), layout)[0][0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_minus_infinity_is_probability_zero(layout):
    logits = np.float32([[0, -np.inf, 0], [0, 0, -np.inf]])
    loss, dlogits, _ = cross_entropy(logits, np.array([0, 1]), layout)
    assert np.isclose(loss[0], np.log(2))
    assert np.allclose(dlogits, [[-0.25, 0, 0.25], [0.25, -0.25, 0]])
    assert cross_entropy(logits, np.array([1, 1]), layout)[0][0] == np.inf


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("label", [-1, 10, 2**40, -(2**62)])
def test_a_label_outside_the_classes_gives_nan(label, layout, rng):
    loss, _, correct = cross_entropy(
        rng.standard_normal((3, 10)).astype(np.float32), np.array([0, label, 1]), layout
    )
    assert np.isnan(loss[0]) and correct[0] <= 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_equal_logits_the_first_is_the_prediction(layout):
    logits = np.float32([[1, 2, 2], [2, 2, 1], [0, 0, 0]])
    assert cross_entropy(logits, np.array([1, 1, 0]), layout)[2][0] == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_logits_do_not_overflow(layout):
    logits = np.float32([[1e30, 0], [-1e30, 1e30], [88.8, 88.9]])
    loss, dlogits, _ = cross_entropy(logits, np.array([0, 1, 1]), layout, "sum")
    assert np.isclose(loss[0], np.log1p(np.exp(-0.1)), rtol=1e-4) and np.isfinite(dlogits).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_change_no_bit(layout, rng):
    logits, labels = rng.standard_normal((3001, 10)).astype(np.float32), rng.integers(0, 10, 3001)
    results = []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        results.append(b"".join(a.tobytes() for a in cross_entropy(logits, labels, layout)))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_batch(layout):
    loss, dlogits, correct = cross_entropy(np.zeros((0, 10), np.float32), np.zeros(0, np.int64), layout)
    assert np.isnan(loss[0]) and dlogits.shape == (0, 10) and correct[0] == 0
    assert cross_entropy(np.zeros((0, 10), np.float32), np.zeros(0, np.int64), layout, "sum")[0][0] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_backward_rules(layout, rng):
    x, labels = rng.standard_normal((9, 6)).astype(np.float32), rng.integers(0, 6, 9)

    def build(g, ids):
        p = g.record("softmax", [ids[0]], {})[0]
        loss = g.record("softmax_cross_entropy", [p, ids[1]], {})[0]
        seed = g.tensor(_core.Tensor(np.float32([2])), "seed")
        return [loss, g.backward(loss, seed, [ids[0]])[0]]

    (loss, dx), _ = run_graph(build, [x, labels], layout)
    p = ref.softmax(x)
    assert np.isclose(loss[0], ref.cross_entropy(p, labels), rtol=1e-6)
    want = ref.softmax_backward(2 * ref.cross_entropy_backward(p, labels), p)
    assert np.allclose(dx, want, rtol=1e-5, atol=1e-7)


def test_images_as_logits_lead_to_flatten():
    model = nn.Sequential(nn.Conv2d(1, 3, 1))
    x, y = np.ones((4, 1, 2, 2), np.float32), np.arange(4) % 3
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.1))
    calls = [
        lambda: trainer.train_step(x, y),
        lambda: trainer.evaluate((x, y)),
        lambda: nn.CrossEntropyLoss()(model(x), y),
        lambda: F.cross_entropy(np.ones((4, 3, 1, 1), np.float32), y),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=r"expected logits .*4x3x.*; a network for classes ends in a Flatten"
        ):
            call()
